"""Which rollup rows answer for a range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.metering import DAY
from flexmeter.models import Rollup
from flexmeter.stores.database.levels import BEGINNING, Stretch, by_bucket, stretches

APPENDED, BUCKET, WHOLE_DAY = Rollup.Level.APPENDED, Rollup.Level.BUCKET, Rollup.Level.DAY
MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LENGTHS = {APPENDED: QUARTER, BUCKET: QUARTER, WHOLE_DAY: DAY}


def at(days: float) -> datetime:
    return MONDAY + timedelta(days=days)


def rows(stretch: Stretch) -> list[tuple[datetime, datetime]]:
    """Beginning and end of every row there can be in the stretch."""
    length = LENGTHS[stretch.level]
    return [
        (stretch.start + place * length, stretch.start + (place + 1) * length)
        for place in range(-(-(stretch.end - stretch.start) // length))
    ]


beginnings = st.lists(
    st.integers(-200, 200) | st.integers(-2, 2).map(lambda days: 96 * days), min_size=2, max_size=8, unique=True
).map(lambda quarters: [MONDAY + quarter * QUARTER for quarter in sorted(quarters)])


@given(beginnings, st.sampled_from([1, 4, 1_000]))
def test_stretches_hold_every_bucket_once_and_reach_across_no_beginning(begins, most):
    found = stretches(begins, most)
    assert found[0] == Stretch(APPENDED, begins[0], begins[-1])
    covered = sorted(row for stretch in found[1:] for row in rows(stretch))
    assert covered[0][0] == begins[0]
    assert covered[-1][1] == begins[-1]
    assert all(left[1] == right[0] for left, right in pairwise(covered))
    assert not [begin for begin in begins for start, end in covered if start < begin < end]
    assert len(found) <= max(most, 2)


@given(beginnings)
@example([at(0), at(1)])
def test_whole_days_come_from_the_rows_of_days(begins):
    days = {row for stretch in stretches(begins, 1_000) if stretch.level is WHOLE_DAY for row in rows(stretch)}
    assert days == {
        (at(day), at(day + 1))
        for day in range(-3, 3)
        if any(start <= at(day) < at(day + 1) <= end for start, end in pairwise(begins))
    }


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        ([at(0), at(2)], [(WHOLE_DAY, 0, 2)]),
        ([at(0), at(1), at(2)], [(WHOLE_DAY, 0, 2)]),
        ([at(0.5), at(2.25)], [(BUCKET, 0.5, 1), (WHOLE_DAY, 1, 2), (BUCKET, 2, 2.25)]),
        ([at(0), at(0.5), at(1)], [(BUCKET, 0, 1)]),
        ([at(-0.125), at(0.875), at(1.875)], [(BUCKET, -0.125, 1.875)]),
        ([at(0.25), at(0.5)], [(BUCKET, 0.25, 0.5)]),
    ],
    ids=["days", "windows of days", "a ragged range", "windows of hours", "days of another zone", "hours"],
)
def test_a_range_is_cut(begins, expected):
    assert list(stretches(begins)[1:]) == [Stretch(level, at(start), at(end)) for level, start, end in expected]


def test_a_range_without_beginning_is_cut_too():
    assert list(stretches([BEGINNING, at(0.5)])[1:]) == [Stretch(WHOLE_DAY, BEGINNING, at(0)), Stretch(BUCKET, at(0), at(0.5))]


def test_of_many_months_in_a_zone_the_days_are_left_out():
    begins = [at(30 * month - 0.25) for month in range(30)]
    assert stretches(begins) == by_bucket(begins[0], begins[-1])
