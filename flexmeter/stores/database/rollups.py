"""Rollup rows: appended by ingestion, recounted from events, merged by compaction.

Whoever replaces rows holds the meter's row lock and deletes exactly the rows it has read; rows that ingestion appends
meanwhile stay. Reading events and the rows they are to replace is one statement, hence one snapshot. A day's row and the
bucket rows it repeats are only ever written together.
"""

from __future__ import annotations

import functools
from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Count, F, IntegerField, QuerySet, Value

from flexmeter.aggregation import Measure, Partial
from flexmeter.conf import conf
from flexmeter.events import UsageEvent
from flexmeter.fields import IdentifierField, JsonTextField
from flexmeter.metering import DAY, NO_GROUP, Folded, MeterRule, Rollups, SeriesKey, fold
from flexmeter.models import Event, Meter, Rollup, Series, UniqueValue, now
from flexmeter.properties import digest, dumps
from flexmeter.slots import LEVEL_SLOTS, began, position
from flexmeter.stores.database.levels import all_within, among, of_levels
from flexmeter.stores.database.rollup_rows import Lines, Row, as_values, numbered, partial_of
from flexmeter.stores.database.series import RememberedSeries
from flexmeter.stores.database.tables import DIMENSION_COLUMNS, MEASURE_COLUMNS, ROLLUPS, UNIQUE_VALUES
from flexmeter.stores.database.transactions import Superseded
from flexmeter.windows import bucket, ceiling

NOTHING = Partial()
EVENT, ROLLUP, UNIQUE = 0, 1, 2
MOST_COMBINATIONS = 2_000
"""How many are looked up by name; of more, all there are are read."""


class RollupWriter:
    """Writes rollup rows with the ORM alone, so it serves every database Django does."""

    def __init__(self, alias: str, remembered: RememberedSeries | None = None) -> None:
        self.alias = alias
        self.remembered = remembered

    def append(self, environment: str, rollups: Rollups, rules: Iterable[MeterRule]) -> None:
        """Add partials as new rows; nothing that is already there is read or locked."""
        if not all(partial.count for partial in rollups.values()):
            rollups = {place: partial for place, partial in rollups.items() if partial.count or partial != NOTHING}
        if not rollups:
            return
        by_id = {rule.meter_id: rule for rule in rules}
        measures = {meter_id: rule.measures for meter_id, rule in by_id.items()}
        known = self.remembered.known() if self.remembered else {}
        ids: list[int | None] = [known.get(series) for series, _ in rollups]
        if None in ids:
            found = self.series_ids(environment, (series for series, _ in rollups))
            ids = [found[series] for series, _ in rollups]
        series_ids = cast(list[int], ids)
        if any(rule.dimensions for rule in by_id.values()):
            whole = {series for series, _ in rollups if not series.combination and by_id[series.meter_id].dimensions}
            self._note_passed(whole)
        new: Callable[[type[Row], tuple[Any, ...]], Row] = tuple.__new__  # as Row(…) makes it, in a third of the time
        self.insert_rows(  # one by one, so that the next are made while the database stores some
            new(Row, (series_id, start, partial, measures[series[0]]))
            for series_id, ((series, start), partial) in zip(series_ids, rollups.items(), strict=True)
        )
        uniques = {
            (series_id, day, value): None
            for series_id, ((_, start), partial) in zip(series_ids, rollups.items(), strict=True)
            if partial.uniques
            for day in [bucket(start, DAY)]
            for value in partial.uniques
        }
        if uniques:
            self.insert_uniques(list(uniques))

    def lines_of(self, parts: Sequence[Folded]) -> tuple[Lines, Sequence[Folded]]:
        """What `append_lines` would append of these parts, found without asking the database, and the parts left over."""
        return Lines(), parts

    def append_lines(self, lines: Lines) -> None:
        """Append what `lines_of` found."""

    def insert_rows(self, rows: Iterable[Row], level: Rollup.Level = Rollup.Level.APPENDED) -> None:
        """Insert rollup rows."""
        objects = [Rollup(**dict(zip(ROLLUPS.columns, values, strict=True))) for values in as_values(rows, level)]
        Rollup.objects.using(self.alias).bulk_create(objects, batch_size=500)

    def insert_uniques(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert unique values given as (series id, day, value)."""
        objects = [UniqueValue(**dict(zip(UNIQUE_VALUES.columns, values, strict=True))) for values in numbered(rows)]
        UniqueValue.objects.using(self.alias).bulk_create(objects, batch_size=1_000)

    def series_ids(self, environment: str, keys: Iterable[SeriesKey]) -> Mapping[SeriesKey, int]:
        """Ids of the series, and maybe of others, made where missing; in sorted order, so that writers do not deadlock.

        Combinations beyond FLEXMETER_MAX_DIMENSION_GROUPS have the id of the series that keeps none apart.
        """
        known = self.remembered.known() if self.remembered else {}
        unknown = {key for key in keys if key not in known}
        if not unknown:
            return known
        found = self._find_series(environment, unknown)
        missing = unknown - found.keys()
        if missing:
            beyond = self._beyond(environment, missing)
            self._note_passed(beyond)
            wanted = missing - beyond.keys() | {key for key in beyond.values() if key not in known and key not in found}
            self._make_series(environment, sorted(wanted))
            found |= self._find_series(environment, wanted)
            if not wanted <= found.keys():
                raise Superseded  # made by a transaction that this snapshot does not see
            found |= {key: found[together] if together in found else known[together] for key, together in beyond.items()}
        if self.remembered:
            self.remembered.learn(found)
        return ChainMap(found, known)  # type: ignore[arg-type]  # only read

    def _beyond(self, environment: str, missing: Collection[SeriesKey]) -> dict[SeriesKey, SeriesKey]:
        """Of series to be made, those that would be too many, each with the one that is counted in instead."""
        apart: dict[tuple[str, int, str], list[SeriesKey]] = {}
        for key in sorted(missing):
            if key.combination:
                apart.setdefault(key[:3], []).append(key)
        if not apart:
            return {}
        series = Series.objects.using(self.alias).filter(
            environment=environment,
            meter_id__in={meter_id for meter_id, _, _ in apart},
            external_customer_id__in={customer for _, _, customer in apart},
        )
        identity = ("meter_id", "generation", "external_customer_id")
        counted = series.exclude(combination=NO_GROUP).values_list(*identity).annotate(Count("id")).order_by()
        left = {(meter, generation, name): conf.MAX_DIMENSION_GROUPS - count for meter, generation, name, count in counted}
        beyond = [key for place, keys in apart.items() for key in keys[max(left.get(place, conf.MAX_DIMENSION_GROUPS), 0) :]]
        return {key: key._replace(combination=()) for key in beyond}

    def _note_passed(self, series: Iterable[SeriesKey]) -> None:
        """Let the meters tell, once this is committed, that they do not keep all combinations apart."""
        alias = self.alias
        for meter_id, generation in sorted({(key.meter_id, key.generation) for key in series}):
            note = functools.partial(_note_passed, meter_id, generation, alias)
            transaction.on_commit(note, using=alias, robust=True)

    def _find_series(self, environment: str, keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
        wanted = set(keys)
        customers = sorted({key.external_customer_id for key in wanted})
        meters = {key.meter_id for key in wanted}
        combinations = {_digest(key.combination) for key in wanted}
        found: dict[SeriesKey, int] = {}
        for start in range(0, len(customers), 2_000):
            rows = Series.objects.using(self.alias).filter(
                environment=environment,
                meter_id__in=meters,
                external_customer_id__in=customers[start : start + 2_000],
            )
            if not any(key.group for key in wanted):
                rows = rows.filter(group=NO_GROUP)
            if len(combinations) <= MOST_COMBINATIONS:
                rows = rows.filter(combination__in=combinations)
            columns = ("id", "meter_id", "generation", "external_customer_id", "group", *DIMENSION_COLUMNS)
            for series_id, meter_id, generation, customer, group, *values in rows.values_list(*columns):
                key = SeriesKey(meter_id, generation, customer, group.int, tuple(value for value in values if value is not None))
                if key in wanted:
                    found[key] = series_id
        return found

    def _make_series(self, environment: str, keys: Sequence[SeriesKey]) -> None:
        objects = [
            Series(
                environment=environment,
                meter_id=key.meter_id,
                generation=key.generation,
                external_customer_id=key.external_customer_id,
                group=UUID(int=key.group),
                combination=_digest(key.combination),
                **dict(zip(DIMENSION_COLUMNS, key.combination, strict=False)),
            )
            for key in keys
        ]
        if connections[self.alias].vendor == "mysql":
            # Its INSERT IGNORE would swallow other errors too; assigning a column to itself swallows none.
            Series.objects.using(self.alias).bulk_create(
                objects, batch_size=500, update_conflicts=True, update_fields=["generation"]
            )
        else:
            Series.objects.using(self.alias).bulk_create(objects, batch_size=500, ignore_conflicts=True)

    def lock_meter(self, meter_id: str) -> Meter | None:
        """The meter as it is now, locked against other replacing of its rows; None if it is gone."""
        return Meter.objects.using(self.alias).select_for_update().filter(pk=meter_id).first()

    def recount(
        self, environment: str, rule: MeterRule, customers: Sequence[str], start: datetime | None, end: datetime | None
    ) -> int:
        """Replace what the rollups say of customers in [start, end) by what the events say; returns the events read.

        `start` and `end` lie on the rule's recount grain (None: open). The caller holds the meter's row lock.
        Appended rows of transactions that commit meanwhile are neither read nor lost.
        """
        self._break_up_days(environment, rule, customers, start, end)
        doomed: dict[int, list[int]] = {ROLLUP: [], UNIQUE: []}
        read = 0

        def events() -> Iterator[UsageEvent]:
            nonlocal read
            for kind, number, *columns in self._snapshot(environment, rule, customers, start, end):
                if kind == EVENT:
                    read += 1
                    event_id, customer, timestamp, accepted_at, properties = columns
                    yield UsageEvent(event_id, rule.event_name, customer, timestamp, accepted_at, properties)
                else:
                    doomed[kind].append(number)

        rollups = fold(events(), [rule])
        series = self._series(environment, rule, customers)
        self._delete(self._rollups(series, start, end), doomed[ROLLUP])
        self._delete(self._uniques(series, start, end), doomed[UNIQUE])
        self.append(environment, rollups, [rule])
        return read

    def _break_up_days(
        self, environment: str, rule: MeterRule, customers: Sequence[str], start: datetime | None, end: datetime | None
    ) -> None:
        """Have no rows of days that reach into [start, end), and their buckets as if they had just been appended."""
        series_ids = list(self._series(environment, rule, customers).values_list("id", flat=True))
        first = None if start is None else bucket(start, DAY)
        last = None if end is None else ceiling(end, DAY)
        _, of_buckets, of_days = all_within(first, last)
        for place in range(0, len(series_ids), 5_000):
            rows = Rollup.objects.using(self.alias).filter(series_id__in=series_ids[place : place + 5_000])
            rows.filter(among([of_days]))._raw_delete(self.alias)
            rows.filter(among([of_buckets])).update(slot=F("slot") - LEVEL_SLOTS)

    def _series(self, environment: str, rule: MeterRule, customers: Sequence[str]) -> QuerySet[Series]:
        return Series.objects.using(self.alias).filter(
            environment=environment, meter_id=rule.meter_id, generation=rule.generation, external_customer_id__in=customers
        )

    def _snapshot(
        self, environment: str, rule: MeterRule, customers: Sequence[str], start: datetime | None, end: datetime | None
    ) -> Iterator[tuple[Any, ...]]:
        events = (
            Event.objects.using(self.alias)
            .in_environment(environment)
            .named(rule.event_name)
            .between(start, end)
            .filter(external_customer_id__in=customers)
        )
        nothing = [
            Value(None, output_field=IdentifierField(max_length=255)),
            Value(None, output_field=IdentifierField(max_length=255)),
            Value(None, output_field=Event._meta.get_field("timestamp")),
            Value(None, output_field=Event._meta.get_field("timestamp")),
            Value(None, output_field=JsonTextField()),
        ]
        series = self._series(environment, rule, customers)
        rollups = self._rollups(series, start, end)
        parts: list[QuerySet[Any, Any]] = [rollups.values_list(Value(ROLLUP, output_field=IntegerField()), "part", *nothing)]
        if Measure.UNIQUES in rule.measures:
            uniques = self._uniques(series, start, end)
            parts.append(uniques.values_list(Value(UNIQUE, output_field=IntegerField()), "part", *nothing))
        columns = ("id", "event_id", "external_customer_id", "timestamp", "accepted_at", "properties")
        whole = events.values_list(Value(EVENT, output_field=IntegerField()), *columns).union(*parts, all=True)
        yield from whole.iterator(chunk_size=2_000)

    def _rollups(self, series: QuerySet[Series], start: datetime | None, end: datetime | None) -> QuerySet[Rollup]:
        return Rollup.objects.using(self.alias).filter(among(all_within(start, end)), series__in=series)

    def _uniques(self, series: QuerySet[Series], start: datetime | None, end: datetime | None) -> QuerySet[UniqueValue]:
        rows = UniqueValue.objects.using(self.alias).filter(series__in=series)
        if start is not None:
            rows = rows.filter(day__gte=start)
        return rows if end is None else rows.filter(day__lt=end)

    def _delete(self, rows: QuerySet[Any], parts: Sequence[int]) -> None:
        """Delete those of the rows that are these parts, which are most of them."""
        rows = rows.alias(number=F("part") + 0)  # as an expression, or planners look each up in the index of the rest
        for start in range(0, len(parts), 5_000):
            chosen = parts[start : start + 5_000]
            if rows.filter(number__in=chosen)._raw_delete(self.alias) != len(chosen):
                raise Superseded

    def merge_rows(self, rule: MeterRule, series_ids: Sequence[int]) -> int:
        """Merge what was appended into one row for each bucket and one for each UTC day, and unique values that
        repeat; returns how many rows were appended or repeated.

        The caller holds the meter's row lock.
        """
        days = self._merge_rollups(rule, series_ids)
        repeated = self._merge_uniques(days) if days and Measure.UNIQUES in rule.measures else 0
        return sum(days.values()) + repeated

    def _merge_rollups(self, rule: MeterRule, series_ids: Sequence[int]) -> Mapping[tuple[int, datetime], int]:
        """How many rows were appended, by series and UTC day."""
        rows = Rollup.objects.using(self.alias).filter(series_id__in=series_ids)
        recent = rows.filter(of_levels(Rollup.Level.APPENDED))
        doomed: list[int] = []
        buckets: dict[tuple[int, datetime], Partial] = {}
        days: dict[tuple[int, datetime], Partial] = {}
        appended: Counter[tuple[int, datetime]] = Counter()
        for part, series_id, start, *values in _identified(recent):
            partial = partial_of(values)
            day = series_id, bucket(start, DAY)
            buckets.setdefault((series_id, start), Partial()).merge(partial)
            days.setdefault(day, Partial()).merge(partial)
            appended[day] += 1
            doomed.append(part)
        self._delete(recent, doomed)
        for level, merged in ((Rollup.Level.BUCKET, buckets), (Rollup.Level.DAY, days)):
            held = self._held(rows, level, merged)
            doomed = []
            for part, series_id, start, *values in _identified(held):
                if (series_id, start) in merged:
                    merged[series_id, start].merge(partial_of(values))
                    doomed.append(part)
            self._delete(held, doomed)
            # What all events have left says nothing any more.
            kept = [Row(*key, partial, rule.measures) for key, partial in merged.items() if partial != NOTHING]
            self.insert_rows(kept, level)
        return appended

    def _held(self, rows: QuerySet[Rollup], level: Rollup.Level, wanted: Collection[tuple[int, datetime]]) -> QuerySet[Rollup]:
        """Rows that may be of these series and starts, and maybe others."""
        slots = [position(level, start).slot for _, start in wanted]
        return rows.filter(slot__gte=min(slots), slot__lte=max(slots)) if slots else rows.none()

    def _merge_uniques(self, days: Collection[tuple[int, datetime]]) -> int:
        """Remove values that are listed again for these series and days, which is where some were added."""
        seen: set[tuple[Any, ...]] = set()
        doomed = []
        rows = UniqueValue.objects.using(self.alias).filter(
            series_id__in={series_id for series_id, _ in days},
            day__gte=min(day for _, day in days),
            day__lte=max(day for _, day in days),
        )
        for part, *key in rows.values_list(*UNIQUE_VALUES.columns):
            if tuple(key) in seen:
                doomed.append(part)
            seen.add(tuple(key))
        self._delete(rows, doomed)
        return len(doomed)


def _note_passed(meter_id: str, generation: int, alias: str) -> None:
    """Have the meter tell since when a customer's combinations of values are not all kept apart."""
    current = Meter.objects.using(alias).filter(pk=meter_id, generation=generation, dimensions_passed_at=None)
    if current.exists():
        current.update(dimensions_passed_at=now())


def _digest(combination: tuple[str, ...]) -> UUID:
    return digest(dumps(combination)) if combination else NO_GROUP


def _identified(rows: QuerySet[Rollup]) -> Iterator[tuple[Any, ...]]:
    """Rows as (part, series id, start, *MEASURE_COLUMNS)."""
    columns = ("part", "series_id", "slot", *MEASURE_COLUMNS)
    for part, series_id, slot, *values in rows.values_list(*columns).iterator(chunk_size=5_000):
        yield part, series_id, began(slot, part), *values
