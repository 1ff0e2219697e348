"""From rollup rows of which level a range is answered: of whole UTC days from the days' rows, of its edges from the buckets'."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from django.db.models import Q

from flexmeter.metering import DAY
from flexmeter.models import Rollup
from flexmeter.slots import FIRST, LAST, LEVEL_SLOTS, Position, position
from flexmeter.windows import bucket, ceiling

BEGINNING: Final = FIRST
BY_BUCKET: Final = (Rollup.Level.APPENDED, Rollup.Level.BUCKET)
"""Levels whose rows together hold every bucket once."""
MOST_STRETCHES: Final = 24


class Stretch(NamedTuple):
    """The rows of a level that begin in [start, end)."""

    level: Rollup.Level
    start: datetime
    end: datetime

    @property
    def first(self) -> Position:
        """Where they begin."""
        return position(self.level, self.start)

    @property
    def stop(self) -> Position:
        """Where the next ones of the level would be."""
        return position(self.level, self.end)


def stretches(begins: Iterable[datetime], most: int = MOST_STRETCHES) -> tuple[Stretch, ...]:
    """Rows that together hold every bucket of [begins[0], begins[-1]) once, none of which reaches across one of `begins`.

    `begins` ascend and lie where buckets begin. Where there would be more stretches than `most`, days' rows are left out.
    """
    return _stretches(tuple(begins), most)


@lru_cache(maxsize=64)
def _stretches(begins: tuple[datetime, ...], most: int) -> tuple[Stretch, ...]:
    first, last = begins[0], begins[-1]
    found = [Stretch(Rollup.Level.APPENDED, first, last)]
    for start, end in pairwise(begins):
        first_day, last_day = ceiling(start, DAY), bucket(end, DAY)
        if first_day >= last_day:
            parts = [Stretch(Rollup.Level.BUCKET, start, end)]
        else:
            parts = [
                Stretch(Rollup.Level.BUCKET, start, first_day),
                Stretch(Rollup.Level.DAY, first_day, last_day),
                Stretch(Rollup.Level.BUCKET, last_day, end),
            ]
        for part in parts:
            if part.start == part.end:
                continue
            if found[-1].level is part.level and found[-1].end == part.start:
                found[-1] = found[-1]._replace(end=part.end)
            else:
                found.append(part)
    return tuple(found) if len(found) <= most else by_bucket(first, last)


def by_bucket(start: datetime, end: datetime = LAST) -> tuple[Stretch, ...]:
    """The buckets of [start, end), without days' rows."""
    return tuple(Stretch(level, start, end) for level in BY_BUCKET)


def all_within(start: datetime | None, end: datetime | None) -> tuple[Stretch, ...]:
    """The rows of all levels that begin in [start, end); None: from the beginning, or without end."""
    return tuple(Stretch(level, start or FIRST, end or LAST) for level in Rollup.Level)


def among(found: Iterable[Stretch]) -> Q:
    """The condition that a Rollup is one of these rows."""
    condition = Q()
    for stretch in found:
        condition |= _among_one(stretch)
    return condition


def _among_one(stretch: Stretch) -> Q:
    (first, first_part), (stop, stop_part) = stretch.first, stretch.stop
    rows = Q(slot__gte=first, slot__lte=stop) if stop_part else Q(slot__gte=first, slot__lt=stop)
    if first_part:
        rows &= Q(slot__gt=first) | Q(part__gte=first_part)
    if stop_part:
        rows &= Q(slot__lt=stop) | Q(part__lt=stop_part)
    return rows


def of_levels(*levels: Rollup.Level) -> Q:
    """The condition that a Rollup is of one of these levels, which follow each other."""
    return Q(slot__gte=levels[0] * LEVEL_SLOTS, slot__lt=(levels[-1] + 1) * LEVEL_SLOTS)
