"""Meter rules: does an event count for a meter, and with what quantity."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from flexmeter.aggregation import INVERTIBLE, MEASURES, ZERO, AggregationType, Measure, Partial, Quantity
from flexmeter.events import UsageEvent
from flexmeter.expressions import Expression
from flexmeter.properties import digest, number, rendered, text_fault
from flexmeter.windows import WindowSize, bucket

NO_GROUP = UUID(int=0)
ROLLUP_BUCKET = timedelta(minutes=15)
MINUTE_BUCKET = timedelta(minutes=1)
DAY = timedelta(days=1)
MAX_DIMENSIONS = 3
MAX_DIMENSION_LENGTH = 255
"""Characters of a dimension's value; events with a longer one are counted, but not kept apart."""
MAX_SAFE = 2**62
"""Whole numbers up to here are numbers without a closer look."""
_SUMS = frozenset({Measure.TOTAL})

Filters = tuple[tuple[str, frozenset[str]], ...]


def filters_of(filters: Mapping[str, Collection[str]] | Iterable[tuple[str, Collection[str]]]) -> Filters:
    """Property filters in their one canonical form; keys without values do not filter and are left out."""
    pairs = filters.items() if isinstance(filters, Mapping) else filters
    merged: dict[str, frozenset[str]] = {}
    for key, values in pairs:
        if values:
            merged[key] = merged.get(key, frozenset()) | frozenset(values)
    return tuple(sorted(merged.items(), key=lambda item: item[0]))


def passes(filters: Filters, properties: Mapping[str, Any] | None) -> bool:
    """Whether properties satisfy every filter: the rendered value is one of those wanted."""
    return all(rendered(properties.get(key) if properties else None) in wanted for key, wanted in filters)


@dataclass(frozen=True, slots=True)
class MeterRule:
    """A meter as a pure rule. An ad-hoc usage query is one too, with an empty `meter_id`.

    `archived_at` ends the rule: events accepted from then on do not count. `multiplier` belongs to the answer, not to
    the quantity. `count_missing` makes COUNT_UNIQUE see a missing property as the value "". `dimensions` are properties by
    whose values its rollups are kept apart; they change no figure.
    """

    event_name: str
    type: AggregationType
    field: str = ""
    expression: Expression | None = None
    multiplier: Decimal = Decimal(1)
    bucket_size: WindowSize | None = None
    group_by: str = ""
    filters: Filters = ()
    meter_id: str = ""
    generation: int = 0
    archived_at: datetime | None = None
    count_missing: bool = False
    dimensions: tuple[str, ...] = ()

    @property
    def measures(self) -> frozenset[Measure]:
        return MEASURES[self.type]

    @property
    def grain(self) -> timedelta:
        """Length of this meter's rollup buckets; every window it is asked for in is a union of them."""
        return MINUTE_BUCKET if self.bucket_size is WindowSize.MINUTE else ROLLUP_BUCKET

    @property
    def recount_grain(self) -> timedelta:
        """The shortest aligned span that can be recounted: unique values are kept by UTC day."""
        return DAY if Measure.UNIQUES in self.measures else self.grain

    @property
    def subtracts(self) -> bool:
        """Whether an event can be taken out of the rollups by adding its negative."""
        return self.measures <= INVERTIBLE

    def matches(self, event: UsageEvent) -> bool:
        """Whether the event is one of this meter's; the environment is the caller's business."""
        return (
            event.event_name == self.event_name
            and (self.archived_at is None or event.accepted_at < self.archived_at)
            and (not self.filters or passes(self.filters, event.properties))
        )

    def quantity(self, event: UsageEvent) -> Quantity | None:
        """What a matching event contributes; None when an expression skips it.

        A property that is missing or no number contributes 0, never an error.
        """
        value, unique = ZERO, None
        if self.expression is not None:
            evaluated = self.expression.evaluate(event.properties or {})
            if evaluated is None:
                return None
            value = number(evaluated) or ZERO  # what is too small to be stored is nothing
        elif self.type is AggregationType.COUNT_UNIQUE:
            raw = event.properties.get(self.field) if event.properties else None
            if raw is not None or self.count_missing:
                unique = digest(rendered(raw))
        elif self.type is not AggregationType.COUNT and event.properties:
            value = number(event.properties.get(self.field)) or ZERO
        return Quantity(value, unique, event.timestamp, event.accepted_at, event.event_id)

    def group(self, event: UsageEvent) -> UUID:
        """The rollup group of an event: a digest of its group-by value, or NO_GROUP."""
        if not self.group_by:
            return NO_GROUP
        return digest(rendered(event.properties.get(self.group_by) if event.properties else None))

    def combination(self, event: UsageEvent) -> tuple[str, ...]:
        """The event's values of the dimensions; () where there are none, or one cannot be a value in every database."""
        properties = event.properties or {}
        values = tuple([rendered(properties.get(name)) for name in self.dimensions])
        if any(len(value) > MAX_DIMENSION_LENGTH or text_fault(value) for value in values):
            return ()
        return values


class SeriesKey(NamedTuple):
    """What identifies a rollup series inside an environment; `group` is the number of its UUID, which hashes faster.

    `combination` are the values of its meter's dimensions, () where they are not kept apart.
    """

    meter_id: str
    generation: int
    external_customer_id: str
    group: int
    combination: tuple[str, ...] = ()


Rollups = dict[tuple[SeriesKey, datetime], Partial]
"""Partials by series and start of the rollup bucket."""

EVENTS_AT_ONCE = 5_000

_Alike = tuple[str, timedelta, str, tuple[str, ...], Filters, datetime | None]
"""What decides which events a rule counts and where: rules that are equal in it share the sorting."""
_Quantified = tuple[frozenset[Measure], str, Expression | None, bool]
"""What decides how much an event counts: rules that are equal in this too share the counting."""
Place = tuple[datetime, str, int, tuple[str, ...]]
"""Bucket, customer, group and combination: but for the bucket what tells a rule's series apart."""
_Sorted = dict[Place, list[UsageEvent]]


class Folded(NamedTuple):
    """What rules that count alike make of events, by place; no partial is empty, and none is to be changed."""

    rules: list[MeterRule]
    partials: list[tuple[Place, Partial]]


def fold_alike(events: Iterable[UsageEvent], rules: Sequence[MeterRule], sign: int = 1) -> Iterator[Folded]:
    """Count events for every rule they match; with sign -1 take them out. A rule may be told of more than once."""
    stream = iter(events)
    while some := list(islice(stream, EVENTS_AT_ONCE)):
        sorted_out: dict[_Alike, _Sorted] = {}
        counted: dict[tuple[_Alike, _Quantified], Folded] = {}
        for rule in rules:
            alike = rule.event_name, rule.grain, rule.group_by, rule.dimensions, rule.filters, rule.archived_at
            quantified = rule.measures, rule.field, rule.expression, rule.count_missing
            folded = counted.get((alike, quantified))
            if folded is None:
                places = sorted_out.get(alike)
                if places is None:
                    places = sorted_out[alike] = _sorted_out(some, rule)
                partials = [(place, _partial_of(held, rule, sign)) for place, held in places.items()]
                folded = counted[alike, quantified] = Folded([], [each for each in partials if each[1].count])
            folded.rules.append(rule)
        yield from counted.values()


def fold(events: Iterable[UsageEvent], rules: Sequence[MeterRule], into: Rollups | None = None, sign: int = 1) -> Rollups:
    """Count events for every rule they match, by series and bucket; with sign -1 take them out.

    Rules that count alike may share a Partial: those of the result are not to be changed.
    """
    return rollups_of(fold_alike(events, rules, sign), into)


def rollups_of(parts: Iterable[Folded], into: Rollups | None = None) -> Rollups:
    """The same by series and bucket; the result's partials are not to be changed either."""
    rollups: Rollups = {} if into is None else into
    new: Callable[[type[SeriesKey], tuple[Any, ...]], SeriesKey] = tuple.__new__
    for rules, partials in parts:
        for rule in rules:
            meter_id, generation = rule.meter_id, rule.generation
            for (start, customer, group, combination), partial in partials:
                # As SeriesKey(…) makes it, in a third of the time.
                key = new(SeriesKey, (meter_id, generation, customer, group, combination)), start
                held = rollups.setdefault(key, partial)
                if held is not partial:
                    both = rollups[key] = Partial()
                    both.merge(held)
                    both.merge(partial)
    return rollups


def _sorted_out(events: Iterable[UsageEvent], rule: MeterRule) -> _Sorted:
    """The events that the rule matches, by where it counts them."""
    places: _Sorted = {}
    name, grain, group_by, dimensions = rule.event_name, rule.grain, rule.group_by, rule.dimensions
    plain = not rule.filters and rule.archived_at is None
    start = end = datetime.min.replace(tzinfo=UTC)
    group = NO_GROUP.int
    combination: tuple[str, ...] = ()
    for event in events:
        if event.event_name != name or not (plain or rule.matches(event)):
            continue
        instant = event.timestamp
        if not start <= instant < end:
            start = bucket(instant, grain)
            end = start + grain
        if group_by:
            group = rule.group(event).int
        if dimensions:
            combination = rule.combination(event)
        place = (start, event.external_customer_id, group, combination)
        held = places.get(place)
        if held is None:
            places[place] = [event]
        else:
            held.append(event)
    return places


def _partial_of(events: Sequence[UsageEvent], rule: MeterRule, sign: int) -> Partial:
    """Fold events of one bucket; sums of whole numbers, the usual case, at once."""
    partial = Partial()
    measures = rule.measures
    if rule.expression is None:
        if not measures:
            partial.count = sign * len(events)
            return partial
        if measures == _SUMS:
            total = 0
            field = rule.field
            for event in events:
                value = event.properties.get(field) if event.properties else None
                if type(value) is int and -MAX_SAFE <= value <= MAX_SAFE:
                    total += value
                elif value is not None and (exact := number(value)):
                    partial.add(exact if sign > 0 else exact.copy_negate())
            partial.count = sign * len(events)
            if total:
                partial.add(Decimal(sign * total))
            return partial
    for event in events:
        quantity = rule.quantity(event)
        if quantity is not None:
            partial.fold(quantity, measures, sign)
    return partial
