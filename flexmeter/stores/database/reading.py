"""Reading events and rollups as partials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

from django.db.models import F, Q, QuerySet, Value

from flexmeter.aggregation import Measure, Partial
from flexmeter.events import UsageEvent
from flexmeter.fields import IdentifierField
from flexmeter.metering import NO_GROUP, MeterRule
from flexmeter.models import Event, Meter, Rollup, UniqueValue
from flexmeter.queries import Scope
from flexmeter.querysets import EventQuerySet
from flexmeter.slots import began
from flexmeter.stores.database.levels import BEGINNING, Stretch, among, by_bucket, stretches
from flexmeter.stores.database.rollup_rows import partial_of
from flexmeter.stores.database.tables import DIMENSION_COLUMNS, MEASURE_COLUMNS
from flexmeter.windows import Calendar, WindowSize, axis, bucket, count_at_most, floor, splits_bucket

Cells = dict[tuple[datetime | None, int], Partial]
"""Partials by start of the window (None: no windows) and rollup group, of which only the number is taken: a UUID takes long
to hash."""
UNGROUPED: Final = NO_GROUP.int

_OF_SERIES = tuple(f"series__{column}" for column in DIMENSION_COLUMNS)
EVENT_COLUMNS = (
    "event_id", "event_name", "external_customer_id", "timestamp", "accepted_at", "properties", "source", "customer_id",
)  # fmt: skip


def scoped(events: EventQuerySet[Event], scope: Scope) -> EventQuerySet[Event]:
    """Events of the scope, except for its property filters, which are applied to what is read."""
    events = events.filter(environment=scope.environment)
    if scope.external_customer_id is not None:
        events = events.filter(external_customer_id=scope.external_customer_id)
    if scope.customer_id:
        events = events.filter(customer_id=scope.customer_id)
    if scope.sources:
        events = events.filter(source__in=scope.sources)
    return events


def everyone(choices: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """The customers of all choices together; None stands for all there are."""
    together: frozenset[str] = frozenset()
    for customers in choices:
        if customers is None:
            return None
        together |= customers
    return together


def events_between(
    scope: Scope, event_names: Iterable[str], start: datetime | None, end: datetime | None, alias: str
) -> Iterator[UsageEvent]:
    """Stream the events of [start, end), in no particular order; property filters are left to the caller."""
    return _streamed(_rows(scope, event_names, start, end, alias, None))


class Span(NamedTuple):
    """Events of these names in [start, end); None leaves the start open."""

    start: datetime | None
    end: datetime
    event_names: frozenset[str]


def events_within(
    scope: Scope, spans: Sequence[Span], alias: str, customers: frozenset[str] | None = None
) -> Iterator[UsageEvent]:
    """Stream the events of several spans with one query, in no particular order; property filters are left to the caller."""
    first, *others = (_rows(scope, span.event_names, span.start, span.end, alias, customers) for span in spans)
    return _streamed(first.union(*others, all=True) if others else first)


def _rows(
    scope: Scope,
    event_names: Iterable[str],
    start: datetime | None,
    end: datetime | None,
    alias: str,
    customers: frozenset[str] | None,
) -> QuerySet[Any, tuple[Any, ...]]:
    rows = scoped(Event.objects.using(alias).filter(event_name__in=sorted(set(event_names))), scope).between(start, end)
    if customers is not None:
        rows = rows.filter(external_customer_id__in=sorted(customers))
    return rows.values_list(*EVENT_COLUMNS)


def _streamed(rows: QuerySet[Any, tuple[Any, ...]]) -> Iterator[UsageEvent]:
    for event_id, name, customer, timestamp, accepted_at, properties, source, customer_id in rows.iterator(chunk_size=5_000):
        yield UsageEvent(event_id, name, customer, timestamp, accepted_at, properties, None, source, customer_id)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which combinations of a rule's dimensions count, by place among them, and in which cells: by the values at `by`."""

    wanted: Mapping[int, frozenset[str]]
    by: tuple[int, ...]
    cells: Callable[[tuple[str, ...]], Cells]

    @property
    def places(self) -> set[int]:
        """Which values have to be known."""
        return {*self.wanted, *self.by}

    def cells_of(self, combination: Sequence[str | None]) -> Cells | None:
        """Where to count a combination, if it counts."""
        if all(combination[place] in values for place, values in self.wanted.items()):
            return self.cells(tuple([combination[place] or "" for place in self.by]))
        return None


@dataclass(slots=True)
class Wanted:
    """What rollups of one rule hold of the buckets in [start, end), to be merged `into` cells by window and group.

    `measures` are those that are needed. Where `counts_suffice`, nothing else comes into these cells, and distinct values may
    be counted by the database. With a `selection` its cells are filled instead. `splits` becomes true where only events
    can tell what belongs together, and what is in the cells is of no use: a rollup bucket holds the boundary of a window, or
    combinations that are not kept apart.
    """

    rule: MeterRule
    measures: frozenset[Measure]
    start: datetime | None
    end: datetime
    size: WindowSize | None
    calendar: Calendar
    customers: frozenset[str] | None
    into: Cells
    counts_suffice: bool = False
    selection: Selection | None = None
    splits: bool = False
    _windows: dict[datetime, datetime | None] = field(default_factory=dict)

    def merge(
        self,
        start_of_bucket: datetime,
        group: int,
        partial: Partial,
        combination: Sequence[str | None] = (),
    ) -> None:
        """Take over what a bucket holds, if it is one of those wanted."""
        place = self._place(start_of_bucket, group, combination)
        if place is not None:
            into, key = place
            into.setdefault(key, Partial()).merge(partial)

    def take(self, starts: Sequence[datetime], group: int, partials: Iterable[Partial]) -> None:
        """Take over what several buckets hold, if they are among those wanted; the partials belong to nobody else."""
        into, windows = self.into, self._windows
        if not into and windows.keys() >= set(starts):
            keys = [(windows[start], group) for start in starts]
            if len(set(keys)) == len(keys):
                into.update(zip(keys, partials, strict=True))
                return
        for start, partial in zip(starts, partials, strict=True):
            if start not in windows:
                self.merge(start, group, partial)
                continue
            window = windows[start]
            held = into.setdefault((window, group), partial)
            if held is not partial:
                held.merge(partial)

    def cell(self, start_of_bucket: datetime, group: int) -> Partial | None:
        """Where to merge what a bucket holds; None if it is none of those wanted."""
        place = self._place(start_of_bucket, group, ())
        return None if place is None else place[0].setdefault(place[1], Partial())

    def _place(
        self, start_of_bucket: datetime, group: int, combination: Sequence[str | None]
    ) -> tuple[Cells, tuple[datetime | None, int]] | None:
        """In which cells, and under which key, a bucket counts that is one of those wanted."""
        if self.splits or (self.start is not None and start_of_bucket < self.start) or start_of_bucket >= self.end:
            return None
        into = self.into
        if self.selection is not None:
            if combination[0] is None:
                self.splits = True
                return None
            chosen = self.selection.cells_of(combination)
            if chosen is None:
                return None
            into = chosen
        try:
            window = self._windows[start_of_bucket]
        except KeyError:
            if self.size is not None and self._may_split and splits_bucket(start_of_bucket, self.rule.grain, self.calendar):
                self.splits = True
                return None
            window = None if self.size is None else floor(start_of_bucket, self.size, self.calendar)
            self._windows[start_of_bucket] = window
        return into, (window, group)

    @property
    def _may_split(self) -> bool:
        return self.calendar.zone is not UTC and self.size not in (WindowSize.MINUTE, WindowSize.FIFTEEN_MINUTES)

    def windows(self, most: int) -> Collection[datetime] | None:
        """Where its windows begin within [start, end), if they are at most so many and all begin where buckets do."""
        windows = _windows(self.start, self.end, self.size, self.calendar, self.rule.grain, most)
        if windows is None:
            return None
        self._windows.update(windows)
        return windows.keys()


@lru_cache(maxsize=64)
def _windows(
    start: datetime | None, end: datetime, size: WindowSize | None, calendar: Calendar, grain: timedelta, most: int
) -> Mapping[datetime, datetime | None] | None:
    """Windows by where they begin within [start, end)."""
    if size is None:
        return {BEGINNING if start is None else start: None}
    if start is None or count_at_most(start, end, size) > most:
        return None
    windows = {max(start, begin): begin for begin in axis(start, end, size, calendar)}
    return windows if all(bucket(begin, grain) == begin for begin in windows) else None


class Part(NamedTuple):
    """Rollup rows of a meter, with where windows of what is wanted of it begin and end."""

    meter_id: str
    stretch: Stretch


class Ready(NamedTuple):
    """A meter, as of a generation, whose rollups are complete from `counted_from` on; None: from the beginning."""

    meter_id: str
    generation: int
    counted_from: datetime | None


class RollupReader:
    """Reads what is wanted of any number of meters with one query, and one more for unique values; row by row."""

    MOST_WINDOWS: ClassVar[int] = 5_000

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def read(self, scope: Scope, wanted: Sequence[Wanted]) -> frozenset[Ready]:
        """Read all that is wanted; of its meters those whose rollups were all there. Of others it is of no use."""
        if not wanted:
            return frozenset()
        apart = [asked for asked in wanted if asked.selection is not None]
        whole = [asked for asked in wanted if asked.selection is None] if apart else wanted
        uniques = [asked for asked in whole if Measure.UNIQUES in asked.measures]
        ready = self.read_measures(scope, whole) if whole else None
        if uniques:
            self.read_uniques(scope, uniques)
        if apart:
            self.read_apart(scope, apart)
        return self._ready(scope, wanted) if ready is None or uniques or apart else ready

    def _ready(self, scope: Scope, wanted: Sequence[Wanted]) -> frozenset[Ready]:
        """Meters that have not changed until now, and hence not since their rollups were read."""
        meters = Meter.objects.using(self.alias).in_environment(scope.environment).filter(rollups_ready=True)
        found = meters.filter(pk__in={asked.rule.meter_id for asked in wanted}).order_by()
        return frozenset(Ready(*row) for row in found.values_list("pk", "generation", "counted_from"))

    def read_apart(self, scope: Scope, wanted: Sequence[Wanted]) -> None:
        """Read what is wanted of some combinations of dimensions' values, row by row."""
        customers = customers_of(scope, wanted)
        selected = Q()
        for asked in wanted:
            selected |= _selected(asked)
        rows = [
            _of_meters(Rollup.objects.using(self.alias).filter(among([stretch])), scope, meter_ids, customers).filter(selected)
            for stretch, meter_ids in self._meters(wanted).items()
        ]
        columns = ("slot", "part", *_OF_SERIES, *MEASURE_COLUMNS)
        for asked, _, group, slot, (part, *values) in _dealt(rows, wanted, columns):
            asked.merge(began(slot, part), group, partial_of(values[3:]), values[:3])
        uniques = [asked for asked in wanted if Measure.UNIQUES in asked.measures]
        if uniques:
            chosen = self._uniques(scope, uniques).filter(selected)
            for asked, _, group, day, (*combination, value) in _dealt([chosen], uniques, ("day", *_OF_SERIES, "value")):
                asked.merge(day, group, Partial(uniques={value}), combination)

    def read_measures(self, scope: Scope, wanted: Sequence[Wanted]) -> frozenset[Ready] | None:
        """Read counts and measures. Meters whose rollups were all there, if what was read tells; otherwise None."""
        customers = customers_of(scope, wanted)
        rows = [
            _of_meters(Rollup.objects.using(self.alias).filter(among([stretch])), scope, meter_ids, customers)
            for stretch, meter_ids in self._meters(wanted).items()
        ]
        for asked, _, group, slot, (part, *values) in _dealt(rows, wanted, ("slot", "part", *MEASURE_COLUMNS)):
            asked.merge(began(slot, part), group, partial_of(values))
        return None

    def _meters(self, wanted: Sequence[Wanted]) -> dict[Stretch, list[str]]:
        meters: dict[Stretch, list[str]] = {}
        for meter_id, stretch in self.parts(wanted):
            meters.setdefault(stretch, []).append(meter_id)
        return meters

    def parts(self, wanted: Sequence[Wanted]) -> list[Part]:
        """The rows that together hold all that is wanted, none of which reaches out of a window."""
        of_meters: dict[str, list[Wanted]] = {}
        for asked in wanted:
            of_meters.setdefault(asked.rule.meter_id, []).append(asked)
        return [Part(meter_id, stretch) for meter_id, of_meter in of_meters.items() for stretch in self._stretches(of_meter)]

    def _stretches(self, wanted: Sequence[Wanted]) -> Sequence[Stretch]:
        edges = edges_of(wanted, self.MOST_WINDOWS)
        if edges is not None:
            return stretches(edges)
        start = min(BEGINNING if asked.start is None else asked.start for asked in wanted)
        return by_bucket(start, max(asked.end for asked in wanted))

    def read_uniques(self, scope: Scope, wanted: Sequence[Wanted]) -> None:
        for asked, _, group, day, (value,) in _dealt([self._uniques(scope, wanted)], wanted, ("day", "value")):
            asked.merge(day, group, Partial(uniques={value}))

    def _uniques(self, scope: Scope, wanted: Sequence[Wanted]) -> QuerySet[Any]:
        rows = UniqueValue.objects.using(self.alias).filter(
            day__gte=min(BEGINNING if asked.start is None else asked.start for asked in wanted),
            day__lt=max(asked.end for asked in wanted),
        )
        return _of_meters(rows, scope, {asked.rule.meter_id for asked in wanted}, customers_of(scope, wanted)).distinct()


def edges_of(wanted: Sequence[Wanted], most: int) -> list[datetime] | None:
    """Where windows of any of those begin and end, ascending; None if one of them has not got at most so many `windows`."""
    edges: list[datetime] = []
    for asked in wanted:
        windows = asked.windows(most)
        if windows is None:
            return None
        edges += windows
        edges.append(asked.end)
    return edges if len(wanted) == 1 else sorted(set(edges))


def _selected(asked: Wanted) -> Q:
    """Rows of series with a combination that is wanted, or whose combinations are not kept apart."""
    condition = Q()
    for place, values in asked.selection.wanted.items() if asked.selection else ():
        condition &= Q(**{f"{_OF_SERIES[place]}__in": sorted(values)})
    if condition:
        condition |= Q(series__combination=NO_GROUP)
    return Q(series__meter_id=asked.rule.meter_id) & condition


def _of_meters(rows: Any, scope: Scope, meter_ids: Iterable[str], customers: frozenset[str] | None) -> QuerySet[Any]:
    chosen: QuerySet[Any] = rows.filter(series__environment=scope.environment, series__meter_id__in=sorted(meter_ids))
    return chosen if customers is None else chosen.filter(series__external_customer_id__in=sorted(customers))


def customers_of(scope: Scope, wanted: Sequence[Wanted]) -> frozenset[str] | None:
    """The customers that anything is wanted of; None stands for all there are."""
    if scope.external_customer_id is not None:
        return frozenset({scope.external_customer_id})
    return everyone(asked.customers for asked in wanted)


def _dealt(
    parts: Sequence[QuerySet[Any]], wanted: Sequence[Wanted], columns: Sequence[str]
) -> Iterator[tuple[Wanted, str, int, Any, Sequence[Any]]]:
    """Each row with those who want it: its customer, its group, its first column, and the others."""
    dealt = by_rule(wanted)
    everybody = len({asked.customers for asked in wanted}) == 1
    customer_column = Value("", output_field=IdentifierField()) if everybody else F("series__external_customer_id")
    keys = ("series__meter_id", "series__generation", "series__group")
    first, *others = (rows.annotate(of=customer_column).values_list(*keys, *columns, "of") for rows in parts)
    whole = first.union(*others, all=True) if others else first
    for meter_id, generation, group, *rest in whole.iterator(chunk_size=5_000):
        for asked in dealt.get((meter_id, generation), ()):
            if everybody or asked.customers is None or rest[-1] in asked.customers:
                yield asked, rest[-1], group.int, rest[0], rest[1:-1]


def by_rule(wanted: Iterable[Wanted]) -> dict[tuple[str, int], list[Wanted]]:
    """What is wanted, by the meter and generation it is wanted of."""
    sorted_out: dict[tuple[str, int], list[Wanted]] = {}
    for asked in wanted:
        sorted_out.setdefault((asked.rule.meter_id, asked.rule.generation), []).append(asked)
    return sorted_out
