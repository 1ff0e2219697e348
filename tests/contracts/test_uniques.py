"""Distinct values of whole days are counted alike by the database, from raw events, and one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.queries import AnalyticsLine, Scope, UsageQuery
from flexmeter.stores.database.adding_up import PostgresRollupReader
from flexmeter.usage import measure, usage, usage_from_events
from flexmeter.windows import Calendar, WindowSize

from tests.examples import examples
from tests.factories import make_event, make_meter

MONDAY = datetime(2024, 2, 26, tzinfo=UTC)
CUSTOMERS = ["acme", "globex"]
VALUES = ["a", "b", "c", "d", None]

occurrences = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 7 * 24 - 1), st.sampled_from(CUSTOMERS), st.sampled_from(VALUES)), max_size=25
)
day_ranges = st.tuples(st.integers(-1, 8), st.integers(-1, 8)).map(lambda days: (min(days), max(days) + 1))


@pytest.fixture
def meters(db):
    return [make_meter("COUNT_UNIQUE", field="who"), make_meter("COUNT_UNIQUE", field="where")]


@examples(60)
@given(
    occurrences=occurrences,
    compacted=st.booleans(),
    days=day_ranges,
    window=st.sampled_from([None, WindowSize.DAY, WindowSize.WEEK, WindowSize.MONTH]),
    customer=st.sampled_from([None, *CUSTOMERS]),
)
def test_distinct_values_of_whole_days(meters, occurrences, compacted, days, window, customer):
    with transaction.atomic():
        for place, (number, hours, name, value) in enumerate(occurrences):
            event = make_event(
                f"event_{number}",  # sent again with other values, it moves
                timestamp=MONDAY + timedelta(hours=hours),
                accepted_at=MONDAY + timedelta(days=30, seconds=place),
                external_customer_id=name,
                properties={} if value is None else {"who": value, "where": f"{value} {hours % 2}"},
            )
            ingest([event])
        if compacted:
            compact()
        start, end = (MONDAY + timedelta(days=day) for day in days)
        scope = Scope("default", customer)
        with counting() as counted:
            for meter in meters:
                query = UsageQuery(meter.rule(), scope, start, end, window)
                answer, expected = usage(query), usage_from_events(query)
                assert (answer.value, answer.event_count, answer.points) == (
                    expected.value,
                    expected.event_count,
                    expected.points,
                )
                assert answer.source == "rollups"
            lines = [AnalyticsLine(meter.rule(), start, end, Calendar()) for meter in meters]
            together = measure(lines, scope, window=window)
            by_event = measure(lines, scope, window=window, group_by=("properties.nobody has this",))
        for items, expected in zip(together, by_event, strict=True):
            assert [(item.total, item.points) for item in items] == [(item.total, item.points) for item in expected]
        assert counted.call_count == (3 if connection.vendor == "postgresql" else 0)
        transaction.set_rollback(True)


def counting():
    return mock.patch.object(PostgresRollupReader, "_read_counted", autospec=True, side_effect=PostgresRollupReader._read_counted)


def test_distinct_values_of_more_days_than_a_number_has_bits(meters):
    events = [
        make_event(f"event_{place}", timestamp=MONDAY + timedelta(days=day), properties={"who": who})
        for place, (day, who) in enumerate(
            [(0, "a"), (61, "a"), (62, "b"), (63, "a"), (64, "c"), (99, "a"), (99, "b"), (100, "d")]
        )
    ]
    ingest(events)
    for days in (62, 63, 64, 65, 100):
        query = UsageQuery(meters[0].rule(), Scope("default"), MONDAY, MONDAY + timedelta(days=days), WindowSize.DAY)
        answer, expected = usage(query), usage_from_events(query)
        assert (answer.value, answer.points, answer.source) == (expected.value, expected.points, "rollups")
