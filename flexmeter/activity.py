"""What happened lately, in figures that are quick on tables of any size: each looks at a bounded number of rows.

A count that comes to its bound says so instead of going on.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet

from flexmeter.models import Event, EventRevision, RejectedEvent
from flexmeter.stores.database.transactions import read_alias

MOST_COUNTED = 10_000
MOST_COUNTED_IN_AN_HOUR = 20_000
SECONDS_OF_ALL_HOURS = 1.0
HOURS = 24


@dataclass(frozen=True, slots=True)
class Figure:
    """A count; with `is_capped` it stopped there, and there are as many or more."""

    count: int
    is_capped: bool = False


@dataclass(frozen=True, slots=True)
class Hour:
    """The events that happened in an hour; None where there was no time left to count them."""

    start: datetime
    events: Figure | None


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of the newest events, so many were looked at, and so many of these were sent again without a change."""

    looked_at: Figure
    repeated: int


@dataclass(frozen=True, slots=True)
class Reasons:
    """Rejected events by reason; with `is_capped` only the newest were looked at."""

    events: dict[str, int]
    is_capped: bool = False

    @property
    def total(self) -> Figure:
        return Figure(sum(self.events.values()), self.is_capped)


def counted(rows: QuerySet[Any, Any], most: int = MOST_COUNTED) -> Figure:
    """How many rows there are, counted no further than `most`."""
    found = rows.order_by()[: most + 1].count()
    return Figure(min(found, most), found > most)


def events_by_hour(environment: str, *, until: datetime, using: str | None = None) -> list[Hour]:
    """The events of the HOURS hours of the clock that end with the one of `until`, oldest hour first, by when they happened.

    The newest hours are counted first: what is left after SECONDS_OF_ALL_HOURS stays uncounted.
    """
    events = Event.objects.using(using or read_alias()).in_environment(environment)
    newest = until.replace(minute=0, second=0, microsecond=0)
    started = time.monotonic()
    hours: list[Hour] = []
    for back in range(HOURS):
        start = newest - timedelta(hours=back)
        figure = None
        if time.monotonic() - started < SECONDS_OF_ALL_HOURS:
            # The timestamp alone is selected so that the index answers without the rows.
            hour = events.between(start, start + timedelta(hours=1)).values("timestamp")
            figure = counted(hour, MOST_COUNTED_IN_AN_HOUR)
        hours.append(Hour(start, figure))
    return hours[::-1]


def repeats(environment: str, *, since: datetime, until: datetime, using: str | None = None) -> Repeats:
    """How many of the events of [since, until) were sent again without a change."""
    newest = Event.objects.using(using or read_alias()).in_environment(environment).between(since, until)
    newest = newest.order_by("-timestamp", "-event_id")[: MOST_COUNTED + 1]
    sums = newest.aggregate(looked_at=Count("id"), repeated=Count("repeated_at"))
    return Repeats(Figure(min(sums["looked_at"], MOST_COUNTED), sums["looked_at"] > MOST_COUNTED), sums["repeated"])


def replacements(environment: str, *, since: datetime, using: str | None = None) -> Figure:
    """How many times an event was sent again with other values since then, among the newest changes."""
    newest = EventRevision.objects.using(using or read_alias()).order_by("-id")
    rows = list(newest.values_list("environment", "replaced_at")[:MOST_COUNTED])
    found = sum(owner == environment and replaced_at >= since for owner, replaced_at in rows)
    return Figure(found, len(rows) == MOST_COUNTED and rows[-1][1] >= since)


def rejections(environment: str | None = None, *, since: datetime | None = None, using: str | None = None) -> Reasons:
    """The reasons of the events that are rejected, in one environment or in all, newest first; `since` needs one."""
    rows = RejectedEvent.objects.using(using or read_alias()).order_by("-id")
    if environment is not None:
        rows = rows.filter(environment=environment).order_by("-rejected_at")
    if since is not None:
        rows = rows.filter(rejected_at__gte=since)
    reasons = list(rows.values_list("reason", flat=True)[: MOST_COUNTED + 1])
    return Reasons(dict(sorted(Counter(reasons[:MOST_COUNTED]).items())), len(reasons) > MOST_COUNTED)
