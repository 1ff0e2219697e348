"""Every writer keeps the contract of the one that uses the ORM alone."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.aggregation import Latest, Partial
from flexmeter.metering import NO_GROUP, SeriesKey
from flexmeter.models import Event, EventRevision, Rollup, UniqueValue
from flexmeter.properties import digest
from flexmeter.stores.database.native_rollups import ROLLUP_WRITERS, PostgresRollupWriter, SqliteRollupWriter
from flexmeter.stores.database.native_writers import WRITERS, PostgresWriter, SqliteWriter
from flexmeter.stores.database.rollups import RollupWriter
from flexmeter.stores.database.transactions import Superseded
from flexmeter.stores.database.writers import Writer

from tests.examples import examples
from tests.factories import NOON, make_event, make_meter

pytestmark = pytest.mark.django_db
ON_POSTGRESQL = pytest.mark.only_on("postgresql")
ON_SQLITE = pytest.mark.only_on("sqlite")
writers = pytest.mark.parametrize(
    "kind", [Writer, pytest.param(PostgresWriter, marks=ON_POSTGRESQL), pytest.param(SqliteWriter, marks=ON_SQLITE)]
)
rollup_writers = pytest.mark.parametrize(
    "kind",
    [
        RollupWriter,
        pytest.param(PostgresRollupWriter, marks=ON_POSTGRESQL),
        pytest.param(SqliteRollupWriter, marks=ON_SQLITE),
    ],
)
LATER = NOON + timedelta(hours=1)
HOSTILE = ["\\", "\\N", "\t", "\n", '"', "'; DROP TABLE x; --", "{a,b}", "NULL", "𝔘nicode", "%s", " ", "\\.", "é"]


def test_each_database_has_the_writer_that_is_meant_for_it():
    meant = {"postgresql": (PostgresWriter, PostgresRollupWriter), "sqlite": (SqliteWriter, SqliteRollupWriter)}
    found = WRITERS.get(connection.vendor, Writer), ROLLUP_WRITERS.get(connection.vendor, RollupWriter)
    assert found == meant.get(connection.vendor, (Writer, RollupWriter))


def write(kind, events, floor=None):
    return kind("default").write("default", events, now=LATER, floor=floor)


def stored():
    columns = (
        "event_id",
        "event_name",
        "external_customer_id",
        "source",
        "timestamp",
        "accepted_at",
        "repeated_at",
        "ingested_at",
    )
    return {event.event_id: (*(getattr(event, name) for name in columns[1:]), event.properties) for event in Event.objects.all()}


@writers
@examples(40)
@given(batches=st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=30), min_size=1, max_size=4))
def test_any_split_into_batches_stores_each_id_once_with_the_values_accepted_last(kind, batches):
    last, new = {}, 0
    with transaction.atomic():
        clock = NOON
        for batch in batches:
            events = []
            for event_id, value in batch:
                clock += timedelta(seconds=1)
                events.append(make_event(event_id, accepted_at=clock, properties={"n": value}))
                last[event_id] = value
            written = write(kind, events)
            new += len(written.new)
            assert len(events) >= len(written.new) + len(written.replaced)
            assert {event.event_id for event in written.new}.isdisjoint(old.event_id for old, _ in written.replaced)
        assert {event_id: values[-1]["n"] for event_id, values in stored().items()} == last
        assert new == len(last)
        transaction.set_rollback(True)


@writers
@pytest.mark.parametrize("number", [1, 19, 20, 21, 600])
def test_batches_of_every_size_are_stored_as_they_are(kind, number):
    events = [
        make_event(
            f"event_{place:04}",
            external_customer_id=f"c{place % 7}",
            properties={"n": Decimal("0.1") * place} if place % 3 else None,
        )
        for place in range(number)
    ]
    written = write(kind, events[::-1])
    assert sorted(event.event_id for event in written.new) == [event.event_id for event in events]
    assert Event.objects.count() == number
    for event in Event.objects.all():
        sent = events[int(event.event_id[6:])]
        assert event.as_usage_event().same_content(sent._replace(properties=event.properties)), event
        assert (event.accepted_at, event.ingested_at, event.repeated_at) == (sent.accepted_at, LATER, None)


@writers
def test_text_of_any_kind_comes_back_as_it_was(kind):
    events = [
        make_event(
            f"{text}{copy}", event_name=text, external_customer_id=text, source=text, customer_id=text, properties={text: text}
        )
        for text in HOSTILE
        for copy in (1, 2)
    ]
    write(kind, events)
    found = {event.event_id: event for event in Event.objects.all()}
    for event in events:
        assert found[event.event_id].as_usage_event() == event
    few = [event._replace(event_id=event.event_id + "3") for event in events[:5]]
    assert len(write(kind, few).new) == 5


@writers
@pytest.mark.parametrize("fresh", [3, 40])
def test_known_ids_among_new_ones_are_told_apart(kind, fresh):
    write(kind, [make_event(f"event_{place}") for place in range(0, fresh, 2)])
    written = write(kind, [make_event(f"event_{place}") for place in range(fresh)])
    assert {event.event_id for event in written.new} == {f"event_{place}" for place in range(1, fresh, 2)}
    assert (written.replaced, written.repeated) == ([], len(range(0, fresh, 2)))
    assert Event.objects.count() == fresh


@writers
def test_a_changed_repeat_replaces_and_the_old_values_are_kept(kind):
    first = make_event(properties={"n": 1})
    second = first._replace(properties={"n": 2}, properties_json='{"n":2}', accepted_at=LATER)
    write(kind, [first])
    written = write(kind, [second])
    assert [(old.properties, new.properties) for old, new in written.replaced] == [({"n": 1}, {"n": 2})]
    assert Event.objects.get().accepted_at == LATER
    revision = EventRevision.objects.get()
    assert (revision.properties, revision.accepted_at, revision.replaced_at) == ({"n": 1}, first.accepted_at, LATER)


@writers
def test_what_was_accepted_before_the_stored_values_changes_nothing(kind):
    write(kind, [make_event(properties={"n": 2}, accepted_at=LATER)])
    written = write(kind, [make_event(properties={"n": 1})])
    assert (written.replaced, written.repeated) == ([], 1)
    assert Event.objects.get().properties == {"n": 2}


@writers
def test_one_batch_with_an_id_several_times_counts_the_element_accepted_last(kind):
    events = [make_event(properties={"n": n}, accepted_at=NOON + timedelta(seconds=n)) for n in (2, 3, 1)]
    written = write(kind, events)
    assert [event.properties for event in written.new] == [{"n": 3}]
    assert list(EventRevision.objects.order_by("accepted_at").values_list("properties", flat=True)) == [{"n": 1}, {"n": 2}]


@writers
def test_a_repeat_without_a_timestamp_keeps_the_stored_one(kind):
    write(kind, [make_event(properties={"n": 1})])
    repeat = make_event(timestamp=LATER, accepted_at=LATER, timestamp_given=False, properties={"n": 2})
    [(_, new)] = write(kind, [repeat]).replaced
    assert (new.timestamp, Event.objects.get().timestamp) == (NOON, NOON)


@writers
@pytest.mark.parametrize(
    ("first", "second"),
    [({"n": 1}, {"n": True}), ({"n": 0}, {"n": False}), ({"n": [1]}, {"n": [True]}), ({}, None), ({"n": None}, {})],
)
def test_values_that_python_takes_for_equal_are_told_apart(kind, first, second):
    write(kind, [make_event(properties=first)])
    assert len(write(kind, [make_event(properties=second, accepted_at=LATER)]).replaced) == 1
    assert Event.objects.get().properties == second


@writers
def test_the_order_of_names_in_properties_makes_no_difference(kind):
    write(kind, [make_event(properties={"a": 1, "b": {"c": 1, "d": 2}})])
    written = write(kind, [make_event(properties={"b": {"d": 2, "c": 1}, "a": 1}, accepted_at=LATER)])
    assert (written.replaced, written.repeated) == ([], 1)
    assert Event.objects.get().repeated_at == LATER


@writers
def test_kept_first_values_and_the_repeat_that_was_not_taken(kind, settings):
    settings.FLEXMETER_REPEATED_EVENT = "keep"
    write(kind, [make_event(properties={"n": 1})])
    written = write(kind, [make_event(properties={"n": 2}, accepted_at=LATER)])
    assert (written.replaced, written.rejected) == ([], 1)
    assert Event.objects.get().properties == {"n": 1}


@writers
def test_an_event_that_vanishes_between_looking_and_locking_starts_the_transaction_over(kind, monkeypatch):
    write(kind, [make_event()])
    monkeypatch.setattr(kind, "insert_new", lambda *args: set())
    with pytest.raises(Superseded):
        write(kind, [make_event(), make_event("gone")])


@writers
def test_more_ids_than_a_statement_takes(kind):
    events = [make_event(f"event_{place:05}") for place in range(6_000)]
    assert len(write(kind, events).new) == 6_000
    again = write(kind, events)
    assert (again.new, again.repeated) == ([], 6_000)


def partials(meter, number):
    for place in range(number):
        value = Decimal(place) / 8
        latest = Latest(NOON, LATER, f"event_{place}", -value)
        key = SeriesKey(meter.pk, meter.generation, f"c{place % 5}", (NO_GROUP if place % 2 else digest(str(place))).int)
        yield (
            (key, NOON + timedelta(minutes=15 * place)),
            Partial(place + 1, value, value * 3, value, value, latest, {digest("x"), digest(str(place))}),
        )


def values_of(partial):
    return (
        partial.count, partial.total, partial.moment, partial.minimum, partial.maximum, partial.latest.value, *partial.latest[:3],
    )  # fmt: skip


@rollup_writers
@pytest.mark.parametrize(
    ("aggregation_type", "kept"),
    [
        ("COUNT", set()),
        ("SUM", {"total"}),
        ("WEIGHTED_SUM", {"total", "moment"}),
        ("MAX", {"maximum"}),
        ("MIN", {"minimum"}),
        ("LATEST", {"latest", "latest_at", "latest_accepted_at", "latest_event_id"}),
    ],
)
@pytest.mark.parametrize("number", [1, 19, 20, 45])
def test_partials_are_appended_with_the_measures_that_the_meter_needs(kind, number, aggregation_type, kept):
    meter = make_meter(aggregation_type, field="n")
    given = dict(partials(meter, number))
    kind("default").append("default", given, [meter.rule()])
    columns = ("count", "total", "moment", "minimum", "maximum", "latest", "latest_at", "latest_accepted_at", "latest_event_id")
    found = {
        (SeriesKey(meter.pk, row.series.generation, row.series.external_customer_id, row.series.group.int), row.bucket): tuple(
            getattr(row, name) for name in columns
        )
        for row in Rollup.objects.select_related("series")
    }
    assert found == {
        key: tuple(
            value if name == "count" or name in kept else None for name, value in zip(columns, values_of(partial), strict=True)
        )
        for key, partial in given.items()
    }
    uniques = UniqueValue.objects.values_list("series__external_customer_id", "series__group", "day", "value")
    assert len(set(uniques)) == len(uniques)
    assert set(uniques) == {
        (series.external_customer_id, UUID(int=series.group), bucket.replace(hour=0, minute=0), value)
        for (series, bucket), partial in given.items()
        for value in partial.uniques
    }


@rollup_writers
@pytest.mark.parametrize("value", ["1E+308", "-1E+308", "1E-1000", "0", "12345678901234567890.123456789012345678901234567890"])
def test_a_figure_of_any_size_comes_back_digit_for_digit(kind, value):
    meter = make_meter("SUM", field="n")
    key = SeriesKey(meter.pk, 1, "acme", NO_GROUP.int)
    rows = {(key, NOON + timedelta(minutes=15 * place)): Partial(1, Decimal(value)) for place in range(25)}
    kind("default").append("default", rows, [meter.rule()])
    assert set(Rollup.objects.values_list("total", flat=True)) == {Decimal(value)}


@pytest.mark.parametrize("kind", [RollupWriter, pytest.param(SqliteRollupWriter, marks=ON_SQLITE)])
def test_a_row_that_another_has_deleted_starts_the_transaction_over(kind):
    meter = make_meter("SUM", field="n")
    writer = kind("default")
    for _ in range(2):
        writer.append("default", dict(partials(meter, 3)), [meter.rule()])

    def delete_then_merge(manager, ids):
        Rollup.objects.all().delete()
        return type(writer)._delete(writer, manager, ids)

    writer._delete = delete_then_merge
    with pytest.raises(Superseded):
        writer.merge_rows(meter.rule(), list(meter.series.values_list("id", flat=True)))
