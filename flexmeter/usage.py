"""Usage: from rollups where they answer exactly, from raw events for the edges of a range and everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from operator import itemgetter
from typing import Any, Unpack, cast, overload

from asgiref.sync import sync_to_async

from flexmeter import inbox
from flexmeter.aggregation import FINISH, ZERO, AggregationType, Partial, Period, clamped, finish
from flexmeter.asking import Question, query_of
from flexmeter.conf import conf
from flexmeter.events import UsageEvent
from flexmeter.exceptions import InvalidQuery
from flexmeter.measuring import BUCKETED, Reader, Reading, cell_of
from flexmeter.metering import MeterRule, passes
from flexmeter.properties import EXACT, rendered
from flexmeter.queries import (
    AnalyticsItem,
    AnalyticsLine,
    AnalyticsQuery,
    Scope,
    UsageBucket,
    UsagePoint,
    UsageQuery,
    UsageResult,
)
from flexmeter.stores.database.reading import Cells
from flexmeter.stores.database.transactions import read_alias
from flexmeter.windows import Calendar, WindowSize, floor

_ORDER = list(WindowSize)


@overload
def usage(query: UsageQuery, *, using: str | None = None) -> UsageResult: ...
@overload
def usage(*, using: str | None = None, **question: Unpack[Question]) -> UsageResult: ...
def usage(query: UsageQuery | None = None, *, using: str | None = None, **question: Any) -> UsageResult:
    """How much there was. The same figure whether rollups or events answer.

        usage(meter="meter_01…", customer=user, start=monday, end=sunday).value
        usage(event_name="llm", aggregation="SUM", field="tokens", start=monday, window="DAY", timezone="Asia/Tokyo").points

    What can be asked is told by `Question`. Raises InvalidQuery and MeterNotFound for what cannot be, also where the
    answer would have more than FLEXMETER_MAX_WINDOWS windows, and PrunedEvents when it would need events that retention
    has removed.
    """
    return _answer(query or query_of(cast(Question, question), using=using), using or read_alias(), raw=False)


@overload
async def ausage(query: UsageQuery, *, using: str | None = None) -> UsageResult: ...
@overload
async def ausage(*, using: str | None = None, **question: Unpack[Question]) -> UsageResult: ...
async def ausage(query: UsageQuery | None = None, *, using: str | None = None, **question: Any) -> UsageResult:
    """`usage` for async code."""

    def answer() -> UsageResult:
        return _answer(query or query_of(cast(Question, question), using=using), using or read_alias(), raw=False)

    return await sync_to_async(answer)()


def usage_from_events(query: UsageQuery, *, using: str | None = None) -> UsageResult:
    """The same figure, counted from raw events alone: what rollups are verified against."""
    return _answer(query, using or read_alias(), raw=True)


def _answer(query: UsageQuery, alias: str, *, raw: bool) -> UsageResult:
    inbox.look_after()
    size = _cell_size(query.rule, query.window)
    alone = not query.accumulates
    inside = Reading(query.rule, query.start, query.end, size, query.calendar, alone=alone)
    before = Reading(query.rule, None, query.start, size, query.calendar, alone=alone)
    readings = [inside, before] if query.accumulates else [inside]
    Reader(query.scope, alias, raw).read(readings)
    sources = {reading.source for reading in readings}
    return _result(query, inside.cells, before.cells, sources.pop() if len(sources) == 1 else "rollups and events")


def analytics(query: AnalyticsQuery, *, using: str | None = None) -> list[AnalyticsItem]:
    """Usage of every rule and group that has events in [start, end), in the order of the rules, then of the groups.

    Raises InvalidQuery for more than FLEXMETER_MAX_GROUPS items, otherwise as `usage`.
    """
    lines = [AnalyticsLine(rule, query.start, query.end, query.calendar) for rule in query.rules]
    answers = measure(
        lines, query.scope, group_by=query.group_by, window=query.window, with_sources=query.with_sources, using=using
    )
    return [item for items in answers for item in items]


def measure(
    lines: Sequence[AnalyticsLine],
    scope: Scope,
    *,
    group_by: tuple[str, ...] = (),
    window: WindowSize | None = None,
    with_sources: bool = False,
    using: str | None = None,
) -> list[list[AnalyticsItem]]:
    """Usage of each line, by group: for every line its items, in the order of the groups.

    However many lines there are, the number of queries is the same. Raises as `analytics`.
    """
    inbox.look_after()
    alias = using or read_alias()
    if not (group_by or with_sources or scope.narrowed):
        readings = [[Reading(**asked) for asked in _asked(line, window)] for line in lines]
        Reader(scope, alias).read([reading for of_line in readings for reading in of_line])
        return [
            list(_items(line, window, {(): _united(reading.cells for reading in of_line)}, {}))
            for line, of_line in zip(lines, readings, strict=True)
        ]
    limit = _GroupLimit(group_by, (*group_by, "source") if with_sources else group_by)
    properties = tuple([entry.removeprefix("properties.") for entry in group_by if entry != "source"])
    grouped = [
        [_GroupedReading(**asked, group_by=properties, line=place, limit=limit) for asked in _asked(line, window)]
        for place, line in enumerate(lines)
    ]
    raw = with_sources or "source" in group_by
    Reader(scope, alias, raw=raw).read([reading for of_line in grouped for reading in of_line])
    return [
        list(_items(line, window, _united_groups(of_line), _sources(of_line) if with_sources else {}))
        for line, of_line in zip(lines, grouped, strict=True)
    ]


def _asked(line: AnalyticsLine, window: WindowSize | None) -> Iterator[dict[str, Any]]:
    """What is read for a line: one part for its own customers, and one for each of those that joined."""
    for customers, start, end in ((line.customers, line.start, line.end), *line.joined):
        yield {
            "rule": line.rule,
            "start": start,
            "end": end,
            "size": _cell_size(line.rule, window),
            "calendar": line.calendar,
            "customers": customers,
            "alone": not line.joined,
        }


def cell_size(query: UsageQuery) -> WindowSize | None:
    """The size of the windows that `usage` answers in: the rule's own buckets before those asked for."""
    return _cell_size(query.rule, query.window)


def _cell_size(rule: MeterRule, window: WindowSize | None) -> WindowSize | None:
    return rule.bucket_size if rule.bucket_size is not None and rule.type in BUCKETED else window


@dataclass(slots=True)
class Tally:
    """Counts events one by one as `usage` counts them, for who reads them anyway; nothing is read here.

    What lies before the query's start is counted only if the query accumulates.
    """

    query: UsageQuery
    _inside: Cells = field(default_factory=dict)
    _before: Cells = field(default_factory=dict)

    def add(self, event: UsageEvent) -> bool:
        """Count the event; whether it is one of the query's."""
        query, rule = self.query, self.query.rule
        cells = self._inside if event.timestamp >= query.start else self._before
        if event.timestamp >= query.end or (cells is self._before and not query.accumulates):
            return False
        if not rule.matches(event) or not passes(query.scope.filters, event.properties):
            return False
        quantity = rule.quantity(event)
        if quantity is not None:
            cell_of(rule, event, _cell_size(rule, query.window), query.calendar, cells).fold(quantity, rule.measures)
        return quantity is not None

    def result(self) -> UsageResult:
        """What `usage` would answer if these were all events there are."""
        return _result(self.query, self._inside, self._before, "events")

    def points(self) -> list[UsagePoint]:
        """The points that `analytics` would give: buckets of a bucketed rule are rolled up to the query's windows."""
        query, size = self.query, _point_size(self.query.rule, self.query.window)
        period = Period(query.start, query.end)
        return _points(query.rule, self._inside, period, size, query.calendar) if size else []


def _merged(cells: Cells) -> Partial:
    return _united_partial(cells.values())


def _united_partial(partials: Iterable[Partial]) -> Partial:
    whole = Partial()
    for partial in partials:
        whole.merge(partial)
    return whole


def _count(cells: Cells) -> int:
    return sum(partial.count for partial in cells.values())


def _by_window(cells: Cells) -> dict[datetime | None, list[Partial]]:
    windows: dict[datetime | None, list[Partial]] = {}
    for (start, _), partial in cells.items():
        if partial.count:
            windows.setdefault(start, []).append(partial)
    return windows


def _figure(rule: MeterRule, partials: Sequence[Partial], period: Period) -> Decimal:
    """The figure of one window: over all its events, or for a grouped meter the sum over its groups."""
    if rule.group_by and rule.bucket_size is not None:
        figure = ZERO
        for partial in partials:
            figure = EXACT.add(figure, finish(partial, rule.type, period=period))
        return figure
    whole = partials[0] if len(partials) == 1 else _united_partial(partials)
    return finish(whole, rule.type, multiplier=rule.multiplier, period=period)


def _windows(rule: MeterRule, cells: Cells, period: Period) -> Iterator[tuple[datetime, Decimal, int]]:
    """Unclamped figure and event count of each window that holds events, ascending."""
    if not rule.group_by and len({begin for begin, _ in cells}) == len(cells):  # a partial is all of its window
        figure, multiplier = FINISH[rule.type], rule.multiplier
        for (begin, _), partial in sorted(cells.items(), key=itemgetter(0)):
            if partial.count and begin is not None:
                yield begin, figure(partial, multiplier, period), partial.count
        return
    windows = _by_window(cells)
    for start in sorted(start for start in windows if start is not None):
        partials = windows[start]
        count = partials[0].count if len(partials) == 1 else sum(partial.count for partial in partials)
        yield start, _figure(rule, partials, period), count


def _total(rule: MeterRule, cells: Cells, period: Period) -> Decimal:
    """The unclamped figure of all cells: for bucketed rules the sum over buckets, otherwise one aggregation."""
    if _cell_size(rule, None) is None:
        return _figure(rule, [_merged(cells)], period)
    return _sum(_windows(rule, cells, period))


def _sum(windows: Iterable[tuple[datetime, Decimal, int]]) -> Decimal:
    with localcontext(EXACT):
        return sum((figure for _, figure, _ in windows), ZERO)


def _result(query: UsageQuery, inside: Cells, before: Cells, source: str) -> UsageResult:
    rule, period = query.rule, Period(query.start, query.end)
    bucketed = _cell_size(rule, None) is not None
    windows = list(_windows(rule, inside, period))
    new: Callable[[type[UsagePoint], tuple[Any, ...]], UsagePoint] = tuple.__new__  # as UsagePoint(…) makes it, in half the time
    points = [new(UsagePoint, (start, value if value > ZERO else ZERO, count)) for start, value, count in windows]  # noqa: FURB136
    if query.accumulates and query.window is not None and not bucketed:
        base = _carried_in(rule, before, period)
        return UsageResult(rule.type, rule.event_name, clamped(base), _count(before), points, source)
    if rule.type is AggregationType.WEIGHTED_SUM:
        total = EXACT.add(_carried_in(rule, before, period), _total(rule, inside, period))
    elif bucketed and not before:
        total = _sum(windows)
    else:
        total = _total(rule, _united((before, inside)), period)
    count = _count(before) + _count(inside)
    return UsageResult(rule.type, rule.event_name, clamped(total), count, points, source)


def _carried_in(rule: MeterRule, before: Cells, period: Period) -> Decimal:
    """What came before the period; of a WEIGHTED_SUM it was in force for the whole period, hence weight 1."""
    whole = _merged(before)
    return whole.total if rule.type is AggregationType.WEIGHTED_SUM else finish(whole, rule.type, multiplier=rule.multiplier)


def _united(parts: Iterable[Cells]) -> Cells:
    """The cells of all parts, which stay as they are."""
    filled = [cells for cells in parts if cells]
    if len(filled) == 1:
        return filled[0]
    united: Cells = {}
    for cells in filled:
        for key, partial in cells.items():
            united.setdefault(key, Partial()).merge(partial)
    return united


@dataclass(slots=True)
class _GroupLimit:
    """Counts the groups of one answer, a line's each once; its events are to be told apart by `apart`."""

    group_by: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    groups: set[tuple[int, tuple[str, ...]]] = field(default_factory=set)

    def add(self, line: int, group: tuple[str, ...]) -> None:
        self.groups.add((line, group))
        if len(self.groups) > conf.MAX_GROUPS:
            raise InvalidQuery(
                f"The answer would have more than {conf.MAX_GROUPS} groups; group by less or narrow the range",
                {"group_by": list(self.group_by)},
            )


@dataclass(slots=True)
class _GroupedReading(Reading):
    """A part of what is read for a line, whose cells are kept apart by group; `limit` is shared by all of an answer."""

    line: int = 0
    limit: _GroupLimit = field(default_factory=_GroupLimit)
    groups: dict[tuple[str, ...], Cells] = field(default_factory=dict)
    sources: dict[tuple[str, ...], set[str]] = field(default_factory=dict)

    @property
    def apart(self) -> tuple[str, ...]:
        return self.limit.apart

    def cells_for(self, event: UsageEvent) -> Cells:
        group = _group_of(event, self.limit.group_by)
        self.sources.setdefault(group, set()).add(event.source)
        return self.cells_of(group)

    def cells_of(self, group: tuple[str, ...]) -> Cells:
        cells = self.groups.get(group)
        if cells is None:
            self.limit.add(self.line, group)
            cells = self.groups[group] = {}
        return cells

    def reset(self) -> None:
        Reading.reset(self)
        self.limit.groups -= {(self.line, group) for group in self.groups}
        self.groups, self.sources = {}, {}

    def bound_all(self) -> None:
        for cells in self.groups.values():
            self.bound(cells)


def _united_groups(readings: Sequence[_GroupedReading]) -> dict[tuple[str, ...], Cells]:
    groups = {group for reading in readings for group in reading.groups}
    return {group: _united(reading.groups.get(group, {}) for reading in readings) for group in groups}


def _sources(readings: Sequence[_GroupedReading]) -> dict[tuple[str, ...], set[str]]:
    sources: dict[tuple[str, ...], set[str]] = {}
    for reading in readings:
        for group, found in reading.sources.items():
            sources.setdefault(group, set()).update(found)
    return sources


def _group_of(event: UsageEvent, group_by: Sequence[str]) -> tuple[str, ...]:
    properties = event.properties or {}
    return tuple(
        event.source if entry == "source" else rendered(properties.get(entry.removeprefix("properties."))) for entry in group_by
    )


def _items(
    line: AnalyticsLine,
    window: WindowSize | None,
    groups: Mapping[tuple[str, ...], Cells],
    sources: Mapping[tuple[str, ...], set[str]],
) -> Iterator[AnalyticsItem]:
    rule, period = line.rule, Period(line.start, line.end)
    for group in sorted(groups):
        cells = groups[group]
        count = _count(cells)
        if not count:
            continue
        size = _point_size(rule, window)
        yield AnalyticsItem(
            rule,
            group,
            clamped(_total(rule, cells, period)),
            count,
            _points(rule, cells, period, size, line.calendar) if size else [],
            size,
            tuple(sorted(sources.get(group, ()))),
            list(_buckets(rule, cells, period)) if _cell_size(rule, None) else [],
        )


def _buckets(rule: MeterRule, cells: Cells, period: Period) -> Iterator[UsageBucket]:
    """What the buckets of a bucketed rule hold, ascending: one figure each, or one for each group of a grouped rule."""
    windows = _by_window(cells)
    for start in sorted(start for start in windows if start is not None):
        partials = windows[start]
        if rule.group_by:
            values = tuple(clamped(finish(partial, rule.type, period=period)) for partial in partials)
        else:
            values = (clamped(_figure(rule, partials, period)),)
        yield UsageBucket(start, values, sum(partial.count for partial in partials))


def _point_size(rule: MeterRule, window: WindowSize | None) -> WindowSize | None:
    """The coarser of the window asked for and the meter's bucket size."""
    cell = _cell_size(rule, None)
    if window is None or cell is None:
        return window
    return max(window, cell, key=_ORDER.index)


def _points(rule: MeterRule, cells: Cells, period: Period, size: WindowSize, calendar: Calendar) -> list[UsagePoint]:
    """Windows of `size`; the buckets of a bucketed rule are summed into them, or for MAX the greatest stands."""
    points: dict[datetime, tuple[Decimal, int]] = {}
    bucketed = _cell_size(rule, None) is not None
    for start, figure, count in _windows(rule, cells, period):
        label = floor(start, size, calendar) if bucketed else start
        if label not in points:
            points[label] = (figure, count)
            continue
        held, events = points[label]
        joined = max(held, figure) if rule.type is AggregationType.MAX else EXACT.add(held, figure)
        points[label] = (joined, events + count)
    return [UsagePoint(start, clamped(value), count) for start, (value, count) in sorted(points.items())]
