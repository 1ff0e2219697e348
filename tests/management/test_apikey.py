"""flexmeter_apikey: keys that are made, listed and revoked from the shell."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flexmeter.keys import create_key, find_key
from flexmeter.models import ApiKey, now

from tests.management.running import run

pytestmark = pytest.mark.django_db


def test_create_prints_one_json_object_whose_secret_opens_the_environment():
    made = run("flexmeter_apikey", "create", "backend", "--environment", "production", "--scopes", "ingest,read", "--json")
    assert made.status == 0
    key = made.json
    assert {"id", "prefix", "environment", "secret", "name", "scopes"} <= key.keys()
    assert (key["name"], key["environment"], key["scopes"]) == ("backend", "production", ["ingest", "read"])
    assert key["secret"].startswith(key["prefix"])
    found = find_key(key["secret"])
    assert (found.id, found.environment, found.scopes) == (key["id"], "production", ["ingest", "read"])


def test_without_json_the_secret_stands_on_a_line_of_its_own_and_is_said_to_be_shown_once():
    made = run("flexmeter_apikey", "create", "backend")
    assert "this once" in made.stdout
    secret = made.stdout.splitlines()[-1]
    assert find_key(secret).scopes == ["ingest", "read", "admin"]


def test_a_secret_is_never_shown_again():
    secret = run("flexmeter_apikey", "create", "backend", "--json").json["secret"]
    for arguments in (["list"], ["list", "--json"], ["revoke", ApiKey.objects.get().id, "--json"]):
        outcome = run("flexmeter_apikey", *arguments)
        assert outcome.status == 0
        assert secret not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("text", "expected"), [("30", timedelta(days=30)), ("2999-01-31", None), ("2999-01-31T12:00:00+02:00", None)]
)
def test_a_key_expires_after_days_or_at_a_time(text, expected):
    run("flexmeter_apikey", "create", "backend", "--expires", text)
    expires_at = ApiKey.objects.get().expires_at
    if expected is not None:
        assert abs(expires_at - now() - expected) < timedelta(minutes=1)
    else:
        assert expires_at.isoformat() == ("2999-01-31T00:00:00+00:00" if "T" not in text else "2999-01-31T10:00:00+00:00")


@pytest.mark.parametrize(
    "arguments",
    [
        ["backend", "--scopes", "ingest,write"],
        ["backend", "--scopes", ","],
        ["backend", "--scopes", ""],
        ["backend", "--expires", "2001-01-01"],
        ["backend", "--expires", "0"],
        ["backend", "--expires", "soon"],
        ["backend", "--expires", "9" * 5000],
        ["backend", "--expires", "²"],
        ["backend", "--environment", " "],
        ["backend", "--environment", "e" * 65],
        ["backend", "--environment", "\udcff"],
        ["n" * 256],
        ["nul\x00"],
        [" "],
    ],
)
def test_a_key_that_cannot_be_is_refused_and_none_is_made(arguments):
    outcome = run("flexmeter_apikey", "create", *arguments)
    assert outcome.status == 1
    assert not ApiKey.objects.exists()


def test_list_names_the_keys_of_an_environment_and_their_state():
    for name in ("one", "two", "three"):
        create_key(name, environment="a" if name == "one" else "b", scopes=["read"])
    ApiKey.objects.filter(name="two").update(revoked_at=now())
    ApiKey.objects.filter(name="three").update(expires_at=now() - timedelta(days=1))
    everything = run("flexmeter_apikey", "list", "--json").json
    assert [(key["environment"], key["name"], key["state"]) for key in everything] == [
        ("a", "one", "usable"),
        ("b", "two", "revoked"),
        ("b", "three", "expired"),
    ]
    assert [key["name"] for key in run("flexmeter_apikey", "list", "--environment", "a", "--json").json] == ["one"]
    assert "one" in run("flexmeter_apikey", "list").stdout
    assert run("flexmeter_apikey", "list", "--environment", "c", "--json").json == []


@pytest.mark.parametrize("given", ["id", "prefix"])
def test_a_revoked_key_opens_nothing(given):
    key, secret = create_key("backend", environment="default")
    outcome = run("flexmeter_apikey", "revoke", getattr(key, given), "--json")
    assert outcome.json["state"] == "revoked"
    assert find_key(secret) is None
    first = outcome.json["revoked_at"]
    assert run("flexmeter_apikey", "revoke", key.id, "--json").json["revoked_at"] == first
    assert "revoked" in run("flexmeter_apikey", "revoke", key.id).stdout


def test_revoking_an_unknown_key_fails():
    outcome = run("flexmeter_apikey", "revoke", "key_unknown")
    assert outcome.status == 1
    assert "key_unknown" in outcome.stderr
