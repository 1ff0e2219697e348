"""What runs in the processes of concurrency tests; every function is the whole work of one process or a part of it."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

import django
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from flexmeter.events import UsageEvent  # noqa: E402  # models need a configured Django
from flexmeter.ingest import ingest  # noqa: E402
from flexmeter.maintenance.compaction import compact  # noqa: E402
from flexmeter.maintenance.rebuild import rebuild, restart  # noqa: E402
from flexmeter.maintenance.verification import verify  # noqa: E402
from flexmeter.meters import add_filters, create_meter  # noqa: E402
from flexmeter.stores.database import transactions  # noqa: E402

from tests.factories import make_definition, make_event  # noqa: E402

START = datetime(2024, 3, 10, tzinfo=UTC)


def connect(settings: Mapping[str, Any]) -> None:
    """Make this process use the database of the test that started it, with all the time that a busy machine may need."""
    connections["default"].settings_dict.update(settings)
    transactions.PATIENCE_SECONDS = 600.0


def changing_event(writer: int, number: int, ids: int) -> UsageEvent:
    """The `number`th event that a writer sends: one of `ids` acts, each time with other values."""
    chance = random.Random(f"{writer} {number}")
    return make_event(
        f"event_{chance.randrange(ids)}",
        external_customer_id=chance.choice(["acme", "globex", "initech"]),
        timestamp=START + timedelta(minutes=chance.randrange(3_000)),
        accepted_at=START + timedelta(days=10, milliseconds=number, microseconds=writer),
        properties={"n": chance.randrange(-50, 1_000), "u": chance.choice("abcdef"), "w": writer},
    )


def send_same(writer: int, ids: int, rounds: int) -> int:
    """Send one and the same set of events again and again, each time split and mixed in another way."""
    chance = random.Random(writer)
    events = [
        make_event(f"event_{number}", timestamp=START + timedelta(minutes=number), properties={"n": number})
        for number in range(ids)
    ]
    stored = 0
    for _ in range(rounds):
        chance.shuffle(events)
        cut = chance.randrange(ids)
        for batch in (events[:cut], events[cut:]):
            stored += ingest(batch).stored
    return stored


def send_own(writer: int, batches: int, size: int) -> int:
    """Send events that nobody else sends, all of one customer."""
    for batch in range(batches):
        ingest(own_events(writer, batch, size))
    return batches * size


def own_events(writer: int, batch: int, size: int) -> list[UsageEvent]:
    return [
        make_event(
            f"{writer}_{batch}_{number}",
            timestamp=START + timedelta(minutes=(batch * size + number) % 3_000),
            properties={"n": number, "u": number % 7, "w": writer},
        )
        for number in range(size)
    ]


def send_changing(writer: int, batches: int, size: int, ids: int) -> None:
    """Send acts that others send too, with other values."""
    for batch in range(batches):
        ingest([changing_event(writer, batch * size + number, ids) for number in range(size)])


def send_until_killed(writer: int, size: int, acknowledged: Connection) -> None:
    """Tell of every batch that was taken in, until the end."""
    batch = 0
    while True:
        ingest([*own_events(writer, batch, size), changing_event(writer, batch, 16)])
        acknowledged.send(batch)
        batch += 1


def make_meters(definitions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [create_meter(make_definition(**definition)).pk for definition in definitions]


def narrow(meter_id: str, values: Sequence[str]) -> None:
    """Let a meter count one writer after the other."""
    for value in values:
        add_filters(meter_id, [("w", [value])], environment="default")


def maintain(meter_ids: Sequence[str], rounds: int) -> list[str]:
    """Rebuild, compact and verify over and over; returns what verification found."""
    found = []
    for number in range(rounds):
        meter_id = meter_ids[number % len(meter_ids)]
        restart(meter_id)
        rebuild(meter_id)
        compact()
        found += [str(difference) for difference in verify()]
    return found
