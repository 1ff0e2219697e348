"""FlexPrice's own Python client, unmodified, manages customers, features, plans, prices, subscriptions and coupons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flexmeter.keys import create_key
from flexmeter.meters import MeterDefinition, create_meter
from flexmeter.models import Meter

from tests.requirements import import_required, only_on

pytestmark = [
    pytest.mark.django_db(transaction=True),
    only_on("sqlite", "postgresql"),  # how the API is spoken; what it answers on MariaDB is told by tests/http and tests/pricing
]

flexprice = import_required("flexprice")
errors = import_required("flexprice.models.errors")

JANUARY = datetime(2025, 1, 1, tzinfo=UTC)

Call = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def call(request: pytest.FixtureRequest, live_server: Any) -> Iterator[Call]:
    """`call("plans.create_plan", name=…)` runs an operation of the client, or its async twin."""
    secret = create_key("client", environment="main").secret
    sdk = flexprice.Flexprice(server_url=f"{live_server.url}/v1", api_key_auth=secret)

    def operation(which: str) -> Callable[..., Any]:
        group, _, method = which.partition(".")
        return getattr(getattr(sdk, group), method)

    if not request.param:
        with sdk:
            yield lambda which, **arguments: operation(which)(**arguments)
        return
    with asyncio.Runner() as runner:
        yield lambda which, **arguments: runner.run(operation(which + "_async")(**arguments))
        runner.run(sdk.__aexit__(None, None, None))


@pytest.fixture
def meter(db: None) -> Meter:
    return create_meter(MeterDefinition("Tokens", "llm_request", "SUM", "tokens"), environment="main")


def make_price(call: Call, plan_id: str, meter_id: str, **changed: Any) -> Any:
    price = {
        "entity_type": "PLAN",
        "entity_id": plan_id,
        "type_": "USAGE",
        "meter_id": meter_id,
        "amount": "0.002",
        "currency": "usd",
        "billing_model": "FLAT_FEE",
        "billing_period": "MONTHLY",
        "invoice_cadence": "ARREAR",
        "price_unit_type": "FIAT",
    }
    return call("prices.create_price", **price | changed)


def test_customers_are_created_found_listed_changed_and_archived(call: Call):
    customer = call("customers.create_customer", external_id="acme/eu", name="Acme", timezone="Asia/Tokyo", metadata={"a": "b"})
    assert customer.id.startswith("cust_")
    assert (customer.external_id, customer.timezone, customer.metadata) == ("acme/eu", "Asia/Tokyo", {"a": "b"})
    assert (customer.environment_id, customer.status) == ("main", "published")
    assert call("customers.get_customer", id=customer.id) == customer
    assert call("customers.get_customer_by_external_id", external_id="acme/eu") == customer
    listed = call("customers.query_customer", external_ids=["acme/eu", "other"], limit=10)
    assert (listed.items, listed.pagination.total) == ([customer], 1)
    changed = call("customers.update_customer", external_customer_id="acme/eu", name="Acme Europe")
    assert (changed.id, changed.name, changed.timezone) == (customer.id, "Acme Europe", "Asia/Tokyo")
    assert call("customers.delete_customer", id=customer.id) is None
    assert call("customers.get_customer", id=customer.id).status == "archived"


def test_what_goes_wrong_is_an_error_of_the_client(call: Call):
    call("customers.create_customer", external_id="acme", name="Acme")
    with pytest.raises(errors.ErrorResponse) as unusable:
        call("customers.create_customer", external_id="other", name="Other", timezone="Mars/Olympus")
    assert unusable.value.status_code == 400
    assert "Mars/Olympus" in unusable.value.data.message
    with pytest.raises(errors.FlexpriceError, match="Customer not found") as unknown:
        call("customers.get_customer", id="cust_unknown")
    assert unknown.value.status_code == 404
    with pytest.raises(errors.FlexpriceError) as known:
        call("customers.create_customer", external_id="acme", name="Acme")
    assert known.value.status_code == 409


def test_features_are_created_with_a_meter_or_for_one(call: Call, meter: Meter):
    unit = {"unit_singular": "million tokens", "unit_plural": "million tokens", "conversion_rate": 1_000_000}
    feature = call("features.create_feature", name="Tokens", type_="metered", meter_id=meter.id, reporting_unit=unit)
    assert (feature.meter_id, feature.type, feature.meter.name) == (meter.id, "metered", "Tokens")
    assert feature.reporting_unit.conversion_rate == 1_000_000
    inline = {
        "name": "Requests",
        "event_name": "llm_request",
        "aggregation": {"type": "COUNT"},
        "reset_usage": "BILLING_PERIOD",
    }
    other = call("features.create_feature", name="Requests", type_="metered", meter=inline, lookup_key="requests")
    assert other.meter.aggregation.type == "COUNT"
    found = call("features.query_feature", feature_ids=[feature.id])
    assert [item.id for item in found.items] == [feature.id]
    renamed = call("features.update_feature", id=other.id, name="LLM requests")
    assert (renamed.name, renamed.lookup_key) == ("LLM requests", "requests")
    assert "archived" in call("features.delete_feature", id=other.id).message
    published = call("features.query_feature", status="published")
    assert [item.id for item in published.items] == [feature.id]


def test_plans_have_prices_of_every_model(call: Call, meter: Meter):
    plan = call("plans.create_plan", name="Standard", lookup_key="standard", metadata={"since": "2025"})
    flat = make_price(call, plan.id, meter.id, lookup_key="flat")
    package = make_price(
        call, plan.id, meter.id, billing_model="PACKAGE", amount="5", transform_quantity={"divide_by": 1000, "round": "up"}
    )
    tiers = [{"up_to": 100, "unit_amount": "0.10", "flat_amount": "2"}, {"unit_amount": "0.01"}]
    tiered = make_price(call, plan.id, meter.id, billing_model="TIERED", tier_mode="SLAB", tiers=tiers)
    assert (flat.amount, flat.display_amount, flat.type) == ("0.002", "$0.002", "USAGE")
    assert (package.transform_quantity.divide_by, package.transform_quantity.round) == (1000, "up")
    assert [tier.up_to for tier in tiered.tiers] == [100, None]
    assert call("prices.get_price", id=flat.id) == flat
    assert call("prices.get_price_by_lookup_key", lookup_key="flat").id == flat.id
    assert {price.id for price in call("prices.query_price", plan_ids=[plan.id]).items} == {flat.id, package.id, tiered.id}
    shown = call("plans.get_plan", id=plan.id)
    assert [price.id for price in shown.prices] == [flat.id, package.id, tiered.id]
    assert call("plans.query_plan", lookup_key="standard").items[0].id == plan.id
    assert call("plans.update_plan", id=plan.id, description="For most.").description == "For most."
    assert call("prices.update_price", id=flat.id, display_name="Tokens").display_name == "Tokens"
    assert "archived" in call("prices.delete_price", id=package.id).message
    bulk = call("prices.create_prices_bulk", items=[dict(price_members(plan.id, meter.id))])
    assert len(bulk.items) == 1


def price_members(plan_id: str, meter_id: str) -> dict[str, Any]:
    return {
        "entity_type": "PLAN", "entity_id": plan_id, "type": "USAGE", "meter_id": meter_id, "amount": "1", "currency": "usd",
        "billing_model": "FLAT_FEE", "billing_period": "MONTHLY", "invoice_cadence": "ARREAR", "price_unit_type": "FIAT",
    }  # fmt: skip


def test_a_subscription_copies_the_prices_and_can_be_cancelled(call: Call, meter: Meter):
    customer = call("customers.create_customer", external_id="acme", name="Acme")
    plan = call("plans.create_plan", name="Standard")
    price = make_price(call, plan.id, meter.id)
    coupon = call("coupons.create_coupon", name="Tenth", type_="percentage", cadence="forever", percentage_off="10")
    subscription = call(
        "subscriptions.create_subscription",
        plan_id=plan.id,
        currency="usd",
        billing_period="MONTHLY",
        external_customer_id="acme",
        start_date=JANUARY,
        coupons=[coupon.id],
        line_item_commitments={price.id: {"commitment_type": "amount", "commitment_amount": 100, "enable_true_up": True}},
        override_line_items=[{"price_id": price.id, "amount": "0.001"}],
    )
    assert (subscription.customer_id, subscription.subscription_status) == (customer.id, "active")
    assert subscription.start_date == subscription.billing_anchor == JANUARY
    [item] = [item for item in subscription.line_items if item.price_id != price.id]
    assert (item.price_type, item.commitment_amount, item.commitment_true_up_enabled) == ("USAGE", "100", True)
    [applied] = call("coupon_associations.list_coupon_associations", subscription_ids=[subscription.id]).items
    assert applied.coupon_id == coupon.id
    shown = call("subscriptions.get_subscription", id=subscription.id)
    assert shown.id == subscription.id
    listed = call("subscriptions.query_subscription", external_customer_id="acme", subscription_status=["active"])
    assert [found.id for found in listed.items] == [subscription.id]
    by_customer = call("customers.get_subscriptions_for_customer", external_id="acme")
    assert [found.id for found in by_customer.items] == [subscription.id]

    added = call("subscriptions.create_subscription_line_item", id=subscription.id, price_id=price.id, start_date=JANUARY)
    items = call("subscriptions.query_subscription_line_items", subscription_ids=[subscription.id])
    assert added.id in {found.id for found in items.items}
    later = JANUARY + timedelta(days=31)
    ended = call("subscriptions.delete_subscription_line_item", id=added.id, effective_from=later.isoformat())
    assert ended.end_date == later

    cancelled = call("subscriptions.cancel_subscription", id=subscription.id, cancellation_type="scheduled_date", cancel_at=later)
    assert (cancelled.status, cancelled.effective_date) == ("cancelled", later)
    assert call("subscriptions.get_subscription", id=subscription.id).cancelled_at == later
