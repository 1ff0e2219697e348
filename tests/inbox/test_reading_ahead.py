"""A drain reads rows of its next transaction while the database stores those of this one; nothing else changes by that."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from flexmeter import batches, draining, inbox
from flexmeter.maintenance.verification import verify
from flexmeter.models import InboxBatch, RejectedEvent
from flexmeter.stores.database.native_writers import writer

from tests.factories import make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, waiting

pytestmark = pytest.mark.django_db(transaction=True)
PORTION = 400


@pytest.fixture(autouse=True)
def small_portions(monkeypatch, settings):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    settings.FLEXMETER_DRAIN_EVENTS = PORTION
    make_meter()


def put(row: int, events: int = PORTION) -> list[str]:
    ids = [f"e{row}-{number}" for number in range(events)]
    inbox.put([make_event(event_id) for event_id in ids], environment="default")
    return ids


@pytest.fixture
def parsed(monkeypatch):
    """Ids of the events that were made of their text, in that order."""
    made: list[str] = []
    real = batches.from_json

    def noted(members):
        made.append(members["event_id"])
        return real(members)

    monkeypatch.setattr(batches, "from_json", noted)
    return made


@pytest.fixture
def parsed_at_commit(parsed, monkeypatch):
    """How many were made after each transaction had stored its own."""
    numbers: list[int] = []
    real = draining.ingest

    def noted(events, **named):
        done = real(events, **named)
        numbers.append(len(parsed))
        return done

    monkeypatch.setattr(draining, "ingest", noted)
    return numbers


def test_each_event_is_read_once_and_the_next_ones_ahead_where_the_database_leaves_time(parsed, parsed_at_commit):
    ids = [event_id for row in range(3) for event_id in put(row)]
    assert inbox.drain().events == 3 * PORTION
    assert parsed == ids
    ahead = PORTION if connection.vendor == "postgresql" else 0
    assert parsed_at_commit == [PORTION + ahead // 2, 2 * PORTION + ahead // 2, 3 * PORTION]
    assert_exact(3 * PORTION)


def test_nothing_is_read_ahead_by_a_drain_that_will_not_count_it(parsed, parsed_at_commit):
    for row in range(2):
        put(row)
    assert inbox.drain(events=PORTION).more
    assert parsed_at_commit == [PORTION]
    assert waiting() == 1


def test_a_row_that_another_drain_has_taken_in_between_is_left_to_it(parsed, monkeypatch):
    for row in range(3):
        put(row)
    [_, second, _] = InboxBatch.objects.order_by("id")
    real = draining._claim

    def claim(found, alias):
        if counted():
            InboxBatch.objects.filter(pk=second.pk).delete()
        real(found, alias)

    monkeypatch.setattr(draining, "_claim", claim)
    assert inbox.drain().events == 2 * PORTION
    assert_exact(2 * PORTION)


def test_what_is_no_event_in_a_row_read_ahead_is_rejected_once():
    put(0)
    put(1)
    row = InboxBatch.objects.order_by("id").last()
    row.events = [*inbox.contents(row)[1:], {"event_id": "bad"}, 7]
    row.save()
    drained = inbox.drain()
    assert (drained.events, drained.rejected) == (2 * PORTION + 1, 2)
    assert sorted(json.dumps(each.body) for each in RejectedEvent.objects.all()) == ["7", '{"event_id": "bad"}']
    assert len(counted()) == 2 * PORTION - 1
    assert not list(verify())


def test_a_row_that_cannot_be_read_fails_when_its_turn_comes_and_by_itself(monkeypatch):
    for row in range(3):
        put(row)
    real = batches.from_json

    def broken(members):
        if members["event_id"] == "e1-3":
            raise MemoryError
        return real(members)

    with monkeypatch.context() as patched:
        patched.setattr(batches, "from_json", broken)
        with pytest.raises(MemoryError):
            inbox.drain()
    assert len(counted()) == PORTION
    assert list(InboxBatch.objects.order_by("id").values_list("attempts", flat=True)) == [1, 0]
    inbox.drain()
    assert_exact(3 * PORTION)


def test_steps_are_taken_by_the_writer_that_says_so():
    steps = iter(range(1_000))
    draining.ingest([make_event(f"a{number}") for number in range(1_000)], beside=steps)
    assert len(list(steps)) == (995 if writer("default").works_beside else 1_000)
    assert_exact(1_000)
