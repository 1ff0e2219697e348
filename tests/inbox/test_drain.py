"""Draining: what was put is counted once, whoever drains, and one bad event holds up no other."""

from __future__ import annotations

import json
import random
import threading
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, connection, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter import batches, draining, inbox
from flexmeter.events import from_json, json_text, parse_event, to_json
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.keys import create_key
from flexmeter.models import Event, InboxBatch, RejectedEvent, now
from flexmeter.properties import loads
from flexmeter.queries import AnalyticsQuery, Scope
from flexmeter.stores.database import transactions
from flexmeter.usage import analytics, usage

from tests.factories import NOON, make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, rejected, waiting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    """Tests drain when they want to."""
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


@pytest.fixture(params=["the database's own way", "no SKIP LOCKED"])
def locking(request, monkeypatch):
    """Both ways to claim rows; SQLite has only the second."""
    if request.param == "no SKIP LOCKED":
        monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", False)
        monkeypatch.setattr(type(connection.features), "has_select_for_update_skip_locked", False)


def put(*event_ids, environment="default", **changed):
    inbox.put([make_event(event_id, **changed) for event_id in event_ids], environment=environment)


def in_thread(work):
    """Run `work` in a thread with connections of its own; its error, if any, is in the list that comes back."""
    errors = []

    def run():
        try:
            work()
        except Exception as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def finish(threads):
    for thread, _ in threads:
        thread.join(300)
    assert not [thread for thread, _ in threads if thread.is_alive()]
    assert [error for _, errors in threads for error in errors] == []


# ------------------------------------------------------------------------------------------------ what is counted


def test_what_was_put_is_counted_and_its_rows_are_gone(locking):
    make_meter()
    put("a", "b")
    put("c")
    drained = inbox.drain()
    assert (drained.batches, drained.events, drained.ingested.stored) == (2, 3, 3)
    assert_exact(3)
    assert inbox.drain() == inbox.Drained()


def test_an_event_comes_out_of_the_inbox_as_it_went_in():
    event = parse_event(
        {
            "event_name": "tokens",
            "external_customer_id": " Ärger 漢字 ",
            "timestamp": "2024-03-10T12:00:00.123456789+05:45",
            "properties": loads('{"b": 1.50, "a": 12345678901234567890.12345678901234567890, "c": {"d": [null, true, "x"]}}'),
            "source": "s",
            "customer_id": "c",
        },
        now=NOON,
    )
    inbox.put([event], environment="default")
    inbox.drain()
    stored = Event.objects.get().as_usage_event()
    assert stored.same_content(event)
    assert (stored.event_id, stored.accepted_at) == (event.event_id, NOON)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=9)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4), st.booleans(), st.datetimes(timezones=st.timezones()))
def test_no_value_is_lost_on_the_way_through_json(properties, timestamp_given, timestamp):
    from flexmeter.events import EARLIEST, LATEST
    from flexmeter.properties import dumps

    if not EARLIEST + timedelta(days=2) < timestamp < LATEST - timedelta(days=2):
        timestamp = NOON
    raw = {"event_name": "tokens", "external_customer_id": "acme", "properties": loads(dumps(properties))}
    event = parse_event({**raw, "timestamp": timestamp if timestamp_given else None}, now=NOON)
    assert from_json(loads(dumps(to_json(event)))) == event


@given(texts, texts, st.none() | st.dictionaries(texts, values, max_size=4), st.booleans(), st.booleans())
def test_the_text_of_an_event_is_that_of_its_members(text, sender, properties, timestamp_given, has_text):
    from flexmeter.properties import dumps

    event = make_event(
        text,
        event_name=f'{text}"',
        external_customer_id=f"\\{text}",
        properties=properties,
        source=text,
        customer_id=text,
        sender=sender,
        timestamp_given=timestamp_given,
    )
    assert json_text(event if has_text else event._replace(properties_json=None)) == dumps(to_json(event))


def test_each_environment_gets_its_own(locking):
    for environment in ("one", "two"):
        make_meter(environment=environment)
    for number in range(4):
        put(f"e{number}", environment="one" if number % 2 else "two")
    put("e1", environment="two")
    inbox.drain()
    assert sorted(Event.objects.values_list("environment", "event_id")) == [
        ("one", "e1"), ("one", "e3"), ("two", "e0"), ("two", "e1"), ("two", "e2"),
    ]  # fmt: skip
    assert not waiting()


def test_a_repeat_in_a_later_batch_stands_and_counts_once():
    make_meter("SUM", field="n")
    put("a", properties={"n": 1})
    put("a", properties={"n": 5}, accepted_at=NOON + timedelta(minutes=2))
    drained = inbox.drain()
    assert drained.events == 1  # of one id, as far as this transaction can tell
    assert Event.objects.get().properties == {"n": 5}
    assert waiting() == 0


def test_a_bounded_drain_leaves_the_rest(settings):
    settings.FLEXMETER_DRAIN_EVENTS = 2
    for number in range(7):
        put(f"e{number}")
    drained = inbox.drain(events=3)
    assert (drained.events, waiting()) == (4, 3)
    assert counted() == ["e0", "e1", "e2", "e3"]
    inbox.drain()
    assert_exact(7)


@pytest.mark.parametrize("bound", [1, 2, 5, 10_000])
def test_no_transaction_counts_more_than_the_bound_unless_one_batch_does(settings, monkeypatch, bound, locking):
    settings.FLEXMETER_DRAIN_EVENTS = bound
    sizes = []
    real = draining.ingest
    monkeypatch.setattr(draining, "ingest", lambda events, **named: sizes.append(len(events)) or real(events, **named))
    for number in range(20):
        put(*(f"e{number}-{part}" for part in range(number % 3 + 1)))
    put(*(f"big{part}" for part in range(12)))
    total = inbox.drain()
    assert total.events == sum(sizes) == 51
    assert all(size <= max(bound, 12) for size in sizes)
    assert bound > 100 or len(sizes) > 3
    assert_exact(51)


def test_many_small_rows_are_counted_in_few_transactions(monkeypatch):
    sizes = []
    real = draining.ingest
    monkeypatch.setattr(draining, "ingest", lambda events, **named: sizes.append(len(events)) or real(events, **named))
    for number in range(300):
        put(f"e{number}")
    inbox.drain()
    assert len(sizes) == 1
    assert_exact(300)


def test_batches_are_bounded_in_size_too(monkeypatch):
    monkeypatch.setattr(batches, "MOST_CHARACTERS", 2_000)
    monkeypatch.setattr(draining, "CLAIMED_CHARACTERS", 4_000)
    put(*(f"e{number}" for number in range(20)), properties={"text": "x" * 500})
    assert InboxBatch.objects.count() == 10
    sizes = []
    real = draining.ingest
    monkeypatch.setattr(draining, "ingest", lambda events, **named: sizes.append(len(events)) or real(events, **named))
    inbox.drain()
    assert max(sizes) <= 4
    assert_exact(20)


def test_the_backlog_is_the_true_number_of_events_that_wait():
    assert inbox.backlog() == inbox.Backlog(0, 0, None)
    put("a", "b", accepted_at=NOON)
    put("c", environment="other", accepted_at=NOON + timedelta(hours=1))
    assert inbox.backlog() == inbox.Backlog(2, 3, NOON)
    assert inbox.backlog("other") == inbox.Backlog(1, 1, NOON + timedelta(hours=1))
    assert inbox.backlog("none") == inbox.Backlog(0, 0, None)


def test_an_event_that_waits_can_be_found_by_its_id(monkeypatch):
    put("a", 'b"%_\\')
    put("a", properties={"n": 2})
    assert inbox.find('b"%_\\', environment="default") == make_event('b"%_\\')
    assert inbox.find("a", environment="default").properties == {"n": 2}
    for unknown in ("A", "b", "c", "%", ""):
        assert inbox.find(unknown, environment="default") is None
    assert inbox.find("a", environment="other") is None
    monkeypatch.setattr(inbox, "LOOKED_AT_EVENTS", 1)
    put("newest")
    assert inbox.find("newest", environment="default")
    assert inbox.find("a", environment="default") is None


# ------------------------------------------------------------------------------------------------ many at once


def test_many_drains_at_once_count_each_event_once(locking, settings):
    settings.FLEXMETER_DRAIN_EVENTS = 10
    make_meter()
    for number in range(60):
        put(f"e{number}", f"f{number}")

    def drain_until_empty():
        while waiting():
            inbox.drain()

    finish([in_thread(drain_until_empty) for _ in range(4)])
    assert_exact(120)


def test_rows_of_a_transaction_that_has_not_committed_hold_up_no_drain(locking):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite lets one transaction write at a time")
    put("before")
    ready, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            put("held")
            ready.set()
            done.wait(300)

    held = in_thread(hold)
    try:
        assert ready.wait(180)
        put("after")
        inbox.drain()
        assert held[0].is_alive(), "the drain has waited for it"
        assert counted() == ["after", "before"]
    finally:
        done.set()
        finish([held])
    inbox.drain()
    assert_exact(3)


def test_a_drain_that_holds_rows_does_not_stop_another_from_the_rest(settings):
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("needs SKIP LOCKED")
    put("held")
    ready, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            list(InboxBatch.objects.select_for_update())
            ready.set()
            done.wait(300)

    held = in_thread(hold)
    try:
        assert ready.wait(180)
        put("free")
        inbox.drain()
        assert counted() == ["free"]
    finally:
        done.set()
        finish([held])


def test_eight_writers_committing_out_of_order_lose_nothing_to_running_drains(locking):
    make_meter()
    sqlite = connection.vendor == "sqlite"
    turns = 6 if sqlite else 20
    writing = threading.Event()
    writing.set()

    def write(number):
        chance = random.Random(number)
        for turn in range(turns):
            with transaction.atomic():
                put(f"w{number}-{turn}")
                if not sqlite:
                    threading.Event().wait(chance.random() * 0.02)  # others commit rows numbered later, meanwhile

    def drain():
        while writing.is_set() or waiting():
            inbox.drain()

    drains = [in_thread(drain) for _ in range(2)]
    try:
        finish([in_thread(lambda number=number: write(number)) for number in range(8)])
    finally:
        writing.clear()
        finish(drains)
    assert_exact(8 * turns)


def test_where_locks_mean_nothing_a_row_drained_twice_counts_once(monkeypatch):
    make_meter()
    put("a")
    real = draining.bodies
    taken = []

    def bodies(pks, alias):
        found = real(pks, alias)
        if not taken:
            taken.append(pks)
            InboxBatch.objects.filter(pk__in=pks).delete()  # as another drain would have it, were there no lock
        return found

    monkeypatch.setattr(draining, "bodies", bodies)
    inbox.drain()
    assert taken
    # The first transaction was rolled back as a whole, the deletion with it; the second one counted.
    assert_exact(1)


# ------------------------------------------------------------------------------------------------ failures


class Poison:
    """Makes ingestion of named events fail."""

    def __init__(self, monkeypatch, *event_ids, error=None):
        self.calls = []
        self.event_ids, self.error = set(event_ids), error or DataError("cannot be stored")
        real = draining.ingest

        def ingest(events, **named):
            self.calls.append([event.event_id for event in events])
            counted = real(events, **named)
            if self.event_ids.intersection(self.calls[-1]):
                raise self.error
            return counted

        monkeypatch.setattr(draining, "ingest", ingest)


@pytest.mark.parametrize("poisoned", [["e0"], ["e6"], ["e0", "e1", "e6"], [f"e{n}" for n in range(7)]])
def test_a_poison_event_is_rejected_alone_and_all_others_count(monkeypatch, poisoned, locking):
    make_meter()
    Poison(monkeypatch, *poisoned)
    put("e0", "e1", "e2")
    put("e3", "e4", "e5", "e6")
    drained = inbox.drain()
    assert drained.rejected == len(poisoned)
    assert rejected() == [(event_id, "error") for event_id in poisoned]
    assert counted() == [f"e{n}" for n in range(7) if f"e{n}" not in poisoned]
    assert not waiting()
    row = RejectedEvent.objects.first()
    assert "cannot be stored" in row.detail
    assert "DataError" in row.traceback
    assert (row.attempts, row.accepted_at) == (1, NOON + timedelta(minutes=1))


def test_halving_takes_few_tries(monkeypatch):
    poison = Poison(monkeypatch, "e500")
    put(*(f"e{n}" for n in range(1_000)))
    inbox.drain()
    assert len(counted()) == 999
    assert len(poison.calls) <= 2 * 10 + 1


def test_an_event_the_database_itself_refuses_is_rejected(monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite takes any text")
    put("good")
    put("x" * 300)  # longer than its column
    inbox.drain()
    assert counted() == ["good"]
    assert rejected() == [("", "too_long")]


def test_a_rejected_event_counts_when_it_is_tried_again_after_the_cause_is_gone(monkeypatch):
    make_meter()
    with monkeypatch.context() as patched:
        Poison(patched, "bad")
        put("good", "bad")
        inbox.drain()
    [row] = RejectedEvent.objects.all()
    assert inbox.retry(row.pk)
    assert not inbox.retry(row.pk)
    assert_exact(2)


def test_a_rejected_event_that_fails_again_stays_with_one_attempt_more(monkeypatch):
    inbox.put([make_event("old")], environment="default")
    make_pruned_before(NOON + timedelta(days=1))
    inbox.drain()
    [row] = RejectedEvent.objects.all()
    assert (row.reason, row.attempts) == ("pruned", 1)
    first = row.rejected_at
    assert not inbox.retry(row.pk)
    row.refresh_from_db()
    assert (row.reason, row.attempts) == ("pruned", 2)
    assert row.rejected_at > first
    make_pruned_before(NOON - timedelta(days=1))
    assert inbox.retry(row.pk)
    assert_exact(1)


def make_pruned_before(floor):
    from flexmeter.models import Environment

    Environment.objects.update_or_create(name="default", defaults={"pruned_before": floor})


def test_a_conflict_that_is_tried_again_stays_one_rejected_event(settings):
    settings.FLEXMETER_REPEATED_EVENT = "keep"
    put("a", properties={"n": 1})
    put("a", properties={"n": 2}, accepted_at=NOON + timedelta(minutes=2))
    inbox.drain()
    [row] = RejectedEvent.objects.all()
    assert not inbox.retry(row.pk)
    row.refresh_from_db()
    assert (RejectedEvent.objects.count(), row.reason, row.attempts) == (1, "conflict", 2)
    settings.FLEXMETER_REPEATED_EVENT = "replace"
    assert inbox.retry(row.pk)
    assert Event.objects.get().properties == {"n": 2}


def test_a_retry_while_the_database_is_in_trouble_changes_nothing(monkeypatch):
    with monkeypatch.context() as patched:
        Poison(patched, "bad")
        put("bad")
        inbox.drain()
    [row] = RejectedEvent.objects.all()
    from flexmeter import rejections

    def fail(events, **named):
        raise OperationalError("out of reach")

    with monkeypatch.context() as patched:
        patched.setattr(rejections, "ingest", fail)
        with pytest.raises(OperationalError):
            inbox.retry(row.pk)
    row.refresh_from_db()
    assert row.attempts == 1


GOOD = to_json(make_event("good"))


@pytest.mark.parametrize(
    ("text", "stored", "reasons"),
    [
        (json.dumps([GOOD, {**GOOD, "event_id": "x", "event_name": ""}]), ["good"], [("x", "required")]),
        (json.dumps([GOOD, 5, None, "text", [1]]), ["good"], [("", "type")] * 4),
        (json.dumps([GOOD, {**GOOD, "accepted_at": "yesterday"}]), ["good"], [("good", "invalid")]),
        (json.dumps([GOOD, {**GOOD, "accepted_at": 5}]), ["good"], [("good", "invalid")]),
        (json.dumps([GOOD, {**GOOD, "event_id": "x" * 300}]), ["good"], [("", "too_long")]),
        (json.dumps([GOOD, {**GOOD, "event_id": "nul\x00"}]), ["good"], [("", "invalid")]),
        (json.dumps([GOOD, {**GOOD, "event_id": {"a": 1}}]), ["good"], [("", "type")]),
        (json.dumps([GOOD, {**GOOD, "event_id": "s", "source": "\ud800"}]), ["good"], [("s", "invalid")]),
        (json.dumps({"events": 1}), [], [("", "invalid")]),
        ("5", [], [("", "invalid")]),
        ("null", [], [("", "invalid")]),
        ("[]", [], []),
    ],
)
def test_rows_that_somebody_changed_are_rejected_element_by_element(text, stored, reasons):
    put("before")
    put_text(text)
    put("after")
    inbox.drain()
    assert counted() == sorted([*stored, "before", "after"])
    assert rejected() == reasons
    assert not waiting()
    for row in RejectedEvent.objects.all():
        assert not inbox.retry(row.pk)


def test_a_row_that_is_no_json_at_all_is_rejected_with_its_text():
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL stores nothing but JSON there")
    put("before")
    put_text('[{"event_id": "a", ')
    inbox.drain()
    assert counted() == ["before"]
    assert RejectedEvent.objects.get().body == '[{"event_id": "a", '
    assert not waiting()


def put_text(text):
    """A row with `text` in place of its events."""
    batch = InboxBatch.objects.create(environment="default", events=[], event_count=1, accepted_at=NOON)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE flexmeter_inboxbatch SET events = %s WHERE id = %s", [text, batch.pk])


def test_trouble_that_is_not_the_events_fault_leaves_all_waiting(monkeypatch):
    put("a", "b")
    with monkeypatch.context() as patched:
        Poison(patched, "a", error=OperationalError("out of reach"))
        with pytest.raises(OperationalError):
            inbox.drain()
    assert (counted(), waiting(), rejected()) == ([], 1, [])
    inbox.drain()
    assert_exact(2)


def test_contention_is_never_held_against_a_batch(monkeypatch):
    monkeypatch.setattr(transactions, "ATTEMPTS", 2)
    put("a")
    with monkeypatch.context() as patched:
        Poison(patched, "a", error=transactions.Superseded())
        for _ in range(2 * draining.TRIES):
            with pytest.raises(EnvironmentBusy):
                inbox.drain()
    assert InboxBatch.objects.get().attempts == 0


def test_a_batch_that_keeps_failing_holds_up_no_other_and_ends_among_the_rejected(monkeypatch):
    make_meter()
    Poison(monkeypatch, "bad", error=OperationalError("statement timeout"))
    put("b0", "bad", "b2", "b3")
    put("other")
    failures = 0
    while waiting() and failures < 50:
        try:
            inbox.drain()
        except OperationalError:
            failures += 1
            put(f"new{failures}")
            if failures > 1:
                assert f"new{failures - 1}" in counted()
    assert failures < draining.TRIES + 10
    assert rejected() == [("bad", "error")]
    assert {"b0", "b2", "b3", "other"} <= set(counted())


def test_a_database_out_of_reach_is_never_held_against_a_batch(monkeypatch):
    put("a")
    with monkeypatch.context() as patched:
        Poison(patched, "a", error=OperationalError("server closed the connection"))
        patched.setattr(connections["default"], "is_usable", lambda: False)
        for _ in range(2 * draining.TRIES):
            with pytest.raises(OperationalError):
                inbox.drain()
    assert InboxBatch.objects.get().attempts == 0
    inbox.drain()
    assert_exact(1)


def test_a_drain_ends_in_time_where_events_keep_coming(settings):
    settings.FLEXMETER_DRAIN_EVENTS = 1
    for number in range(5):
        put(f"e{number}")
    drained = inbox.drain(seconds=0)
    assert (drained.events, drained.more, waiting()) == (1, True, 4)
    drained = inbox.drain(events=2)
    assert (drained.events, drained.more, waiting()) == (2, True, 2)
    drained = inbox.drain(seconds=60)
    assert (drained.events, drained.more, waiting()) == (2, False, 0)


def test_what_waits_for_long_is_looked_after_but_not_what_came_just_now(monkeypatch):
    monkeypatch.setattr(inbox, "FORGOTTEN_AFTER", timedelta(minutes=5))
    put("young", accepted_at=now())
    monkeypatch.setattr(inbox._Watch, "looked_at", float("-inf"))
    inbox.look_after()
    assert waiting() == 1
    put("old", accepted_at=now() - timedelta(minutes=6))
    inbox.look_after()
    assert waiting() == 2  # it has looked just now
    monkeypatch.setattr(inbox._Watch, "looked_at", float("-inf"))
    inbox.look_after()
    assert_exact(2)


@pytest.mark.parametrize("ask", [usage, analytics], ids=["usage", "analytics"])
def test_who_asks_gets_what_a_killed_process_left_waiting(monkeypatch, ask):
    meter = make_meter()
    put("left", accepted_at=now() - timedelta(seconds=30))
    monkeypatch.setattr(inbox._Watch, "looked_at", float("-inf"))
    start, end = NOON - timedelta(days=1), NOON + timedelta(days=1)
    if ask is usage:
        assert usage(meter=meter, start=start, end=end).value == 1
    else:
        [item] = analytics(AnalyticsQuery(Scope("default"), (meter.rule(),), start, end))
        assert item.total == 1
    assert waiting() == 0


def test_any_call_of_the_api_counts_what_a_killed_process_left_waiting(client, monkeypatch):
    secret = create_key("test", environment="default").secret
    put("left", accepted_at=now() - timedelta(seconds=30))
    monkeypatch.setattr(inbox._Watch, "looked_at", float("-inf"))
    answer = client.get("/v1/events/left", headers={"x-api-key": secret})
    assert (answer.status_code, waiting()) == (200, 0)
