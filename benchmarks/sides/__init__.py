"""Who answers the questions: flexmeter, SQL over the raw events, and a columnar table."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from benchmarks import large

Answer = list[tuple[Any, Decimal, int]]
"""A window's start, a customer, a group or None, with its figure and how many events it is made of."""

DAYS: Final = 30
START: Final = large.END - timedelta(days=DAYS)
END: Final = large.END
NAME: Final = large.NAMES[0]
"""The event name that is asked about, the most frequent one."""
TOP: Final = 10
WANTED_USERS: Final = large.USERS[:50]
"""What the filtered question lets through: a quarter of the events."""


def of_windows(rows: list[tuple[datetime, Decimal, int]], total: Decimal) -> Answer:
    """Windows in their order, followed by the figure of all of them."""
    return [*rows, (None, total, sum(events for _, _, events in rows))]
