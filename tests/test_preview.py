"""A dry run says what the meter will say once it is saved, and writes nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter import preview as previewing
from flexmeter.exceptions import InvalidMeter, MeterNotFound
from flexmeter.explain import Outcome, explain
from flexmeter.ingest import ingest
from flexmeter.maintenance.retention import prune
from flexmeter.meters import archive_meter, change_meter, create_meter
from flexmeter.models import Event, Meter, Rollup, Series
from flexmeter.preview import Difference, preview
from flexmeter.queries import AnalyticsQuery, Scope
from flexmeter.usage import analytics, usage
from flexmeter.windows import Calendar, WindowSize, zone

from tests.contracts.scripts import METERS, World, holdings, places
from tests.examples import examples
from tests.factories import at, make_definition, make_event, make_meter

pytestmark = pytest.mark.django_db

UNTIL = at("2024-03-20 10:30")


def tried(definition, **changed):
    return preview(definition, **{"environment": "default", "until": UNTIL} | changed)


@examples(12)
@given(place=places, history=holdings, kinds=st.tuples(st.sampled_from(METERS), st.sampled_from(METERS)))
def test_the_figures_are_those_of_the_meter_once_it_is_saved(db, place, history, kinds):
    with transaction.atomic():
        world = World("preview", place)
        world.play(history)
        calendar, until = Calendar(zone(world.zone)), world.base + timedelta(days=2)
        first, second = (make_definition(**{"event_name": "tokens", **kind}) for kind in kinds)
        told = preview(first, environment="preview", calendar=calendar, until=until)
        meter = create_meter(first, environment="preview")
        assert_told(told, meter, calendar)

        changed = preview(second, environment="preview", replacing=meter.pk, calendar=calendar, until=until)
        before = {customer: value_of(meter, changed, calendar, customer) for customer in ("acme", "Acme", "acme ")}
        assert changed.before == value_of(meter, changed, calendar)
        meter = change_meter(meter.pk, second, environment="preview")
        assert_told(changed, meter, calendar)
        after = {customer: value_of(meter, changed, calendar, customer) for customer in before}
        told = {each.external_customer_id: (each.before, each.after) for each in changed.differences}
        assert told == {
            customer: (before[customer], after[customer]) for customer in before if before[customer] != after[customer]
        }
        transaction.set_rollback(True)


def assert_told(told, meter, calendar):
    assert told.value == value_of(meter, told, calendar)
    scope = Scope(meter.environment)
    items = analytics(AnalyticsQuery(scope, (meter.rule(),), told.start, told.end, (), WindowSize.DAY, calendar))
    assert [(item.total, item.event_count, item.points) for item in items] == (
        [(told.value, told.event_count, told.points)] if told.event_count else []
    )
    for judged in told.judged:
        event = Event.objects.get(environment=meter.environment, event_id=judged.event.event_id)
        [real] = [verdict for verdict in explain(event).verdicts if verdict.meter == meter]
        assert (real.outcome, real.sentence, real.quantity, real.bucket) == (
            judged.verdict.outcome, judged.verdict.sentence, judged.verdict.quantity, judged.verdict.bucket,
        )  # fmt: skip


def value_of(meter, told, calendar, customer=None):
    return usage(meter=meter, customer=customer, start=told.start, end=told.end, timezone=calendar.zone).value


def recorded():
    ingest(
        [
            make_event("event_1", timestamp=at("2024-03-20 09:00"), properties={"n": 2, "kind": "a"}),
            make_event("event_2", timestamp=at("2024-03-19 09:00"), properties={"n": 5, "kind": "b"}, external_customer_id="zoe"),
            make_event("event_3", timestamp=at("2024-02-20 00:00"), properties={"n": "x", "kind": "a"}),
            make_event("event_4", timestamp=at("2024-02-19 23:59"), properties={"n": 100, "kind": "a"}),
        ]
    )


def test_the_newest_events_are_judged_in_the_sentences_of_explain():
    recorded()
    told = tried(make_definition("SUM", expression="n * 2", filters=(("kind", ("a",)),)))
    assert [(judged.event.event_id, judged.verdict.sentence) for judged in told.judged] == [
        ("event_1", "Counted 4 as n * 2 in bucket 2024-03-20 09:00 to 09:15 UTC."),
        ("event_2", 'Not counted: filter `kind` is "b", wanted "a".'),
        ("event_3", "Not counted: the expression n * 2 has no value for this event."),
        ("event_4", "Counted 200 as n * 2 in bucket 2024-02-19 23:45 to 00:00 UTC."),
    ]
    assert told.outcomes == {Outcome.COUNTED: 2, Outcome.FILTERED: 1, Outcome.SKIPPED: 1}
    assert (told.start, told.end) == (at("2024-02-20 00:00"), UNTIL)
    assert [(point.start, point.value) for point in told.points] == [(at("2024-03-20 00:00"), 4)]


def test_nothing_is_written():
    recorded()
    meter = make_meter("COUNT")
    held = [list(model.objects.order_by("pk").values()) for model in (Meter, Series, Rollup)]
    tried(make_definition("SUM", field="n"))
    tried(make_definition("SUM", field="n"), replacing=meter.pk)
    assert [list(model.objects.order_by("pk").values()) for model in (Meter, Series, Rollup)] == held


def test_a_change_is_compared_with_today_customer_by_customer():
    recorded()
    meter = make_meter("COUNT")
    told = tried(make_definition("SUM", field="n"), replacing=meter.pk)
    assert (told.before, told.value, told.recounted, told.differing) == (3, 7, True, 1)
    assert told.differences == [Difference("zoe", Decimal(1), Decimal(5))]
    assert told.differences[0].change == 4
    assert tried(make_definition(name="Renamed"), replacing=meter.pk).recounted is False


def test_a_change_of_the_event_name_is_compared_too():
    recorded()
    ingest([make_event("other", event_name="other", timestamp=at("2024-03-19 00:00"))])
    told = tried(make_definition(event_name="other"), replacing=make_meter("COUNT").pk)
    assert (told.before, told.value, [judged.event.event_id for judged in told.judged]) == (3, 1, ["other"])


def test_an_archived_meter_stays_archived_in_a_preview():
    recorded()
    meter = archive_meter(make_meter("COUNT").pk, environment="default")
    ingest([make_event("late", timestamp=at("2024-03-20 08:00"), accepted_at=meter.archived_at + timedelta(days=1))])
    told = tried(make_definition("SUM", field="n"), replacing=meter.pk)
    assert (told.value, told.outcomes[Outcome.ARCHIVED]) == (7, 1)


def test_more_events_than_are_read_are_said_to_be_a_part(monkeypatch):
    monkeypatch.setattr(previewing, "COUNTED_EVENTS", 2)
    monkeypatch.setattr(previewing, "JUDGED_EVENTS", 1)
    recorded()
    told = tried(make_definition())
    assert (told.value, told.counted_since, len(told.judged)) == (2, at("2024-03-19 09:00"), 1)
    monkeypatch.setattr(previewing, "COUNTED_EVENTS", 3)
    assert tried(make_definition()).counted_since is None


def test_days_that_were_pruned_are_left_out():
    recorded()
    make_meter()
    prune(at("2024-03-20 00:00"), environment="default")
    told = tried(make_definition())
    assert (told.start, told.value, told.lost_before) == (at("2024-03-20 00:00"), 1, at("2024-03-20 00:00"))


def test_what_cannot_be_tried_is_told():
    with pytest.raises(InvalidMeter, match="field or expression"):
        tried(make_definition("SUM"))
    with pytest.raises(MeterNotFound):
        tried(make_definition(), replacing="meter_of_nobody")


def test_what_a_preview_costs(django_assert_num_queries):
    recorded()
    meter = make_meter("COUNT")
    with django_assert_num_queries(3):
        tried(make_definition("SUM", field="n"))
    with django_assert_num_queries(4):
        tried(make_definition("SUM", field="n"), replacing=meter.pk)
