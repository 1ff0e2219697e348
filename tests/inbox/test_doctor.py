"""flexmeter_doctor: each thing that can be wrong is told, with what to do about it."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from flexmeter import checks, health, inbox
from flexmeter.health import State, examine
from flexmeter.ingest import ingest
from flexmeter.maintenance.verification import verify_and_remember
from flexmeter.models import Environment, Event, InboxBatch, LastRun, Meter, RejectedEvent, Rollup, now
from flexmeter.schedule import SWEEP
from flexmeter.upkeep import noted

from tests.factories import NOON, make_event, make_meter
from tests.requirements import only_on, requires

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


def findings(**options):
    return {finding.name: finding for finding in examine(**options)}


def told(name, **options):
    finding = findings(**options)[name]
    assert (finding.advice != "") == (finding.state is not State.OK), "advice belongs to what is not in order, and only there"
    return finding.state, f"{finding.sentence} {finding.advice}"


def test_where_nothing_is_wrong_nothing_is_advised():
    make_meter()
    ingest([make_event()])
    assert list(verify_and_remember()) == []
    states = {finding.name: finding.state for finding in examine()}
    # The databases of a test run take less care of the last commits than one should: they need survive no power cut.
    assert states.pop("durability") is State.WARNING
    assert set(states.values()) == {State.OK}


def test_what_waits_for_long_is_an_error_and_says_who_should_count_it(settings):
    inbox.put([make_event("a"), make_event("b")], environment="default")
    InboxBatch.objects.update(accepted_at=now() - timedelta(minutes=2))
    state, text = told("inbox")
    assert state is State.WARNING
    assert "2 events" in text
    assert "0:02:" in text
    assert "flexmeter_drain" in text
    settings.FLEXMETER_INGEST = "celery"
    InboxBatch.objects.update(accepted_at=now() - timedelta(hours=2))
    state, text = told("inbox")
    assert state is State.ERROR
    assert "worker" in text


def test_what_came_just_now_is_in_order_whatever_the_clocks_say():
    inbox.put([make_event(accepted_at=now() + timedelta(hours=1))], environment="default")
    assert told("inbox")[0] is State.OK


def test_batches_that_failed_are_told():
    inbox.put([make_event()], environment="default")
    InboxBatch.objects.update(attempts=2)
    assert told("failing")[0] is State.WARNING


def test_rejected_events_are_told_by_reason():
    for reason in ("pruned", "pruned", "error"):
        RejectedEvent.objects.create(environment="default", body={}, reason=reason, accepted_at=NOON)
    state, text = told("rejected")
    assert state is State.WARNING
    assert "3 accepted events" in text
    assert "error 1, pruned 2" in text
    assert "retry --all" in text


def test_a_meter_being_built_is_named():
    meter = make_meter()
    Meter.objects.update(rollups_ready=False)
    state, text = told("meters")
    assert state is State.WARNING
    assert meter.pk in text


@pytest.mark.parametrize("verify_all", [False, True])
def test_broken_rollups_are_an_error(verify_all):
    meter = make_meter()
    ingest([make_event()])
    assert told("rollups", verify_all=verify_all)[0] is State.OK
    Rollup.objects.update(count=2)
    state, text = told("rollups", verify_all=verify_all)
    assert state is State.ERROR
    assert f"--meter {meter.pk} --restart" in text


def test_rollups_that_are_too_many_to_look_at_are_unknown_not_in_order(monkeypatch):
    from flexmeter.maintenance import verification

    monkeypatch.setattr(verification, "SPOT_CHECK_EVENTS", 1)
    make_meter()
    ingest([make_event("a"), make_event("b")])
    assert told("rollups")[0] is State.UNKNOWN


def test_an_interrupted_prune_is_told():
    Environment.objects.create(name="default", pruned_before=NOON + timedelta(days=1))
    assert told("retention")[0] is State.OK
    Event.objects.create(
        environment="default", event_id="old", event_name="tokens", external_customer_id="acme", timestamp=NOON,
        accepted_at=NOON, ingested_at=NOON,
    )  # fmt: skip
    state, text = told("retention")
    assert state is State.WARNING
    assert "flexmeter_prune" in text


@requires("celery")
@pytest.mark.parametrize(
    ("scheduled", "state"),
    [({"flexmeter.sweep"}, State.OK), ({"other"}, State.ERROR), (set(), State.ERROR), (None, State.UNKNOWN)],
)
def test_a_missing_beat_is_told_only_where_it_can_be_known(settings, monkeypatch, scheduled, state):
    from flexmeter import tasks

    monkeypatch.setattr(tasks, "scheduled_tasks", lambda: scheduled)
    assert told("beat")[0] is State.OK  # inline needs none
    settings.FLEXMETER_INGEST = "celery"
    assert told("beat")[0] is state
    warned = [message.id for message in checks.check_celery()]
    assert warned == (["flexmeter.W005"] if state is State.ERROR else [])


@requires("celery")
@pytest.mark.parametrize(("answers", "state"), [(True, State.OK), (False, State.WARNING), (None, State.UNKNOWN)])
def test_workers_that_do_not_answer_are_told(settings, monkeypatch, answers, state):
    from flexmeter import tasks

    monkeypatch.setattr(tasks, "worker_answers", lambda: answers)
    assert told("workers")[0] is State.OK  # inline needs none
    settings.FLEXMETER_INGEST = "celery"
    assert told("workers")[0] is state


@requires("celery", "redis")
def test_a_broker_out_of_reach_is_an_error_within_seconds(settings, monkeypatch):
    from flexmeter import tasks

    from config.celery import app

    app.set_default()
    settings.FLEXMETER_INGEST = "celery"
    connect, nowhere = tasks.connection_in_time, "redis://:password@127.0.0.1:1/0"
    monkeypatch.setattr(tasks, "connection_in_time", lambda seconds: connect(seconds, nowhere))
    began = time.monotonic()
    state, text = told("workers")
    assert state is State.ERROR
    assert "cannot be reached" in text
    assert "password" not in text
    assert time.monotonic() - began < 60


def test_a_sweep_that_has_not_ended_for_long_is_told(settings):
    settings.FLEXMETER_INGEST = "celery"
    assert told("sweep")[0] is State.UNKNOWN
    with noted(SWEEP):
        pass
    assert told("sweep")[0] is State.OK
    LastRun.objects.update(ended_at=now() - timedelta(hours=1))
    state, text = told("sweep")
    assert state is State.ERROR
    assert "beat" in text


def test_a_quick_look_compares_nothing(monkeypatch):
    make_meter()
    ingest([make_event()])
    Rollup.objects.update(count=2)
    assert "rollups" not in findings(quick=True)
    assert {finding.name for finding in examine()} - findings(quick=True).keys() == {"rollups"}


@requires("celery")
def test_the_schedule_that_is_documented_is_seen():
    from flexmeter.schedule import BEAT_SCHEDULE
    from flexmeter.tasks import scheduled_tasks

    from config.celery import app

    app.set_default()
    assert scheduled_tasks() == {entry["task"] for entry in BEAT_SCHEDULE.values()}
    assert scheduled_tasks() <= set(app.tasks)


def test_celery_that_is_not_installed_is_an_error(settings, monkeypatch):
    for module in (checks, health):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert checks.check_celery() == []
    settings.FLEXMETER_INGEST = "celery"
    assert [message.id for message in checks.check_celery()] == ["flexmeter.E005"]
    assert told("beat")[0] is State.ERROR


def test_autocommit_off_and_a_transaction_elsewhere_are_told_at_start(other_database, monkeypatch):
    from django.db import connections

    assert not {message.id for message in checks.check_databases()} & {"flexmeter.E004", "flexmeter.W004"}
    monkeypatch.setitem(connections[other_database].settings_dict, "ATOMIC_REQUESTS", True)
    assert "flexmeter.W004" in {message.id for message in checks.check_databases()}
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert "flexmeter.W004" not in {message.id for message in checks.check_databases()}
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    assert "flexmeter.E004" in {message.id for message in checks.check_databases()}


@only_on("sqlite")
def test_sqlite_without_a_write_ahead_log_is_told_by_the_database_itself(other_database):
    assert "not wal" not in told("durability")[1]
    finding = health.examine_durability(other_database)
    assert finding.state is State.WARNING
    assert "not wal" in finding.sentence
    assert "PRAGMA journal_mode = WAL" in finding.advice


@only_on("postgresql", "mariadb")
def test_another_isolation_level_is_an_error_as_the_database_tells_it():
    with connection.cursor() as cursor:
        cursor.execute(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"
            if connection.vendor == "postgresql"
            else "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"
        )
    try:
        assert told("isolation")[0] is State.ERROR
    finally:
        connection.close()


def test_what_cannot_be_asked_is_unknown_and_the_rest_is_still_told(monkeypatch):
    def fail(alias):
        raise OperationalError("no such table")

    monkeypatch.setattr(health, "examine_inbox", fail)
    states = {finding.name: finding.state for finding in examine()}
    assert states["inbox"] is State.UNKNOWN
    assert states["rejected"] is State.OK


def test_a_database_out_of_reach_is_one_error_and_no_guesses():
    def fail(*_):
        raise OperationalError("connection refused")

    with connection.execute_wrapper(fail):
        found = list(examine())
    assert [finding.name for finding in found] == ["settings", "database"]
    assert found[-1].state is State.ERROR
    assert "connection refused" in found[-1].sentence


def test_tables_that_are_behind_are_an_error():
    from django.db.migrations.recorder import MigrationRecorder

    row = MigrationRecorder.Migration.objects.filter(app="flexmeter").latest("id")
    row.delete()
    try:
        state, text = told("tables")
    finally:
        row.save(force_insert=True)
    assert state is State.ERROR
    assert "migrate flexmeter" in text


def test_the_command_tells_everything_and_its_status_says_whether_there_is_an_error():
    out = StringIO()
    call_command("flexmeter_doctor", stdout=out)
    assert "ok       inbox: Nothing waits to be counted." in out.getvalue()
    inbox.put([make_event()], environment="default")
    InboxBatch.objects.update(accepted_at=now() - timedelta(hours=2))
    out = StringIO()
    with pytest.raises(CommandError, match="1 error found"):
        call_command("flexmeter_doctor", "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert report["healthy"] is False
    assert [finding["name"] for finding in report["findings"] if finding["state"] == "error"] == ["inbox"]
