"""How many events the ledger holds: from rollups where a meter has counted them all, elsewhere row by row.

A figure is what counting the rows would give at one instant: rollups, the rows at the edges of a range, and whether the
rollups can be believed are read by one statement. Its SQL is written out, for Django took longer to put it together than
databases to answer it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from django.db import connections

from flexmeter.metering import ROLLUP_BUCKET
from flexmeter.models import Series
from flexmeter.stores.database.extents import LAST_INSTANT, Extent
from flexmeter.stores.database.levels import stretches
from flexmeter.stores.database.prepared import run
from flexmeter.windows import bucket, ceiling

FEW: Final = 10_000
"""Rows that are counted sooner than what rollups say of all customers."""
MOST_SERIES: Final = 2_000
"""Series of all customers that are added up sooner than rows."""

# Meters that know all events of a name from an instant on, and have them in one series for each customer.
_COUNTING_ALL: Final = """
    FROM flexmeter_meter m JOIN flexmeter_environment e ON e.name = m.environment
    WHERE m.environment = %s AND (e.pruned_before IS NULL OR e.pruned_before <= %s) AND m.rollups_ready
      AND m.status = 'published' AND m.archived_at IS NULL AND m.expression = '' AND m.group_by = ''
      AND CAST(m.filters AS CHAR(2)) = '[]'
"""
_ROLLED_UP: Final = "COALESCE((SELECT SUM(r.count) FROM flexmeter_rollup r WHERE r.series_id = s.id AND {part}), 0)"
_PART: Final = "r.slot >= %s AND r.slot < %s"
# Part for part and series for series through the index: planned freely, all rollups there are may be read.
_OF_METER: Final = """
    SELECT SUM({parts}) FROM flexmeter_series s
    WHERE s.environment = m.environment AND s.meter_id = m.id AND s.generation = m.generation
"""
_ROWS: Final = "SELECT COUNT(*) FROM flexmeter_event WHERE "


class _Sql(NamedTuple):
    text: str
    parameters: Sequence[Any]


class _Known(NamedTuple):
    """A generation of a meter that has counted all events of a name."""

    meter_id: str
    generation: int
    event_name: str


def count_events(extent: Extent, alias: str, names: Sequence[str] | None = None) -> int:
    """How many rows the extent has; `names` are those that may occur in it, if they are known already."""
    if not (extent.event_name or extent.external_customer_id):
        few = extent.rows(alias).values("timestamp")[: FEW + 1].count()
        if few <= FEW:
            return few
    if names is None:
        names = extent.names(alias)
    if names:
        total = _Counting(extent, alias).total(names)
        if total is None and extent.external_customer_id:
            total = extent.rows(alias).filter(event_name__in=names).count()  # without a name no index finds a customer
        if total is not None and extent.names(alias) == names:
            return total
    return extent.rows(alias).count()


class _Counting:
    """Counts the rows of an extent as far as rollups are of use."""

    def __init__(self, extent: Extent, alias: str) -> None:
        self.extent, self.alias = extent, alias
        self.stored = connections[alias].ops.adapt_datetimefield_value
        self.first = ceiling(extent.start, ROLLUP_BUCKET)
        self.last = bucket(extent.end or LAST_INSTANT, ROLLUP_BUCKET)

    def total(self, names: Collection[str]) -> int | None:
        """The number of rows of these names; None where rollups do not tell, or were found changing."""
        known = self._known(names) if self.first < self.last else []
        if not known or (not self.extent.external_customer_id and self._are_many(known)):
            return None
        columns = [self._rolled_up(), *self._besides(names, sorted(meter.event_name for meter in known))]
        meters = self._counting_all("id", [meter.meter_id for meter in known])
        figures = ", ".join(f"({column.text})" for column in columns)
        answers = self._answers(
            f"SELECT m.id, m.generation, m.event_name, {figures} {meters.text}",
            [*(parameter for column in columns for parameter in column.parameters), *meters.parameters],
        )
        if {_Known(*answer[:3]) for answer in answers} != set(known):
            return None
        besides: int = sum(answers[0][4:])
        return besides + sum(int(answer[3] or 0) for answer in answers)

    def _known(self, names: Collection[str]) -> list[_Known]:
        """One meter for each of the names that have one."""
        meters = self._counting_all("event_name", names)
        rows = self._answers(f"SELECT m.id, m.generation, m.event_name {meters.text} ORDER BY m.id DESC", meters.parameters)
        return list({known.event_name: known for known in map(_Known._make, rows)}.values())

    def _counting_all(self, column: str, values: Collection[str]) -> _Sql:
        text = f"{_COUNTING_ALL} AND m.{column} IN ({_places(values)})"
        return _Sql(text, [self.extent.environment, self.stored(self.first), *values])

    def _are_many(self, known: Sequence[_Known]) -> bool:
        """Whether so many customers have been counted that rows are added up sooner."""
        series = Series.objects.using(self.alias).filter(environment=self.extent.environment)
        of_meters = series.filter(meter_id__in=[meter.meter_id for meter in known])
        return of_meters.values("meter_id")[: MOST_SERIES + 1].count() > MOST_SERIES

    def _rolled_up(self) -> _Sql:
        """What a meter has counted in [first, last)."""
        parts = stretches([self.first, self.last])
        text = _OF_METER.format(parts=" + ".join([_ROLLED_UP.format(part=_PART)] * len(parts)))
        parameters: list[Any] = [slot for part in parts for slot in (part.first.slot, part.stop.slot)]
        if self.extent.external_customer_id:
            return _Sql(f"{text} AND s.external_customer_id = %s", [*parameters, self.extent.external_customer_id])
        return _Sql(text, parameters)

    def _besides(self, names: Collection[str], covered: Sequence[str]) -> list[_Sql]:
        """The rows of covered names outside [first, last), and those of other names."""
        extent = self.extent
        counts = []
        # Put so that time finds all customers': by name every event of these names would be read for a few minutes.
        column = "event_name" if extent.external_customer_id else "COALESCE(event_name, '')"
        if extent.start < self.first:
            counts.append(self._rows(replace(extent, end=self.first), column, covered))
        if extent.end is None or self.last < extent.end:
            counts.append(self._rows(replace(extent, start=self.last), column, covered))
        if others := sorted(set(names) - set(covered)):
            counts.append(self._rows(extent, "event_name", others))
        return counts

    def _rows(self, extent: Extent, column: str, names: Sequence[str]) -> _Sql:
        conditions = {"environment = %s": extent.environment, "timestamp >= %s": self.stored(extent.start)}
        if extent.end is not None:
            conditions["timestamp < %s"] = self.stored(extent.end)
        if extent.external_customer_id:
            conditions["external_customer_id = %s"] = extent.external_customer_id
        where = " AND ".join([*conditions, f"{column} IN ({_places(names)})"])
        return _Sql(_ROWS + where, [*conditions.values(), *names])

    def _answers(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with connections[self.alias].cursor() as cursor:
            run(self.alias, cursor, sql, parameters)
            return list(cursor.fetchall())


def _places(values: Collection[object]) -> str:
    return ", ".join(["%s"] * len(values))
