"""Dimensions: which questions rollups answer that are kept apart by properties, and what becomes of too many combinations."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flexmeter.exceptions import InvalidMeter
from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.rebuild import rebuild, restart
from flexmeter.maintenance.verification import verify
from flexmeter.meters import change_meter, definition_of
from flexmeter.models import Event, Rollup, Series
from flexmeter.queries import AnalyticsQuery, Scope
from flexmeter.usage import analytics, usage

from tests.factories import NOON, make_event, make_meter

START, END = NOON - timedelta(days=3), NOON + timedelta(days=3)
pytestmark = pytest.mark.django_db


def sent(number, **properties):
    return make_event(f"event_{number}", timestamp=NOON + timedelta(minutes=number), properties=properties)


def sent_by(regions, models=("a", "b")):
    """An event of n = its number for each region and model."""
    pairs = [(region, model) for region in regions for model in models]
    return [sent(number, region=region, model=model, n=number) for number, (region, model) in enumerate(pairs)]


def asked(meter, **filters):
    return usage(meter=meter, start=START, end=END, filters=filters)


def groups(meter, *names, **filters):
    scope = Scope("default", filters=tuple((name, frozenset(values)) for name, values in filters.items()))
    query = AnalyticsQuery(scope, (meter.rule(),), START, END, tuple(f"properties.{name}" for name in names))
    return {item.group: item.total for item in analytics(query)}


@pytest.fixture
def meter(db):
    return make_meter("SUM", field="n", dimensions=("region", "model"))


@pytest.fixture
def without_events(monkeypatch):
    """Fail if an event is read."""

    def read(*_, **__):
        raise AssertionError("events were read")

    return lambda: monkeypatch.setattr("flexmeter.measuring.events_within", read)


@pytest.mark.parametrize("compacted", [False, True])
def test_filters_and_groups_of_dimensions_are_answered_from_rollups(meter, without_events, compacted):
    ingest([*sent_by(["eu", "us", ""]), sent(90, n=100), sent(91, region=7, model="a", n=1_000)])
    if compacted:
        compact()
    without_events()
    assert (asked(meter).value, asked(meter).source) == (1115, "rollups")
    assert (asked(meter, region=["eu"]).value, asked(meter, region=["eu", "us"], model=["b"]).value) == (1, 1 + 3)
    assert asked(meter, region=["7"]).value == 1_000
    assert asked(meter, region=[""]).value == 4 + 5 + 100
    assert asked(meter, region=["nowhere", "\x00", "\ud800", "x" * 300]).value == 0
    assert groups(meter, "model", "region") == {
        ("a", "eu"): 0, ("b", "eu"): 1, ("a", "us"): 2, ("b", "us"): 3, ("a", ""): 4, ("b", ""): 5, ("", ""): 100,
        ("a", "7"): 1000,
    }  # fmt: skip
    assert groups(meter, "model", region=["eu", "us"]) == {("a",): 2, ("b",): 4}


def test_other_properties_and_sources_are_answered_from_events(meter):
    ingest(sent_by(["eu", "us"]))
    assert (asked(meter, n=["3"]).value, asked(meter, n=["3"]).source) == (3, "events")
    assert groups(meter, "n", region=["us"]) == {("2",): 2, ("3",): 3}
    answer = usage(meter=meter, start=START, end=END, filters={"region": ["us"]}, sources=[""])
    assert (answer.value, answer.source) == (5, "events")


def test_an_ad_hoc_question_is_answered_by_a_meter_with_the_dimension(meter, without_events):
    ingest(sent_by(["eu", "us"]))
    without_events()
    question = {"event_name": "tokens", "aggregation": "SUM", "field": "n", "start": START, "end": END}
    answer = usage(**question, filters={"region": ["us"]})
    assert (answer.value, answer.event_count, answer.source) == (5, 2, "rollups")


def test_ragged_ends_are_counted_from_events_with_the_same_filters_and_groups(meter):
    ingest(sent_by(["eu", "us"], ["a"] * 30))
    scope = Scope("default", filters=(("region", frozenset({"us"})),))
    query = AnalyticsQuery(scope, (meter.rule(),), NOON, NOON + timedelta(minutes=47), ("properties.region", "properties.model"))
    (item,) = analytics(query)
    assert (item.group, item.total, item.event_count) == (("us", "a"), sum(range(30, 47)), 17)


def test_the_number_of_queries_does_not_depend_on_the_number_of_groups(meter):
    ingest(sent_by(["eu"]))
    with CaptureQueriesContext(
        connection,
    ) as few:
        groups(meter, "region", model=["a"])
    ingest(sent_by([f"region {number}" for number in range(50)]))
    with CaptureQueriesContext(connection) as many:
        assert len(groups(meter, "region", model=["a"])) == 50
    assert len(few) == len(many)


@pytest.mark.django_db(transaction=True)
def test_too_many_combinations_are_counted_together_and_told_apart_from_events(settings):
    settings.FLEXMETER_MAX_DIMENSION_GROUPS = 3
    meter = make_meter("SUM", field="n", dimensions=("region", "model"))
    other = make_event("other", external_customer_id="globex", properties={"region": "eu", "n": 1})
    ingest([*sent_by(["eu", "us", "ap"]), other])
    ingest([sent(50, region="af", model="c", n=7), sent(51, region="eu", model="a", n=8)])
    of_acme = Series.objects.filter(meter=meter, external_customer_id="acme")
    assert of_acme.exclude(dimension_1=None).count() == 3
    assert of_acme.filter(dimension_1=None).count() == 1
    assert (asked(meter).value, asked(meter).source) == (31, "rollups")
    eu = asked(meter, region=["eu"])
    assert (eu.value, eu.source) == (0 + 1 + 8 + 1, "events")
    mine = usage(meter=meter, customer="globex", start=START, end=END, filters={"region": ["eu"]})
    assert (mine.value, mine.source) == (1, "rollups")
    assert groups(meter, "region") == {("eu",): 10, ("us",): 5, ("ap",): 9, ("af",): 7}
    assert list(verify()) == []
    meter.refresh_from_db()
    passed = meter.dimensions_passed_at
    assert passed is not None
    ingest([make_event("late", timestamp=NOON, properties={"region": "sa", "n": 5})])
    meter.refresh_from_db()
    assert meter.dimensions_passed_at == passed


@pytest.mark.django_db(transaction=True)
def test_with_more_room_a_rebuild_keeps_all_apart_again(settings):
    settings.FLEXMETER_MAX_DIMENSION_GROUPS = 1
    meter = make_meter("SUM", field="n", dimensions=("region", "model"))
    ingest(sent_by(["eu", "us"]))
    assert asked(meter, region=["eu"]).source == "events"
    settings.FLEXMETER_MAX_DIMENSION_GROUPS = 4
    restart(meter.pk)
    rebuild(meter.pk)
    meter.refresh_from_db()
    answer = asked(meter, region=["eu"])
    assert (answer.value, answer.source, meter.dimensions_passed_at) == (1, "rollups", None)


@pytest.mark.django_db(transaction=True)
def test_a_value_that_is_too_long_is_counted_but_not_kept_apart(meter):
    ingest([*sent_by(["eu"]), sent(60, region="x" * 256, n=5), sent(61, region="é" * 255, model="a", n=6)])
    assert (asked(meter).value, asked(meter, region=["é" * 255]).value, asked(meter, region=["x" * 256]).value) == (12, 6, 5)
    assert asked(meter, region=["eu"]).source == "events"
    assert list(verify()) == []
    meter.refresh_from_db()
    assert meter.dimensions_passed_at is not None


def test_a_replaced_event_leaves_its_combination(meter, without_events):
    ingest(sent_by(["eu", "us"]))
    moved = {"region": "eu", "model": "b", "n": Decimal("0.5")}
    again = make_event("event_3", timestamp=NOON, accepted_at=NOON + timedelta(hours=1), properties=moved)
    ingest([again])
    assert list(verify()) == []
    without_events()
    assert groups(meter, "region", "model") == {("eu", "a"): 0, ("eu", "b"): Decimal("1.5"), ("us", "a"): 2}


def test_verification_finds_a_combination_that_counts_for_another(meter):
    ingest(sent_by(["eu", "us"], ["a"]))
    first, second = Series.objects.filter(meter=meter).order_by("id")
    Rollup.objects.filter(series=first).update(series=second)
    differences = list(verify())
    assert {difference.external_customer_id for difference in differences} == {"acme"}
    assert len(differences) == 2


def test_giving_a_meter_dimensions_counts_its_history_by_them(without_events):
    meter = make_meter("SUM", field="n")
    ingest(sent_by(["eu", "us"]))
    definition = replace(definition_of(meter), dimensions=("model",))
    changed = change_meter(meter.pk, definition, environment="default")
    assert (changed.generation, changed.rollups_ready, Event.objects.count()) == (meter.generation + 1, True, 4)
    without_events()
    assert groups(changed, "model") == {("a",): 2, ("b",): 4}


@pytest.mark.parametrize(
    ("dimensions", "details"),
    [
        (("a", "b", "c", "d"), {"dimensions": "4 properties"}),
        (("a", "a"), {"dimensions[1]": "is there twice"}),
        (("",), {"dimensions[0]": "is required"}),
        (("a", "x" * 256), {"dimensions[1]": "must not be longer than 255 characters"}),
        (("\x00",), {"dimensions[0]": "holds a NUL character"}),
    ],
)
def test_what_can_be_no_dimensions(dimensions, details):
    with pytest.raises(InvalidMeter) as refused:
        make_meter("SUM", field="n", dimensions=dimensions)
    assert refused.value.details == details
