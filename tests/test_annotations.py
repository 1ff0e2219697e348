"""UsageOf: the same figure as usage(), beside the host's columns, in one query."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import F, UUIDField, Value
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.annotations import UsageOf
from flexmeter.exceptions import InvalidQuery, MeterNotFound, PrunedEvents
from flexmeter.ingest import ingest
from flexmeter.maintenance.retention import prune
from flexmeter.models import Meter
from flexmeter.usage import usage

from tests.examples import examples
from tests.factories import NOON, at, make_event, make_meter

pytestmark = pytest.mark.django_db

START, END = at("2024-03-10 00:00"), at("2024-03-11 00:00")
NAMES = ["zoe", "Zoe", "zoe ", "zoë"]
TYPES = ["COUNT", "SUM", "SUM_WITH_MULTIPLIER", "MAX", "MIN", "COUNT_UNIQUE"]
# What DECIMAL(65, 20) holds, sums and products included; the others know no bounds.
INTEGER_DIGITS, FRACTION_DIGITS = (20, 15) if connection.vendor == "mysql" else (60, 40)


def customers(*names):
    return [Group.objects.create(name=name) for name in names]


def spent(customer, *amounts, timestamp=NOON):
    """Events of the customer with these amounts."""
    ingest(
        [
            make_event(f"{customer}-{timestamp}-{index}", external_customer_id=str(customer), timestamp=timestamp,
                       properties={"amount": amount})
            for index, amount in enumerate(amounts)
        ]
    )  # fmt: skip


def amounts(places):
    largest = 10**INTEGER_DIGITS
    return st.decimals(-largest, largest, places=places, allow_nan=False) | st.integers(-largest, largest)


@pytest.mark.parametrize("type", TYPES)
@examples(25)
@given(
    used=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.integers(-100, 40).map(lambda quarters: END - timedelta(minutes=15 * quarters + 1)),
            st.integers(0, FRACTION_DIGITS).flatmap(amounts),
        ),
        max_size=12,
    ),
    days=st.integers(1, 2),
    reset_usage=st.sampled_from(Meter.ResetUsage.values),
    multiplier=st.decimals(Decimal("0.00001"), 1000, places=5),
)
def test_the_annotation_and_usage_give_the_same_figure(db, type, used, days, reset_usage, multiplier):
    with transaction.atomic():
        names = [
            *NAMES[: 1 if connection.vendor == "mysql" else None],
            "nobody",
        ]  # MySQL takes them for one name in the group's table
        Group.objects.bulk_create([Group(name=name) for name in names])
        given = {"field": "amount"} if type != "COUNT" else {}
        if type == "SUM_WITH_MULTIPLIER":
            given["multiplier"] = multiplier
        meter = make_meter(type, reset_usage=reset_usage, **given)
        ingest([
            make_event(f"event-{index}", external_customer_id=name, timestamp=timestamp, properties={"amount": amount})
            for index, (name, timestamp, amount) in enumerate(used)
        ])  # fmt: skip
        start = END - timedelta(days=days)
        annotated = Group.objects.annotate(usage=UsageOf(meter, start, END, customer="name"))
        figures = {group.name: group.usage for group in annotated}
        assert figures == {name: usage(meter=meter, customer=name, start=start, end=END).value for name in names}
        ordered = [group.usage for group in annotated.order_by("usage")]
        assert ordered == sorted(ordered)
        transaction.set_rollback(True)


def test_it_is_one_query_ordered_and_filtered(db):
    for group, amount in zip(customers("a", "b", "c", "d"), [9, 10, "100.5", 0], strict=True):
        spent(group.pk, amount)
    meter = make_meter("SUM", field="amount")
    annotated = Group.objects.annotate(usage=UsageOf(meter, START, END))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = [(group.name, group.usage) for group in annotated.filter(usage__gte=9.5).order_by("-usage")]
    assert found == [("c", Decimal("100.5")), ("b", Decimal(10))]
    assert len(queries) == 1
    assert list(annotated.filter(usage=Decimal("100.5")).values_list("name", flat=True)) == ["c"]
    assert list(annotated.filter(usage__lt=10).order_by("usage").values_list("name", flat=True)) == ["d", "a"]
    assert list(annotated.filter(usage=0).values_list("name", "usage")) == [("d", Decimal(0))]
    assert list(annotated.filter(usage__in=[9, 10]).order_by("name").values_list("name", flat=True)) == ["a", "b"]
    assert annotated.filter(usage__range=(1, 50)).count() == 2


def test_it_can_be_compared_with_the_hosts_columns(db):
    few, many = customers("few", "many")
    spent(few.pk, 1)
    spent(many.pk, few.pk + many.pk + 1000)
    annotated = Group.objects.annotate(usage=UsageOf(make_meter("SUM", field="amount"), START, END))
    assert list(annotated.filter(usage__gt=F("pk") + 500)) == [many]
    assert list(annotated.filter(pk__lt=F("usage") - 500)) == [many]
    assert list(annotated.exclude(usage__gt=F("pk") + 500)) == [few]


def test_a_uuid_names_the_customer_as_python_writes_it(db):
    key = UUID("01020304-0506-0708-090a-0b0c0d0e0f10")
    customers("only")
    spent(key, 5)
    held = Group.objects.annotate(key=Value(key, output_field=UUIDField()))
    meter = make_meter("SUM", field="amount")
    assert held.annotate(usage=UsageOf(meter, START, END, customer="key")).get().usage == 5


def test_a_meter_may_be_named_by_its_id(db):
    [group] = customers("only")
    spent(group.pk, 5)
    meter = make_meter("COUNT")
    assert Group.objects.annotate(usage=UsageOf(meter.pk, START, END)).get().usage == 1
    with pytest.raises(MeterNotFound):
        UsageOf("meter_unknown", START, END)


def test_figures_are_exact_where_doubles_are_not(db):
    [group] = customers("only")
    spent(group.pk, Decimal("9007199254740993.1"), Decimal("0.0000000001"))
    annotated = Group.objects.annotate(usage=UsageOf(make_meter("SUM", field="amount"), START, END))
    assert str(annotated.get().usage) == "9007199254740993.1000000001"
    assert annotated.values_list("usage", flat=True).get() == Decimal("9007199254740993.1000000001")


def test_whole_numbers_beyond_doubles_are_told_apart_in_filters(db):
    for group, amount in zip(customers("a", "b"), [2**53, 2**53 + 1], strict=True):
        spent(group.pk, amount)
    annotated = Group.objects.annotate(usage=UsageOf(make_meter("SUM", field="amount"), START, END))
    assert list(annotated.filter(usage__gt=2**53).values_list("name", flat=True)) == ["b"]
    assert list(annotated.filter(usage=2**53).values_list("name", flat=True)) == ["a"]


@pytest.mark.parametrize(("type", "given"), [
    ("AVG", {"field": "amount"}), ("LATEST", {"field": "amount"}), ("WEIGHTED_SUM", {"field": "amount"}),
    ("MAX", {"field": "amount", "bucket_size": "HOUR"}),
])  # fmt: skip
def test_a_meter_it_cannot_compute_is_refused(type, given, db):
    with pytest.raises(InvalidQuery, match="cannot be computed inside a query"):
        UsageOf(make_meter(type, **given), START, END)


@pytest.mark.parametrize(("type", "start"), [("COUNT", "2024-03-10 00:05"), ("COUNT_UNIQUE", "2024-03-10 12:00")])
def test_a_range_that_cuts_a_bucket_is_refused(type, start, db):
    meter = make_meter(type, **({} if type == "COUNT" else {"field": "amount"}))
    with pytest.raises(InvalidQuery, match="start must be the beginning of a bucket"):
        UsageOf(meter, at(start), END)
    with pytest.raises(InvalidQuery, match="end lies before"):
        UsageOf(meter, END, START)
    with pytest.raises(InvalidQuery, match="time zone"):
        UsageOf(meter, START.replace(tzinfo=None), END)


def test_a_meter_that_is_being_built_is_refused(db, settings):
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0
    spent("acme", 1)
    with pytest.raises(InvalidQuery, match="not ready yet"):
        UsageOf(make_meter("COUNT"), START, END)


def test_a_meter_that_changes_before_the_query_runs_gives_no_figure_rather_than_a_wrong_one(db):
    [group] = customers("only")
    spent(group.pk, 1)
    meter = make_meter("COUNT")
    annotated = Group.objects.annotate(usage=UsageOf(meter, START, END))
    assert annotated.get().usage == 1
    Meter.objects.filter(pk=meter.pk).update(generation=2)
    assert annotated.get().usage is None


def test_what_retention_removed_before_the_meter_could_count_it_is_not_answered(db):
    spent("acme", 1)
    spent("acme", 1, timestamp=NOON + timedelta(days=3))
    prune(END, environment="default")
    meter = make_meter("COUNT")
    with pytest.raises(PrunedEvents):
        UsageOf(meter, START, END)
