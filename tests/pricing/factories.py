"""Rows of pricing with defaults, in the environment "main": a test names only what it is about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from flexmeter.meters import MeterDefinition, create_meter
from flexmeter.models import Meter
from flexmeter.pricing.catalog import find_customer, save
from flexmeter.pricing.models import Coupon, Customer, Feature, LineItem, Plan, Price, Subscription
from flexmeter.pricing.subscriptions import subscribe

from tests.factories import at

MAIN = "main"
BEGINNING = at("2025-01-01 00:00")
DEFINITION = {"name": "Size", "event_name": "api_request", "field": "size"}

SLAB = [
    {"up_to": 100, "unit_amount": "0.10"},
    {"up_to": 1000, "unit_amount": "0.05", "flat_amount": "2"},
    {"up_to": None, "unit_amount": "0.01"},
]


def make_meter(type: str = "SUM", **changed: Any) -> Meter:
    defined = DEFINITION | {"aggregation_type": type} | ({"field": ""} if type == "COUNT" else {}) | changed
    return create_meter(MeterDefinition(**defined), environment=MAIN)


def make_customer(external_id: str = "acme", **changed: Any) -> Customer:
    return save(Customer(**{"environment": MAIN, "external_id": external_id} | changed))


def make_feature(meter: Meter, **changed: Any) -> Feature:
    return save(Feature(**{"environment": MAIN, "meter": meter, "name": "A feature"} | changed))


def make_plan(**changed: Any) -> Plan:
    return save(Plan(**{"environment": MAIN, "name": "A plan"} | changed))


def make_price(meter: Meter | None, plan: Plan, **changed: Any) -> Price:
    """A flat price of 0.10 for each unit, unless told otherwise."""
    kind = {} if meter is not None else {"type": Price.Type.FIXED}
    defaults = {"environment": MAIN, "meter": meter, "entity_id": plan.pk, "amount": Decimal("0.10")}
    return save(Price(**defaults | kind | changed))


def tiered(mode: str, tiers: list[dict[str, Any]] = SLAB) -> dict[str, Any]:
    return {"billing_model": "TIERED", "tier_mode": mode, "tiers": tiers}


def package(divide_by: int, round: str = "up") -> dict[str, Any]:
    return {"billing_model": "PACKAGE", "divide_by": divide_by, "round": round}


def make_subscription(
    *meters: Meter, customer: str = "acme", subscription: dict[str, Any] | None = None, **price: Any
) -> Subscription:
    """A customer, new or known, that subscribes to a plan with one price for each meter, from the beginning of 2025 on."""
    plan = make_plan()
    for meter in meters:
        make_price(meter, plan, **price)
    holder = find_customer(customer, environment=MAIN) or make_customer(customer)
    return subscribe(holder, plan, **{"start": BEGINNING} | (subscription or {}))


def line_item(meter: Meter, *, item: dict[str, Any] | None = None, **price: Any) -> LineItem:
    """The line item of a subscription to that meter alone; `item` are members of the line item."""
    held = make_subscription(meter, **price).line_items.select_related("price", "subscription").get()
    for name, value in (item or {}).items():
        setattr(held, name, value)
    return save(held)


def leave_open(price: Price) -> Price:
    """The price without its open tier, as none can be made, but may have been stored."""
    price.tiers = [tier for tier in price.tiers if tier["up_to"] is not None]
    Price.objects.filter(pk=price.pk).update(tiers=price.tiers)
    return price


def make_coupon(percentage: str = "10", **changed: Any) -> Coupon:
    return save(Coupon(**{"environment": MAIN, "name": "A coupon", "percentage_off": Decimal(percentage)} | changed))
