"""Usage of many meters at once, by group, is what the reference makes of each group's events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.metering import filters_of
from flexmeter.models import Meter
from flexmeter.queries import AnalyticsItem, AnalyticsLine, AnalyticsQuery, Scope
from flexmeter.usage import analytics, measure
from flexmeter.windows import Calendar, WindowSize, zone

from tests.contracts import reference
from tests.contracts.scripts import CUSTOMERS, World, as_question, bounds, every_meter, holdings, narrowings, places, ranges, says
from tests.examples import examples

ENTRIES = ["properties.u", "properties.r", "properties.n", "source"]


@pytest.fixture
def meters(db):
    return every_meter("contracts")


@examples(25)
@given(
    place=places,
    history=holdings,
    group_by=st.lists(st.sampled_from(ENTRIES), max_size=2, unique=True),
    customer=st.none() | st.sampled_from(CUSTOMERS),
    narrowing=st.just({}) | narrowings,
    window=st.sampled_from(["", "HOUR", "DAY", *reference.ORDER]),
    anchor=st.sampled_from([1, 30]),
    span=ranges | st.just((timedelta(days=-60), timedelta(days=60))),
    with_sources=st.sampled_from([False, False, True]),
    bound=bounds,
)
def test_every_group_of_every_meter_has_the_usage_of_its_own_events(
    meters, place, history, group_by, customer, narrowing, window, anchor, span, with_sources, bound
):
    with transaction.atomic():
        world = World("contracts", place, meters, bound)
        world.play(history)
        start, end = (world.base + offset for offset in span)
        asked = {meter.pk: meter for meter in Meter.objects.filter(pk__in=meters)}
        scope = Scope(
            "contracts", customer, narrowing.get("customer_id"), tuple(narrowing.get("sources", ())),
            filters_of(narrowing.get("filters", {})),
        )  # fmt: skip
        query = AnalyticsQuery(
            scope, tuple(asked[pk].rule() for pk in meters), start, end, tuple(group_by), WindowSize(window) if window else None,
            Calendar(zone(world.zone), anchor_day=anchor), with_sources,
        )  # fmt: skip
        items = analytics(query)
        rows = world.rows()
        expected = []
        for pk in meters:
            question = as_question(asked[pk], start, end)
            question = replace(
                question, customer=customer, customer_id=scope.customer_id, sources=scope.sources, window=window,
                zone=world.zone, anchor=anchor, filters=(*question.filters, narrowing.get("filters", {})),
            )  # fmt: skip
            answers = reference.analytics(rows, question, group_by)
            expected += [(pk, group, *answers[group]) for group in sorted(answers)]
        assert [(item.rule.meter_id, item.group) for item in items] == [(pk, group) for pk, group, _, _ in expected]
        for item, (_, _, answer, sources) in zip(items, expected, strict=True):
            assert says(item.rule.type, item.total, item.event_count, item.points, answer), (item, answer)
            assert item.sources == (sources if with_sources else ())
        transaction.set_rollback(True)


@examples(10)
@given(
    place=places,
    history=holdings,
    spans=st.lists(ranges, min_size=1, max_size=3),
    choices=st.lists(st.none() | st.frozensets(st.sampled_from(CUSTOMERS), min_size=1), min_size=1, max_size=3),
    window=st.sampled_from(["", "15MIN", "DAY", *reference.ORDER]),
    anchors=st.lists(st.sampled_from([1, 30]), min_size=1, max_size=2),
)
def test_lines_that_are_read_together_have_the_usage_of_their_own_events(meters, place, history, spans, choices, window, anchors):
    with transaction.atomic():
        world = World("contracts", place, meters)
        world.play(history)
        asked = Meter.objects.in_bulk(meters)
        lines = [
            AnalyticsLine(
                asked[pk].rule(),
                *(world.base + offset for offset in spans[number % len(spans)]),
                Calendar(zone(world.zone), anchor_day=anchors[number % len(anchors)]),
                choices[number % len(choices)],
            )
            for number, pk in enumerate([*meters, *meters])
        ]
        size = WindowSize(window) if window else None
        together = measure(lines, Scope("contracts"), window=size)
        by_event = measure(lines, Scope("contracts"), window=size, group_by=("properties.nobody has this",))
        for line, read, counted in zip(lines, together, by_event, strict=True):
            assert [figures(item) for item in read] == [figures(item) for item in counted], line
        transaction.set_rollback(True)


def figures(item: AnalyticsItem) -> tuple[Any, ...]:
    buckets = [(bucket.start, sorted(bucket.values), bucket.event_count) for bucket in item.buckets]
    return item.total, item.event_count, item.points, item.point_size, buckets
