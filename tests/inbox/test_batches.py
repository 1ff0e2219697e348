"""Rows of the inbox: whichever way events are written down, the same are read back."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter import batches, draining, inbox
from flexmeter.events import from_json, parse_events
from flexmeter.exceptions import InvalidEvent
from flexmeter.keys import create_key
from flexmeter.models import Event, InboxBatch, RejectedEvent
from flexmeter.properties import dumps, loads
from flexmeter.sent import SentEvents, sent_events

from tests.factories import NOON, make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, waiting
from tests.requirements import only_on

EVENT = {"event_id": "a", "event_name": "tokens", "external_customer_id": "acme", "properties": {"n": 1}}


def as_sent(events, **changed):
    return json.dumps({"events": events, **changed}, ensure_ascii=False)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
names = st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=12).filter(str.strip)
timestamps = st.none() | st.sampled_from(["2024-03-10T12:00:00Z", "2024-03-10T12:00:00.123456789+05:30", "0001-01-01T00:00:00Z"])
values = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
complete_events = st.fixed_dictionaries(
    {"event_id": names, "event_name": names, "external_customer_id": names},
    optional={
        "timestamp": timestamps,
        "source": texts,
        "customer_id": texts,
        "properties": st.none() | st.dictionaries(texts, values, max_size=3),
        "accepted_at": texts | st.just("2020-01-01T00:00:00+00:00"),
        "sender": texts,
        "other": texts,
    },
)


@given(st.lists(complete_events, min_size=1, max_size=5), st.sampled_from(["", "key"]), st.sampled_from([None, 1]))
def test_a_body_as_sent_holds_the_events_that_were_parsed_from_it(elements, sender, indent):
    body = json.dumps({"events": elements, "more": 1}, ensure_ascii=False, indent=indent)
    members = loads(body)["events"]
    events = parse_events(members, now=NOON, sender=sender)
    sent = sent_events(body, members, now=NOON, sender=sender)
    assert list(sent) == events
    [row] = batches.rows_of(sent, "default")
    assert (row.events == body) == ("\\" not in body)
    if row.events == body:
        read = batches.Body(row.events, row.sender, row.accepted_at).elements()
        assert [from_json(members) for members in read] == events
        assert (row.event_count, row.size) == (len(events), len(body))
    written = [from_json(members) for row in batches.rows_of(events, "default") for members in loads(row.events)]
    assert written == events


def outcome(made, *given):
    """The events, or what is wrong with them."""
    try:
        return list(made(*given, now=NOON)), None
    except InvalidEvent as error:
        return None, str(error)


anything = st.none() | st.booleans() | st.integers(-(10**320), 10**320) | st.floats(allow_nan=False, allow_infinity=False) | texts
odd_timestamps = st.sampled_from(
    ["2024-02-30T12:00:00Z", "0999-12-31T23:59:59Z", "9999-12-31T00:00:00Z", "2024-03-10T24:00:00Z", "2024-03-10T12:00:60Z", ""]
)
odd_events = st.fixed_dictionaries(
    {},
    optional={
        "event_id": names | anything | st.just(" "),
        "event_name": names | anything | st.just("x" * 256),
        "external_customer_id": names | anything | st.just("\u3000"),
        "timestamp": timestamps | odd_timestamps | anything,
        "source": texts | anything | st.just("x" * 256),
        "customer_id": texts | anything,
        "properties": st.dictionaries(texts, anything | st.lists(anything, max_size=2) | st.just("x" * 70), max_size=3)
        | anything,
    },
)


@given(
    st.lists(complete_events | odd_events | anything, min_size=1, max_size=4),
    st.sampled_from([100, 65_536]),
)
@example([{**EVENT, "properties": {"n": 10**310}}], 65_536)
@example([{**EVENT, "properties": {"é" * 60: ""}}], 100)
@example([{**EVENT, "event_id": "é" * 255, "timestamp": "9998-12-31T23:59:59.123456789Z"}], 65_536)
def test_what_is_wrong_with_a_body_is_found_before_it_is_kept_as_it_was_sent(elements, most):
    with override_settings(FLEXMETER_MAX_PROPERTIES_BYTES=most):
        body = as_sent(elements)
        members = loads(body)["events"]
        events, fault = outcome(parse_events, members)
        sent, fault_sent = outcome(sent_events, body, members)
        assert fault_sent == fault
        if all(isinstance(each, dict) and each.get("event_id") for each in members):  # otherwise ids are made anew
            assert sent == events


def test_sent_events_are_a_sequence():
    elements = [{**EVENT, "event_id": name} for name in "abcd"]
    events = sent_events(as_sent(elements), elements, now=NOON)
    expected = parse_events(elements, now=NOON)
    assert isinstance(events, SentEvents)
    assert (events[1], events[-1], events[1:3], len(events)) == (expected[1], expected[3], expected[1:3], 4)
    with pytest.raises(IndexError):
        events[4]


@pytest.mark.parametrize(
    ("most", "value"), [("MOST_EVENTS", 1), ("MOST_CHARACTERS", 100)], ids=["too many events", "too many characters"]
)
def test_a_body_that_is_too_large_for_one_row_is_written_anew(monkeypatch, most, value):
    elements = [EVENT, {**EVENT, "event_id": "b"}]
    body = as_sent(elements)
    events = sent_events(body, elements, now=NOON)
    assert [row.events for row in batches.rows_of(events, "default")] == [body]
    monkeypatch.setattr(batches, most, value)
    rows = list(batches.rows_of(events, "default"))
    assert [from_json(members) for row in rows for members in loads(row.events)] == list(events)
    assert len(rows) == 2


# ------------------------------------------------------------------------------------------------ over HTTP

database = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by_a_worker(settings, monkeypatch):
    settings.FLEXMETER_INGEST = "celery"
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    monkeypatch.setattr(inbox._Fullness, "seen", {})


@pytest.fixture
def post(client, by_a_worker):
    key = create_key("test", environment="default")

    def send(body):
        answer = client.post("/v1/events/bulk", body, content_type="application/json", headers={"X-API-Key": key.secret})
        assert answer.status_code == 202, answer.content
        return key.key.prefix

    return send


@database
@pytest.mark.parametrize(
    ("elements", "is_kept"),
    [
        ([EVENT, {**EVENT, "event_id": "b", "accepted_at": "2020-01-01T00:00:00Z", "sender": "x"}], True),
        ([EVENT, {**EVENT, "event_id": "é 漢"}], True),
        ([EVENT, {**EVENT, "event_id": 'quoted "b"'}], False),
        ([EVENT, {**EVENT, "event_id": ""}], False),
        ([EVENT, {name: value for name, value in EVENT.items() if name != "event_id"}], False),
    ],
    ids=["complete", "beyond ASCII", "escaped characters", "an empty id", "no id"],
)
def test_a_complete_body_waits_as_it_was_sent(post, elements, is_kept):
    make_meter()
    body = as_sent(elements, other=[1, 2])
    sender = post(body)
    batch = InboxBatch.objects.get()
    assert (batch.events == loads(body)) == is_kept
    assert batch.event_count == 2
    assert {event["sender"] for event in inbox.contents(batch)} == {sender}
    for element in elements:
        if element.get("event_id"):
            found = inbox.find(element["event_id"], environment="default")
            assert (found.event_id, found.sender) == (element["event_id"], sender)
    inbox.drain()
    assert_exact(2)
    first, second = Event.objects.order_by("accepted_at")
    assert first.accepted_at == batch.accepted_at
    assert second.accepted_at == batch.accepted_at + timedelta(microseconds=1)
    assert {first.sender, second.sender} == {sender}


@database
def test_of_two_events_of_one_id_in_a_body_the_later_stands(post):
    make_meter("SUM", field="n")
    post(as_sent([EVENT, {**EVENT, "properties": {"n": 5}}]))
    assert inbox.find("a", environment="default").properties == {"n": 5}
    inbox.drain()
    assert Event.objects.get().properties == {"n": 5}


@database
def test_what_cannot_be_counted_of_a_body_is_rejected_alone_and_can_be_retried(post, monkeypatch):
    sender = post(as_sent([EVENT, {**EVENT, "event_id": "bad"}, {**EVENT, "event_id": "c"}]))
    batch = InboxBatch.objects.get()
    real = draining.ingest

    def ingest(events, **named):
        if any(event.event_id == "bad" for event in events):
            raise ValueError("cannot be counted")
        return real(events, **named)

    with monkeypatch.context() as patched:
        patched.setattr(draining, "ingest", ingest)
        inbox.drain()
    assert counted() == ["a", "c"]
    row = RejectedEvent.objects.get()
    assert inbox.retry(row.pk)
    late = Event.objects.get(event_id="bad")
    assert (late.sender, late.accepted_at) == (sender, batch.accepted_at + timedelta(microseconds=1))


@database
def test_a_body_that_fails_again_and_again_is_cut_and_each_half_knows_what_it_held(post, monkeypatch):
    make_meter()
    sender = post(as_sent([{**EVENT, "event_id": f"e{number}"} for number in range(4)]))
    batch = InboxBatch.objects.get()
    expected = [from_json(members) for members in inbox.contents(batch)]

    def fail(*given, **named):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(draining, "_drain_claimed", fail)
        for _ in range(draining.TRIES):
            with pytest.raises(MemoryError):
                inbox.drain()
    halves = InboxBatch.objects.order_by("id")
    assert [half.event_count for half in halves] == [2, 2]
    held = [from_json(members) for half in halves for members in inbox.contents(half)]
    assert held == expected
    assert {event.sender for event in held} == {sender}
    inbox.drain()
    assert_exact(4)


@database
@pytest.mark.usefixtures("by_a_worker")
@pytest.mark.parametrize("where", ["by itself", "in a transaction", "autocommit off"])
@pytest.mark.parametrize("text", ["x" * 12_000, "%s '\"\\ é" * 2_000], ids=["plain", "of all kinds"])
def test_a_large_row_is_kept_with_every_character(where, text):
    event = make_event("large", properties={"text": text})
    if where == "by itself":
        inbox.put([event], environment="default")
    elif where == "in a transaction":
        with transaction.atomic():
            inbox.put([event], environment="default")
    else:
        transaction.set_autocommit(False)
        try:
            inbox.put([event], environment="default")
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
    assert waiting() == 1
    inbox.drain()
    assert Event.objects.get().properties == {"text": text}


@database
@pytest.mark.usefixtures("by_a_worker")
def test_a_large_row_is_gone_with_the_transaction_it_was_put_in():
    event = make_event("large", properties={"text": "x" * 12_000})
    with transaction.atomic():
        inbox.put([event], environment="default")
        assert waiting() == 1
        transaction.set_rollback(True)
    assert not waiting()


@database
@pytest.mark.usefixtures("by_a_worker")
@only_on("postgresql")
def test_a_large_row_is_no_part_of_the_statements_text(django_assert_num_queries):
    event = make_event("large", properties={"text": "x" * 12_000})
    with django_assert_num_queries(1) as captured:
        inbox.put([event], environment="default")
    assert "INSERT INTO flexmeter_inboxbatch" in captured[0]["sql"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT length(query) FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert cursor.fetchone()[0] < 1_000
    assert dumps(InboxBatch.objects.get().events[0]["properties"]) == event.properties_json
