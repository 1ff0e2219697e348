"""The writers of rollup rows that PostgreSQL and SQLite have in place of the ORM's, whose contract they keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain, count, islice
from operator import attrgetter
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections

from flexmeter.aggregation import Measure
from flexmeter.metering import Folded, MeterRule, SeriesKey
from flexmeter.models import Rollup
from flexmeter.slots import new_part, position
from flexmeter.stores.database.copying import copy_lines, line
from flexmeter.stores.database.merging import merge_rollups, merge_uniques
from flexmeter.stores.database.rollup_rows import SUMMED, Lines, Row, as_lines, as_sums, as_values, ending, numbered, short_ending
from flexmeter.stores.database.rollups import RollupWriter
from flexmeter.stores.database.series import KnownSeries, RememberedSeries
from flexmeter.stores.database.tables import ROLLUPS, SUMS, UNIQUE_VALUES


class PostgresRollupWriter(RollupWriter):
    """The same contract, appending a handful of rows with one INSERT and more with COPY, and merging them in the database."""

    COPY_FROM: ClassVar[int] = 20
    INSERT_ROLLUPS: ClassVar[str] = ROLLUPS.insert_arrays
    INSERT_UNIQUES: ClassVar[str] = UNIQUE_VALUES.insert_arrays

    def lines_of(self, parts: Sequence[Folded]) -> tuple[Lines, Sequence[Folded]]:
        only_sums = all(rules[0].measures <= SUMMED for rules, _ in parts)
        content = short_ending if only_sums else ending
        known = self.remembered.known() if self.remembered else KnownSeries({})
        lines: list[str] = []
        left: list[Folded] = []
        for rules, partials in parts:
            measures = rules[0].measures
            # Lists of values go to a table of their own, and series of meters with dimensions may have to be noted.
            unknown = list(rules) if Measure.UNIQUES in measures or rules[0].dimensions else []
            if not unknown:
                keys = [place[1:] for place, _ in partials]
                begun = [position(Rollup.Level.APPENDED, place[0]) for place, _ in partials]
                ends = [
                    f"\t{slot}\t{content(partial, measures)}" for (slot, _), (_, partial) in zip(begun, partials, strict=True)
                ]
                for rule in rules:
                    ids = list(map(known.of(rule.meter_id, rule.generation).get, keys))
                    if None in ids:
                        unknown.append(rule)
                    else:
                        rows = sorted(zip(ids, ends, begun, strict=True))  # in the order of the index
                        lines += [
                            f"{part + number}\t{series_id}{end}"
                            for number, (series_id, end, (_, part)) in zip(count(new_part()), rows)
                        ]
            if unknown:
                left.append(Folded(unknown, partials))
        return Lines((SUMS if only_sums else ROLLUPS).copy, lines), left

    def append_lines(self, lines: Lines) -> None:
        if lines.lines:
            copy_lines(self.alias, *lines)

    def insert_rows(self, rows: Iterable[Row], level: Rollup.Level = Rollup.Level.APPENDED) -> None:
        rows = iter(rows)
        some = list(islice(rows, self.COPY_FROM))
        if len(some) < self.COPY_FROM:
            self._insert(self.INSERT_ROLLUPS, as_values(some, level))
        else:
            copy_lines(self.alias, ROLLUPS.copy, as_lines(chain(some, rows), level))

    def insert_uniques(self, rows: Sequence[tuple[Any, ...]]) -> None:
        if len(rows) < self.COPY_FROM:
            self._insert(self.INSERT_UNIQUES, numbered(rows))
        else:
            copy_lines(self.alias, UNIQUE_VALUES.copy, map(line, numbered(rows)))

    def _merge_rollups(self, rule: MeterRule, series_ids: Sequence[int]) -> Mapping[tuple[int, datetime], int]:
        return merge_rollups(self.alias, rule.measures, series_ids)

    def _merge_uniques(self, days: Collection[tuple[int, datetime]]) -> int:
        return merge_uniques(self.alias, days)

    def _insert(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if columns := [list(column) for column in zip(*rows, strict=True)]:
            with connections[self.alias].cursor() as cursor:
                cursor.execute(sql, columns)


class SqliteRollupWriter(RollupWriter):
    """The same contract with executemany."""

    INSERT_ROLLUPS: ClassVar[str] = f"{ROLLUPS.insert} {ROLLUPS.values}"
    INSERT_UNIQUES: ClassVar[str] = f"{UNIQUE_VALUES.insert} {UNIQUE_VALUES.values}"

    def insert_rows(self, rows: Iterable[Row], level: Rollup.Level = Rollup.Level.APPENDED) -> None:
        self._insert(self.INSERT_ROLLUPS, as_values(rows, level))

    def insert_uniques(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._insert(self.INSERT_UNIQUES, numbered(rows))

    def _insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        instant = connections[self.alias].ops.adapt_datetimefield_value
        stored: dict[type, Callable[[Any], Any]] = {datetime: instant, Decimal: str, UUID: attrgetter("hex")}
        kept = ([stored[type(value)](value) if type(value) in stored else value for value in row] for row in rows)
        with connections[self.alias].cursor() as cursor:
            cursor.executemany(sql, list(kept))


class PlannedRollups(RollupWriter):
    """Keeps the rows of one call instead of writing them, as values for SUMS or else ROLLUPS, and for UNIQUE_VALUES.

    Raises KeyError for a series that is not remembered.
    """

    def __init__(self, alias: str, remembered: RememberedSeries) -> None:
        super().__init__(alias, remembered)
        self.only_sums = True
        self.rows: list[tuple[Any, ...]] = []
        self.uniques: list[tuple[Any, ...]] = []

    def insert_rows(self, rows: Iterable[Row], level: Rollup.Level = Rollup.Level.APPENDED) -> None:
        rows = list(rows)
        self.only_sums = all(row.measures <= SUMMED for row in rows)
        self.rows = list((as_sums if self.only_sums else as_values)(rows, level))

    def insert_uniques(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self.uniques += numbered(rows)

    def series_ids(self, environment: str, keys: Iterable[SeriesKey]) -> Mapping[SeriesKey, int]:
        return self.remembered.known() if self.remembered else {}


ROLLUP_WRITERS: dict[str, type[RollupWriter]] = {"postgresql": PostgresRollupWriter, "sqlite": SqliteRollupWriter}


def rollup_writer(alias: str, remembered: RememberedSeries | None = None) -> RollupWriter:
    """The rollup writer for the database behind `alias`."""
    return ROLLUP_WRITERS.get(connections[alias].vendor, RollupWriter)(alias, remembered)
