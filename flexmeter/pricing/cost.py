"""What a quantity costs, in exact decimals, and how that figure comes about.

A cost is the sum of the steps of its working, so the figure and what is told about it cannot differ. Nothing is rounded
here. A quantity of 0 or less costs 0 under every rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol

from flexmeter.properties import EXACT, plain

ZERO = Decimal(0)


class Step(NamedTuple):
    """One line of a working: `quantity` at `rate` each, and `flat` once, come to `amount`; `note` says why."""

    quantity: Decimal
    rate: Decimal
    flat: Decimal
    note: str

    @property
    def amount(self) -> Decimal:
        return EXACT.add(EXACT.multiply(self.quantity, self.rate), self.flat)

    @property
    def sentence(self) -> str:
        """The line in words: `150 × 0.05 + 2 = 9.5: units above 100 up to 1000`."""
        flat = f" + {plain(self.flat)}" if self.flat else ""
        return f"{plain(self.quantity)} × {plain(self.rate)}{flat} = {plain(self.amount)}: {self.note}"


class Rate(Protocol):
    """A way to turn a quantity into money."""

    def steps(self, quantity: Decimal) -> Iterator[Step]:
        """The working for a quantity above 0."""


class PackageRounding(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: without end) cost `unit_amount` each, and `flat_amount` once."""

    up_to: Decimal | None
    unit_amount: Decimal
    flat_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class FlatFee:
    """Every unit costs `amount`."""

    amount: Decimal

    def steps(self, quantity: Decimal) -> Iterator[Step]:
        yield Step(quantity, self.amount, ZERO, "every unit at the same amount")


@dataclass(frozen=True, slots=True)
class Package:
    """Every `divide_by` units are a package and cost `amount`; a package begun counts whole, or not at all."""

    amount: Decimal
    divide_by: Decimal
    rounding: PackageRounding = PackageRounding.UP

    def steps(self, quantity: Decimal) -> Iterator[Step]:
        if self.divide_by <= 0:
            return
        whole, rest = EXACT.divmod(quantity, self.divide_by)
        if rest and self.rounding is PackageRounding.UP:
            whole = EXACT.add(whole, Decimal(1))
        told = f", rounded {self.rounding.value}" if rest else ""
        yield Step(whole, self.amount, ZERO, f"{plain(quantity)} units in packages of {plain(self.divide_by)}{told}")


@dataclass(frozen=True, slots=True)
class Volume:
    """All units cost what the tier says that the whole quantity reaches; beyond the last tier, what the last one says."""

    tiers: tuple[Tier, ...]

    def steps(self, quantity: Decimal) -> Iterator[Step]:
        for lower, tier in bounded(self.tiers):
            if tier.up_to is None or quantity <= tier.up_to:
                yield Step(quantity, tier.unit_amount, tier.flat_amount, f"all units in the tier {_span(lower, tier)}")
                return
        if self.tiers:
            [*_, (lower, tier)] = bounded(self.tiers)
            note = f"all units in the last tier, {_span(lower, tier)}, which {plain(quantity)} lies beyond"
            yield Step(quantity, tier.unit_amount, tier.flat_amount, note)


@dataclass(frozen=True, slots=True)
class Slab:
    """Each tier charges the units that lie in it; units beyond the last tier are not charged."""

    tiers: tuple[Tier, ...]

    def steps(self, quantity: Decimal) -> Iterator[Step]:
        beyond = ZERO
        for lower, tier in bounded(self.tiers):
            upper = quantity if tier.up_to is None else min(quantity, tier.up_to)
            part = EXACT.subtract(upper, lower)
            if part <= 0:
                return
            yield Step(part, tier.unit_amount, tier.flat_amount, f"units {_span(lower, tier)}")
            beyond = EXACT.subtract(quantity, upper)
        if beyond > 0:
            yield Step(beyond, ZERO, ZERO, "units beyond the last tier are not charged")


def bounded(tiers: Iterable[Tier]) -> Iterator[tuple[Decimal, Tier]]:
    """The tiers in ascending order, the open one last, each with the bound below it."""
    lower = ZERO
    for tier in sorted(tiers, key=lambda tier: (tier.up_to is None, tier.up_to or ZERO)):
        yield lower, tier
        lower = tier.up_to if tier.up_to is not None else lower


def working(rate: Rate, quantity: Decimal) -> tuple[Step, ...]:
    """How the cost of a quantity comes about, line by line."""
    return tuple(rate.steps(quantity)) if quantity > 0 else ()


def cost(rate: Rate, quantity: Decimal) -> Decimal:
    """What a quantity costs, not rounded."""
    return added(step.amount for step in rate.steps(quantity)) if quantity > 0 else ZERO


def bucketed_cost(rate: Rate, quantities: Iterable[Decimal]) -> Decimal:
    """What the buckets of a bucketed meter cost together: each begins anew with tiers and packages. Not rounded."""
    return added(cost(rate, quantity) for quantity in quantities)


def added(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _span(lower: Decimal, tier: Tier) -> str:
    if tier.up_to is None:
        return f"above {plain(lower)}"
    return f"above {plain(lower)} up to {plain(tier.up_to)}" if lower else f"up to {plain(tier.up_to)}"
