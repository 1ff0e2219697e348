"""`POST /events/analytics` of customers that subscribe: items by line item, their costs, and what they add up to."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flexmeter.models import Meter
from flexmeter.pricing.catalog import save
from flexmeter.pricing.models import Customer, LineItem, Price, Subscription
from flexmeter.pricing.subscriptions import add_line_item, apply_coupon, cancel, end_line_item, inherit, override_price
from flexmeter.properties import plain

from tests.factories import at
from tests.http.client import Api, make_event
from tests.pricing.factories import (
    BEGINNING,
    SLAB,
    leave_open,
    line_item,
    make_coupon,
    make_customer,
    make_feature,
    make_meter,
    make_plan,
    make_price,
    make_subscription,
    package,
    tiered,
)
from tests.requirements import only_on

pytestmark = only_on("sqlite", "postgresql")  # what is made of usage; usage on MariaDB is told by tests/http and tests/contracts

JUNE = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-07-01T00:00:00Z"}


def asked(api: Api, **query: Any) -> dict[str, Any]:
    answer = api.post("/events/analytics", JUNE | {"external_customer_id": "acme"} | query)
    assert answer.status == 200, answer
    body = answer.body
    in_currency = [item for item in body["items"] if item["currency"] == body["currency"]]
    for whole, part in (("total_cost", "total_cost"), ("subtotal", "subtotal"), ("total_discount", "total_discount")):
        assert Fraction(body[whole]) == sum(Fraction(item[part]) for item in in_currency)
    for item in body["items"]:
        assert Fraction(item["total_cost"]) == Fraction(item["subtotal"]) - Fraction(item["total_discount"])
        for point in item["points"]:
            assert Fraction(point["cost"]) == Fraction(point["subtotal"]) - Fraction(point["discount"])
    return body


def items(api: Api, **query: Any) -> list[dict[str, Any]]:
    return asked(api, **query)["items"]


def use(api: Api, *sizes: Any, time: str = "2025-06-02T09:10:00Z", customer: str = "acme", **members: Any) -> None:
    api.accept(
        *(make_event(timestamp=time, external_customer_id=customer, properties={"size": size}, **members) for size in sizes)
    )


# What an item costs


@pytest.mark.parametrize(
    ("price", "size", "cost"),
    [
        ({"amount": Decimal("0.0004")}, 7, "0.0028"),
        (tiered("SLAB"), 250, "19.5"),
        (tiered("VOLUME"), 250, "14.5"),
        ({"amount": Decimal(3)} | package(50), 120, "9"),
        ({"amount": Decimal(3)} | package(50, "down"), 120, "6"),
    ],
)
def test_an_item_costs_what_its_price_makes_of_its_usage(api: Api, price: dict[str, Any], size: int, cost: str):
    item = line_item(make_meter(), **price)
    use(api, size - 1, 1)
    body = asked(api)
    assert (body["total_cost"], body["subtotal"], body["total_discount"], body["currency"]) == (cost, cost, "0", "usd")
    [shown] = body["items"]
    assert (shown["total_usage"], shown["event_count"], shown["total_cost"], shown["currency"]) == (str(size), 2, cost, "usd")
    assert (shown["price_id"], shown["sub_line_item_id"]) == (item.price_id, item.pk)
    assert (shown["subscription_id"], shown["plan_id"], shown["add_on_id"]) == (item.subscription_id, item.price.entity_id, "")


@pytest.mark.parametrize(("mode", "cost"), [("SLAB", "57"), ("VOLUME", "252")])
def test_tiers_that_end_charge_what_they_hold_or_all_as_the_last(api: Api, mode: str, cost: str):
    leave_open(line_item(make_meter(), **tiered(mode)).price)
    use(api, 5000)
    assert asked(api)["total_cost"] == cost


@pytest.mark.parametrize(
    ("currency", "unit", "cost"),
    [("usd", "0.0045", "0.01"), ("jpy", "0.45", "1"), ("kwd", "0.00045", "0.001"), ("clf", "0.000045", "0.0001")],
)
def test_a_bucketed_cost_has_the_decimals_of_its_currency(api: Api, currency: str, unit: str, cost: str):
    line_item(make_meter(bucket_size="DAY"), amount=Decimal(unit), currency=currency)
    use(api, 1)
    use(api, "0.2", time="2025-06-03T09:10:00Z")
    body = asked(api)
    assert (body["total_cost"], body["currency"]) == (cost, currency)
    assert [point["cost"] for point in items(api, window_size="DAY")[0]["points"]] == [unit, plain(Decimal(unit) / 5)]


def test_plain_costs_are_not_rounded_and_bucketed_ones_once(api: Api):
    meter, bucketed = make_meter(name="plain"), make_meter(name="by hour", bucket_size="HOUR")
    make_subscription(meter, bucketed, amount=Decimal("0.003"))
    use(api, 1, time="2025-06-02T09:10:00Z")
    use(api, 1, time="2025-06-02T10:10:00Z")
    use(api, 1, time="2025-06-02T11:10:00Z")
    by_hour, unbucketed = items(api)
    assert (unbucketed["total_cost"], by_hour["total_cost"]) == ("0.009", "0.01")


def test_every_bucket_begins_anew_with_tiers_and_packages(api: Api):
    line_item(make_meter(bucket_size="HOUR"), amount=Decimal(3), **package(50))
    use(api, 120)
    use(api, 30, time="2025-06-02T10:10:00Z")
    use(api, 0, time="2025-06-02T11:10:00Z")
    [item] = items(api)
    assert (item["total_usage"], item["total_cost"], item["event_count"]) == ("150", "12", 3)


def test_an_empty_bucket_costs_nothing_under_a_volume_price(api: Api):
    line_item(make_meter(bucket_size="HOUR"), **tiered("VOLUME", SLAB[1:]))
    use(api, 0)
    assert items(api)[0]["total_cost"] == "0"


def test_each_group_of_a_grouped_meter_is_priced_by_itself(api: Api):
    line_item(make_meter("MAX", bucket_size="HOUR", group_by="zone"), amount=Decimal(1), **package(10))
    for zone, size in (("a", 4), ("a", 3), ("b", 11)):
        api.accept(make_event(timestamp="2025-06-02T09:10:00Z", properties={"size": size, "zone": zone}))
    [item] = items(api)
    assert (item["total_usage"], item["total_cost"]) == ("15", "3")


def test_the_price_applies_to_each_group_row(api: Api):
    line_item(make_meter(), amount=Decimal(3), **package(50))
    use(api, 30, source="api")
    use(api, 30, source="web")
    assert [item["total_cost"] for item in items(api)] == ["6"]
    body = asked(api, group_by=["source"])
    assert [(item["source"], item["total_cost"]) for item in body["items"]] == [("api", "3"), ("web", "3")]


def test_items_of_one_name_stand_by_source_properties_and_line_item(api: Api):
    line_item(make_meter())
    for source, region in (("web", "eu"), ("api", "us"), ("api", "eu"), ("", "us")):
        api.accept(make_event(timestamp="2025-06-02T09:10:00Z", source=source, properties={"size": 1, "region": region}))
    found = items(api, group_by=["properties.region", "source"])
    assert [(item["source"], item["properties"]["region"]) for item in found] == [
        (None, "us"), ("api", "eu"), ("api", "us"), ("web", "eu"),
    ]  # fmt: skip


def test_items_of_one_name_and_group_stand_by_line_item(api: Api):
    meters = [make_meter(name="same"), make_meter("COUNT", name="same")]
    subscription = make_subscription(meters[1])
    add_line_item(subscription, make_price(meters[0], make_plan()), start=BEGINNING)
    use(api, 3)
    found = [item["sub_line_item_id"] for item in items(api)]
    assert found == sorted(found)
    assert [item["meter_id"] for item in items(api)] == [meters[1].pk, meters[0].pk]


def test_grouping_by_what_items_are_of_anyway_changes_nothing(api: Api):
    line_item(make_meter(), amount=Decimal(1), item=commitment())
    use(api, 140, source="api")
    for query in (
        {"group_by": ["meter_id"]},
        {"group_by": ["feature_id", "meter_id"]},
        {"sources": []},
        {"property_filters": {"a": []}},
    ):
        [item] = items(api, **query)
        assert (item["total_cost"], item["source"]) == ("160", None)


# Points


@pytest.mark.parametrize("size", ["HOUR", "DAY", "WEEK", "MONTH"])
@pytest.mark.parametrize("type", ["SUM", "COUNT", "SUM_WITH_MULTIPLIER", "WEIGHTED_SUM"])
def test_where_usage_and_price_are_linear_the_points_add_up_to_the_item(api: Api, size: str, type: str):
    multiplier = {"multiplier": Decimal("0.75")} if type == "SUM_WITH_MULTIPLIER" else {}
    line_item(make_meter(type, **multiplier), amount=Decimal("0.0375"), subscription={"billing_anchor": at("2025-01-17 00:00")})
    for hour in range(0, 30 * 24, 6):
        use(api, hour % 7 + 1, time=f"2025-06-{hour // 24 + 1:02d}T{hour % 24:02d}:00:00Z")
    [item] = items(api, window_size=size)
    assert len(item["points"]) > 1
    for whole, part in (("total_cost", "cost"), ("total_usage", "usage"), ("event_count", "event_count")):
        difference = sum(Fraction(point[part]) for point in item["points"]) - Fraction(item[whole])
        assert abs(difference) <= (Fraction(1, 10**40) if type == "WEIGHTED_SUM" else 0)  # whose quotients have 50 digits


@pytest.mark.parametrize(("zone", "day"), [("", 9), ("Asia/Tokyo", 10)])
def test_the_billing_anchor_is_a_day_of_the_customers_time_zone(api: Api, zone: str, day: int):
    make_customer(timezone=zone)
    line_item(make_meter(), subscription={"billing_anchor": at("2025-01-09 20:00")})
    use(api, 1, time="2025-06-20T00:00:00Z")
    [point] = items(api, window_size="MONTH", timezone="America/New_York", billing_anchor="2025-01-25T00:00:00Z")[0]["points"]
    expected = {9: "2025-06-09T00:00:00Z", 10: "2025-06-09T15:00:00Z"}
    assert point["timestamp"] == expected[day]


def test_points_of_a_plain_meter_cost_what_their_window_used(api: Api):
    line_item(make_meter(), **tiered("SLAB"))
    use(api, 150)
    use(api, 100, time="2025-06-03T09:10:00Z")
    [item] = items(api, window_size="DAY")
    assert (item["window_size"], item["total_cost"]) == ("DAY", "19.5")
    assert [(point["timestamp"], point["usage"], point["cost"], point["event_count"]) for point in item["points"]] == [
        ("2025-06-02T00:00:00Z", "150", "14.5", 1),
        ("2025-06-03T00:00:00Z", "100", "10", 1),
    ]
    assert all(point["computed_true_up_amount"] == "0" for point in item["points"])


@pytest.mark.parametrize(("type", "usage"), [("SUM", "12"), ("MAX", "7")])
def test_costs_of_buckets_are_summed_into_the_windows(api: Api, type: str, usage: str):
    line_item(make_meter(type, bucket_size="HOUR"), amount=Decimal(3), **package(5))
    use(api, 5)
    use(api, 7, time="2025-06-02T10:10:00Z")
    [item] = items(api, window_size="DAY")
    assert (item["window_size"], item["total_usage"], item["total_cost"]) == ("DAY", "12", "9")
    assert [(point["usage"], point["cost"], point["event_count"]) for point in item["points"]] == [(usage, "9", 2)]
    [item] = items(api, window_size="15MIN")
    assert item["window_size"] == "HOUR"
    assert [(point["usage"], point["cost"]) for point in item["points"]] == [("5", "3"), ("7", "6")]


def test_months_begin_on_the_subscriptions_billing_anchor(api: Api):
    line_item(make_meter(), subscription={"billing_anchor": at("2025-01-10 08:30")})
    use(api, 1, time="2025-06-09T23:59:00Z")
    use(api, 2, time="2025-06-10T00:00:00Z")
    [item] = items(api, window_size="MONTH")
    assert [(point["timestamp"], point["usage"]) for point in item["points"]] == [
        ("2025-05-10T00:00:00Z", "1"),
        ("2025-06-10T00:00:00Z", "2"),
    ]


@pytest.mark.parametrize("subscribed", [True, False])
def test_days_are_those_of_the_customers_time_zone(api: Api, subscribed: bool):
    make_customer(timezone="Asia/Kolkata")
    meter = make_meter()
    if subscribed:
        make_subscription(meter)
    use(api, 1, time="2025-06-02T18:29:59Z")
    use(api, 2, time="2025-06-02T18:30:00Z")
    [item] = items(api, window_size="DAY")
    assert [(point["timestamp"], point["usage"]) for point in item["points"]] == [
        ("2025-06-01T18:30:00Z", "1"),
        ("2025-06-02T18:30:00Z", "2"),
    ]


@pytest.mark.parametrize(
    ("type", "members", "total"),
    [
        ("COUNT", {}, "2"), ("SUM", {}, "7"), ("AVG", {}, "3.5"), ("MAX", {}, "6"), ("MIN", {}, "1"), ("LATEST", {}, "6"),
        ("COUNT_UNIQUE", {}, "2"), ("SUM_WITH_MULTIPLIER", {"multiplier": Decimal("0.5")}, "3.5"),
        ("WEIGHTED_SUM", {}, "3.5"),
    ],
)  # fmt: skip
def test_every_aggregation_is_priced_with_windows_filters_and_groups_alike(api: Api, type: str, members: dict, total: str):
    line_item(make_meter(type, **members), amount=Decimal(2))
    use(api, 1, time="2025-06-16T00:00:00Z")
    use(api, 6, time="2025-06-16T00:00:00Z")
    cost = str((Decimal(total) * 2).normalize())
    for query in ({}, {"window_size": "MONTH"}, {"group_by": ["source"]}, {"property_filters": {"none": [""]}}):
        [item] = items(api, **query)
        assert (item["total_usage"], item["total_cost"]) == (total, f"{Decimal(cost):f}")


# Which line items take part


def test_two_line_items_of_one_meter_give_two_items_each_over_its_own_time(api: Api):
    item = line_item(make_meter())
    later = override_price(item, start=at("2025-06-10 12:07"), amount=Decimal(1))
    use(api, 1, time="2025-06-10T12:06:59.999999Z")
    use(api, 10, time="2025-06-10T12:07:00Z")
    found = items(api, window_size="DAY")
    assert [(one["sub_line_item_id"], one["total_usage"], one["total_cost"]) for one in found] == [
        (item.pk, "1", "0.1"),
        (later.pk, "10", "10"),
    ]
    assert {one["plan_id"] for one in found} == {item.price.entity_id}


def test_a_cancelled_subscription_counts_up_to_its_cancellation(api: Api):
    subscription = make_subscription(make_meter())
    use(api, 1, time="2025-06-10T11:59:59Z")
    use(api, 10, time="2025-06-10T12:00:00Z")
    cancel(subscription, at("2025-06-10 12:00"))
    assert [item["total_usage"] for item in items(api)] == ["1"]
    later = {"start_time": "2025-06-10T12:00:00Z"}
    assert asked(api, **later) | {"custom_analytics": []} == {
        "items": [], "total_cost": "0", "subtotal": "0", "total_discount": "0", "currency": "usd", "custom_analytics": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "priced"), [("active", True), ("trialing", True), ("paused", True), ("draft", False), ("incomplete", False)]
)
def test_a_draft_charges_nothing(api: Api, status: str, priced: bool):
    make_subscription(make_meter(), subscription={"status": status})
    use(api, 1)
    [item] = items(api)
    assert (item["total_cost"], item["currency"]) == (("0.1", "usd") if priced else ("0", ""))


def test_a_subscription_counts_up_to_its_end(api: Api):
    held = line_item(make_meter())
    use(api, 1, time="2025-06-10T11:59:59Z")
    use(api, 10, time="2025-06-10T12:00:00Z")
    assert held.end_date is None
    held.subscription.end_date = at("2025-06-10 12:00")
    save(held.subscription)
    assert [item["total_usage"] for item in items(api)] == ["1"]
    assert items(api, start_time="2025-06-10T12:00:00Z") == []


def test_a_line_item_counts_within_its_own_bounds_and_the_range(api: Api):
    item = line_item(make_meter())
    item.start_date, item.end_date = at("2025-06-05 10:30"), at("2025-06-20 10:30")
    save(item)
    times = {
        "2025-06-05T10:29:59.999999Z": 1, "2025-06-05T10:30:00Z": 2, "2025-06-20T10:29:59.999999Z": 4, "2025-06-20T10:30:00Z": 8,
    }  # fmt: skip
    for time, size in times.items():
        use(api, size, time=time)
    assert [one["total_usage"] for one in items(api)] == ["6"]
    assert [one["total_usage"] for one in items(api, start_time="2025-06-05T10:30:00.000001Z")] == ["4"]
    assert [one["total_usage"] for one in items(api, end_time="2025-06-20T10:29:59.999999Z")] == ["2"]
    assert items(api, end_time="2025-06-05T10:30:00Z") == items(api, start_time="2025-06-20T10:30:00Z") == []


def test_many_line_items_of_many_times_are_answered(api: Api):
    item = line_item(make_meter(), item={"end_date": at("2025-06-01 00:00")})
    add = {"environment": item.environment, "subscription": item.subscription, "price": item.price, "meter": item.meter}
    begins = [at("2025-06-01 00:10") + timedelta(minutes=61 * place, seconds=7) for place in range(600)]
    LineItem.objects.bulk_create(LineItem(**add, start_date=begin, end_date=begin + timedelta(minutes=20)) for begin in begins)
    use(api, 1, time="2025-06-01T00:20:00Z")  # the first
    use(api, 2, time="2025-06-01T00:40:00Z")  # between two
    use(api, 4, time="2025-06-26T09:10:07Z")  # the last
    assert begins[-1] == at("2025-06-26 09:09:07")
    assert [one["total_usage"] for one in items(api)] == ["1", "4"]


def test_a_meter_on_no_line_item_is_left_out(api: Api):
    line_item(make_meter(name="priced"))
    make_meter("COUNT", name="free")
    use(api, 1)
    assert [item["name"] for item in items(api)] == ["priced"]


def test_a_line_item_without_events_is_left_out_and_one_with_events_worth_nothing_stays(api: Api):
    make_subscription(make_meter(name="used"), make_meter(name="not used", event_name="other"))
    use(api, 0)
    assert [(item["name"], item["total_usage"]) for item in items(api)] == [("used", "0")]


def test_a_fixed_price_has_no_item(api: Api):
    subscription = make_subscription(make_meter())
    price = make_price(None, make_plan(), amount=Decimal(20))
    add_line_item(subscription, price)
    use(api, 1)
    assert len(items(api)) == 1


def test_only_the_customers_own_events_count(api: Api):
    line_item(make_meter())
    use(api, 1)
    use(api, 5, customer="globex")
    assert [item["total_usage"] for item in items(api)] == ["1"]


def test_items_in_another_currency_stand_beside_the_sums(api: Api):
    meter = make_meter()
    make_subscription(meter)
    make_subscription(meter, currency="eur", amount=Decimal(2))
    use(api, 1)
    body = asked(api)
    assert (body["currency"], body["total_cost"]) == ("usd", "0.1")
    assert [(item["currency"], item["total_cost"]) for item in body["items"]] == [("usd", "0.1"), ("eur", "2")]


# Without subscriptions


def test_without_subscriptions_usage_costs_nothing(api: Api):
    make_meter(name="Size")
    archived = make_meter("COUNT", name="Calls")
    use(api, 4)
    use(api, 6, customer="globex")
    api.delete(f"/meters/{archived.pk}")
    use(api, 5)
    make_customer("idle")
    for query, usage in (
        ({}, ["1", "9"]),
        ({"external_customer_id": None}, ["2", "15"]),
        ({"external_customer_id": "globex"}, ["1", "6"]),
    ):
        body = asked(api, **query)
        assert [item["total_usage"] for item in body["items"]] == usage
        assert (body["total_cost"], body["currency"]) == ("0", "")
    assert items(api, external_customer_id="nobody") == items(api, external_customer_id="idle") == []


# Features


def test_an_item_bears_its_features_name_and_units(api: Api):
    meter = make_meter()
    feature = make_feature(
        meter, name="Storage", unit_singular="byte", unit_plural="bytes", reporting_unit_singular="GB",
        reporting_unit_plural="GB", reporting_conversion_rate=Decimal(1_000_000_000),
    )  # fmt: skip
    use(api, 1_255_000_000)
    for subscribe in (False, True):
        if subscribe:
            make_subscription(meter)
        [item] = items(api, expand=["feature"])
        assert (item["name"], item["feature_id"], item["unit"], item["unit_plural"]) == ("Storage", feature.pk, "byte", "bytes")
        assert item["total_usage_display"] == "1.26"
        assert item["reporting_unit"] == {"unit_singular": "GB", "unit_plural": "GB", "conversion_rate": "1000000000"}
        assert (item["feature"]["id"], item["feature"]["meter_id"]) == (feature.pk, meter.pk)


@pytest.mark.parametrize("subscribed", [True, False])
def test_features_narrow_the_meters(api: Api, subscribed: bool):
    meters = make_meter(name="a"), make_meter("COUNT", name="b")
    feature = make_feature(meters[0], name="only")
    if subscribed:
        make_subscription(*meters)
    use(api, 3)
    assert [item["name"] for item in items(api, feature_ids=[feature.pk])] == ["only"]
    assert [item["name"] for item in items(api, feature_ids=[feature.pk, "nope"])] == ["only"]
    nothing = asked(api, feature_ids=["nope"])
    assert (nothing["items"], nothing["total_cost"]) == ([], "0")


def test_expanding_carries_the_objects_along(api: Api):
    item = line_item(make_meter(), **tiered("SLAB"))
    override = override_price(item, amount=Decimal(2), tiers=None, tier_mode="", billing_model="FLAT_FEE")
    end_line_item(override, at("2025-06-20 00:00"))
    use(api, 1)
    names = ["price", "meter", "feature", "subscription_line_item", "plan", "addon", "source", "nonsense"]
    [shown] = items(api, expand=names)
    assert shown["price"]["id"] == override.price_id == shown["price_id"]
    assert (shown["price"]["entity_type"], shown["price"]["parent_price_id"]) == ("SUBSCRIPTION", item.price_id)
    assert (shown["price"]["amount"], shown["price"]["display_amount"]) == ("2", "$2.00")
    assert (shown["plan"]["id"], shown["plan_id"]) == (item.price.entity_id, item.price.entity_id)
    assert shown["meter"]["id"] == shown["meter_id"]
    assert shown["subscription_line_item"]["end_date"] == "2025-06-20T00:00:00Z"
    assert (shown["feature"], shown["addon"], shown["sources"]) == (None, None, [""])
    [bare] = items(api)
    assert [bare[name] for name in ("price", "meter", "feature", "subscription_line_item", "plan", "addon")] == [None] * 6


def test_an_addons_price_names_the_addon(api: Api):
    item = line_item(make_meter(), item={})
    price = item.price
    price.entity_type, price.entity_id = Price.EntityType.ADDON, "addon_1"
    save(price)
    use(api, 1)
    [shown] = items(api)
    assert (shown["plan_id"], shown["add_on_id"]) == ("", "addon_1")


# Families


def family() -> tuple[Subscription, Customer]:
    parent = make_subscription(make_meter())
    child = make_customer("child", parent=parent.customer)
    inherit(parent, child, start=BEGINNING)
    return parent, child


def test_children_count_with_their_parent_only_when_asked(api: Api):
    family()
    make_customer("stranger")
    for customer, size in (("acme", 1), ("child", 10), ("stranger", 100)):
        use(api, size, customer=customer)
    assert [item["total_usage"] for item in items(api)] == ["1"]
    assert [item["total_usage"] for item in items(api, include_children=True)] == ["11"]
    assert [item["total_usage"] for item in items(api, include_children=True, group_by=["source"])] == ["11"]
    assert [item["total_usage"] for item in items(api, include_children=True, window_size="DAY")] == ["11"]


def test_a_child_sees_its_own_usage_at_its_parents_price(api: Api):
    family()
    use(api, 1)
    use(api, 10, customer="child")
    for include in (True, False):
        [item] = items(api, external_customer_id="child", include_children=include)
        assert (item["total_usage"], item["total_cost"]) == ("10", "1")


def test_a_child_that_has_left_counts_no_more(api: Api):
    _, child = family()
    cancel(child.subscriptions.get(), at("2025-05-01 00:00"))
    use(api, 1)
    use(api, 10, customer="child")
    assert [item["total_usage"] for item in items(api, include_children=True)] == ["1"]
    assert items(api, external_customer_id="child") == []


def mixed_family() -> list[Meter]:
    """A meter of each kind on a parent's line items; a child that inherits from 10 June 12:34 to 20 June 12:34."""
    kinds = ("SUM", "COUNT", "AVG", "MAX", "LATEST", "COUNT_UNIQUE")
    meters = [make_meter(kind, name=kind) for kind in kinds] + [make_meter(name="bucketed", bucket_size="DAY")]
    parent = make_subscription(*meters)
    heir = inherit(parent, make_customer("child", parent=parent.customer), start=at("2025-06-10 12:34"))
    cancel(heir, at("2025-06-20 12:34"))
    return meters


@pytest.mark.parametrize("query", [{}, {"group_by": ["source"]}, {"window_size": "MONTH"}, {"sources": ["api"]}])
def test_children_count_while_they_inherit(api: Api, query: dict[str, Any]):
    mixed_family()
    use(api, 5, time="2025-06-09T00:00:00Z", source="api")
    for size, time in (
        (100, "2025-06-10T12:33:59Z"),
        (1, "2025-06-10T12:34:00Z"),
        (9, "2025-06-20T12:33:59Z"),
        (200, "2025-06-20T12:34:00Z"),
    ):
        use(api, size, customer="child", time=time, source="api")
    found = {item["name"]: item["total_usage"] for item in items(api, include_children=True, **query)}
    assert found == {
        "SUM": "15", "COUNT": "3", "AVG": "5", "MAX": "9", "LATEST": "9", "COUNT_UNIQUE": "3", "bucketed": "15",
    }  # fmt: skip
    own = {item["name"]: item["total_usage"] for item in items(api, external_customer_id="child", **query)}
    assert (own["SUM"], own["COUNT"], own["LATEST"]) == ("10", "2", "9")


def test_a_child_that_inherits_twice_counts_once(api: Api):
    parent, child = family()
    inherit(parent, child, start=at("2025-06-01 12:00"))
    ended = inherit(parent, child, start=at("2025-01-01 00:00"))
    cancel(ended, at("2025-06-03 00:00"))
    use(api, 10, customer="child")
    assert [item["total_usage"] for item in items(api, include_children=True)] == ["10"]


def test_children_and_their_parent_are_the_whole_family(api: Api):
    parent = make_subscription(make_meter(), make_meter("COUNT", name="calls"))
    for place in range(3):
        child = make_customer(f"child{place}", parent=parent.customer)
        inherit(parent, child, start=at("2025-06-02 09:10") + timedelta(minutes=7 * place))
    for minute in range(0, 40, 4):
        for customer in ("acme", "child0", "child1", "child2"):
            use(api, minute + 1, customer=customer, time=f"2025-06-02T09:{minute:02d}:30Z")
    everyone = {item["name"]: Decimal(item["total_usage"]) for item in items(api, include_children=True)}
    apart = [item for customer in ("acme", "child0", "child1", "child2") for item in items(api, external_customer_id=customer)]
    for name, usage in everyone.items():
        assert usage == sum(Decimal(item["total_usage"]) for item in apart if item["name"] == name)


def test_a_child_has_not_committed_itself(api: Api):
    item = line_item(make_meter(), amount=Decimal(1), item=commitment(commitment_true_up_enabled=True))
    child = make_customer("child", parent=item.subscription.customer)
    inherit(item.subscription, child, start=BEGINNING)
    use(api, 3, customer="child")
    [shown] = items(api, external_customer_id="child")
    assert (shown["total_cost"], shown["commitment_info"]) == ("3", None)


# Commitments


def commitment(**members: Any) -> dict[str, Any]:
    return {"commitment_type": "amount", "commitment_amount": Decimal(100), "commitment_overage_factor": Decimal("1.5")} | members


@pytest.mark.parametrize(
    ("members", "size", "cost", "parts"),
    [
        ({}, 140, "160", ("100", "60", "0")),
        ({}, 30, "30", ("30", "0", "0")),
        ({"commitment_true_up_enabled": True}, 30, "100", ("30", "0", "70")),
        (
            {"commitment_type": "quantity", "commitment_amount": None, "commitment_quantity": Decimal(20)},
            30,
            "35",
            ("20", "15", "0"),
        ),
    ],
)
def test_a_commitment_is_charged_with_what_goes_beyond_it(api: Api, members: dict, size: int, cost: str, parts: tuple):
    line_item(make_meter(), amount=Decimal(1), item=commitment(**members))
    use(api, size)
    [item] = items(api)
    info = item["commitment_info"]
    names = ("computed_commitment_utilized_amount", "computed_overage_amount", "computed_true_up_amount")
    assert (item["total_cost"], tuple(info[name] for name in names)) == (cost, parts)
    assert (info["type"], info["overage_factor"], info["is_windowed"]) == (members.get("commitment_type", "amount"), "1.5", False)


def test_a_commitment_charges_even_without_events_but_not_a_filtered_view(api: Api):
    line_item(make_meter(), amount=Decimal(1), item=commitment(commitment_true_up_enabled=True))
    [item] = items(api)
    assert (item["total_cost"], item["total_usage"], item["event_count"]) == ("100", "0", 0)
    for query in ({"sources": ["api"]}, {"property_filters": {"a": ["b"]}}, {"group_by": ["source"]}):
        assert items(api, **query) == []
    use(api, 30, source="api")
    for query in ({"sources": ["api"]}, {"property_filters": {"a": [""]}}, {"group_by": ["properties.a"]}):
        [item] = items(api, **query)
        assert (item["total_cost"], item["commitment_info"]) == ("30", None)


@pytest.mark.parametrize("true_up", [True, False])
def test_a_line_item_with_a_commitment_has_an_item_without_events_too(api: Api, true_up: bool):
    line_item(make_meter(), item=commitment(commitment_true_up_enabled=true_up, commitment_duration="MONTHLY"))
    [item] = items(api, window_size="DAY")
    assert (item["total_cost"], item["total_usage"], item["points"]) == ("100" if true_up else "0", "0", [])
    assert item["commitment_info"] == {
        "type": "amount", "amount": "100", "quantity": None, "duration": "MONTHLY", "overage_factor": "1.5",
        "true_up_enabled": true_up, "is_windowed": False, "computed_commitment_utilized_amount": "0",
        "computed_overage_amount": "0", "computed_true_up_amount": "100" if true_up else "0",
    }  # fmt: skip


def test_without_an_overage_factor_what_goes_beyond_costs_the_same(api: Api):
    line_item(make_meter(), amount=Decimal(1), item=commitment(commitment_overage_factor=None))
    use(api, 140)
    assert asked(api)["total_cost"] == "140"


def test_a_committed_quantity_is_worth_its_tiers(api: Api):
    members = commitment(commitment_type="quantity", commitment_amount=None, commitment_quantity=Decimal(250))
    line_item(make_meter(), item=members, **tiered("SLAB"))
    use(api, 1000)
    [item] = items(api)
    assert item["commitment_info"]["amount"] == "19.5"
    assert (item["commitment_info"]["quantity"], item["total_cost"]) == (
        "250",
        str(Decimal("19.5") + (57 - Decimal("19.5")) * Decimal("1.5")).rstrip("0"),
    )


def test_a_commitment_is_held_against_the_rounded_cost_of_buckets_and_is_rounded_itself(api: Api):
    line_item(make_meter(bucket_size="DAY"), amount=Decimal("0.001"), item=commitment(commitment_overage_factor=Decimal("1.25")))
    use(api, 100_013)
    use(api, "0.9", time="2025-06-03T09:10:00Z")
    [item] = items(api)
    info = item["commitment_info"]
    # 100.0139 is rounded to 100.01, and 0.0125 beyond the commitment to 0.01.
    assert (item["subtotal"], info["computed_overage_amount"]) == ("100.01", "0.01")


def test_a_commitment_in_whole_yen_is_rounded_to_whole_yen(api: Api):
    line_item(make_meter(), amount=Decimal("0.5"), currency="jpy", item=commitment())
    use(api, 203)
    [item] = items(api)
    assert (item["total_cost"], item["commitment_info"]["computed_overage_amount"]) == ("102", "2")


def test_a_commitment_comes_before_coupons(api: Api):
    held = line_item(make_meter(), amount=Decimal(1), item=commitment(commitment_true_up_enabled=True))
    apply_coupon(make_coupon("10"), held)
    use(api, 30)
    body = asked(api)
    assert (body["subtotal"], body["total_discount"], body["total_cost"]) == ("100", "10", "90")


def test_a_windowed_commitment_of_a_committed_quantity_restarts_tiers_in_every_bucket(api: Api):
    members = commitment(
        commitment_type="quantity", commitment_amount=None, commitment_quantity=Decimal(100), commitment_windowed=True,
        commitment_overage_factor=Decimal(2),
    )  # fmt: skip
    line_item(make_meter(bucket_size="DAY"), item=members, **tiered("SLAB"))
    use(api, 250)
    use(api, 50, time="2025-06-03T09:10:00Z")
    [item] = items(api, window_size="DAY")
    assert [point["cost"] for point in item["points"]] == ["29", "5"]
    info = item["commitment_info"]
    assert (item["total_cost"], info["computed_overage_amount"], info["computed_commitment_utilized_amount"]) == (
        "34",
        "19",
        "15",
    )


def test_a_windowed_commitment_charges_empty_buckets_only_while_the_line_item_lasts(api: Api):
    members = commitment(commitment_amount=Decimal(10), commitment_windowed=True, commitment_true_up_enabled=True)
    held = line_item(make_meter(bucket_size="DAY"), amount=Decimal(1), item=members)
    end_line_item(held, at("2025-06-04 00:00"))
    use(api, 14, time="2025-06-02T09:10:00Z")
    [item] = items(api, window_size="DAY")
    assert (item["total_cost"], len(item["points"])) == ("36", 1)
    cancel(held.subscription, at("2025-06-03 00:00"))
    assert asked(api)["total_cost"] == "26"


def test_a_windowed_commitment_holds_for_every_bucket(api: Api):
    members = commitment(commitment_amount=Decimal(10), commitment_windowed=True)
    held = line_item(make_meter(bucket_size="DAY"), amount=Decimal(1), item=members)
    use(api, 14)
    use(api, 4, time="2025-06-03T09:10:00Z")
    [item] = items(api, window_size="DAY")
    assert item["total_cost"] == "20"
    assert [(point["cost"], point["computed_overage_amount"]) for point in item["points"]] == [("16", "6"), ("4", "0")]
    held.commitment_true_up_enabled = True
    save(held)
    [item] = items(api, window_size="DAY")
    assert item["total_cost"] == str(30 * 10 + 6)
    assert item["commitment_info"]["computed_true_up_amount"] == str(28 * 10 + 6)
    assert [point["computed_true_up_amount"] for point in item["points"]] == ["0", "6"]


# Coupons


def test_coupons_of_the_line_item_come_before_those_of_the_subscription(api: Api):
    item = line_item(make_meter(), amount=Decimal(1))
    apply_coupon(make_coupon("50"), item.subscription)
    apply_coupon(make_coupon("10", cadence="repeated"), item)
    apply_coupon(make_coupon("90", cadence="once"), item)
    apply_coupon(make_coupon(type="fixed", percentage_off=None, amount_off=Decimal(5), currency="usd"), item)
    use(api, "10.05")
    body = asked(api)
    assert (body["subtotal"], body["total_discount"], body["total_cost"]) == ("10.05", "5.53", "4.52")


def test_a_coupon_counts_if_it_was_valid_in_the_range_and_with_windows_at_each_point(api: Api):
    item = line_item(make_meter(), amount=Decimal(1))
    apply_coupon(make_coupon("50"), item, start=at("2025-06-03 00:00"), end=at("2025-06-04 00:00"))
    for day in (2, 3, 4):
        use(api, 10, time=f"2025-06-0{day}T09:00:00Z")
    assert asked(api)["total_discount"] == "15"
    body = asked(api, window_size="DAY")
    assert [(point["discount"], point["cost"]) for point in body["items"][0]["points"]] == [("0", "10"), ("5", "5"), ("0", "10")]
    assert (body["total_discount"], body["total_cost"]) == ("5", "25")
    assert asked(api, end_time="2025-06-03T00:00:00Z")["total_discount"] == "0"


@pytest.mark.parametrize(
    ("start", "end", "counts"),
    [
        ("2025-05-01 00:00", "2025-06-01 00:00", False), ("2025-05-01 00:00", "2025-06-01 00:01", True),
        ("2025-06-30 23:59", None, True), ("2025-07-01 00:00", None, False), ("2025-06-10 00:00", "2025-06-10 00:00", False),
    ],
)  # fmt: skip
def test_a_coupon_counts_if_its_time_overlaps_the_range(api: Api, start: str, end: str | None, counts: bool):
    item = line_item(make_meter(), amount=Decimal(1))
    apply_coupon(make_coupon("50"), item, start=at(start), end=None if end is None else at(end))
    use(api, 10)
    assert asked(api)["total_discount"] == ("5" if counts else "0")


def test_coupons_of_other_line_items_and_subscriptions_take_nothing_off(api: Api):
    subscription = make_subscription(make_meter(name="a"), make_meter("COUNT", name="b"), amount=Decimal(1))
    apply_coupon(make_coupon("50"), subscription.line_items.get(meter__name="a"))
    apply_coupon(make_coupon("20"), make_subscription(make_meter(name="c"), amount=Decimal(1)))
    use(api, 10)
    assert [(item["name"], item["total_discount"]) for item in items(api)] == [("a", "5"), ("b", "0"), ("c", "2")]


def test_a_coupon_in_yen_takes_whole_yen(api: Api):
    apply_coupon(make_coupon("50"), line_item(make_meter(), amount=Decimal(1), currency="jpy"))
    use(api, 5)
    assert asked(api)["total_discount"] == "3"


# Other environments, and speed


def test_prices_of_another_environment_are_not_seen(api: Api, stranger: Api):
    line_item(make_meter())
    stranger.meter(name="Theirs")
    stranger.accept(make_event(timestamp="2025-06-02T09:10:00Z", properties={"size": 3}))
    body = stranger.post("/events/analytics", JUNE | {"external_customer_id": "acme"}).body
    assert [(item["name"], item["total_cost"], item["currency"]) for item in body["items"]] == [("Theirs", "0", "")]


@pytest.mark.parametrize(
    ("query", "queries"),
    [
        ({}, 9), ({"group_by": ["source"]}, 9), ({"include_children": True}, 10), ({"expand": []}, 8),
        ({"window_size": None}, 9),
    ],
)  # fmt: skip
def test_the_number_of_queries_does_not_grow_with_meters_and_line_items(api: Api, query: dict[str, Any], queries: int):
    def count() -> int:
        full = {"window_size": "DAY", "expand": ["price", "plan", "feature"]} | query
        asked(api, **full)  # compiled and connected
        with CaptureQueriesContext(connection) as captured:
            found = items(api, **full)
        assert len(found) == len(meters)
        return len(captured)

    types = ("SUM", "COUNT", "MAX", "LATEST", "COUNT_UNIQUE")
    meters: list[Meter] = []
    subscription = make_subscription(make_meter(name="other", event_name="other"))

    def price_one_of_each_type() -> None:
        for type in types:
            meter = make_meter(type, name=f"m{len(meters)}")
            make_feature(meter)
            add_line_item(subscription, make_price(meter, make_plan()), start=BEGINNING + timedelta(minutes=len(meters)))
            meters.append(meter)

    for day in range(2, 30):
        use(api, day, time=f"2025-06-{day:02d}T09:10:00Z")
    price_one_of_each_type()
    few = count()
    two_ways = connection.vendor == "postgresql"  # LATEST row by row, and what the database adds up
    assert few == queries + two_ways
    price_one_of_each_type()
    price_one_of_each_type()
    assert count() == few
