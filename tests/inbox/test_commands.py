"""flexmeter_drain and flexmeter_rejected, as somebody at a terminal meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError

from flexmeter import draining, inbox
from flexmeter.models import RejectedEvent

from tests.factories import make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, waiting
from tests.polling import eventually

pytestmark = pytest.mark.django_db(transaction=True)
MANAGE = Path(__file__).resolve().parents[2] / "example_project" / "manage.py"


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


def put(*event_ids, **changed):
    inbox.put([make_event(event_id, **changed) for event_id in event_ids], environment="default")


def run(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@contextmanager
def running(database_url, *arguments):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": database_url}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", MANAGE, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_drain_tells_what_it_counted():
    put("a", "b")
    assert run("flexmeter_drain") == "2 events counted.\n"
    assert run("flexmeter_drain") == "0 events counted.\n"
    put("a", "c")
    assert json.loads(run("flexmeter_drain", "--json")) == {
        "batches": 1, "stored": 1, "replaced": 0, "repeated": 1, "rejected": 0,
    }  # fmt: skip


def test_a_watching_drain_counts_what_comes_and_ends_on_sigterm(database_url):
    make_meter()
    put("before")
    with running(database_url, "flexmeter_drain", "--watch", "0.05", "--json") as process:
        eventually(lambda: counted() == ["before"])
        for number in range(5):
            put(f"later-{number}")
            eventually(lambda: not waiting())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        assert err == ""
    assert sum(json.loads(line)["stored"] for line in out.splitlines()) == 6
    assert_exact(6)


def test_several_watching_drains_share_the_work(database_url):
    make_meter()
    with (
        running(database_url, "flexmeter_drain", "--watch", "0.02"),
        running(database_url, "flexmeter_drain", "--watch", "0.02"),
    ):
        for number in range(150):
            put(f"e{number}", f"f{number}")
        eventually(lambda: not waiting())
    assert_exact(300)


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "1e9"])
def test_a_pause_that_is_none_is_refused(given):
    with pytest.raises(CommandError, match="no number of seconds"):
        run("flexmeter_drain", f"--watch={given}")


@pytest.fixture
def rejected_events(monkeypatch):
    with monkeypatch.context() as patched:

        def fail(events, **named):
            raise DataError("cannot be stored")

        patched.setattr(draining, "ingest", fail)
        put("a", "b", properties={"n": 1})
        inbox.drain()
    return {row.event_id: row.pk for row in RejectedEvent.objects.all()}


def test_rejected_events_are_listed_and_tried_again(rejected_events):
    make_meter()
    listed = run("flexmeter_rejected", "list")
    assert 'event "a": error, 1 attempt: "cannot be stored"' in listed
    [first, second] = json.loads(run("flexmeter_rejected", "list", "--json"))
    assert (first["event_id"], second["event_id"]) == ("a", "b")
    assert json.loads(first["body"])["properties"] == {"n": 1}
    assert run("flexmeter_rejected", "retry", str(rejected_events["b"])) == "1 event counted, 0 events still rejected.\n"
    assert counted() == ["b"]
    assert json.loads(run("flexmeter_rejected", "retry", "--all", "--json")) == {"counted": 1, "failed": []}
    assert run("flexmeter_rejected", "list") == "Nothing is rejected.\n"
    assert_exact(2)


def test_a_retry_that_fails_says_so_and_leaves_the_event(rejected_events, monkeypatch):
    RejectedEvent.objects.filter(event_id="a").update(body={"event_id": "a"})
    with pytest.raises(CommandError, match=f"Still rejected: {rejected_events['a']}"):
        run("flexmeter_rejected", "retry", "--all")
    row = RejectedEvent.objects.get()
    assert (row.event_id, row.attempts) == ("a", 2)


def test_an_unknown_number_is_refused_before_anything_is_tried(rejected_events):
    with pytest.raises(CommandError, match="no rejected event 0"):
        run("flexmeter_rejected", "retry", str(rejected_events["a"]), "0")
    assert RejectedEvent.objects.count() == 2
