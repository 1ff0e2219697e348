"""Partials of meter rules, by window: from rollups where they hold exactly what is asked, otherwise from events.

Any number of readings is answered with a fixed number of queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flexmeter.aggregation import AggregationType, Measure, Partial
from flexmeter.conf import conf
from flexmeter.events import UsageEvent, format_timestamp
from flexmeter.exceptions import InvalidQuery, PrunedEvents
from flexmeter.metering import Filters, MeterRule, passes
from flexmeter.models import Meter
from flexmeter.properties import text_fault
from flexmeter.queries import Scope
from flexmeter.stores.database.adding_up import rollup_reader
from flexmeter.stores.database.event_counting import Portion, Slice, event_counter
from flexmeter.stores.database.locks import retained_from
from flexmeter.stores.database.reading import Cells, Selection, Span, Wanted, events_within, everyone
from flexmeter.windows import Calendar, WindowSize, bucket, ceiling, floor

BUCKETED = frozenset({AggregationType.MAX, AggregationType.SUM})
_DAY_OR_LONGER = frozenset({WindowSize.DAY, WindowSize.WEEK, WindowSize.MONTH})
_ATTEMPTS = 3
MOST_SPANS = 100
"""Parts of one query; SQLite takes 500."""


@dataclass(slots=True)
class Reading:
    """What one rule counted in [start, end), by window of `size`; `start` None reaches back to the beginning.

    Of the scope's customers it counts those in `customers`, or all. `alone` says that nothing else is merged with what it
    finds. `group_by` names properties that it is kept apart by. `cells` fills when it is read, and `source` says from
    where: "rollups", "events", or "rollups and events".
    """

    rule: MeterRule
    start: datetime | None
    end: datetime
    size: WindowSize | None
    calendar: Calendar
    customers: frozenset[str] | None = None
    alone: bool = True
    group_by: tuple[str, ...] = ()
    cells: Cells = field(default_factory=dict)
    source: str = "events"
    splits: bool = False

    def holds(self, event: UsageEvent) -> bool:
        """Whether the event is one of this reading's, its rule aside."""
        return (
            (self.start is None or self.start <= event.timestamp)
            and event.timestamp < self.end
            and (self.customers is None or event.external_customer_id in self.customers)
        )

    @property
    def apart(self) -> tuple[str, ...]:
        """What its events are kept apart by, besides windows and the rule's groups: "source" or "properties.<name>"."""
        return ()

    def count(self, event: UsageEvent) -> None:
        """Count an event that it holds, if the rule does."""
        if self.rule.matches(event) and (quantity := self.rule.quantity(event)) is not None:
            self._cell(event).fold(quantity, self.rule.measures)

    def cells_for(self, event: UsageEvent) -> Cells:
        """Where an event belongs that counts."""
        return self.cells

    def cells_of(self, group: tuple[str, ...]) -> Cells:
        """Where to count what has these values of the properties in `group_by`."""
        return self.cells

    def reset(self) -> None:
        """Forget what was found."""
        self.cells = {}
        self.source = "events"

    def merge(self, portion: Portion) -> None:
        """Count what the database has counted."""
        self._cell(portion.like).merge(portion.partial)

    def _cell(self, event: UsageEvent) -> Partial:
        cells = self.cells_for(event)
        held = len(cells)
        partial = cell_of(self.rule, event, self.size, self.calendar, cells)
        if len(cells) > held and not len(cells) % 1_000:
            self.bound(cells)
        return partial

    def bound(self, cells: Cells) -> None:
        """Raise InvalidQuery if these are more windows than an answer may have."""
        if len(cells) > conf.MAX_WINDOWS and len({start for start, _ in cells}) > conf.MAX_WINDOWS:
            raise InvalidQuery(
                f"The answer would have more than {conf.MAX_WINDOWS} windows; ask for a shorter range or longer windows",
                {"window_size": str(self.size)},
            )

    def bound_all(self) -> None:
        """The same for all it has found."""
        self.bound(self.cells)

    @property
    def _is_utc_day(self) -> bool:
        return self.size in _DAY_OR_LONGER and self.calendar.zone is UTC

    @property
    def fits_rollups(self) -> bool:
        """Whether rollups of a meter with this very rule would know its windows apart."""
        if self.splits or (self.size is WindowSize.MINUTE and self.rule.bucket_size is not WindowSize.MINUTE):
            return False
        return Measure.UNIQUES not in self.rule.measures or self.size is None or self._is_utc_day

    def is_answered_by(self, rule: MeterRule) -> bool:
        """Whether rollups of a meter with that rule, which counts the same events, hold what this one asks for."""
        grouped = self.rule.group_by and self.rule.bucket_size is not None
        return (
            not rule.filters
            and rule.measures >= self.rule.measures
            and (rule.field == self.rule.field or not self.rule.measures)
            and (not grouped or rule.group_by == self.rule.group_by)
            and (Measure.UNIQUES not in self.rule.measures or rule.count_missing == self.rule.count_missing)
            and (self.size is not WindowSize.MINUTE or rule.bucket_size is WindowSize.MINUTE)
        )

    def selection(self, rule: MeterRule, filters: Filters) -> Selection | None:
        """Which of that rule's combinations of dimensions it asks for; None: all of them together."""
        if not filters and not self.group_by:
            return None
        places = {name: place for place, name in enumerate(rule.dimensions)}
        wanted = {places[name]: frozenset(value for value in values if not text_fault(value)) for name, values in filters}
        return Selection(wanted, tuple([places[name] for name in self.group_by]), self.cells_of)

    def whole_buckets(self, rule: MeterRule) -> tuple[datetime | None, datetime]:
        """The part of [start, end) that consists of whole rollup buckets of that rule; empty where the end is not later."""
        grain = rule.recount_grain if Measure.UNIQUES in self.rule.measures else rule.grain
        return None if self.start is None else ceiling(self.start, grain), bucket(self.end, grain)


Part = tuple[Reading, datetime | None, datetime]
"""A reading's events of [start, end)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Fills readings of one scope, whose property filters all of them share; `raw` reads events alone."""

    scope: Scope
    alias: str
    raw: bool = False

    def read(self, readings: Sequence[Reading]) -> None:
        pending = list(readings)
        for attempt in range(_ATTEMPTS):
            pairs = [] if self.raw or self.scope.beyond_rollups else self._rolled_up(pending, again=attempt > 0)
            if not pairs:
                break
            done = self._read_rollups(pairs)
            pending = [reading for reading in pending if id(reading) not in done]
            for reading in pending:
                reading.reset()
        self._read_events([(reading, reading.start, reading.end) for reading in pending])

    def _rolled_up(self, readings: Sequence[Reading], *, again: bool) -> list[tuple[Reading, MeterRule]]:
        """The readings that rollups may answer, each with the rule of the meter whose rollups may.

        A meter's own rule is not tried `again`: its rollups were not complete, or it has another rule by now.
        """
        pairs = []
        for reading in readings:
            rule: MeterRule | None = reading.rule
            if not reading.fits_rollups:
                continue
            if not reading.rule.meter_id:
                rule = self._alike(reading)
            elif again or not self._tells_apart(reading.rule, reading):
                continue
            if rule is not None:
                pairs.append((reading, rule))
        return pairs

    def _alike(self, reading: Reading) -> MeterRule | None:
        """The rule of a meter whose rollups hold what a rule without a meter asks for."""
        rule = reading.rule
        if rule.expression is not None or rule.filters:
            return None
        meters = Meter.objects.using(self.alias).in_environment(self.scope.environment).filter(rollups_ready=True).published()
        alike = meters.filter(event_name=rule.event_name, expression="").order_by("id")
        return next((found for meter in alike if self._answers(found := meter.rule(), reading)), None)

    def _answers(self, rule: MeterRule, reading: Reading) -> bool:
        return reading.is_answered_by(rule) and self._tells_apart(rule, reading)

    def _tells_apart(self, rule: MeterRule, reading: Reading) -> bool:
        """Whether all properties that are asked for are dimensions of the rule."""
        return {*dict(self.scope.filters), *reading.group_by} <= {*rule.dimensions}

    def _read_rollups(self, pairs: Sequence[tuple[Reading, MeterRule]]) -> set[int]:
        """Read what rollups have, and events for the rest; the `id` of each reading that is done with.

        It is not where its meter's rollups are not complete, or its windows split rollup buckets.
        """
        done: set[int] = set()
        wanted: list[tuple[Reading, Wanted]] = []
        ragged: list[Part] = []
        for reading, rule in pairs:
            first, last = reading.whole_buckets(rule)
            if first is not None and first >= last:
                ragged.append((reading, reading.start, reading.end))
                done.add(id(reading))
                continue
            whole = (first, last) == (reading.start, reading.end)
            asked = Wanted(
                rule,
                reading.rule.measures,
                first,
                last,
                reading.size,
                reading.calendar,
                reading.customers,
                reading.cells,
                counts_suffice=whole and reading.alone,
                selection=reading.selection(rule, self.scope.filters),
            )
            wanted.append((reading, asked))
            reading.source = "rollups"
        complete = rollup_reader(self.alias).read(self.scope, [asked for _, asked in wanted])
        ready = {(meter.meter_id, meter.generation): meter.counted_from for meter in complete}
        for reading, asked in wanted:
            meter = asked.rule.meter_id, asked.rule.generation
            reading.splits = asked.splits
            if reading.splits or meter not in ready:
                continue
            refuse_before(ready[meter], reading.start, reading.end)
            done.add(id(reading))
            reading.bound_all()
            for start, end in ((reading.start, asked.start), (asked.end, reading.end)):
                if start is not None and end is not None and start < end:
                    reading.source = "rollups and events"
                    ragged.append((reading, start, end))
        self._read_events(ragged)
        return done

    def _read_events(self, parts: Sequence[Part]) -> None:
        """Count the events of each part."""
        if not parts:
            return
        self._refuse_pruned(parts)
        self._stream(self._uncounted(parts))
        self._refuse_pruned(parts)  # some may have gone while they were read
        for reading, _, _ in parts:
            reading.bound_all()

    def _uncounted(self, parts: Sequence[Part]) -> list[Part]:
        """Take over what the database can count, and return the other parts."""
        slices = [
            Slice(reading.rule, start, end, reading.size, reading.calendar, reading.customers, reading.apart)
            for reading, start, end in parts
        ]
        left = []
        for part, portions in zip(parts, event_counter(self.alias).count(self.scope, slices), strict=True):
            if portions is None:
                left.append(part)
                continue
            for portion in portions:
                part[0].merge(portion)
        return left

    def _stream(self, parts: Sequence[Part]) -> None:
        """Count event by event."""
        if not parts:
            return
        spans = joined(Span(start, end, frozenset({reading.rule.event_name})) for reading, start, end in parts)
        by_name: dict[str, list[Part]] = {}
        for part in parts:
            by_name.setdefault(part[0].rule.event_name, []).append(part)
        filters = self.scope.filters
        customers = everyone(reading.customers for reading, _, _ in parts)
        for event in events_within(self.scope, spans, self.alias, customers):
            if filters and not passes(filters, event.properties):
                continue
            moment = event.timestamp
            for reading, start, end in by_name[event.event_name]:
                if (start is None or start <= moment) and moment < end and reading.holds(event):
                    reading.count(event)

    def _refuse_pruned(self, parts: Sequence[Part]) -> None:
        limit = retained_from(self.scope.environment, self.alias)
        for _, start, end in parts:
            refuse_before(limit, start, end)


def joined(spans: Iterable[Span]) -> list[Span]:
    """At most MOST_SPANS that do not overlap and cover the given ones, each with the event names of those it covers.

    Of more, neighbours are taken together with what lies between them.
    """
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start is not None, span.start or span.end, span.end)):
        last = result[-1] if result else None
        if last is not None and (span.start is None or span.start < last.end):
            result[-1] = Span(last.start, max(last.end, span.end), last.event_names | span.event_names)
        else:
            result.append(span)
    while len(result) > MOST_SPANS:
        result = [_hull(result[place : place + 2]) for place in range(0, len(result), 2)]
    return result


def _hull(spans: Sequence[Span]) -> Span:
    return Span(spans[0].start, spans[-1].end, frozenset().union(*(span.event_names for span in spans)))


def cell_of(rule: MeterRule, event: UsageEvent, size: WindowSize | None, calendar: Calendar, cells: Cells) -> Partial:
    """The partial of the window and group that an event belongs to."""
    key = None if size is None else floor(event.timestamp, size, calendar), rule.group(event).int
    partial = cells.get(key)
    if partial is None:
        partial = cells[key] = Partial()
    return partial


def refuse_pruned(environment: str, start: datetime | None, end: datetime, alias: str) -> None:
    """Raise PrunedEvents if events of [start, end) have been removed by retention."""
    refuse_before(retained_from(environment, alias), start, end)


def refuse_before(limit: datetime | None, start: datetime | None, end: datetime) -> None:
    """Raise PrunedEvents if [start, end) reaches back to before what is known from `limit` on."""
    if limit is not None and (start is None or start < min(limit, end)):
        raise PrunedEvents(
            f"Events before {format_timestamp(limit)} are no longer retained, and this answer would need them; "
            "start there or later, or ask a meter for windows of whole rollup buckets",
            {"retained_from": format_timestamp(limit)},
        )
