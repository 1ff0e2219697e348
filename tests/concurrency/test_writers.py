"""Many processes at once: nothing is lost, nothing counts twice, nobody gets an error."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection

from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.verification import verify
from flexmeter.models import Event, Meter, Rollup
from flexmeter.properties import dumps
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage, usage_from_events

from tests.concurrency import workers
from tests.concurrency.conftest import processes
from tests.contracts import reference
from tests.contracts.scripts import as_question, holds
from tests.databases.transactions import wait_for_transactions
from tests.factories import make_meter

SCALE = int(os.environ.get("SCALE", "2" if connection.vendor == "postgresql" else "1"))
"""PostgreSQL is where many write at once; the others are made to, but less."""
METERS = [
    {"aggregation_type": "COUNT"},
    {"aggregation_type": "SUM", "field": "n"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "HOUR", "group_by": "u"},
    {"aggregation_type": "LATEST", "field": "n"},
    {"aggregation_type": "COUNT_UNIQUE", "field": "u"},
]


SPAN = (workers.START, workers.START + timedelta(days=30))


def results(futures):
    return [future.result(timeout=600) for future in futures]


def make_all_meters():
    return [make_meter(**definition) for definition in METERS]


def figures():
    """Value and number of events of every meter, once it is seen that rollups and events agree."""
    assert list(verify()) == []
    found = []
    for meter in Meter.objects.order_by("id"):
        query = UsageQuery(meter.rule(), Scope("default"), *SPAN)
        answer, counted = usage(query), usage_from_events(query)
        assert (answer.source, answer.value, answer.event_count) == ("rollups", counted.value, counted.event_count)
        found.append((answer.value, answer.event_count))
    return found


def delivery_of(event):
    members = ("event_id", "event_name", "external_customer_id", "properties")
    body = {name: getattr(event, name) for name in members} | {"timestamp": event.timestamp.isoformat()}
    return reference.Delivery(dumps(body), event.accepted_at)


def assert_reference_agrees(events):
    """The ledger and every meter say what the deliveries amount to, in whatever order they came."""
    rows = reference.ledger(map(delivery_of, events))
    stored = Event.objects.values_list("event_id", "external_customer_id", "timestamp", "accepted_at", "properties")
    assert set(stored.values_list("event_id", "accepted_at")) == {(row.event_id, row.accepted_at) for row in rows}
    for meter in Meter.objects.all():
        for customer in (None, "acme", "globex"):
            question = replace(as_question(meter, *SPAN), customer=customer)
            assert holds(usage(UsageQuery(meter.rule(), Scope("default", customer), *SPAN)), reference.usage(rows, question))


def test_eight_writers_of_the_same_64_events_store_and_count_each_once(start):
    make_all_meters()
    stored = results([start(workers.send_same, writer, 64, 2 * SCALE) for writer in range(8)])
    assert sum(stored) == Event.objects.count() == 64
    assert figures() == [(64, 64), (sum(range(64)), 64), (59 + 63, 64), (63, 64), (0, 64)]


def test_eight_writers_on_one_customer_lose_nothing(start):
    make_all_meters()
    sent = sum(results([start(workers.send_own, writer, 5 * SCALE, 40) for writer in range(8)]))
    assert sent == Event.objects.count()
    assert figures()[:2] == [(sent, sent), (sent // 40 * sum(range(40)), sent)]


def test_acts_that_four_writers_send_with_other_values_end_with_those_accepted_last(start):
    make_all_meters()
    batches, size, ids = 4 * SCALE, 12, 40
    results([start(workers.send_changing, writer, batches, size, ids) for writer in range(4)])
    figures()
    assert_reference_agrees(
        workers.changing_event(writer, number, ids) for writer in range(4) for number in range(batches * size)
    )


def test_a_meter_created_while_four_writers_run_counts_exactly_the_events_there_are(start):
    writers = [start(workers.send_own, writer, 8 * SCALE, 20) for writer in range(4)]
    changing = start(workers.send_changing, 9, 8 * SCALE, 10, 30)
    meters = start(workers.make_meters, METERS * SCALE)
    results([*writers, changing, meters])
    count = Event.objects.count()
    assert count >= 4 * 8 * SCALE * 20
    for value, events in figures()[:: len(METERS)]:
        assert (value, events) == (count, count)


def test_a_meter_narrowed_while_writers_run_counts_what_its_filters_let_pass(start):
    meters = make_all_meters()
    writers = [start(workers.send_own, writer, 8 * SCALE, 20) for writer in range(4)]
    narrowing = [start(workers.narrow, meter.pk, "0123"[: 2 + index % 3]) for index, meter in enumerate(meters)]
    results([*writers, *narrowing])
    each = 8 * SCALE * 20
    assert [events for _, events in figures()] == [each * (2 + index % 3) for index in range(len(METERS))]


def test_events_that_come_one_by_one_while_meters_are_made_and_narrowed_count_as_these_say(start):
    meters = make_all_meters()
    writers = [start(workers.send_own, writer, 60 * SCALE, 1) for writer in range(3)]
    narrowing = [start(workers.narrow, meter.pk, "01") for meter in meters]
    making = start(workers.make_meters, METERS)
    results([*writers, *narrowing, making])
    each = 60 * SCALE
    assert [events for _, events in figures()] == [2 * each] * len(METERS) + [3 * each] * len(METERS)


def test_maintenance_in_full_swing_finds_and_makes_no_differences(start):
    meters = [meter.pk for meter in make_all_meters()]
    writers = [start(workers.send_own, writer, 6 * SCALE, 20) for writer in range(2)]
    changing = [start(workers.send_changing, writer, 6 * SCALE, 10, 30) for writer in (8, 9)]
    maintainers = [start(workers.maintain, meters, SCALE + 2), start(workers.maintain, meters[::-1], SCALE + 2)]
    assert results(maintainers) == [[], []]
    results([*writers, *changing])
    count = Event.objects.count()
    assert figures()[0] == (count, count)
    compact()
    assert figures()[0] == (count, count)
    identities = [(row.series_id, row.level, row.bucket) for row in Rollup.objects.all()]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("after", [1, 3, 8])
def test_what_a_killed_writer_was_told_is_stored_is_stored_and_counted(spawn, start, after):
    make_all_meters()
    receiving, sending = processes.Pipe(duplex=False)
    writer = spawn(workers.send_until_killed, 0, 50, sending)
    other = start(workers.send_changing, 1, 3, 5, 16)
    sending.close()
    acknowledged = []
    while len(acknowledged) < after:
        assert receiving.poll(180)
        acknowledged.append(receiving.recv())
    writer.kill()
    writer.join()
    wait_for_transactions()
    with suppress(EOFError):
        while True:
            acknowledged.append(receiving.recv())
    receiving.close()
    other.result(timeout=600)
    batches = Counter(int(event_id.split("_")[1]) for event_id in ids_of_writer(0))
    assert set(batches.values()) == {50}, "a batch was stored in part"
    assert set(acknowledged) <= batches.keys()
    assert len(batches) <= len(acknowledged) + 1
    count = Event.objects.count()
    assert figures()[0] == (count, count)


def ids_of_writer(writer):
    return Event.objects.filter(event_id__startswith=f"{writer}_").values_list("event_id", flat=True)
