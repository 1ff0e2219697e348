"""Where rollup rows lie: two whole numbers say level and beginning, and put rows in their order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.asking import query_of
from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.models import Rollup, Series
from flexmeter.slots import FIRST, LAST, LEVEL_SLOTS, MINUTE_BITS, began, level_of, new_part, position
from flexmeter.stores.database.levels import Stretch, all_within, among, of_levels
from flexmeter.stores.database.summaries import customers_with_most
from flexmeter.usage import usage, usage_from_events

from tests.examples import examples
from tests.factories import at, make_event, make_meter, make_rollup

MINUTE = timedelta(minutes=1)
LATEST = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
MIDNIGHT = at("2024-03-10 00:00")
instants = st.datetimes(timezones=st.just(UTC))
environments = count()
levels = st.sampled_from(Rollup.Level)
numbers = st.integers(0, 2**MINUTE_BITS - 1)


@given(levels, instants, numbers)
@example(Rollup.Level.APPENDED, FIRST, 0)
@example(Rollup.Level.DAY, LATEST, 2**MINUTE_BITS - 1)
def test_a_place_tells_level_and_beginning(level, instant, number):
    start = instant.replace(second=0, microsecond=0)
    slot, part = position(level, start)
    assert (level_of(slot), began(slot, part + number)) == (level, start)
    assert 0 <= slot < 2**31
    assert 0 <= part + number < 2**63


@given(levels, levels, instants, instants, numbers, numbers)
def test_places_are_in_the_order_of_level_and_beginning(level, other_level, start, other, number, other_number):
    mine, others = (
        (at_level, begin.replace(second=0, microsecond=0)) for at_level, begin in ((level, start), (other_level, other))
    )
    if mine < others:
        (slot, part), (other_slot, other_part) = position(*mine), position(*others)
        assert (slot, part + number) < (other_slot, other_part + other_number)


@given(levels, instants.filter(lambda instant: instant < LATEST))
def test_within_a_minute_the_next_one_is_where_rows_may_be(level, instant):
    start = instant.replace(second=0, microsecond=0)
    assert position(level, instant) == position(level, start if instant == start else start + MINUTE)


def test_all_that_can_be_named_fits_into_a_level():
    assert position(Rollup.Level.APPENDED, FIRST) == (0, 0)
    assert position(Rollup.Level.APPENDED, LAST).slot < LEVEL_SLOTS
    assert 0 <= new_part() < 2 ** (MINUTE_BITS - 1)


@pytest.mark.django_db
@examples(60)
@given(
    st.lists(st.tuples(levels, st.integers(0, 60)), min_size=1, max_size=8),
    st.lists(st.tuples(levels, st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=3),
)
def test_rows_of_stretches_are_found_to_the_minute(rows, wanted):
    Rollup.objects.all().delete()
    series = Series(id=1, environment="default", meter=make_meter(name="any"), generation=1, external_customer_id="acme")
    Rollup.objects.bulk_create(make_rollup(series, MIDNIGHT + minute * MINUTE, level, count=1) for level, minute in rows)
    stretches = [Stretch(level, MIDNIGHT + start * MINUTE, MIDNIGHT + end * MINUTE) for level, start, end in wanted]
    found = [(row.level, row.bucket) for row in Rollup.objects.filter(among(stretches))]
    starts = [(level, MIDNIGHT + minute * MINUTE) for level, minute in rows]
    inside = [
        (level, start) for level, start in starts if any(level is of.level and of.start <= start < of.end for of in stretches)
    ]
    assert sorted(found) == sorted(inside)
    assert Rollup.objects.filter(among(all_within(None, None))).count() == len(rows)
    buckets = Rollup.objects.filter(of_levels(Rollup.Level.APPENDED, Rollup.Level.BUCKET))
    assert sorted((row.level, row.bucket) for row in buckets) == sorted(each for each in starts if each[0] < Rollup.Level.DAY)


@pytest.mark.django_db
@examples(40)
@given(
    minutes=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    edges=st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted).filter(lambda edges: edges[0] < edges[1]),
    window=st.sampled_from(["", "MINUTE"]),
    type=st.sampled_from(["SUM", "MAX"]),
    compacted=st.booleans(),
)
@example(minutes=[2, 7, 12], edges=[5, 10], window="", type="SUM", compacted=True)
def test_ranges_that_begin_and_end_within_a_slot_are_answered_to_the_minute(minutes, edges, window, type, compacted):
    environment = f"minutes{next(environments)}"
    meter = make_meter(type, environment=environment, field="n", bucket_size="MINUTE")
    ingest(
        [make_event(f"e{n}", timestamp=MIDNIGHT + minute * MINUTE, properties={"n": n + 1}) for n, minute in enumerate(minutes)],
        environment=environment,
    )
    if compacted:
        compact(environment)
    start, end = (MIDNIGHT + edge * MINUTE for edge in edges)
    query = query_of({"meter": meter, "customer": "acme", "start": start, "end": end, "window": window})
    rolled_up = usage(query)
    assert rolled_up.source == "rollups"
    assert rolled_up == replace(usage_from_events(query), source="rollups")
    ranked = customers_with_most(meter.rule(), environment, start, end, limit=1, alias="default")
    assert ranked == ["acme"] * any(edges[0] <= minute < edges[1] for minute in minutes)
