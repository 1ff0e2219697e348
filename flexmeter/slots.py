"""Where rollup rows lie in their series: level and beginning, as two whole numbers by which an index orders them.

A row's `slot` counts the quarters of an hour from 0001-01-01 in UTC to the one it begins in, and those of all levels below its
own before. Its `part` begins with the minute of that quarter, in the bits from MINUTE_BITS on, and is otherwise a number that is
nobody else's. So a key of 16 bytes tells all of it, and the rows of a level that begin in a range follow each other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from secrets import randbits
from typing import Final, NamedTuple

FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
DAY_SLOTS: Final = 96
"""Slots of a UTC day."""
LEVEL_SLOTS: Final = 4_000_000 * DAY_SLOTS
"""Slots of a level: the days from FIRST to LAST are 3,652,059."""
MINUTE_BITS: Final = 58
"""How many bits of a part are its number; the minute, from 0 to 14, is in those above."""
MINUTES: Final = 15
"""Minutes of a slot."""
_MINUTE: Final = timedelta(minutes=1)


class Position(NamedTuple):
    """A slot, and the least `part` that a row may have there."""

    slot: int
    part: int

    @property
    def minutes(self) -> int:
        """Minutes from FIRST, those of all levels below counted too."""
        return self.slot * MINUTES + (self.part >> MINUTE_BITS)


def new_part() -> int:
    """A random number for a part, from which a few billion can be counted on without reaching the minute's bits."""
    return randbits(MINUTE_BITS - 1)


@lru_cache(maxsize=4096)
def position(level: int, instant: datetime) -> Position:
    """Where the rows of a level lie that begin at an instant, or after it if it is not a whole minute."""
    slot, minute = divmod(-((FIRST - instant) // _MINUTE), MINUTES)
    return Position(level * LEVEL_SLOTS + slot, minute << MINUTE_BITS)


def began(slot: int, part: int) -> datetime:
    """The beginning of a row: of its bucket, or of its UTC day."""
    return _after(slot % LEVEL_SLOTS * MINUTES + (part >> MINUTE_BITS))


@lru_cache(maxsize=4096)
def _after(minutes: int) -> datetime:
    return FIRST + minutes * _MINUTE


def level_of(slot: int) -> int:
    """The level of the rows in a slot."""
    return slot // LEVEL_SLOTS
