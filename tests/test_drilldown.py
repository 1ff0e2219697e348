"""From a bar to its events: they are exactly those that the figure was made of."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter import drilldown
from flexmeter.drilldown import ADDITIVE, Bar, account_of, figure_of, page_of
from flexmeter.exceptions import InvalidQuery, PrunedEvents
from flexmeter.ingest import ingest
from flexmeter.maintenance.retention import prune
from flexmeter.metering import filters_of
from flexmeter.meters import archive_meter
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import Tally, cell_size, usage
from flexmeter.windows import Calendar, WindowSize, zone

from tests.contracts.scripts import World, every_meter, holdings, places, questions
from tests.examples import examples
from tests.factories import NOON, at, make_event, make_meter

START, END = at("2024-03-10 00:00"), at("2024-03-12 00:00")


@pytest.fixture
def meters(db):
    return every_meter("drilldown")


@examples(25)
@given(
    place=places,
    history=holdings,
    asked=st.lists(questions, min_size=3, max_size=6),
    size=st.integers(1, 5),
    bar_of=st.integers(0, 50),
)
def test_the_events_behind_any_bar_amount_to_its_figure(meters, place, history, asked, size, bar_of):
    with transaction.atomic():
        world = World("drilldown", place, meters)
        world.play(history)
        for each in asked:
            query, _ = each.of(world)
            for bar, figure, count in [*some_bars(query, bar_of), whole(query)]:
                assert_amounts_to(bar, figure, count, size)
        transaction.set_rollback(True)


def some_bars(query, chosen):
    points = usage(query).points
    return (
        [(Bar(query, point.start), point.value, point.event_count) for point in (points[chosen % len(points)], points[-1])]
        if points
        else []
    )


def whole(query):
    bar = Bar(query)
    result = usage(UsageQuery(query.rule, query.scope, query.start, query.end, None, query.calendar, query.accumulates))
    return bar, result.value, result.event_count


def assert_amounts_to(bar, figure, count, size):
    shares = all_shares(bar, size)
    assert len({share.event.event_id for share in shares}) == len(shares) == count
    tally = Tally(bar.query)
    for share in shares:
        assert tally.add(share.event), share
    result = tally.result()
    if bar.window_start is not None:
        [point] = result.points
        assert (point.start, point.value, point.event_count) == (bar.window_start, figure, count)
    elif bar.query.window is None:
        assert (result.value, result.event_count) == (figure, count)
    assert figure_of(bar) == figure
    account = account_of(bar)
    assert (account.figure, account.events, account.complete) == (figure, count, True)
    if bar.query.rule.type in ADDITIVE:
        added = sum((Fraction(share.amount) for share in shares), Fraction(0))
        assert Fraction(account.amount) == added
        size_of_parts = sum((abs(Fraction(share.amount)) for share in shares), Fraction(0))
        allowed = size_of_parts / 10**45 if bar.query.rule.type == "WEIGHTED_SUM" else 0
        assert abs(max(added, Fraction(0)) - Fraction(figure)) <= allowed
    if account.peaks:
        assert max(sum(Fraction(peak.share.number) for peak in account.peaks), Fraction(0)) == Fraction(figure)
    if bar.query.rule.type == "COUNT_UNIQUE":
        assert len(account.values) == figure


def all_shares(bar, size=100):
    shares, page = [], page_of(bar, size=size)
    while True:
        shares += page.shares
        if page.after is None:
            return shares
        page = page_of(bar, size=size, after=page.after)


def query_of(meter, window=WindowSize.DAY, customer=None, filters=(), calendar=None, start=START, end=END):
    scope = Scope("default", customer, filters=filters_of(filters))
    return UsageQuery(meter.rule(), scope, start, end, window, calendar or Calendar())


@pytest.mark.django_db
def test_a_page_names_the_newest_first_and_says_where_the_next_begins():
    ingest([make_event(f"event_{n}", timestamp=NOON + timedelta(minutes=n // 2)) for n in range(5)])
    bar = Bar(query_of(make_meter("COUNT")), START)
    first = page_of(bar, size=2)
    assert [share.event.event_id for share in first.shares] == ["event_4", "event_3"]
    second = page_of(bar, size=2, after=first.after)
    assert [share.event.event_id for share in second.shares] == ["event_2", "event_1"]
    third = page_of(bar, size=2, after=second.after)
    assert ([share.event.event_id for share in third.shares], third.after) == (["event_0"], None)
    assert (first.amount, third.amount) == (2, 1)


@pytest.mark.django_db
def test_a_page_stops_looking_after_a_while(monkeypatch):
    monkeypatch.setattr(drilldown, "READ_FOR_A_PAGE", 3)
    monkeypatch.setattr(drilldown, "READ_FOR_AN_ACCOUNT", 4)
    kinds = ["b", "a", "a", "a", "b", "a", "a"]
    ingest(
        [
            make_event(f"event_{n}", timestamp=NOON + timedelta(minutes=n), properties={"kind": kind})
            for n, kind in enumerate(kinds)
        ]
    )
    bar = Bar(query_of(make_meter("COUNT"), filters={"kind": ["b"]}), START)
    first = page_of(bar)
    assert ([share.event.event_id for share in first.shares], first.after.event_id) == (["event_4"], "event_4")
    assert page_of(bar, after=first.after).shares == []
    assert [share.event.event_id for share in all_shares(bar)] == ["event_4", "event_0"]
    account = account_of(bar)
    assert (account.complete, account.events, figure_of(bar)) == (False, 1, 2)


@pytest.mark.django_db
def test_filters_expressions_and_archiving_leave_events_out():
    ingest(
        [
            make_event("counted", properties={"n": 2, "kind": "a"}),
            make_event("filtered", properties={"n": 2, "kind": "b"}),
            make_event("skipped", properties={"n": "x", "kind": "a"}),
            make_event("of another", event_name="other", properties={"n": 2, "kind": "a"}),
            make_event("before", timestamp=START - timedelta(microseconds=1), properties={"n": 2, "kind": "a"}),
            make_event("after", timestamp=at("2024-03-11 00:00"), properties={"n": 2, "kind": "a"}),
        ]
    )
    meter = make_meter("SUM", expression="n * 3", filters=(("kind", ("a",)),))
    [share] = all_shares(Bar(query_of(meter), START))
    assert (share.event.event_id, share.number, share.amount) == ("counted", 6, 6)
    archived = archive_meter(meter.pk, environment="default")
    ingest([make_event("late", accepted_at=archived.archived_at + timedelta(seconds=1), properties={"n": 9, "kind": "a"})])
    assert [share.event.event_id for share in all_shares(Bar(query_of(archived), START))] == ["counted"]


@pytest.mark.django_db
def test_windows_lie_in_the_time_zone_and_at_the_anchor_of_the_question():
    ingest(
        [
            make_event(f"event_{n}", timestamp=at(text))
            for n, text in enumerate(["2024-03-09 14:59", "2024-03-09 15:00", "2024-03-10 15:00"])
        ]
    )
    tokyo = Calendar(zone("Asia/Tokyo"))
    query = query_of(make_meter("COUNT"), calendar=tokyo, start=at("2024-03-01 00:00"))
    [share] = all_shares(Bar(query, at("2024-03-09 15:00")))
    assert share.event.event_id == "event_1"
    monthly = query_of(make_meter("COUNT"), WindowSize.MONTH, calendar=Calendar(anchor_day=10), start=at("2024-01-01 00:00"))
    assert [share.event.event_id for share in all_shares(Bar(monthly, at("2024-02-10 00:00")))] == ["event_1", "event_0"]
    with pytest.raises(InvalidQuery, match="No window of this answer begins at 2024-03-10T00:00:00Z"):
        Bar(query, START)


@pytest.mark.django_db
def test_the_group_of_a_grouped_meter_is_a_filter():
    ingest([make_event(f"event_{n}", properties={"n": n, "host": "ab"[n % 2]}) for n in range(6)])
    meter = make_meter("MAX", field="n", bucket_size="DAY", group_by="host")
    bar = Bar(query_of(meter), START)
    account = account_of(bar)
    assert [(peak.bucket, peak.share.group, peak.share.number) for peak in account.peaks] == [(START, "a", 4), (START, "b", 5)]
    assert account.figure == figure_of(bar) == 9
    of_a = Bar(query_of(meter, filters={"host": ["a"]}), START)
    assert (figure_of(of_a), len(all_shares(of_a))) == (4, 3)


@pytest.mark.django_db
def test_a_weighted_sum_tells_the_weights():
    ingest([make_event("event_1", timestamp=START + timedelta(hours=12), properties={"n": 8})])
    bar = Bar(query_of(make_meter("WEIGHTED_SUM", field="n")), START)
    [share] = all_shares(bar)
    assert (share.number, share.weight, share.amount, figure_of(bar)) == (8, Decimal("0.75"), 6, 6)


@pytest.mark.django_db
def test_what_decides_the_figure_is_named():
    ingest(
        [
            make_event("low", timestamp=NOON, properties={"n": 1, "who": "x"}),
            make_event("high", timestamp=NOON + timedelta(minutes=1), properties={"n": 9, "who": "y"}),
            make_event("last", timestamp=NOON + timedelta(minutes=2), properties={"n": 5, "who": "x"}),
            make_event("none", timestamp=NOON + timedelta(minutes=3), properties={"n": 5}),
        ]
    )
    for type, event_id in (("MAX", "high"), ("MIN", "low"), ("LATEST", "none")):
        [peak] = account_of(Bar(query_of(make_meter(type, field="n")), START)).peaks
        assert peak.share.event.event_id == event_id
    unique = account_of(Bar(query_of(make_meter("COUNT_UNIQUE", field="who")), START))
    assert (unique.values, unique.figure, unique.events) == ({"x": 2, "y": 1}, 2, 4)
    average = account_of(Bar(query_of(make_meter("AVG", field="n")), START))
    assert (average.amount, average.events, average.figure) == (20, 4, 5)


@pytest.mark.django_db
def test_events_that_are_gone_are_not_made_up():
    ingest([make_event()])
    bar = Bar(query_of(make_meter("COUNT")), START)
    prune(at("2024-03-11 00:00"), environment="default")
    assert figure_of(bar) == 1
    for ask in (page_of, account_of):
        with pytest.raises(PrunedEvents, match="no longer retained"):
            ask(bar)


@pytest.mark.django_db
def test_what_a_page_costs(django_assert_num_queries):
    ingest([make_event(f"event_{n}") for n in range(20)])
    bar = Bar(query_of(make_meter("COUNT")), START)
    with django_assert_num_queries(3):
        page_of(bar, size=5)
    with django_assert_num_queries(3):
        account_of(bar)


def test_a_bar_of_a_query_without_windows_is_the_whole_range():
    with pytest.raises(InvalidQuery):
        Bar(UsageQuery(_count(), Scope("default"), START, END), START)
    assert cell_size(UsageQuery(_count(), Scope("default"), START, END)) is None


def _count():
    from flexmeter.aggregation import AggregationType
    from flexmeter.metering import MeterRule

    return MeterRule("tokens", AggregationType.COUNT)
