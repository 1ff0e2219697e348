"""What single events cost (`POST /events/huggingface-inference`), and how they found their price (`GET /events/lookup`)."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flexmeter import pricebook
from flexmeter.explain import explain
from flexmeter.models import Event
from flexmeter.pricing.catalog import archive, save
from flexmeter.pricing.models import LineItem, Subscription
from flexmeter.pricing.subscriptions import add_line_item, cancel, end_line_item, inherit, override_price

from tests.factories import at
from tests.http.client import Api, make_event
from tests.pricing.factories import (
    BEGINNING,
    line_item,
    make_customer,
    make_feature,
    make_meter,
    make_plan,
    make_price,
    make_subscription,
    package,
    tiered,
)

WHEN = "2025-06-02T09:10:00Z"
STEPS = ("customer_lookup", "meter_matching", "price_lookup", "subscription_line_item_lookup")


def nano(api: Api, *ids: str) -> list[str]:
    answer = api.post("/events/huggingface-inference", {"requestIds": ids})
    assert answer.status == 200, answer
    assert [entry["requestId"] for entry in answer.body["requests"]] == list(ids)
    return [entry["costNanoUsd"] for entry in answer.body["requests"]]


def send(api: Api, event_id: str, size: Any = 7, time: str = WHEN, **changed: Any) -> None:
    api.accept(make_event(event_id, timestamp=time, **{"properties": {"size": size}} | changed))


def lookup(api: Api, event_id: str) -> dict[str, Any]:
    answer = api.get("/events/lookup?" + urlencode({"id": event_id}))
    assert answer.status == 200, answer
    return answer.body


# The cost of one event


@pytest.mark.parametrize(
    ("price", "size", "expected"),
    [
        ({"amount": Decimal("0.0004")}, 7, "2800000"),
        ({"amount": Decimal("0.0000000005")}, 1, "0.5"),
        ({"amount": Decimal("0.0015")}, 1, "1500000"),
        ({"amount": Decimal(3)} | package(50), 120, "9000000000"),
        (tiered("SLAB"), 250, "19500000000"),
        (tiered("VOLUME"), 250, "14500000000"),
        ({}, "nothing", "0"),
        ({}, -5, "0"),
        ({"amount": Decimal("0.1")}, "0.000000000000000001", "0.0000000001"),
    ],
)
def test_a_request_costs_what_its_price_makes_of_its_own_quantity(api: Api, price: dict[str, Any], size: Any, expected: str):
    line_item(make_meter(), **price)
    send(api, "e1", size)
    assert nano(api, "e1") == [expected]


def test_each_request_has_its_entry_in_order_and_what_is_not_priced_costs_nothing(api: Api, stranger: Api):
    line_item(make_meter(filters=(("region", ("eu",)),)), amount=Decimal(1))
    send(api, "mine", properties={"size": 2, "region": "eu"})
    send(api, "filtered", properties={"size": 2, "region": "us"})
    send(api, "other name", event_name="other")
    send(api, "other customer", external_customer_id="globex", properties={"size": 2, "region": "eu"})
    send(stranger, "theirs", properties={"size": 2, "region": "eu"})
    assert nano(api, "mine", "nope", "filtered", "mine", "other name", "other customer", "theirs", "") == [
        "2000000000", "0", "0", "2000000000", "0", "0", "0", "0",
    ]  # fmt: skip


def test_the_other_path_answers_the_same(api: Api):
    line_item(make_meter(), amount=Decimal("0.0004"))
    send(api, "e1", 7)
    for path in ("inference", "inference/", "billing", "billing/"):
        answer = api.post(f"/events/huggingface-{path}", {"requestIds": ["e1", "nope", "e1"]})
        assert [tuple(entry.values()) for entry in answer.body["requests"]] == [
            ("e1", "2800000"),
            ("nope", "0"),
            ("e1", "2800000"),
        ]
        answer = api.post(f"/events/huggingface-{path}", b"", content_type="")
        assert (answer.status, answer.body) == (200, {"requests": []})


@pytest.mark.parametrize(
    ("type", "expected"),
    [("COUNT", "1"), ("COUNT_UNIQUE", "1"), ("AVG", "7"), ("MAX", "7"), ("LATEST", "7"), ("WEIGHTED_SUM", "7")],
)
def test_one_event_is_a_quantity_of_one_or_of_its_value(api: Api, type: str, expected: str):
    line_item(make_meter(type), amount=Decimal("0.000000001"))
    send(api, "e1", 7)
    assert nano(api, "e1") == [expected]


def test_what_an_archived_meter_no_longer_counts_costs_nothing(api: Api):
    meter = make_meter()
    line_item(meter, amount=Decimal(1))
    send(api, "before", 1)
    api.post(f"/meters/{meter.pk}/disable")
    send(api, "after", 1)
    assert nano(api, "before", "after") == ["1000000000", "0"]


def test_a_draft_or_a_fixed_price_costs_an_event_nothing(api: Api):
    subscription = make_subscription(make_meter(), subscription={"status": "draft"})
    add_line_item(subscription, make_price(None, make_plan(), amount=Decimal(20)))
    send(api, "e1", 1)
    assert nano(api, "e1") == ["0"]


def test_an_event_after_the_end_of_a_subscription_costs_nothing(api: Api):
    subscription = make_subscription(make_meter(), amount=Decimal(1))
    subscription.end_date = at("2025-06-02 09:10")
    save(subscription)
    send(api, "before", 1, "2025-06-02T09:09:59.999999Z")
    send(api, "after", 1)
    assert nano(api, "before", "after") == ["1000000000", "0"]
    assert [lookup(api, event_id)["status"] for event_id in ("before", "after")] == ["processed", "failed"]


@pytest.mark.parametrize("priced", [True, False])
def test_a_negative_quantity_is_reported_as_nothing(api: Api, request: pytest.FixtureRequest, priced: bool):
    line_item(make_meter())
    if not priced:
        request.getfixturevalue("unpriced")
    send(api, "e1", -5)
    [entry] = lookup(api, "e1")["processed_events"]
    assert entry["qty_total"] == "0"


def test_all_meters_and_line_items_that_claim_an_event_are_added_up(api: Api):
    size, calls = make_meter(), make_meter("COUNT")
    make_subscription(size, calls, amount=Decimal("0.5"))
    make_subscription(size, amount=Decimal(2), customer="acme")
    send(api, "e1", 3)
    assert nano(api, "e1") == [str(int((Decimal("0.5") * 3 + Decimal("0.5") + 6) * 10**9))]


def test_the_multiplier_belongs_to_the_quantity(api: Api):
    line_item(make_meter("SUM_WITH_MULTIPLIER", multiplier=Decimal("0.25")), amount=Decimal(1))
    send(api, "e1", 2)
    assert nano(api, "e1") == ["500000000"]


def test_the_price_is_that_of_the_events_time(api: Api):
    item = line_item(make_meter(), amount=Decimal(1))
    override_price(item, start=at("2025-06-02 09:10"), amount=Decimal(2))
    cancel(item.subscription, at("2025-06-02 10:00"))
    for event_id, time in (
        ("early", "2024-12-31T23:59:59.999999Z"),
        ("before", "2025-06-02T09:09:59.999999Z"),
        ("after", "2025-06-02T09:10:00Z"),
        ("late", "2025-06-02T10:00:00Z"),
    ):
        send(api, event_id, 1, time)
    assert nano(api, "early", "before", "after", "late") == ["0", "1000000000", "2000000000", "0"]


def test_a_child_pays_by_its_parents_line_items(api: Api):
    parent = make_subscription(make_meter(), amount=Decimal(1))
    child = make_customer("child", parent=parent.customer)
    inherit(parent, child, start=at("2025-06-02 00:00"))
    send(api, "before", 1, "2025-06-01T00:00:00Z", external_customer_id="child")
    send(api, "after", 1, external_customer_id="child")
    assert nano(api, "before", "after") == ["0", "1000000000"]


def test_the_number_of_queries_does_not_grow_with_the_ids(api: Api):
    make_subscription(make_meter(), make_meter("COUNT"))
    api.accept(*(make_event(f"e{number}", timestamp=WHEN) for number in range(300)))
    nano(api, "e0")
    with CaptureQueriesContext(connection) as one:
        nano(api, "e0")
    with CaptureQueriesContext(connection) as many:
        nano(api, *(f"e{number}" for number in range(300)), *(f"unknown{number}" for number in range(700)))
    assert len(many) == len(one)
    assert len(one) <= 8


def test_the_price_book_tells_how_the_cost_of_an_event_comes_about(api: Api):
    meter = make_meter()
    item = line_item(meter, **tiered("SLAB"))
    feature = make_feature(meter)
    send(api, "e1", 250)
    event = Event.objects.get(event_id="e1")
    counted = [(verdict.meter, verdict.quantity) for verdict in explain(event).counted]
    [cost] = pricebook.current().costs_of_event(event, counted)
    assert (cost.cost, cost.currency, cost.quantity) == (Decimal("19.5"), "usd", Decimal(250))
    assert (cost.meter_id, cost.price_id, cost.line_item_id, cost.feature_id) == (meter.pk, item.price_id, item.pk, feature.pk)
    assert cost.working == ("100 × 0.1 = 10: units up to 100", "150 × 0.05 + 2 = 9.5: units above 100 up to 1000")


# What became of an event


def test_an_event_is_processed_by_every_line_item_that_claims_it(api: Api):
    meters = make_meter(), make_meter("COUNT")
    subscription = make_subscription(*meters)
    feature = make_feature(meters[0])
    send(api, "e1", "2.50", customer_id="theirs")
    body = lookup(api, "e1")
    assert (body["status"], body["debug_tracker"]) == ("processed", None)
    by_meter = {entry["meter_id"]: entry for entry in body["processed_events"]}
    lines = {line.meter_id: line for line in LineItem.objects.all()}
    assert by_meter == {
        meter.pk: {
            "customer_id": subscription.customer_id,
            "subscription_id": subscription.pk,
            "sub_line_item_id": lines[meter.pk].pk,
            "price_id": lines[meter.pk].price_id,
            "meter_id": meter.pk,
            "feature_id": feature.pk if meter is meters[0] else "",
            "qty_total": quantity,
            "processed_at": body["event"]["ingested_at"],
        }
        for meter, quantity in zip(meters, ("2.5", "1"), strict=True)
    }


def test_an_event_before_a_cancellation_stays_processed(api: Api):
    subscription = make_subscription(make_meter())
    send(api, "before")
    send(api, "after", time="2025-06-03T00:00:00Z")
    cancel(subscription, at("2025-06-02 12:00"))
    assert [lookup(api, event_id)["status"] for event_id in ("before", "after")] == ["processed", "failed"]


def failed_at(api: Api, step: str, point: str) -> dict[str, Any]:
    body = lookup(api, "e1")
    tracker = body["debug_tracker"]
    assert (body["status"], body["processed_events"]) == ("failed", [])
    position = STEPS.index(step)
    assert [tracker[name]["status"] for name in STEPS] == ["found"] * position + ["not_found"] + ["unprocessed"] * (3 - position)
    assert all(tracker[name]["error"] is None for name in STEPS)
    assert tracker["attributed_to_customer"] is None
    assert tracker["failure_point"]["failure_point_type"] == point
    error = tracker["failure_point"]["error"]
    assert (error["code"], error["http_status_code"], error["error"]["message"]) == ("not_found", 404, error["message"])
    return tracker


def test_an_event_of_an_unknown_customer_failed_at_the_customer(api: Api):
    make_meter()
    send(api, "e1")
    assert failed_at(api, "customer_lookup", "customer_lookup")["customer_lookup"]["customer"] is None


def test_an_event_that_no_meter_counted_failed_at_the_meters(api: Api):
    customer = make_customer()
    make_meter(filters=(("region", ("eu",)),))
    send(api, "e1")
    tracker = failed_at(api, "meter_matching", "meter_lookup")
    assert tracker["customer_lookup"]["customer"]["id"] == customer.pk
    assert tracker["failure_point"]["error"]["message"] == "No meters found matching event_name: api_request"


@pytest.mark.parametrize("archived", [True, False])
def test_an_event_without_a_price_failed_at_the_prices(api: Api, archived: bool):
    make_customer()
    meter = make_meter()
    if archived:
        archive(make_price(meter, make_plan()))
    send(api, "e1")
    tracker = failed_at(api, "price_lookup", "price_lookup")
    [matched] = tracker["meter_matching"]["matched_meters"]
    assert (matched["meter_id"], matched["event_name"], matched["meter"]["id"]) == (meter.pk, "api_request", meter.pk)
    assert tracker["failure_point"]["error"]["message"] == "No prices found for matched meters"


@pytest.mark.parametrize("status", [None, "draft"])
def test_an_event_without_a_line_item_failed_at_the_line_items(api: Api, status: str | None):
    meter = make_meter()
    if status is None:
        make_customer()
        make_price(meter, make_plan())
    else:
        make_subscription(meter, subscription={"status": status})
    send(api, "e1")
    tracker = failed_at(api, "subscription_line_item_lookup", "subscription_line_item_lookup")
    [matched] = tracker["price_lookup"]["matched_prices"]
    assert (matched["meter_id"], matched["status"], matched["price"]["id"]) == (meter.pk, "published", matched["price_id"])
    assert tracker["failure_point"]["error"]["message"] == "No subscription line items found for matched prices"


def test_an_event_outside_of_its_line_items_failed_at_the_line_items(api: Api):
    item = line_item(make_meter())
    end_line_item(item, at("2025-06-02 09:10"))
    add_line_item(item.subscription, item.price, start=at("2025-06-02 09:10") + timedelta(microseconds=1))
    send(api, "e1")
    tracker = failed_at(api, "subscription_line_item_lookup", "subscription_line_item_lookup")
    ended, begins = tracker["subscription_line_item_lookup"]["matched_line_items"]
    assert (ended["sub_line_item_id"], ended["subscription_id"], ended["price_id"]) == (
        item.pk,
        item.subscription_id,
        item.price_id,
    )
    assert (ended["start_date"], ended["end_date"]) == ("2025-01-01T00:00:00Z", WHEN)
    assert begins["end_date"] == "0001-01-01T00:00:00Z"
    for matched in (ended, begins):
        assert matched["is_active_for_event"] is matched["timestamp_within_range"] is False
        assert matched["subscription_line_item"]["id"] == matched["sub_line_item_id"]
    assert tracker["failure_point"]["error"]["message"] == (
        f"Found 2 subscription line item(s) but none are active for event timestamp {WHEN}"
    )


def test_nothing_of_another_environment_claims_an_event(api: Api, stranger: Api):
    line_item(make_meter())
    stranger.meter()
    stranger.accept(make_event("e1", timestamp=WHEN))
    tracker = failed_at(stranger, "customer_lookup", "customer_lookup")
    assert tracker["failure_point"]["error"]["message"] == "Customer not found"


def test_without_prices_an_event_is_processed_once_a_meter_counted_it(api: Api, unpriced: None):
    meter = make_meter()
    send(api, "e1")
    body = lookup(api, "e1")
    assert (body["status"], [entry["meter_id"] for entry in body["processed_events"]]) == ("processed", [meter.pk])
    assert nano(api, "e1") == ["0"]


def test_a_paused_subscription_still_claims_events(api: Api):
    subscription = make_subscription(make_meter(), subscription={"start": BEGINNING})
    subscription.status = Subscription.Status.PAUSED
    save(subscription)
    send(api, "e1")
    assert lookup(api, "e1")["status"] == "processed"
