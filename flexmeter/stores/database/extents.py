"""Events of a stretch of time, perhaps of one name or customer, and how an index finds them.

What a customer did is found by name: the index is by name, customer and time. So event names are stepped through where
none is given, as long as they are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import connections

from flexmeter.models import Event
from flexmeter.properties import loads
from flexmeter.querysets import EventQuerySet
from flexmeter.stores.database.distinct import names_of_events
from flexmeter.stores.database.instants import as_instant
from flexmeter.stores.database.prepared import run

MOST_NAMES: Final = 50
"""Event names of an environment that are told apart."""
_TIMES: Final = """
    SELECT * FROM (
        SELECT timestamp FROM flexmeter_event
        WHERE environment = %s AND event_name = %s AND external_customer_id = %s AND timestamp >= %s{before}
        ORDER BY timestamp {order} LIMIT %s
    ) of_name
"""
_NTH: Final = "SELECT timestamp FROM ({times}) times ORDER BY timestamp {order} LIMIT 1 OFFSET %s"

# With what happened at the same time as the last of them, for an index does not put them in the order of ids.
_EVENTS: Final = """
    SELECT * FROM (
        SELECT {columns} FROM flexmeter_event
        WHERE environment = %s AND event_name = %s AND external_customer_id = %s AND timestamp >= %s{before}
        ORDER BY timestamp {order} FETCH FIRST (%s) ROWS WITH TIES
    ) of_name
"""
_FIRST: Final = "SELECT * FROM ({events}) events ORDER BY timestamp {order}, event_id {order} LIMIT %s OFFSET %s"
MOST_FIRST: Final = 1_000

LAST_INSTANT: Final = datetime.max.replace(tzinfo=UTC)


def just_after(instant: datetime) -> datetime | None:
    """The next instant that can be stored, if there is one."""
    return instant + timedelta(microseconds=1) if instant < LAST_INSTANT else None


class ListedEvent(NamedTuple):
    """What lists tell of an event."""

    event_id: str
    external_customer_id: str
    customer_id: str
    event_name: str
    timestamp: datetime
    source: str
    environment: str
    ingested_at: datetime
    properties: dict[str, Any] | None


_COLUMNS: Final = ", ".join(ListedEvent._fields[:-1]) + ", properties::text"


@dataclass(frozen=True, slots=True)
class Extent:
    """Events of an environment in [start, end); None leaves the end open, "" stands for any name or customer."""

    environment: str
    start: datetime
    end: datetime | None
    event_name: str = ""
    external_customer_id: str = ""

    def rows(self, alias: str) -> EventQuerySet[Event]:
        """Its events."""
        given = {"event_name": self.event_name, "external_customer_id": self.external_customer_id}
        rows = Event.objects.using(alias).in_environment(self.environment).between(self.start, self.end)
        return rows.filter(**{column: value for column, value in given.items() if value})

    def names(self, alias: str) -> list[str] | None:
        """The event names that may occur; None if they are too many."""
        if self.event_name:
            return [self.event_name]
        names = names_of_events(self.environment, alias, limit=MOST_NAMES + 1)
        return names if len(names) <= MOST_NAMES else None

    def time_of(self, place: int, names: Sequence[str], alias: str, *, newest_first: bool) -> datetime | None:
        """When the event at this place happened, of the customer's events of these names in the order of time; places
        count from 0. None if there are not so many."""
        order, before = _ordered(newest_first, self.end is not None)
        times = " UNION ALL ".join([_TIMES.format(order=order, before=before)] * len(names))
        with connections[alias].cursor() as cursor:
            cursor.execute(_NTH.format(times=times, order=order), [*self._of_each(names, place + 1, alias), place])
            found = cursor.fetchone()
        return None if found is None else as_instant(found[0], alias)

    def first_events(
        self, number: int, skipped: int, names: Sequence[str], alias: str, *, newest_first: bool
    ) -> list[ListedEvent] | None:
        """The first `number` of the customer's events of these names, but for those `skipped`, in the order of time and id.

        None where the database does not tell in one statement, or would have to read too many to skip them.
        """
        if connections[alias].vendor != "postgresql" or number > MOST_FIRST:
            return None
        statement = _first_events(len(names), newest_first, self.end is not None)
        with connections[alias].cursor() as cursor:
            run(alias, cursor, statement, [*self._of_each(names, number, alias), number - skipped, skipped])
            return [
                ListedEvent._make((*row, None if properties is None else loads(properties)))
                for *row, properties in cursor.fetchall()
            ]

    def _of_each(self, names: Sequence[str], number: int, alias: str) -> list[Any]:
        """The parameters of a statement about the first `number` events of each name."""
        stored = connections[alias].ops.adapt_datetimefield_value
        span = [stored(self.start)] if self.end is None else [stored(self.start), stored(self.end)]
        return [value for name in names for value in (self.environment, name, self.external_customer_id, *span, number)]


@lru_cache
def _first_events(names: int, newest_first: bool, has_end: bool) -> str:
    """The statement of `Extent.first_events`."""
    order, before = _ordered(newest_first, has_end)
    of_name = _EVENTS.format(columns=_COLUMNS, order=order, before=before)
    return _FIRST.format(events=" UNION ALL ".join([of_name] * names), order=order)


def _ordered(newest_first: bool, has_end: bool) -> tuple[str, str]:
    return "DESC" if newest_first else "ASC", " AND timestamp < %s" if has_end else ""
