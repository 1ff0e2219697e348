"""Commitments: what is charged when a customer has promised to spend at least so much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from flexmeter.pricing.cost import ZERO, Rate, added, cost
from flexmeter.pricing.currencies import rounded
from flexmeter.properties import EXACT


class CommitmentType(StrEnum):
    AMOUNT = "amount"
    QUANTITY = "quantity"


@dataclass(frozen=True, slots=True)
class Commitment:
    """A promise of `value`: an amount of money, or a quantity that is worth what its price makes of it.

    What goes beyond it costs `overage_factor` times as much; with `true_up` what is missing is charged too. A windowed
    one holds for every bucket of a bucketed meter by itself.
    """

    type: CommitmentType
    value: Decimal
    overage_factor: Decimal = Decimal(1)
    true_up: bool = False
    windowed: bool = False

    def amount(self, rate: Rate) -> Decimal:
        """The promise in money."""
        return self.value if self.type is CommitmentType.AMOUNT else cost(rate, self.value)


class Charge(NamedTuple):
    """What is charged under a commitment; `utilized`, `overage` and `true_up` are its parts."""

    total: Decimal = ZERO
    utilized: Decimal = ZERO
    overage: Decimal = ZERO
    true_up: Decimal = ZERO

    def rounded(self, currency: str) -> Charge:
        return Charge(*(rounded(amount, currency) for amount in self))


def charge(commitment: Commitment, committed: Decimal, used: Decimal) -> Charge:
    """What is charged for usage worth `used` where `committed` was promised. Not rounded."""
    if used >= committed:
        overage = EXACT.multiply(EXACT.subtract(used, committed), commitment.overage_factor)
        return Charge(EXACT.add(committed, overage), committed, overage)
    if commitment.true_up:
        return Charge(committed, used, ZERO, EXACT.subtract(committed, used))
    return Charge(used, used)


def together(charges: Iterable[Charge]) -> Charge:
    """The sum of charges, part by part."""
    columns = tuple(zip(*charges, strict=True))
    return Charge(*map(added, columns)) if columns else Charge()
