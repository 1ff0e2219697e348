"""Which events a filter asks for, in a way that answers quickly on a table of any size.

What an index finds is found by it. What none does is looked for among the newest WALKED events of the time range, read in
the order of an index; whoever wants to look further back moves the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from flexmeter.models import Event, EventRevision, Meter
from flexmeter.stores.database.distinct import names_of_events

WALKED = 50_000
FEW = 10_000
"""Rows that are sorted rather than looked for in the order of time."""
MOST_NAMES = 20
"""Event names of an environment that a customer's events are looked up by, one by one."""


class EventStatus(StrEnum):
    METERED = "metered"
    UNMETERED = "unmetered"
    REPLACED = "replaced"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class EventSearch:
    """What to look for. Every text is compared exactly; the range is [start, end), and None leaves an end open."""

    environment: str
    event_id: str = ""
    event_name: str = ""
    external_customer_id: str = ""
    source: str = ""
    status: str = ""
    start: datetime | None = None
    end: datetime | None = None

    def of(self, rows: QuerySet[Event]) -> FoundEvents:
        """The events among `rows`, which are ordered by time, newest first."""
        found = rows.filter(environment=self.environment)
        if self.event_id:
            # One row at most: everything else is checked on it.
            return FoundEvents(self._between(found.filter(event_id=self.event_id)).filter(*self._unindexed(set())))
        found = self._between(found)
        by_index, left = self._indexed(found)
        checks = self._unindexed(left)
        if not checks:
            return FoundEvents(by_index)
        times = by_index.order_by("-timestamp").values_list("timestamp", flat=True)
        edge = next(iter(times[WALKED : WALKED + 1]), None)
        if edge is not None:
            by_index = by_index.filter(timestamp__gt=edge)
        return FoundEvents(by_index.filter(*checks), edge)

    def _between(self, rows: QuerySet[Event]) -> QuerySet[Event]:
        if self.start is not None:
            rows = rows.filter(timestamp__gte=self.start)
        return rows if self.end is None else rows.filter(timestamp__lt=self.end)

    def _indexed(self, rows: QuerySet[Event]) -> tuple[QuerySet[Event], set[str]]:
        """Rows as far as an index finds them, and the fields that are left to be checked row by row."""
        named = {"event_name": self.event_name, "external_customer_id": self.external_customer_id}
        given = {field: value for field, value in named.items() if value}
        if not given:
            return rows, set()
        if len(given) == 2:
            # In this order the index of both gives them without sorting, and the one of all events does not.
            return rows.filter(**given).order_by("-timestamp", "-pk"), set()
        if self.event_name:
            candidates = rows.filter(event_name=self.event_name)
        else:
            names = names_of_events(self.environment, rows.db, limit=MOST_NAMES)
            if len(names) == MOST_NAMES:
                return rows, set(given)
            candidates = rows.filter(event_name__in=names, external_customer_id=self.external_customer_id)
        if candidates.order_by()[: FEW + 1].count() <= FEW:
            # No planner shall read all events in the order of time for the sake of these few.
            return candidates.order_by(Coalesce("timestamp", "timestamp").desc(), "-event_id"), set()
        if self.external_customer_id:  # begin where the customer's events end
            of_each = (candidates.filter(event_name=name).order_by("-timestamp") for name in names)
            newest = [each.values_list("timestamp", flat=True).first() for each in of_each]
            rows = rows.filter(timestamp__lte=max(filter(None, newest)))
        return rows, set(given)

    def _unindexed(self, fields: set[str]) -> list[Q]:
        """Conditions on what is read in the order of time."""
        checked = fields if not self.event_id else {"event_name", "external_customer_id"}
        wanted = {field: getattr(self, field) for field in sorted({*checked, "source"})}
        return [*(unindexed(field, value) for field, value in wanted.items() if value), *self._of_status()]

    def _of_status(self) -> list[Q]:
        same_name = Meter.objects.in_environment(self.environment).exclude(status="deleted")
        metered = Exists(same_name.filter(event_name=OuterRef("event_name")))
        revisions = EventRevision.objects.filter(environment=self.environment, event_id=OuterRef("event_id"))
        conditions = {
            EventStatus.METERED: Q(metered),
            EventStatus.UNMETERED: ~Q(metered),
            EventStatus.REPLACED: Q(Exists(revisions)),
            EventStatus.REPEATED: Q(repeated_at__isnull=False),
        }
        return [conditions[EventStatus(self.status)]] if self.status else []


def unindexed(field: str, value: str) -> Q:
    """That a text column holds a value, put so that no planner takes an index for it and sorts what that finds."""
    return Q(Exact(Coalesce(F(field), Value("")), value))


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """Rows, and the instant that the search did not look beyond; None where it found all there is."""

    rows: QuerySet[Event]
    looked_until: datetime | None = None
