"""Which values a column of the events holds, found by stepping through an index: one look-up for each value there is."""

from __future__ import annotations

from typing import ClassVar

from django.db import connections
from django.db.models import QuerySet

from flexmeter.models import Event
from flexmeter.stores.database.prepared import run


class Steps:
    """All steps in one statement, for databases that look a subquery's bound up in the index, such as PostgreSQL and SQLite."""

    ENVIRONMENTS: ClassVar[str] = """
        WITH RECURSIVE steps (value, place) AS (
            SELECT (SELECT environment FROM flexmeter_event ORDER BY environment LIMIT 1), 1
            UNION ALL
            SELECT
                (SELECT e.environment FROM flexmeter_event e WHERE e.environment > steps.value ORDER BY e.environment LIMIT 1),
                place + 1
            FROM steps WHERE steps.value IS NOT NULL AND place < %s
        )
        SELECT value FROM steps WHERE value IS NOT NULL
    """
    EVENT_NAMES: ClassVar[str] = """
        WITH RECURSIVE steps (value, place) AS (
            SELECT (SELECT event_name FROM flexmeter_event WHERE environment = %s ORDER BY event_name LIMIT 1), 1
            UNION ALL
            SELECT
                (
                    SELECT e.event_name FROM flexmeter_event e
                    WHERE e.environment = %s AND e.event_name > steps.value ORDER BY e.event_name LIMIT 1
                ),
                place + 1
            FROM steps WHERE steps.value IS NOT NULL AND place < %s
        )
        SELECT value FROM steps WHERE value IS NOT NULL
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def environments(self, limit: int) -> list[str]:
        return self._values(self.ENVIRONMENTS, [limit])

    def event_names(self, environment: str, limit: int) -> list[str]:
        return self._values(self.EVENT_NAMES, [environment, environment, limit])

    def _values(self, sql: str, parameters: list[str | int]) -> list[str]:
        with connections[self.alias].cursor() as cursor:
            run(self.alias, cursor, sql, parameters)
            return [value for (value,) in cursor.fetchall()]


class MySqlSteps(Steps):
    """A statement for each step: MariaDB and MySQL read the whole index where the bound is no constant."""

    def environments(self, limit: int) -> list[str]:
        return self._stepped(Event.objects.using(self.alias), "environment", limit)

    def event_names(self, environment: str, limit: int) -> list[str]:
        return self._stepped(Event.objects.using(self.alias).in_environment(environment), "event_name", limit)

    def _stepped(self, events: QuerySet[Event], column: str, limit: int) -> list[str]:
        values = events.order_by(column).values_list(column, flat=True)
        found: list[str] = []
        step = values.first()
        while step is not None and len(found) < limit:
            found.append(step)
            step = values.filter(**{f"{column}__gt": step}).first()
        return found


STEPS: dict[str, type[Steps]] = {"mysql": MySqlSteps}


def environments_of_events(alias: str, *, limit: int) -> list[str]:
    """The first environments that hold events, in order."""
    return _steps(alias).environments(limit)


def names_of_events(environment: str, alias: str, *, limit: int) -> list[str]:
    """The first event names that occur in an environment, in order."""
    return _steps(alias).event_names(environment, limit)


def _steps(alias: str) -> Steps:
    return STEPS.get(connections[alias].vendor, Steps)(alias)
