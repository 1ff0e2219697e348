"""Events out of the ledger, in an order that stays."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import reset_queries
from django.db.models import Q, QuerySet

from flexmeter import properties
from flexmeter.events import format_timestamp
from flexmeter.management.mapping import EXPORTED, FIELDS, defused
from flexmeter.models import Event

CHUNK_EVENTS = 1_000


def in_order(events: QuerySet[Event], *, chunk: int = CHUNK_EVENTS) -> Iterator[tuple[Any, ...]]:
    """Stream events as tuples of FIELDS, by timestamp and then id, in constant memory on every database.

    Every event that was there from the beginning and does not change meanwhile occurs exactly once.
    """
    ordered = events.order_by("timestamp", "event_id").values_list(*FIELDS)
    place = FIELDS.index("timestamp"), FIELDS.index("event_id")
    rows = list(ordered[:chunk])
    while rows:
        yield from rows
        reset_queries()  # which DEBUG = True collects
        timestamp, event_id = (rows[-1][index] for index in place)
        # The first condition alone lets the index find the place.
        following = ordered.filter(timestamp__gte=timestamp).filter(Q(timestamp__gt=timestamp) | Q(event_id__gt=event_id))
        rows = list(following[:chunk]) if len(rows) == chunk else []


def jsonl(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Each event as a line of JSON."""
    for row in rows:
        event = dict(zip(EXPORTED, row, strict=True))
        event["timestamp"] = format_timestamp(event["timestamp"])
        event["accepted_at"] = format_timestamp(event["accepted_at"])
        yield properties.dumps(event) + "\n"


def csv_lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """A header and each event as a line of CSV, with cells that a spreadsheet would run as formulas defused."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(EXPORTED)
    for row in rows:
        writer.writerow([defused(_cell(value, name)) for name, value in zip(FIELDS, row, strict=True)])
        if buffer.tell() > io.DEFAULT_BUFFER_SIZE:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: Any, name: str) -> str:
    if name in {"timestamp", "accepted_at"}:
        return format_timestamp(value)
    if name == "properties":
        return "" if value is None else properties.dumps(value)
    return str(value)


FORMATS: dict[str, Callable[[Iterable[tuple[Any, ...]]], Iterator[str]]] = {"jsonl": jsonl, "csv": csv_lines}
