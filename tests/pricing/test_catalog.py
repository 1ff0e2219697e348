"""What customers, features, plans, prices, subscriptions and coupons must be like, and how they come about."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from flexmeter.exceptions import AlreadyDefined, DefinitionNotFound
from flexmeter.pricing.catalog import archive, find, find_customer, save
from flexmeter.pricing.exceptions import InvalidPricing
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, Feature, LineItem, Plan, Price, Subscription
from flexmeter.pricing.subscriptions import add_line_item, apply_coupon, cancel, inherit, override_price, subscribe
from flexmeter.pricing.validity import price_warnings

from tests.factories import at
from tests.pricing.factories import (
    BEGINNING,
    MAIN,
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

pytestmark = pytest.mark.usefixtures("db")


def refused(make: Callable[[], Any], member: str) -> str:
    """The message with which `make` is refused because of that member."""
    with pytest.raises(InvalidPricing) as caught:
        make()
    assert next(iter(caught.value.details)) == member, caught.value.details
    return caught.value.message


def tier(up_to: Any = None, unit: Any = "1", **more: Any) -> dict[str, Any]:
    return {"up_to": up_to, "unit_amount": unit} | more


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"currency": "usx"}, "currency"),
        ({"currency": "USD"}, "currency"),
        ({"currency": ""}, "currency"),
        ({"amount": Decimal(-1)}, "amount"),
        ({"amount": Decimal("Infinity")}, "amount"),
        ({"amount": Decimal("1E+200")}, "amount"),
        ({"entity_id": "plan_unknown"}, "entity_id"),
        ({"entity_id": ""}, "entity_id"),
        ({"parent_price_id": "price_unknown"}, "parent_price_id"),
        ({"meter_id": "meter_unknown"}, "meter_id"),
        ({"meter_id": None}, "meter_id"),
        ({"type": "FIXED"}, "meter_id"),
        ({"type": "FREE"}, "type"),
        ({"billing_model": "TIERED"}, "tier_mode"),
        ({"billing_model": "TIERED", "tier_mode": "SLAB"}, "tiers"),
        (tiered("STEEP"), "tier_mode"),
        (tiered("SLAB", [tier(), tier()]), "tiers"),
        (tiered("SLAB", [tier(5), tier("5")]), "tiers"),
        (tiered("SLAB", [tier(0)]), "tiers[0].up_to"),
        (tiered("SLAB", [tier(), tier("1.5")]), "tiers[1].up_to"),
        (tiered("SLAB", [tier(5), tier(10)]), "tiers"),
        (tiered("VOLUME", [tier(5)]), "tiers"),
        (tiered("SLAB", [tier(5, None)]), "tiers[0].unit_amount"),
        (tiered("SLAB", [tier(5, "x")]), "tiers[0].unit_amount"),
        (tiered("SLAB", [tier(5, flat_amount="-1")]), "tiers[0].flat_amount"),
        ({"tiers": [tier()]}, "tiers"),
        ({"tier_mode": "SLAB"}, "tier_mode"),
        (package(0), "transform_quantity.divide_by"),
        ({"billing_model": "PACKAGE"}, "transform_quantity.divide_by"),
        (package(5, "sideways"), "round"),
        ({"divide_by": 5}, "transform_quantity"),
        ({"start_date": at("2025-02-01 00:00"), "end_date": at("2025-01-01 00:00")}, "end_date"),
        ({"start_date": at("2025-02-01 00:00").replace(tzinfo=None)}, "start_date"),
        ({"billing_period_count": 0}, "billing_period_count"),
        ({"billing_period_count": 2**31}, "billing_period_count"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"description": "\x00"}, "description"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_price_is_refused_by_the_member_that_is_wrong(members: dict[str, Any], member: str):
    meter, plan = make_meter(), make_plan()
    before = Price.objects.count()
    refused(lambda: make_price(meter, plan, **members), member)
    assert Price.objects.count() == before


def test_tiers_are_kept_in_order_with_plain_amounts():
    price = make_price(make_meter(), make_plan(), **tiered("SLAB", [tier(), tier("1E1", "0.50", flat_amount=2), tier(5.0)]))
    price.refresh_from_db()
    assert price.tiers == [
        {"up_to": 5, "unit_amount": "1", "flat_amount": None},
        {"up_to": 10, "unit_amount": "0.5", "flat_amount": "2"},
        {"up_to": None, "unit_amount": "1", "flat_amount": None},
    ]
    assert price_warnings(price) == []


@pytest.mark.parametrize(
    ("mode", "warning"),
    [
        ("SLAB", "No tier is open: units above 10 are not charged."),
        ("VOLUME", "No tier is open: quantities above 10 are charged like the last tier."),
    ],
)
def test_tiers_that_end_are_worth_a_warning(mode: str, warning: str):
    price = leave_open(make_price(make_meter(), make_plan(), **tiered(mode, [tier(10), tier(), tier(5)])))
    assert price_warnings(price) == [warning]
    price.display_name = "Kept"
    assert save(price).display_name == "Kept"
    price.tiers = [tier(7)]
    refused(lambda: save(price), "tiers")


def test_an_open_end_is_asked_for_in_words():
    meter, plan = make_meter(), make_plan()
    assert refused(lambda: make_price(meter, plan, **tiered("SLAB", [tier(10)])), "tiers") == "What do units above 10 cost?"


def test_a_price_of_another_environments_meter_or_plan_is_refused():
    meter, plan = make_meter(), make_plan()
    for members, member in (({"environment": "elsewhere"}, "meter_id"), ({"entity_id": "x"}, "entity_id")):
        refused(lambda members=members: make_price(meter, plan, **members), member)


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"external_id": " "}, "external_id"),
        ({"external_id": "x" * 256}, "external_id"),
        ({"external_id": "a\x00"}, "external_id"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"host_model": "shop.customer"}, "host_pk"),
        ({"parent_id": "cust_unknown"}, "parent_id"),
        ({"metadata": "x"}, "metadata"),
        ({"status": "gone"}, "status"),
    ],
)
def test_a_customer_is_refused_by_the_member_that_is_wrong(members: dict[str, Any], member: str):
    refused(lambda: make_customer(**members), member)


def test_an_external_id_is_taken_once_in_each_environment():
    customer = make_customer()
    assert make_customer(environment="elsewhere").pk != customer.pk
    with pytest.raises(AlreadyDefined) as caught:
        make_customer()
    assert caught.value.details == {"external_id": "acme"}
    assert make_customer("Acme").external_id == "Acme"
    assert find_customer("acme", environment=MAIN) == customer
    assert find_customer("ACME", environment=MAIN) is None


def test_a_customer_cannot_be_below_itself():
    top = make_customer("top")
    bottom = make_customer("bottom", parent=make_customer("middle", parent=top))
    top.parent = bottom
    refused(lambda: save(top), "parent")


def test_a_meter_has_one_feature():
    meter = make_meter()
    make_feature(meter)
    with pytest.raises(AlreadyDefined):
        make_feature(meter)


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"name": " "}, "name"),
        ({"meter_id": "meter_unknown"}, "meter_id"),
        ({"reporting_conversion_rate": Decimal(0)}, "reporting_unit.conversion_rate"),
        ({"reporting_conversion_rate": Decimal(5)}, "reporting_unit"),
        ({"reporting_unit_singular": "GB"}, "reporting_unit"),
    ],
)
def test_a_feature_is_refused_by_the_member_that_is_wrong(members: dict[str, Any], member: str):
    meter = make_meter()
    refused(lambda: make_feature(meter, **members), member)


def test_subscribing_copies_the_plans_prices_into_line_items():
    size, calls, plan, customer = make_meter(), make_meter("COUNT"), make_plan(), make_customer()
    prices = [make_price(size, plan), make_price(calls, plan, end_date=at("2026-01-01 00:00")), make_price(None, plan)]
    archive(make_price(size, plan, amount=Decimal(9)))
    make_price(size, plan, currency="eur")
    refused(lambda: subscribe(customer, plan), "currency")
    subscription = subscribe(
        customer, plan, currency="usd", start=BEGINNING,
        commitments={prices[0].pk: {"commitment_type": "amount", "commitment_amount": Decimal(5)}},
    )  # fmt: skip
    lines = list(subscription.line_items.order_by("id"))
    assert [(line.price_id, line.meter_id, line.start_date, line.end_date) for line in lines] == [
        (prices[0].pk, size.pk, BEGINNING, None),
        (prices[1].pk, calls.pk, BEGINNING, at("2026-01-01 00:00")),
        (prices[2].pk, None, BEGINNING, None),
    ]
    assert [line.commitment_amount for line in lines] == [Decimal(5), None, None]
    assert (subscription.currency, subscription.billing_anchor, subscription.status) == ("usd", BEGINNING, "active")
    make_price(size, plan)
    assert subscription.line_items.count() == 3


def test_a_plan_without_prices_cannot_be_subscribed_to():
    customer, plan = make_customer(), make_plan()
    refused(lambda: subscribe(customer, plan), "plan_id")
    make_price(make_meter(), plan)
    refused(lambda: subscribe(customer, plan, currency="eur"), "currency")
    assert not Subscription.objects.exists()


def test_an_override_is_a_price_of_the_subscription():
    item = line_item(make_meter(), **tiered("SLAB"))
    later = override_price(item, start=at("2025-03-01 00:00"), tiers=[tier(None, "7")])
    item.refresh_from_db()
    assert (item.end_date, later.start_date, later.end_date) == (at("2025-03-01 00:00"), at("2025-03-01 00:00"), None)
    price = later.price
    assert (price.entity_type, price.entity_id, price.parent_price_id) == ("SUBSCRIPTION", item.subscription_id, item.price_id)
    assert override_price(later, tiers=[tier(None, "8")]).price.parent_price_id == item.price_id


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"commitment_amount": Decimal(5)}, "commitment_type"),
        ({"commitment_true_up_enabled": True}, "commitment_type"),
        ({"commitment_type": "amount"}, "commitment_amount"),
        ({"commitment_type": "amount", "commitment_amount": Decimal(0)}, "commitment_amount"),
        ({"commitment_type": "quantity", "commitment_amount": Decimal(5)}, "commitment_amount"),
        ({"commitment_type": "amount", "commitment_amount": Decimal(5), "commitment_windowed": True}, "commitment_windowed"),
        (
            {"commitment_type": "amount", "commitment_amount": Decimal(5), "commitment_overage_factor": Decimal("0.5")},
            "commitment_overage_factor",
        ),
        ({"end_date": at("2024-01-01 00:00")}, "end_date"),
        ({"meter_id": None}, "meter_id"),
    ],
)
def test_a_line_item_is_refused_by_the_member_that_is_wrong(members: dict[str, Any], member: str):
    meter = make_meter()
    refused(lambda: line_item(meter, item=members), member)


def test_a_line_item_is_in_its_subscriptions_currency():
    subscription = make_subscription(make_meter())
    price = make_price(make_meter(), make_plan(), currency="eur")
    refused(lambda: add_line_item(subscription, price), "currency")


def test_cancelling_says_since_when():
    subscription = make_subscription(make_meter())
    subscription.status = Subscription.Status.CANCELLED
    refused(lambda: save(subscription), "cancelled_at")
    assert cancel(subscription, at("2025-03-01 00:00")).cancelled_at == at("2025-03-01 00:00")
    subscription.status = Subscription.Status.ACTIVE
    refused(lambda: save(subscription), "cancelled_at")


def test_only_a_child_can_inherit_and_only_once_removed():
    parent = make_subscription(make_meter())
    child, stranger = make_customer("child", parent=parent.customer), make_customer("stranger")
    refused(lambda: inherit(parent, stranger), "customer_id")
    inherited = inherit(parent, child)
    grandchild = make_customer("grandchild", parent=child)
    refused(lambda: inherit(inherited, grandchild), "parent_id")


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"name": ""}, "name"),
        ({"percentage_off": Decimal(0)}, "percentage_off"),
        ({"percentage_off": Decimal("100.5")}, "percentage_off"),
        ({"percentage_off": None}, "percentage_off"),
        ({"type": "fixed"}, "amount_off"),
        ({"type": "fixed", "amount_off": Decimal(5)}, "currency"),
        ({"cadence": "never"}, "cadence"),
    ],
)
def test_a_coupon_is_refused_by_the_member_that_is_wrong(members: dict[str, Any], member: str):
    refused(lambda: make_coupon(**members), member)


def test_a_coupon_ended_as_it_begins_takes_nothing_off():
    coupon = apply_coupon(make_coupon(), make_subscription(make_meter()), start=BEGINNING, end=BEGINNING).percentage()
    assert coupon is not None
    assert not coupon.overlaps(at("2024-01-01 00:00"), at("2026-01-01 00:00"))
    assert not coupon.covers(BEGINNING)


def test_a_coupon_applies_to_line_items_of_its_subscription():
    item, other = line_item(make_meter()), make_subscription(make_meter(), customer="other")
    association = apply_coupon(make_coupon(), item)
    association.subscription = other
    refused(lambda: save(association), "line_item_id")


def test_what_is_looked_for_in_another_environment_is_not_found():
    plan = make_plan()
    assert find(Plan, plan.pk, environment=MAIN) == plan
    with pytest.raises(DefinitionNotFound) as caught:
        find(Plan, plan.pk, environment="elsewhere")
    assert (caught.value.kind, caught.value.id) == ("plan", plan.pk)


@pytest.mark.parametrize("model", [Price, Subscription, LineItem, CouponAssociation])
def test_the_database_refuses_an_end_before_the_start(model: type):
    item = line_item(make_meter())
    rows = {
        Price: item.price,
        Subscription: item.subscription,
        LineItem: item,
        CouponAssociation: apply_coupon(make_coupon(), item),
    }
    row = rows[model]
    row.start_date, row.end_date = at("2025-02-01 00:00"), at("2025-01-01 00:00")
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()


def test_ids_tell_what_they_are_of():
    item = line_item(make_meter())
    rows: list[tuple[type, str]] = [
        (Customer, "cust_"), (Plan, "plan_"), (Price, "price_"), (Subscription, "subs_"), (LineItem, "subs_line_"),
    ]  # fmt: skip
    for model, prefix in rows:
        assert all(row.pk.removeprefix(prefix).isalnum() and len(row.pk) == len(prefix) + 26 for row in model.objects.all())
    assert make_feature(item.meter).pk.startswith("feat_")
    assert make_coupon().pk.startswith("coupon_")
    assert {Feature.objects.count(), Coupon.objects.count()} == {1}
