"""usage() in Python asks what the HTTP API can be asked, and gets the same figures."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group

from flexmeter.exceptions import InvalidQuery, MeterNotFound
from flexmeter.ingest import ingest
from flexmeter.models import now
from flexmeter.usage import ausage, usage

from tests.factories import NOON, at, make_event, make_meter

pytestmark = pytest.mark.django_db

START, END = at("2024-03-10 00:00"), at("2024-03-12 00:00")


@pytest.fixture(autouse=True)
def _events(db):
    ingest(
        [
            make_event(f"event_{hour}", external_customer_id="acme" if hour % 2 else "zoe", source="web" if hour < 3 else "",
                       timestamp=NOON + timedelta(hours=hour * 5), properties={"amount": f"{hour}.5", "kind": "ab"[hour % 2]})
            for hour in range(6)
        ]
    )  # fmt: skip


def asked(**question):
    return usage(**{"event_name": "tokens", "start": START, "end": END} | question)


def test_an_aggregation_over_events_is_asked_by_keywords():
    assert asked().value == 6
    result = asked(aggregation="SUM", field="amount")
    assert (result.value, result.event_count) == (Decimal("18.0"), 6)
    assert asked(aggregation="sum", field="amount", customer="acme").value == Decimal("10.5")
    assert asked(aggregation="SUM_WITH_MULTIPLIER", field="amount", multiplier="0.5").value == 9
    assert asked(filters={"kind": ["a"]}).value == 3
    assert asked(sources=["web"]).value == 3


def test_a_meter_is_asked_by_instance_or_id():
    meter = make_meter("SUM", field="amount")
    assert usage(meter=meter, start=START, end=END).value == usage(meter=meter.pk, start=START, end=END).value == 18
    assert usage(meter=meter, start=START, end=END, customer="acme", filters={"kind": ["b"]}).value == Decimal("10.5")


def test_a_customer_is_given_as_to_record():
    group = Group.objects.create(name="x")
    ingest([make_event("own", external_customer_id=str(group.pk))])
    assert asked(customer=group).value == 1


def test_async_code_asks_alike():
    meter = make_meter("SUM", field="amount")

    async def ask():
        return await ausage(meter=meter, start=START, end=END), await ausage(event_name="tokens", start=START, end=END)

    of_meter, of_events = async_to_sync(ask)()
    assert (of_meter.value, of_events.value) == (18, 6)


def test_windows_lie_in_the_calendar_that_is_named():
    points = asked(window="DAY", timezone="Asia/Tokyo").points
    assert [(point.start, point.value) for point in points] == [(at("2024-03-10 15:00") - timedelta(days=1), 1),
                                                              (at("2024-03-10 15:00"), 5)]  # fmt: skip
    assert asked(window="DAY", timezone=ZoneInfo("Asia/Tokyo")).points == points
    [month] = asked(window="MONTH", billing_anchor=10).points
    assert (month.start, month.value) == (at("2024-03-10 00:00"), 6)
    assert asked(window="MONTH", billing_anchor=datetime(2020, 1, 10, tzinfo=UTC)).points == [month]


def test_buckets_and_groups_are_as_with_meters():
    highest = asked(aggregation="MAX", field="amount", bucket_size="DAY")
    assert highest.value == Decimal("2.5") + Decimal("5.5")
    grouped = asked(aggregation="MAX", field="amount", bucket_size="DAY", group_by="kind")
    assert grouped.value == sum(map(Decimal, ["2.5", "1.5", "4.5", "5.5"]))


def test_without_an_end_it_is_now():
    ingest([make_event("today", timestamp=now() - timedelta(minutes=1))])
    assert usage(event_name="tokens", start=now() - timedelta(hours=1)).value == 1


def test_a_meter_that_never_resets_counts_from_the_beginning():
    meter = make_meter("SUM", field="amount", reset_usage="NEVER")
    assert usage(meter=meter, start=at("2024-03-11 00:00"), end=END).value == 18


@pytest.mark.parametrize(("wrong", "told"), [
    ({"start": None}, "The start must be a datetime"), ({"start": START.replace(tzinfo=None)}, "with a time zone"),
    ({"end": START - timedelta(days=1)}, "end lies before"), ({"event_name": ""}, "Usage of what"),
    ({"aggregation": "MEDIAN"}, "not supported"), ({"aggregation": "SUM"}, "SUM aggregates a property"),
    ({"window": "FORTNIGHT"}, "no window size"), ({"timezone": "Mars/Olympus"}, "no time zone"),
    ({"billing_anchor": 32}, "no day of a month"), ({"multiplier": 2}, "only be used with SUM_WITH_MULTIPLIER"),
    ({"aggregation": "SUM_WITH_MULTIPLIER", "field": "a", "multiplier": "x"}, "is no number"),
    ({"aggregation": "SUM_WITH_MULTIPLIER", "field": "a", "multiplier": -1}, "."), ({"custommer": "x"}, "'custommer'"),
])  # fmt: skip
def test_what_cannot_be_asked_is_told(wrong, told):
    with pytest.raises(InvalidQuery, match=told):
        asked(**wrong)


def test_a_meter_brings_its_own_rule_and_environment():
    meter = make_meter("COUNT")
    with pytest.raises(InvalidQuery, match="has a field of its own"):
        usage(meter=meter, field="amount", start=START)
    with pytest.raises(InvalidQuery, match="another environment"):
        usage(meter=meter, environment="staging", start=START)
    with pytest.raises(MeterNotFound):
        usage(meter=meter.pk, environment="staging", start=START)
