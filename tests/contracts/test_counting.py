"""However events are counted, they are as many as there are rows; and a page holds those that come first."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.exceptions import InvalidEvent, PruneRefused
from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.rebuild import restart
from flexmeter.maintenance.retention import prune
from flexmeter.meters import add_filters, archive_meter, delete_meter
from flexmeter.models import Environment, Event
from flexmeter.stores.database import counting, extents
from flexmeter.stores.database.counting import count_events
from flexmeter.stores.database.extents import Extent

from tests.contracts.scripts import (
    CUSTOMERS,
    MANY_IDS,
    Deliver,
    World,
    acts,
    histories,
    holdings,
    offsets,
    places,
    ranges,
)
from tests.examples import examples
from tests.factories import NOON, make_event, make_meter

named = st.sampled_from(["", "", "tokens", "Tokens", "nothing"])
customers = st.sampled_from(["", "", *CUSTOMERS])
asked = st.lists(st.tuples(named, customers, ranges, st.booleans()), min_size=15, max_size=25)
later = st.lists(acts(MANY_IDS[:20], offsets), max_size=4).map(Deliver)


@pytest.fixture
def eager(monkeypatch):
    """Rollups are asked however few rows there are."""
    monkeypatch.setattr(counting, "FEW", 0)


@examples(30)
@given(
    place=places,
    history=holdings | histories,
    floor=st.none() | st.timedeltas(timedelta(days=-3), timedelta(days=3)),
    then=later,
    few=st.sampled_from([0, 0, 3]),
    most_series=st.sampled_from([0, 2_000, 2_000, 2_000]),
    most_names=st.sampled_from([1, 50, 50]),
    asked=asked,
)
def test_a_count_is_the_number_of_rows(db, monkeypatch, place, history, floor, then, few, most_series, most_names, asked):
    monkeypatch.setattr(counting, "FEW", few)
    monkeypatch.setattr(counting, "MOST_SERIES", most_series)
    monkeypatch.setattr(extents, "MOST_NAMES", most_names)
    with transaction.atomic():
        world = World("contracts", place)
        make_meter("COUNT", environment="contracts")
        world.play(history)
        if floor is not None:
            with suppress(PruneRefused):
                prune(world.base + floor, environment="contracts")
        with suppress(InvalidEvent):
            world.step(then)
        for name, customer, (start, end), is_open in asked:
            extent = Extent("contracts", world.base + start, None if is_open else world.base + end, name, customer)
            assert count_events(extent, "default") == extent.rows("default").count(), extent
        transaction.set_rollback(True)


@pytest.fixture
def ledger(db):
    """A week of two names, every three minutes, of which one is metered; compacted but for its last day."""
    meter = make_meter("SUM", field="n")
    for day in range(7):
        if day == 6:
            compact()
        ingest(
            [
                make_event(
                    f"{day}-{number}",
                    event_name="tokens" if number % 3 else "requests",
                    external_customer_id="acme" if number % 2 else "globex",
                    timestamp=NOON + timedelta(days=day, minutes=3 * number),
                )
                for number in range(240)
            ]
        )
    return meter


WEEK = NOON + timedelta(minutes=7), NOON + timedelta(days=6, hours=9, minutes=20)


@pytest.mark.parametrize(
    ("name", "customer", "statements"),
    [("tokens", "acme", 2), ("tokens", "", 3), ("", "acme", 4), ("", "", 6)],
)
def test_what_meters_have_counted_is_not_counted_again(ledger, eager, name, customer, statements):
    extent = Extent("default", *WEEK, name, customer)
    with CaptureQueriesContext(connection) as queries:
        found = count_events(extent, "default")
    assert found == extent.rows("default").count() > 300
    if connection.vendor == "mysql" and not name:
        statements += 2 * 2  # it steps from name to name, once before and once after
    assert len(queries) == statements
    assert sum("flexmeter_rollup" in query["sql"] for query in queries) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda meter: restart(meter.pk),
        lambda meter: add_filters(meter.pk, [("n", ["1"])], environment="default"),
        lambda meter: archive_meter(meter.pk, environment="default"),
        lambda meter: delete_meter(meter.pk, environment="default"),
        lambda meter: prune(NOON + timedelta(days=2), environment="default"),
    ],
    ids=["restart", "filter", "archive", "delete", "prune"],
)
@pytest.mark.parametrize("name", ["", "tokens"])
def test_rows_are_counted_alone_where_rollups_change_meanwhile(ledger, eager, monkeypatch, change, name):
    extent = Extent("default", *WEEK, name, "acme")
    known = counting._Counting._known

    def stale(*arguments):
        found = known(*arguments)
        change(ledger)
        return found

    monkeypatch.setattr(counting._Counting, "_known", stale)
    before = extent.rows("default").count()
    assert count_events(extent, "default") == extent.rows("default").count()
    assert (extent.rows("default").count() < before) is (Environment.objects.get().pruned_before is not None)


def test_a_name_that_turns_up_meanwhile_is_counted(ledger, eager, monkeypatch):
    extent = Extent("default", *WEEK, "", "acme")
    known = counting._Counting._known

    def late(*arguments):
        if not Event.objects.filter(event_id="late").exists():
            event = make_event("late", event_name="late", timestamp=NOON + timedelta(days=1))
            ingest([event])
        return known(*arguments)

    monkeypatch.setattr(counting._Counting, "_known", late)
    assert count_events(extent, "default") == extent.rows("default").count()


def test_the_ends_of_time_are_no_obstacle(db, eager):
    make_meter("COUNT")
    first, last = datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC)
    ingest([make_event("first", timestamp=first), make_event("last", timestamp=last), make_event()])
    ages = datetime(1, 1, 1, tzinfo=UTC)
    for customer in ("", "acme"):
        assert count_events(Extent("default", ages, None, "", customer), "default") == 3
        assert count_events(Extent("default", ages, last, "", customer), "default") == 2
        assert count_events(Extent("default", first, first, "", customer), "default") == 0
        assert count_events(Extent("default", last, None, "tokens", customer), "default") == 1


moments = st.integers(0, 4).map(lambda minutes: NOON + timedelta(minutes=minutes))
stored = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), moments), max_size=25)


@examples(30)
@given(events=stored, place=st.integers(0, 12), start=moments, end=moments | st.none(), newest_first=st.booleans())
def test_the_time_of_a_place_is_that_of_the_event_there(db, events, place, start, end, newest_first):
    with transaction.atomic():
        ingest([make_event()])
        batch = [
            make_event(f"e{number}", external_customer_id=customer, event_name=name, timestamp=moment)
            for number, (customer, name, moment) in enumerate(events)
        ]
        ingest(batch)
        extent = Extent("default", start, end, "", "a")
        names = extent.names("default")
        times = sorted(extent.rows("default").values_list("timestamp", flat=True), reverse=newest_first)
        expected = times[place] if place < len(times) else None
        assert extent.time_of(place, names, "default", newest_first=newest_first) == expected
        transaction.set_rollback(True)
