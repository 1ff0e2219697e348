"""What usage is, in the plainest Python: one list of deliveries, definitions read off the contract, no cleverness.

It shares no arithmetic with the package. Numbers are fractions, so nothing is rounded.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LARGEST = Decimal(sys.float_info.max)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOURS = {"3HOUR": 3, "6HOUR": 6, "12HOUR": 12}


class Delivery(NamedTuple):
    """An event as JSON text, and when it was accepted. `timestamp` is null where the sender gave none."""

    text: str
    accepted_at: datetime


@dataclass(frozen=True)
class Row:
    """An event as the ledger should hold it."""

    event_id: str
    name: str
    customer: str
    at: datetime
    accepted_at: datetime
    properties: Mapping[str, Any] | None
    source: str
    customer_id: str

    def get(self, key: str) -> Any:
        return (self.properties or {}).get(key)


@dataclass(frozen=True)
class Question:
    """`expression` is Python for the meter's expression; it answers None where the event is to be skipped."""

    type: str
    name: str
    start: datetime
    end: datetime
    property: str = ""
    expression: Callable[[Row], Fraction | None] | None = None
    multiplier: Fraction = Fraction(1)
    bucket: str = ""
    group_by: str = ""
    filters: Sequence[Mapping[str, Sequence[str]]] = ()
    archived_at: datetime | None = None
    customer: str | None = None
    customer_id: str | None = None
    sources: Sequence[str] = ()
    window: str = ""
    zone: str = "UTC"
    anchor: int = 1
    never_resets: bool = False


class Answer(NamedTuple):
    value: Fraction
    count: int
    points: list[tuple[datetime, Fraction, int]]


def ledger(deliveries: Iterable[Delivery]) -> list[Row]:
    """An id is one event, with what was accepted last; a repeat that gives no timestamp keeps the one there was."""
    rows: dict[str, Row] = {}
    for delivery in sorted(deliveries, key=lambda delivery: delivery.accepted_at):
        raw = json.loads(delivery.text, parse_float=Decimal)
        held = rows.get(raw["event_id"])
        if raw.get("timestamp"):
            instant = datetime.fromisoformat(raw["timestamp"]).astimezone(UTC)
        else:
            instant = held.at if held else delivery.accepted_at
        row = Row(
            raw["event_id"], raw["event_name"].strip(), raw["external_customer_id"], instant, delivery.accepted_at,
            raw.get("properties"), raw.get("source") or "", raw.get("customer_id") or "",
        )  # fmt: skip
        if held is None or said(held) != said(row):
            rows[row.event_id] = row
    return list(rows.values())


def said(row: Row) -> tuple[Any, ...]:
    content = json.dumps(row.properties, sort_keys=True, default=str)
    return row.name, row.customer, row.at, row.source, row.customer_id, content


def rendered(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def number(value: Any) -> Fraction | None:
    if isinstance(value, str):
        value = Decimal(value.strip()) if NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or abs(value) > LARGEST:
        return None
    return Fraction(value)


def window_start(instant: datetime, size: str, zone: str, anchor: int) -> datetime:
    """Start of the calendar cell. Good for zones whose clock changes at a quarter of an hour and never around midnight."""
    if size in ("MINUTE", "15MIN"):
        minutes = 1 if size == "MINUTE" else 15
        return instant - (instant - EPOCH) % timedelta(minutes=minutes)
    local = instant.astimezone(ZoneInfo(zone))
    if size in ("30MIN", "HOUR"):
        start = local.replace(minute=0 if size == "HOUR" or local.minute < 30 else 30, second=0, microsecond=0)
        start_instant = start.astimezone(UTC)
        while start_instant.astimezone(local.tzinfo).utcoffset() != local.utcoffset():  # the clock was changed in this cell
            start_instant += timedelta(minutes=15)
        return start_instant
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if size in HOURS:
        start = midnight.replace(hour=local.hour - local.hour % HOURS[size])
    elif size == "DAY":
        start = midnight
    elif size == "WEEK":
        start = midnight - timedelta(days=local.weekday())
    else:
        start = clamped_day(midnight, anchor)
        if start > midnight:
            start = clamped_day(midnight.replace(day=1) - timedelta(days=1), anchor)
    return start.astimezone(UTC)


def clamped_day(date: datetime, day: int) -> datetime:
    while True:
        try:
            return date.replace(day=day)
        except ValueError:
            day -= 1


def relevant(rows: Iterable[Row], asked: Question) -> list[Row]:
    """The events a question is about, at any time before its end."""
    return [
        row
        for row in rows
        if row.name == asked.name
        and row.at < asked.end
        and asked.customer in (None, row.customer)
        and (not asked.customer_id or row.customer_id == asked.customer_id)
        and (not asked.sources or row.source in asked.sources)
        and (asked.archived_at is None or row.accepted_at < asked.archived_at)
        and all(rendered(row.get(key)) in wanted for filters in asked.filters for key, wanted in filters.items() if wanted)
        and (asked.expression is None or asked.expression(row) is not None)
    ]


def value_of(row: Row, asked: Question) -> Fraction:
    if asked.expression:
        value = asked.expression(row)
        assert value is not None, "relevant() leaves out what the expression skips"
        return value
    return number(row.get(asked.property)) or Fraction(0)


def aggregate(rows: Sequence[Row], asked: Question) -> Fraction:
    values = [value_of(row, asked) for row in rows]
    total = sum(values, Fraction(0))
    if asked.type == "COUNT":
        return Fraction(len(rows))
    if asked.type == "COUNT_UNIQUE":
        return Fraction(len({rendered(row.get(asked.property)) for row in rows if row.get(asked.property) is not None}))
    if asked.type in ("SUM", "SUM_WITH_MULTIPLIER"):
        return total * asked.multiplier
    if asked.type == "AVG":
        return total / len(rows) if rows else total
    if asked.type == "MAX":
        return max(values, default=Fraction(0))
    if asked.type == "MIN":
        return min(values, default=Fraction(0))
    if asked.type == "LATEST":
        newest = max(rows, key=lambda row: (row.at, row.accepted_at, row.event_id), default=None)
        return value_of(newest, asked) if newest else Fraction(0)
    length = Fraction((asked.end - asked.start) // timedelta(microseconds=1))
    weighted = Fraction(0)
    for row, value in zip(rows, values, strict=True):  # WEIGHTED_SUM
        if row.at < asked.start:
            weighted += value
        elif length:
            weighted += value * Fraction((asked.end - row.at) // timedelta(microseconds=1)) / length
    return weighted


def cells(rows: Sequence[Row], size: str, asked: Question) -> list[tuple[datetime, list[Row]]]:
    by_start: dict[datetime, list[Row]] = {}
    for row in rows:
        by_start.setdefault(window_start(row.at, size, asked.zone, asked.anchor), []).append(row)
    return sorted(by_start.items())


def bucket_value(rows: Sequence[Row], asked: Question) -> Fraction:
    """Of one bucket: with group_by every group has its own peak, and they are added."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(rendered(row.get(asked.group_by)) if asked.group_by else "", []).append(row)
    return sum((aggregate(group, asked) for group in groups.values()), Fraction(0))


def usage(rows: Sequence[Row], asked: Question) -> Answer:
    rows = relevant(rows, asked)
    inside = [row for row in rows if row.at >= asked.start]
    before = [row for row in rows if row.at < asked.start] if asked.never_resets else []
    if asked.bucket:
        points = [(start, bucket_value(held, asked), len(held)) for start, held in cells(inside, asked.bucket, asked)]
        value = sum((bucket_value(held, asked) for _, held in cells(before + inside, asked.bucket, asked)), Fraction(0))
    elif asked.window:
        points = [(start, aggregate(held, asked), len(held)) for start, held in cells(inside, asked.window, asked)]
        if asked.never_resets:
            return Answer(positive(aggregate(before, asked)), len(before), [clamped(point) for point in points])
        value = aggregate(inside, asked)
    else:
        points, value = [], aggregate(before + inside, asked)
    return Answer(positive(value), len(before) + len(inside), [clamped(point) for point in points])


def groups(rows: Sequence[Row], asked: Question, group_by: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """The events of a question by the values of `source` or `properties.<name>`."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in relevant(rows, asked):
        if row.at >= asked.start:
            key = tuple(row.source if by == "source" else rendered(row.get(by.removeprefix("properties."))) for by in group_by)
            found.setdefault(key, []).append(row)
    return found


def analytics(
    rows: Sequence[Row], asked: Question, group_by: Sequence[str]
) -> dict[tuple[str, ...], tuple[Answer, tuple[str, ...]]]:
    """An answer per group, and the sources its events came from. Buckets are rolled up to windows that are coarser:
    summed, or the greatest for MAX."""
    answers = {}
    for key, members in groups(rows, asked, group_by).items():
        answer = usage(members, replace(asked, window="" if asked.bucket else asked.window))
        if not asked.window:
            answer = answer._replace(points=[])
        elif asked.bucket and ORDER.index(asked.window) > ORDER.index(asked.bucket):
            rolled: dict[datetime, tuple[Fraction, int]] = {}
            for start, held in cells(members, asked.bucket, asked):
                label = window_start(start, asked.window, asked.zone, asked.anchor)
                value, count = rolled.get(label, (None, 0))
                figure = bucket_value(held, asked)
                if value is not None:
                    figure = max(value, figure) if asked.type == "MAX" else value + figure
                rolled[label] = figure, count + len(held)
            answer = answer._replace(points=[clamped((start, *rest)) for start, rest in sorted(rolled.items())])
        answers[key] = answer, tuple(sorted({row.source for row in members}))
    return answers


ORDER = ["MINUTE", "15MIN", "30MIN", "HOUR", "3HOUR", "6HOUR", "12HOUR", "DAY", "WEEK", "MONTH"]


def positive(value: Fraction) -> Fraction:
    return max(value, Fraction(0))


def clamped(point: tuple[datetime, Fraction, int]) -> tuple[datetime, Fraction, int]:
    start, value, count = point
    return start, positive(value), count
