"""Keys: which are let in, for what, and that nothing of a request is looked at without one."""

import logging
import time
from datetime import timedelta

import pytest

from flexmeter.conf import conf
from flexmeter.keys import create_key, revoke_key
from flexmeter.models import ApiKey, Event, now

from tests.http.client import Api, make_event
from tests.http.operations import OPERATIONS, Operation

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


@pytest.fixture
def meter(api: Api) -> str:
    api.accept(make_event("e1"))
    return api.meter()["id"]


@every_operation
def test_every_operation_works_with_a_key(api: Api, meter: str, operation: Operation):
    assert operation.call(api, meter).status == operation.status


@every_operation
def test_every_operation_needs_a_key(nobody: Api, operation: Operation):
    answer = operation.call(nobody)
    assert (answer.status, answer.message, answer.body["code"]) == (401, "Unauthorized", "unauthorized")
    assert answer.headers["WWW-Authenticate"]


@every_operation
@pytest.mark.parametrize("scope", ["ingest", "read", "admin"])
def test_a_key_can_do_what_its_scopes_allow_and_nothing_else(api: Api, meter: str, operation: Operation, scope: str):
    limited = Api(create_key("limited", environment="main", scopes=[scope]).secret)
    answer = operation.call(limited, meter)
    if scope == operation.scope:
        assert answer.status == operation.status
    else:
        assert (answer.status, answer.body["code"], answer.message) == (403, "permission_denied", "insufficient permissions")
        assert Event.objects.count() == 1


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[]", b"x" * 3_000_000, b'{"events": []}'])
def test_without_a_key_a_bad_body_is_not_looked_at(nobody: Api, settings, body: bytes):
    settings.FLEXMETER_MAX_BODY_BYTES = 1024
    for path in ("/events", "/events/bulk", "/events/query", "/meters"):
        assert nobody.post(path, body, Content_Encoding="br").status == 401


@pytest.mark.parametrize(
    "change", [lambda s: s + "x", lambda s: s[:-1], lambda s: s[:12], lambda s: s.upper(), lambda s: s[:-1] + "é"]
)
def test_a_key_is_right_or_wrong_as_a_whole(db: None, change):
    secret = create_key("test", environment="main").secret
    assert Api(secret).get("/meters").status == 200
    assert Api(change(secret)).get("/meters").status == 401


@pytest.mark.parametrize("key", ["x", " ", "fm_", "é", "\x80", "x" * 10_000, "fm_123456789_", "%00", "' OR 1=1 --"])
def test_nonsense_is_no_key(db: None, key: str):
    answer = Api(key).get("/meters")
    assert (answer.status, answer.message) == (401, "Unauthorized")


def test_a_revoked_key_is_refused_at_once(db: None):
    key, secret = create_key("test", environment="main")
    assert Api(secret).get("/meters").status == 200
    revoke_key(key.id)
    assert Api(secret).get("/meters").status == 401


def test_a_key_that_another_process_revoked_is_refused_when_it_was_remembered_long_enough(db: None, monkeypatch):
    key, secret = create_key("test", environment="main")
    assert Api(secret).get("/meters").status == 200
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=now())
    assert Api(secret).get("/meters").status == 200
    read_at = time.monotonic()
    monkeypatch.setattr("flexmeter.keys.time.monotonic", lambda: read_at + conf.KEY_REMEMBERED_SECONDS)
    assert Api(secret).get("/meters").status == 401


def test_no_key_is_remembered_where_every_request_is_to_ask(db: None, settings):
    settings.FLEXMETER_KEY_REMEMBERED_SECONDS = 0
    key, secret = create_key("test", environment="main")
    assert Api(secret).get("/meters").status == 200
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=now())
    assert Api(secret).get("/meters").status == 401


def test_a_remembered_key_is_refused_from_the_instant_it_expires(db: None, monkeypatch):
    expires_at = now() + timedelta(hours=1)
    secret = create_key("test", environment="main", expires_at=expires_at).secret
    assert Api(secret).get("/meters").status == 200
    monkeypatch.setattr("flexmeter.keys.now", lambda: expires_at)
    assert Api(secret).get("/meters").status == 401


def test_a_key_is_refused_from_the_instant_it_expires(db: None):
    for ago, status in ((timedelta(seconds=-60), 200), (timedelta(0), 401), (timedelta(days=1), 401)):
        secret = create_key("test", environment="main", expires_at=now() - ago).secret
        assert Api(secret).get("/meters").status == status


def test_the_key_may_come_as_a_bearer_token(db: None):
    secret = create_key("test", environment="main").secret
    assert Api(None).get("/meters", Authorization=f"Bearer {secret}").status == 200
    answer = Api(None).get("/meters", Authorization=f"Bearer {secret}x")
    assert (answer.status, answer.message) == (401, "Invalid token")


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "token", "bearer x", "Token x"])
def test_another_authorization_is_refused(db: None, header: str):
    answer = Api(None).get("/meters", Authorization=header)
    assert (answer.status, answer.message) == (401, "Invalid authorization header format")


def test_the_key_header_comes_before_the_authorization(db: None):
    secret = create_key("test", environment="main").secret
    assert Api(secret).get("/meters", Authorization="Basic x").status == 200
    assert Api("wrong").get("/meters", Authorization=f"Bearer {secret}").status == 401


def test_a_key_is_taken_from_headers_only(db: None):
    secret = create_key("test", environment="main").secret
    nobody = Api(None)
    nobody.client.cookies["x-api-key"] = secret
    for path in (f"/meters?x-api-key={secret}", f"/meters?api_key={secret}&key={secret}&authorization=Bearer%20{secret}"):
        assert nobody.get(path).status == 401
    assert nobody.post("/events/query", {"x-api-key": secret}).status == 401


def test_the_environment_header_is_ignored(api: Api, stranger: Api):
    api.accept(make_event("mine"))
    assert stranger.get("/events/mine", X_Environment_ID="main").status == 404
    assert api.get("/events/mine", X_Environment_ID="elsewhere").body["event"]["environment_id"] == "main"


def test_use_of_a_key_is_noted(db: None):
    key, secret = create_key("test", environment="main")
    Api(secret).get("/meters")
    assert ApiKey.objects.get(pk=key.pk).last_used_at is not None


def test_no_log_line_holds_a_key_or_properties(caplog: pytest.LogCaptureFixture, db: None, monkeypatch: pytest.MonkeyPatch):
    caplog.set_level(logging.DEBUG, logger="flexmeter")
    caplog.set_level(logging.DEBUG, logger="django.request")
    secret = create_key("test", environment="main").secret
    api = Api(secret)
    api.accept(make_event("e1", properties={"note": "confidential"}))
    api.post("/events", {"event_name": "", "properties": {"note": "confidential"}})
    monkeypatch.setattr("flexmeter.recording.accept", lambda *given, **named: 1 / 0)
    assert api.post("/events", make_event("e2", properties={"note": "confidential"})).status == 500
    assert caplog.text
    assert secret not in caplog.text
    assert "confidential" not in caplog.text
