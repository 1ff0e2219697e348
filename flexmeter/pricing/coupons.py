"""Coupons: percentages taken off one after the other, each of what the ones before it have left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from flexmeter.pricing.currencies import rounded
from flexmeter.properties import EXACT

_HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class PercentageOff:
    """A percentage that is taken off in [start, end); None leaves the end open."""

    percentage: Decimal
    start: datetime
    end: datetime | None = None

    def covers(self, instant: datetime) -> bool:
        return self.start <= instant and (self.end is None or instant < self.end)

    def overlaps(self, start: datetime, end: datetime) -> bool:
        return self.start < end and (self.end is None or max(self.start, start) < self.end)


def discount(amount: Decimal, coupons: Iterable[PercentageOff], currency: str) -> Decimal:
    """What the coupons take off an amount, in their order. Each one's share is rounded to the currency, but never exceeds
    what is left.
    """
    left = amount
    for coupon in coupons:
        share = EXACT.multiply(EXACT.multiply(left, coupon.percentage), _HUNDREDTH)
        left = EXACT.subtract(left, min(left, rounded(share, currency)))
    return EXACT.subtract(amount, left)
