"""Cells of the calendar: which window an instant falls in, in any time zone and with any month anchor.

Windows of one size and calendar are half-open intervals that cover all time without overlap. Three kinds of size:

* MINUTE and 15MIN are counted in UTC, in every zone.
* 30MIN and HOUR follow the local clock. A change of the clock inside a cell ends it and starts another, so the hour
  that is repeated in autumn is two windows.
* 3HOUR and longer begin at the first instant at which the local clock has reached the beginning of the cell. That is
  the change itself where the clock jumps over the beginning, and a cell that the clock jumps over whole does not exist.
"""

from __future__ import annotations

import zoneinfo
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Final


class WindowSize(StrEnum):
    MINUTE = "MINUTE"
    FIFTEEN_MINUTES = "15MIN"
    THIRTY_MINUTES = "30MIN"
    HOUR = "HOUR"
    THREE_HOURS = "3HOUR"
    SIX_HOURS = "6HOUR"
    TWELVE_HOURS = "12HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where windows begin: the time zone, the first day of the week (0 is Monday), and the day that months begin on.

    In a month without that day, windows begin on its last day, or with `anchor_overflows` as many days later as are
    missing: day 31 of February is then 2 or 3 March.
    """

    zone: tzinfo = UTC
    week_start: int = 0
    anchor_day: int = 1
    anchor_overflows: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.week_start <= 6:
            raise ValueError(f"week_start must lie between 0 (Monday) and 6 (Sunday), not {self.week_start}.")
        if not 1 <= self.anchor_day <= 31:
            raise ValueError(f"anchor_day must be a day of the month from 1 to 31, not {self.anchor_day}.")


# Walls are readings of a local clock, held as datetimes that claim UTC: arithmetic on them is then plain and fast, and
# a zone asked for the offset of one looks at the reading only.

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
_LAST_WALL_EVERYWHERE: Final = _END - timedelta(days=1)
"""Up to here the clocks of all zones can be written as a datetime."""
_FIRST_MONTHS_OVER: Final = _BEGINNING + timedelta(days=70)
"""From here on no window can have begun before all datetimes."""
_NONE: Final = timedelta(0)
_SECOND: Final = timedelta(seconds=1)
_WEEK: Final = timedelta(weeks=1)
_WEEK_EPOCHS: Final = tuple(_MONDAY + timedelta(days=day) for day in range(7))

_UTC_NAMES: Final = frozenset({"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"})
_NOT_IN_THE_DATABASE: Final = frozenset({"localtime", "posixrules"})

_LENGTHS: Final = {
    WindowSize.MINUTE: timedelta(minutes=1),
    WindowSize.FIFTEEN_MINUTES: timedelta(minutes=15),
    WindowSize.THIRTY_MINUTES: timedelta(minutes=30),
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.THREE_HOURS: timedelta(hours=3),
    WindowSize.SIX_HOURS: timedelta(hours=6),
    WindowSize.TWELVE_HOURS: timedelta(hours=12),
    WindowSize.DAY: timedelta(days=1),
    WindowSize.WEEK: _WEEK,
}
_SHORTEST_MONTH: Final = timedelta(days=28)
_IN_UTC: Final = frozenset({WindowSize.MINUTE, WindowSize.FIFTEEN_MINUTES})
_CUT_BY_CHANGES: Final = frozenset({WindowSize.THIRTY_MINUTES, WindowSize.HOUR})
_UP_TO_A_DAY: Final = _LENGTHS.keys() - {WindowSize.WEEK}


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NOT_IN_THE_DATABASE


def zone(name: str | None) -> tzinfo:
    """The zone of an IANA name, exactly as spelled there; UTC for any other text, for "" and None."""
    if not name or name in _UTC_NAMES or name not in _zone_names():
        return UTC
    return zoneinfo.ZoneInfo(name)


def zone_is_unknown(name: str) -> bool:
    """Whether `zone` takes the name for UTC only because it knows none of that name."""
    return name not in _UTC_NAMES and name not in _zone_names()


def floor(instant: datetime, size: WindowSize, calendar: Calendar) -> datetime:
    """Start of the window that holds `instant`, in UTC; may lie long before it."""
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    try:
        if calendar.zone is UTC or size in _IN_UTC:
            return _cell(instant, size, calendar)
        local = instant.astimezone(calendar.zone)
        offset = local.utcoffset() or _NONE
        wall = _cell(instant + offset, size, calendar)
        if size in _UP_TO_A_DAY and calendar.zone.utcoffset(wall) == offset:
            return wall - offset
        if size in _CUT_BY_CHANGES:
            return _after_change(wall - offset, instant, calendar.zone)
        return _begin(_reached(wall, instant, size, calendar) if local.fold else wall, calendar.zone)
    except OverflowError:  # so near to an end of what datetime holds that the clock reads beyond it
        return _BEGINNING if instant < _EPOCH else _cell(_END, size, calendar) - _offset(instant, calendar.zone)


def following(start: datetime, size: WindowSize, calendar: Calendar) -> datetime:
    """Start of the window after the one that holds `start`: its exclusive end.

    Where no datetime can name it, the last one there is.
    """
    start = max(start.astimezone(UTC), _FIRST_MONTHS_OVER)
    try:
        if calendar.zone is UTC or size in _IN_UTC:
            return _next_cell(_cell(start, size, calendar), size, calendar)
        if size in _CUT_BY_CHANGES:
            return _before_change(floor(start, size, calendar), _LENGTHS[size], calendar.zone)
        wall = _cell(start + _offset(start, calendar.zone), size, calendar)
        wall = _next_cell(_reached(wall, start, size, calendar), size, calendar)
        return _begin(wall, calendar.zone)
    except OverflowError:
        return _END


def axis(start: datetime, end: datetime, size: WindowSize, calendar: Calendar, *, limit: int | None = None) -> list[datetime]:
    """Starts of the windows that overlap [start, end), ascending; only the first `limit` of them if given.

    The first may lie before `start`. An empty range overlaps nothing.
    """
    starts: list[datetime] = []
    if end <= start:
        return starts
    current = floor(start, size, calendar)
    while current < end and (limit is None or len(starts) < limit):
        starts.append(current)
        current = following(current, size, calendar)
    return starts


def count_at_most(start: datetime, end: datetime, size: WindowSize) -> int:
    """A number that `axis` of this range never exceeds in any calendar, a little too high, at no cost."""
    if end <= start:
        return 0
    length = _LENGTHS.get(size, _SHORTEST_MONTH)
    span = end - start
    if size in _IN_UTC:
        return span // length + 2
    if size in _CUT_BY_CHANGES:  # no zone ever changed its clock three times in 100 days
        return span // length + 2 + 2 * (2 + 2 * (span // timedelta(days=100)))
    return (span + timedelta(days=2)) // length + 2  # the clock can advance by less than two days more than time does


def bucket(instant: datetime, length: timedelta) -> datetime:
    """Start of the bucket that holds `instant`: buckets of `length` are counted from the Unix epoch in UTC."""
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    return instant - (instant - _EPOCH) % length


def ceiling(instant: datetime, length: timedelta) -> datetime:
    """Start of the first bucket that begins at `instant` or later, or the last instant there is."""
    start = bucket(instant, length)
    return start if start == instant else next_bucket(start, length)


def next_bucket(instant: datetime, length: timedelta) -> datetime:
    """End of the bucket that holds `instant`, or the last instant there is."""
    start = bucket(instant, length)
    return start + length if start < _END - length else _END


def splits_bucket(bucket_start: datetime, length: timedelta, calendar: Calendar) -> bool:
    """Whether a window of `length` or longer may begin inside the bucket, after its start.

    False promises that all instants of the bucket share their window, of whatever such size. `length` is 15 minutes
    or a multiple of it that divides a day.
    """
    if calendar.zone is UTC:
        return False
    offset = _offset(bucket_start, calendar.zone)
    if offset % length:
        return True
    return _offset(bucket_start + (length - datetime.resolution), calendar.zone) != offset


def anchor_day(moment: str | datetime) -> int:
    """The day of month as `moment` has it in its own offset.

    Raises ValueError for text that is no ISO 8601 date and time.
    """
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).day


def _cell(wall: datetime, size: WindowSize, calendar: Calendar) -> datetime:
    """The reading at which the cell begins that holds the reading `wall`."""
    if size in _UP_TO_A_DAY:
        return wall - (wall - _EPOCH) % _LENGTHS[size]
    if size == WindowSize.WEEK:
        return wall - (wall - _WEEK_EPOCHS[calendar.week_start]) % _WEEK
    month = wall.year * 12 + wall.month - 1
    while (begin := _month_begin(month, calendar.anchor_day, calendar.anchor_overflows)) > wall:
        month -= 1
    return begin


def _next_cell(wall: datetime, size: WindowSize, calendar: Calendar) -> datetime:
    """The reading at which the cell after the one beginning at `wall` begins."""
    if size in _LENGTHS:
        return wall + _LENGTHS[size]
    month = wall.year * 12 + wall.month - 1
    while (begin := _month_begin(month, calendar.anchor_day, calendar.anchor_overflows)) <= wall:
        month += 1
    return begin


@lru_cache(maxsize=4096)
def _month_begin(month: int, day: int, overflows: bool) -> datetime:
    """The reading at which the window of a month (counted from year 0) begins. Raises OverflowError outside of time."""
    year, month = divmod(month, 12)
    if not 1 <= year <= 9999:
        raise OverflowError(f"year {year} is out of range")
    if overflows:
        return datetime(year, month + 1, 1, tzinfo=UTC) + timedelta(days=day - 1)
    return datetime(year, month + 1, min(day, monthrange(year, month + 1)[1]), tzinfo=UTC)


def _reached(wall: datetime, instant: datetime, size: WindowSize, calendar: Calendar) -> datetime:
    """The latest cell from `wall` on whose beginning the local clock has reached by `instant`.

    It differs from `wall` where the clock was turned back over the beginning of a cell, which does not end that cell.
    """
    while _begin(later := _next_cell(wall, size, calendar), calendar.zone) <= instant:
        wall = later
    return wall


@lru_cache(maxsize=4096)
def _begin(wall: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clock of `zone` shows `wall` or more."""
    first = wall - (zone.utcoffset(wall) or _NONE)
    second = wall - (zone.utcoffset(wall.replace(fold=1)) or _NONE)
    if first <= second:
        return first
    return _first_second(second, first, lambda moment: moment + _offset(moment, zone) >= wall)


def _after_change(begin: datetime, instant: datetime, zone: tzinfo) -> datetime:
    """`begin`, or the clock change in (begin, instant] if there is one."""
    offset = _offset(instant, zone)
    if _offset(begin, zone) == offset:
        return begin
    return _first_second(begin, instant.replace(microsecond=0), lambda moment: _offset(moment, zone) == offset)


def _before_change(begin: datetime, length: timedelta, zone: tzinfo) -> datetime:
    """Where the cell of `length` that holds `begin` ends: at its next beginning by the clock or at a clock change."""
    offset = _offset(begin, zone)
    wall = begin + offset + length
    end = wall - (wall - _EPOCH) % length - offset
    if _offset(end, zone) == offset:
        return end
    return _first_second(begin, end, lambda moment: _offset(moment, zone) != offset)


def _first_second(low: datetime, high: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """The first whole second in (low, high] from which on `holds` is true, given that it is true at `high`."""
    while (seconds := (high - low) // _SECOND) > 1:
        middle = low + timedelta(seconds=seconds // 2)
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    try:
        return instant.astimezone(zone).utcoffset() or _NONE
    except OverflowError:
        return _LAST_WALL_EVERYWHERE.astimezone(zone).utcoffset() or _NONE if instant > _EPOCH else _NONE
