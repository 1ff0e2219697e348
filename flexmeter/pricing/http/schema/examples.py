"""What the examples tell of: one thing of each kind, made one after the other. All answers in them follow from these."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from flexmeter.events import parse_timestamp
from flexmeter.http.schema.examples import CREATED_AT, ENVIRONMENT, KEY_ID, METER_ID, meter_answer
from flexmeter.models import Meter
from flexmeter.pricing.http import answers
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, Feature, LineItem, Plan, Price, Record, Subscription
from flexmeter.pricing.shapes import plan_shape

CUSTOMER_ID = "cust_01JWQ4E2M6V8C3T1B7N5KXRDHG"
FEATURE_ID = "feat_01JWQ4E5S9A4D8F2J6M0PQWZTC"
PLAN_ID = "plan_01JWQ4E8Y1B5G9H3K7N2RSXAVD"
PRICE_ID = "price_01JWQ4EB73C6J0M4P8Q3TVYBWE"
SUBSCRIPTION_ID = "subs_01JWQ4EE95D7K1N5R9S4WXZCYF"
ITEM_ID = "subs_line_01JWQ4EH17E8M2P6T0V5YZADXG"
COUPON_ID = "coupon_01JWQ4EK39F9N3Q7W1X6ZABEYH"
ASSOCIATION_ID = "coupon_assoc_01JWQ4EN5BG0P4R8Y2Z7ACDFXJ"

JUNE, JULY = "2025-06-01T00:00:00Z", "2025-07-01T00:00:00Z"

CUSTOMER = {"external_id": "customer-01", "name": "Example Ltd", "email": "billing@example.com", "timezone": "Europe/Berlin"}
FEATURE = {
    "name": "Prompt tokens",
    "type": "metered",
    "meter_id": METER_ID,
    "lookup_key": "prompt-tokens",
    "unit_singular": "token",
    "unit_plural": "tokens",
    "reporting_unit": {"unit_singular": "million tokens", "unit_plural": "million tokens", "conversion_rate": "1000000"},
}
PLAN = {"name": "Standard", "lookup_key": "standard", "description": "Pay as you go."}
PRICE = {
    "entity_type": "PLAN",
    "entity_id": PLAN_ID,
    "type": "USAGE",
    "meter_id": METER_ID,
    "billing_model": "FLAT_FEE",
    "amount": "0.000002",
    "currency": "usd",
    "billing_period": "MONTHLY",
    "invoice_cadence": "ARREAR",
    "display_name": "Prompt tokens",
    "lookup_key": "prompt-tokens-usd",
}
TIERED = {
    **PRICE,
    "billing_model": "TIERED",
    "tier_mode": "SLAB",
    "tiers": [
        {"up_to": 1000000, "unit_amount": "0.000002", "flat_amount": None},
        {"up_to": None, "unit_amount": "0.000001", "flat_amount": None},
    ],
    "lookup_key": "prompt-tokens-tiered",
}
PACKAGE = {
    **PRICE,
    "billing_model": "PACKAGE",
    "amount": "1.50",
    "transform_quantity": {"divide_by": 1000000, "round": "up"},
    "lookup_key": "prompt-tokens-package",
}
SUBSCRIPTION = {"external_customer_id": "customer-01", "plan_id": PLAN_ID, "currency": "usd", "start_date": JUNE}
COUPON = {"name": "Launch", "type": "percentage", "cadence": "forever", "percentage_off": "10"}
ASSOCIATION = {"coupon_id": COUPON_ID, "subscription_id": SUBSCRIPTION_ID}


def at(text: str) -> datetime:
    return parse_timestamp(text)


def customer(**changed: Any) -> Customer:
    return _made(Customer(id=CUSTOMER_ID, **CUSTOMER), changed)


def feature(**changed: Any) -> Feature:
    told = {name: value for name, value in FEATURE.items() if name != "reporting_unit"}
    unit = {"reporting_unit_singular": "million tokens", "reporting_unit_plural": "million tokens"}
    return _made(Feature(id=FEATURE_ID, **told, **unit, reporting_conversion_rate=Decimal(1_000_000)), changed)


def plan(**changed: Any) -> Plan:
    return _made(Plan(id=PLAN_ID, **PLAN), changed)


def price(**changed: Any) -> Price:
    columns = {name: value for name, value in PRICE.items() if name != "amount"}
    return _made(Price(id=PRICE_ID, amount=Decimal("0.000002"), **columns), changed)


def subscription(**changed: Any) -> Subscription:
    dates = {"start_date": at(JUNE), "billing_anchor": at(JUNE)}
    return _made(Subscription(id=SUBSCRIPTION_ID, customer=customer(), plan=plan(), currency="usd", **dates), changed)


def item(**changed: Any) -> LineItem:
    row = LineItem(
        id=ITEM_ID, subscription=subscription(), price=price(), display_name="Prompt tokens", start_date=at(JUNE),
        meter=Meter(id=METER_ID, environment=ENVIRONMENT, name="Prompt tokens"),
    )  # fmt: skip
    return _made(row, changed)


def coupon(**changed: Any) -> Coupon:
    columns = {**COUPON, "percentage_off": Decimal(10)}
    return _made(Coupon(id=COUPON_ID, **columns), changed)


def association(**changed: Any) -> CouponAssociation:
    row = CouponAssociation(id=ASSOCIATION_ID, coupon=coupon(), subscription_id=SUBSCRIPTION_ID, start_date=at(JUNE))
    return _made(row, changed)


def _made(row: Any, changed: dict[str, Any]) -> Any:
    made: Record = row
    made.environment = ENVIRONMENT
    made.created_at = made.updated_at = at(CREATED_AT)
    made.created_by = made.updated_by = KEY_ID
    for name, value in changed.items():
        setattr(row, name, value)
    return row


NOTHING: frozenset[str] = frozenset()


def customer_answer(**changed: Any) -> dict[str, Any]:
    return answers.customers([customer(**changed)], NOTHING)[0]


def feature_answer(*, with_meter: bool = True, **changed: Any) -> dict[str, Any]:
    return {**answers.features([feature(**changed)], NOTHING)[0], "meter": meter_answer() if with_meter else None}


def price_answer(*, with_meter: bool = True, **changed: Any) -> dict[str, Any]:
    return {**answers.prices([price(**changed)], NOTHING)[0], "meter": meter_answer() if with_meter else None}


def plan_answer(*, prices: Any = None, **changed: Any) -> dict[str, Any]:
    return {**answers.plans([plan(**changed)], NOTHING)[0], "prices": prices}


def item_answer(**changed: Any) -> dict[str, Any]:
    return answers.line_item(item(**changed))


def subscription_answer(*, whole: bool = True, coupons: bool = False, **changed: Any) -> dict[str, Any]:
    shown = answers.subscriptions([subscription(**changed)], NOTHING)[0]
    if not whole:
        return shown
    applied = [association_answer()] if coupons else []
    alone = {name: value for name, value in customer_answer().items() if name != "integrations"}
    told = plan_shape(plan())
    return {**shown, "customer": alone, "plan": told, "line_items": [item_answer()], "coupon_associations": applied}


def coupon_answer(**changed: Any) -> dict[str, Any]:
    return answers.coupons([coupon(**changed)], NOTHING)[0]


def association_answer(*, with_coupon: bool = True, **changed: Any) -> dict[str, Any]:
    shown = answers.associations([association(**changed)], NOTHING)[0]
    return {**shown, "coupon": coupon_answer() if with_coupon else None}


def listed(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(shapes), "pagination": {"total": len(shapes), "limit": 50, "offset": 50}}
