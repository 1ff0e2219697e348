"""What is read of events, part by part, and of meters that change in that moment."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.asking import query_of
from flexmeter.ingest import ingest
from flexmeter.measuring import MOST_SPANS, joined
from flexmeter.meters import add_filters
from flexmeter.queries import Scope, UsageQuery
from flexmeter.stores.database.reading import Ready, RollupReader, Span, Wanted
from flexmeter.usage import usage, usage_from_events

from tests.factories import NOON, at, make_event, make_meter

BEGINNING = at("2025-01-01 00:00")
HOUR = timedelta(hours=1)
minutes = st.integers(min_value=0, max_value=100_000)


def span(start: int | None, length: int, name: str) -> Span:
    begin = BEGINNING + timedelta(minutes=start or 0)
    return Span(None if start is None else begin, begin + timedelta(minutes=length), frozenset({name}))


def covers(outer: Span, inner: Span) -> bool:
    begins = outer.start is None or (inner.start is not None and outer.start <= inner.start)
    return begins and inner.end <= outer.end and inner.event_names <= outer.event_names


spans = st.builds(span, minutes, st.integers(min_value=1, max_value=300), st.sampled_from("abc"))


@given(st.lists(spans, max_size=300), st.booleans())
def test_spans_are_covered_by_a_few_that_do_not_overlap(given_spans: list[Span], back_to_the_beginning: bool):
    if back_to_the_beginning:
        given_spans = [*given_spans, span(None, 50, "a")]
    found = joined(given_spans)
    assert len(found) <= MOST_SPANS
    assert all(any(covers(each, one) for each in found) for one in given_spans)
    for earlier, later in pairwise(found):
        assert later.start is not None
        assert earlier.end <= later.start


def test_a_few_spans_that_do_not_overlap_stay_as_they_are():
    apart = [span(place * 10, 5, "a") for place in range(MOST_SPANS)]
    assert joined(apart) == apart
    assert len(joined([*apart, span(10_000, 5, "b")])) == 51


@pytest.fixture
def events(db):
    ingest([make_event(f"event_{number}", properties={"n": number, "u": "ab"[number % 2]}) for number in range(10)])


@pytest.mark.parametrize("type", ["COUNT", "SUM", "LATEST", "COUNT_UNIQUE"])
@pytest.mark.parametrize("before", [True, False])
def test_rollups_of_a_meter_that_has_changed_are_not_used(events, monkeypatch, type, before):
    meter = make_meter(type, field="" if type == "COUNT" else "n")
    query = query_of({"meter": meter, "start": NOON - 12 * HOUR, "end": NOON + 12 * HOUR})
    expected = usage_from_events(query)
    read = RollupReader.read
    changes = [[("u", ["a"])]]

    def interrupted(self: RollupReader, scope: Scope, wanted: Sequence[Wanted]) -> frozenset[Ready]:
        if before and changes:
            add_filters(meter.pk, changes.pop(), environment=meter.environment)
        ready = read(self, scope, wanted)
        if not before:
            assert ready == {Ready(meter.pk, meter.generation, None)}
        return ready

    monkeypatch.setattr(RollupReader, "read", interrupted)
    answer = usage(query)
    assert (answer.value, answer.event_count) == (expected.value, expected.event_count)
    assert answer.source == ("events" if before else "rollups")


def test_the_rule_of_another_environments_meter_counts_the_events_of_the_one_asked_for(events):
    meter = make_meter("SUM", field="n", environment="other")
    query = UsageQuery(meter.rule(), Scope("default"), NOON - 12 * HOUR, NOON + 12 * HOUR)
    answer = usage(query)
    assert (answer.value, answer.event_count, answer.source) == (45, 10, "events")


def test_what_lies_within_one_bucket_is_read_once(events):
    meter = make_meter("SUM", field="n")
    query = query_of({"meter": meter, "start": NOON, "end": NOON + timedelta(minutes=1)})
    with CaptureQueriesContext(connection) as captured:
        answer = usage(query)
    assert (answer.value, answer.source) == (45, "events")
    assert len([query for query in captured.captured_queries if "flexmeter_event" in query["sql"]]) == 1


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize(("type", "queries"), [("SUM", 1), ("COUNT_UNIQUE", 3)])
def test_what_a_month_by_day_costs(events, django_assert_num_queries, type, queries):
    meter = make_meter(type, field="n")
    query = query_of({"meter": meter, "start": NOON - 12 * HOUR, "end": NOON + 29 * 24 * HOUR + 12 * HOUR, "window": "DAY"})
    with django_assert_num_queries(queries):
        assert len(usage(query).points) == 1
