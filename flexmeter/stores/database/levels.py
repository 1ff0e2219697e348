"""From rollup rows of which level a range is answered: of whole UTC days from the days' rows, of its edges from the buckets'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from django.db.models import Q

from flexmeter.metering import DAY
from flexmeter.models import Rollup
from flexmeter.windows import bucket, ceiling

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
BY_BUCKET: Final = (Rollup.Level.APPENDED, Rollup.Level.BUCKET)
"""Levels whose rows together hold every bucket once."""
MOST_STRETCHES: Final = 24


class Stretch(NamedTuple):
    """The rows of a level that begin in [start, end)."""

    level: Rollup.Level
    start: datetime
    end: datetime


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


def by_bucket(start: datetime, end: datetime) -> tuple[Stretch, ...]:
    """The buckets of [start, end), without days' rows."""
    return tuple(Stretch(level, start, end) for level in BY_BUCKET)


def among(found: Sequence[Stretch]) -> Q:
    """The condition that a Rollup is one of these rows."""
    condition = Q()
    for level, start, end in found:
        condition |= Q(level=level, bucket__gte=start, bucket__lt=end)
    return condition
