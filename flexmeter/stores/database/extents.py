"""Events of a stretch of time, perhaps of one name or customer, and how an index finds them.

What a customer did is found by name: the index is by name, customer and time. So event names are stepped through where
none is given, as long as they are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from django.db import connections
from django.db.models import DateTimeField
from django.db.models.expressions import Col

from flexmeter.models import Event
from flexmeter.querysets import EventQuerySet
from flexmeter.stores.database.distinct import names_of_events

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


LAST_INSTANT: Final = datetime.max.replace(tzinfo=UTC)


def just_after(instant: datetime) -> datetime | None:
    """The next instant that can be stored, if there is one."""
    return instant + timedelta(microseconds=1) if instant < LAST_INSTANT else None


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
        stored = connections[alias].ops.adapt_datetimefield_value
        order = "DESC" if newest_first else "ASC"
        times = _TIMES.format(order=order, before="" if self.end is None else " AND timestamp < %s")
        until = [] if self.end is None else [stored(self.end)]
        parameters: list[Any] = []
        for name in names:
            parameters += [self.environment, name, self.external_customer_id, stored(self.start), *until, place + 1]
        with connections[alias].cursor() as cursor:
            cursor.execute(_NTH.format(times=" UNION ALL ".join([times] * len(names)), order=order), [*parameters, place])
            found = cursor.fetchone()
        return None if found is None else _instant(found[0], alias)


def _instant(stored: Any, alias: str) -> datetime:
    """What a model's field makes of a timestamp as the database gives it."""
    connection, column = connections[alias], Col("", DateTimeField())
    for convert in column.get_db_converters(connection) + connection.ops.get_db_converters(column):
        stored = convert(stored, column, connection)
    return cast(datetime, stored)
