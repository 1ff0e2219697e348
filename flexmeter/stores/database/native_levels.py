"""Stretches of rollup rows in PostgreSQL's statements: rows named `stretch` with these columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from flexmeter.slots import LEVEL_SLOTS, MINUTE_BITS, MINUTES, Position, position
from flexmeter.stores.database.levels import Stretch
from flexmeter.stores.database.spans import Spans, spanning_numbers

TYPES: Final = {"base": "integer", "start": "integer", "stop": "integer", "first_minute": "bigint", "stop_minute": "bigint"}
"""What PostgreSQL calls the types of the columns, which `values_of` describes."""
COLUMNS: Final = ", ".join(TYPES)
ARRAYS: Final = ", ".join(f"%({column}s)s::{type}[]" for column, type in TYPES.items())
"""The columns as parameters: `columns_of`."""
# As a range, of which planners expect few rows; they do not of a comparison of (slot, part).
_IN_SLOTS: Final = "slot >= stretch.start AND slot < stretch.stop"
_MINUTES: Final = f"(({{slot}}) * {MINUTES}::bigint + (part >> {MINUTE_BITS}))"
_IN_MINUTES: Final = " AND {0} >= stretch.first_minute AND {0} < stretch.stop_minute".format(_MINUTES.format(slot="slot"))


def values_of(stretch: Stretch) -> dict[str, int]:
    """A stretch by column: the first slot of its level, its own first slot, the first one after it, and the same by minutes."""
    first, stop = stretch.first, stretch.stop
    values = (stretch.level * LEVEL_SLOTS, first.slot, stop.slot + bool(stop.part), first.minutes, stop.minutes)
    return dict(zip(TYPES, values, strict=True))


def columns_of(stretches: Iterable[Stretch]) -> dict[str, list[int]]:
    """The parameters of ARRAYS."""
    rows = [values_of(stretch) for stretch in stretches]
    return {f"{column}s": [row[column] for row in rows] for column in TYPES}


def within(begins: Iterable[datetime]) -> str:
    """The condition that a rollup row lies in a stretch that begins and ends at some of these instants."""
    return _IN_SLOTS + _IN_MINUTES if _within_slots(map(_position, begins)) else _IN_SLOTS


def spans_of_rollups(begins: Sequence[datetime]) -> Spans:
    """The spans between these instants by number, as `spanning` has them, of a rollup row in a stretch."""
    positions = [_position(begin) for begin in begins]
    slot = "slot - stretch.base"
    if _within_slots(positions):
        number, edges = _MINUTES.format(slot=slot), [each.minutes for each in positions]
    else:
        number, edges = f"({slot})", [each.slot for each in positions]
    spans = spanning_numbers(tuple(edges))
    return spans._replace(expression=spans.of(number))


def _position(begin: datetime) -> Position:
    return position(0, begin)


def _within_slots(positions: Iterable[Position]) -> bool:
    """Whether one of them is not where a slot begins."""
    return any(each.part for each in positions)
