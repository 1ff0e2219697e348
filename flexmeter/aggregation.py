"""Aggregation types as mergeable partials.

A Partial holds what a set of events contributes to one figure. Folding events one by one, merging partials of any
split of them, or subtracting what was folded before all lead to the same result, because sums are exact decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import Enum, StrEnum
from typing import NamedTuple
from uuid import UUID

from flexmeter.properties import EXACT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO = Decimal(0)
DIVISION = Context(prec=50, rounding=ROUND_HALF_EVEN)
"""Quotients (AVG, WEIGHTED_SUM) are the only rounded figures; they keep 50 significant digits."""


class AggregationType(StrEnum):
    """How the events of a meter become one figure. MIN is an addition to FlexPrice's list."""

    COUNT = "COUNT"
    SUM = "SUM"
    AVG = "AVG"
    COUNT_UNIQUE = "COUNT_UNIQUE"
    LATEST = "LATEST"
    SUM_WITH_MULTIPLIER = "SUM_WITH_MULTIPLIER"
    MAX = "MAX"
    MIN = "MIN"
    WEIGHTED_SUM = "WEIGHTED_SUM"


class Measure(Enum):
    """A part of a partial, besides the count, that an aggregation type needs."""

    TOTAL = "total"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    LATEST = "latest"
    MOMENT = "moment"
    UNIQUES = "uniques"


MEASURES: dict[AggregationType, frozenset[Measure]] = {
    AggregationType.COUNT: frozenset(),
    AggregationType.SUM: frozenset({Measure.TOTAL}),
    AggregationType.AVG: frozenset({Measure.TOTAL}),
    AggregationType.SUM_WITH_MULTIPLIER: frozenset({Measure.TOTAL}),
    AggregationType.WEIGHTED_SUM: frozenset({Measure.TOTAL, Measure.MOMENT}),
    AggregationType.MAX: frozenset({Measure.MAXIMUM}),
    AggregationType.MIN: frozenset({Measure.MINIMUM}),
    AggregationType.LATEST: frozenset({Measure.LATEST}),
    AggregationType.COUNT_UNIQUE: frozenset({Measure.UNIQUES}),
}
INVERTIBLE = frozenset({Measure.TOTAL, Measure.MOMENT})
"""Measures from which a folded event can be taken out again by subtraction."""


class Latest(NamedTuple):
    """The value of the newest event; of equal timestamps the one accepted last wins, then the greatest id."""

    timestamp: datetime
    accepted_at: datetime
    event_id: str
    value: Decimal


class Quantity(NamedTuple):
    """What one event contributes: its number, and for COUNT_UNIQUE the digest of its value (None: no value)."""

    value: Decimal
    unique: UUID | None
    timestamp: datetime
    accepted_at: datetime
    event_id: str


def microseconds(instant: datetime) -> int:
    """Whole microseconds since the Unix epoch."""
    difference = instant - EPOCH
    return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Stands for `count` distinct values that occurred in just the same windows, and for none that another stands for."""

    count: int


@dataclass(slots=True)
class Partial:
    """What some events contribute; which measures are kept depends on the aggregation type.

    `moment` is the sum of value × timestamp, in microseconds since the epoch: with it a WEIGHTED_SUM can be finished
    for any period. `uniques` are digests of values, or what a database has counted of them. A fresh Partial is the
    neutral element of `merge`.
    """

    count: int = 0
    total: Decimal = ZERO
    moment: Decimal = ZERO
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    latest: Latest | None = None
    uniques: set[UUID | Alike] = field(default_factory=set)

    def fold(self, quantity: Quantity, measures: frozenset[Measure], sign: int = 1) -> None:
        """Add one event, or with sign -1 take it out again (INVERTIBLE measures only)."""
        self.count += sign
        for measure in measures:
            _FOLD[measure](self, quantity, sign)

    def add(self, value: Decimal) -> None:
        """Add to the total."""
        self.total = EXACT.add(self.total, value)

    def merge(self, other: Partial) -> None:
        """Take over everything `other` holds; `other` stays as it is."""
        self.count += other.count
        if other.total:
            self.total = EXACT.add(self.total, other.total)
        if other.moment:
            self.moment = EXACT.add(self.moment, other.moment)
        if other.minimum is not None and (self.minimum is None or other.minimum < self.minimum):
            self.minimum = other.minimum
        if other.maximum is not None and (self.maximum is None or other.maximum > self.maximum):
            self.maximum = other.maximum
        if other.latest is not None and (self.latest is None or other.latest[:3] > self.latest[:3]):
            self.latest = other.latest
        if other.uniques:
            self.uniques |= other.uniques


def _fold_total(partial: Partial, quantity: Quantity, sign: int) -> None:
    partial.total = EXACT.add(partial.total, quantity.value if sign > 0 else quantity.value.copy_negate())


def _fold_moment(partial: Partial, quantity: Quantity, sign: int) -> None:
    moment = EXACT.multiply(quantity.value, Decimal(sign * microseconds(quantity.timestamp)))
    partial.moment = EXACT.add(partial.moment, moment)


def _fold_minimum(partial: Partial, quantity: Quantity, sign: int) -> None:
    if partial.minimum is None or quantity.value < partial.minimum:
        partial.minimum = quantity.value


def _fold_maximum(partial: Partial, quantity: Quantity, sign: int) -> None:
    if partial.maximum is None or quantity.value > partial.maximum:
        partial.maximum = quantity.value


def _fold_latest(partial: Partial, quantity: Quantity, sign: int) -> None:
    key = (quantity.timestamp, quantity.accepted_at, quantity.event_id)
    if partial.latest is None or key > partial.latest[:3]:
        partial.latest = Latest(*key, quantity.value)


def _fold_uniques(partial: Partial, quantity: Quantity, sign: int) -> None:
    if quantity.unique is not None:
        partial.uniques.add(quantity.unique)


_FOLD: dict[Measure, Callable[[Partial, Quantity, int], None]] = {
    Measure.TOTAL: _fold_total,
    Measure.MOMENT: _fold_moment,
    Measure.MINIMUM: _fold_minimum,
    Measure.MAXIMUM: _fold_maximum,
    Measure.LATEST: _fold_latest,
    Measure.UNIQUES: _fold_uniques,
}


class Period(NamedTuple):
    """The half-open interval [start, end) a WEIGHTED_SUM weighs against."""

    start: datetime
    end: datetime


def finish(partial: Partial, type: AggregationType, *, multiplier: Decimal = Decimal(1), period: Period | None = None) -> Decimal:
    """The figure before it is clamped to be non-negative; 0 for no events.

    WEIGHTED_SUM is the sum of value × (end - timestamp) ÷ (end - start) over the period, which it needs.
    """
    return FINISH[type](partial, multiplier, period)


def _finish_count(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return Decimal(partial.count)


def _finish_sum(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return partial.total


def _finish_multiplied(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return EXACT.multiply(multiplier, partial.total)


def _finish_average(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return DIVISION.divide(partial.total, Decimal(partial.count)) if partial.count else ZERO


def _finish_maximum(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return ZERO if partial.maximum is None else partial.maximum


def _finish_minimum(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return ZERO if partial.minimum is None else partial.minimum


def _finish_latest(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return ZERO if partial.latest is None else partial.latest.value


def _finish_uniques(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    return Decimal(sum(value.count if isinstance(value, Alike) else 1 for value in partial.uniques))


def _finish_weighted(partial: Partial, multiplier: Decimal, period: Period | None) -> Decimal:
    if period is None:
        raise ValueError("WEIGHTED_SUM needs the period it is weighed against.")
    length = microseconds(period.end) - microseconds(period.start)
    if length <= 0:
        return ZERO
    weighted = EXACT.subtract(EXACT.multiply(partial.total, Decimal(microseconds(period.end))), partial.moment)
    return DIVISION.divide(weighted, Decimal(length))


FINISH: dict[AggregationType, Callable[[Partial, Decimal, Period | None], Decimal]] = {
    AggregationType.COUNT: _finish_count,
    AggregationType.SUM: _finish_sum,
    AggregationType.AVG: _finish_average,
    AggregationType.COUNT_UNIQUE: _finish_uniques,
    AggregationType.LATEST: _finish_latest,
    AggregationType.SUM_WITH_MULTIPLIER: _finish_multiplied,
    AggregationType.MAX: _finish_maximum,
    AggregationType.MIN: _finish_minimum,
    AggregationType.WEIGHTED_SUM: _finish_weighted,
}
"""`finish` by aggregation type, for who has many partials of one."""


def clamped(value: Decimal) -> Decimal:
    """What is reported of a figure: never less than 0."""
    return max(ZERO, value)
