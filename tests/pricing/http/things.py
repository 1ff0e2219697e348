"""What there is to be priced, made through the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.http.client import Answer, Api

CUSTOMER = {"external_id": "acme", "name": "Acme", "email": "billing@acme.example", "metadata": {"tier": "gold"}}
PLAN = {"name": "Standard", "lookup_key": "standard", "description": "What most take."}
TIERS = [
    {"up_to": None, "unit_amount": "0.01", "flat_amount": None},
    {"up_to": 100, "unit_amount": "0.10", "flat_amount": "2"},
]


def made(answer: Answer, status: int = 201) -> dict[str, Any]:
    assert answer.status == status, answer
    return answer.body


def price_body(plan_id: str, meter_id: str | None, **changed: Any) -> dict[str, Any]:
    body = {
        "entity_type": "PLAN",
        "entity_id": plan_id,
        "type": "USAGE",
        "meter_id": meter_id,
        "amount": "0.002",
        "currency": "usd",
        "billing_model": "FLAT_FEE",
        "billing_period": "MONTHLY",
        "invoice_cadence": "ARREAR",
        "price_unit_type": "FIAT",
        "display_name": "Requests",
    }
    return body | changed


@dataclass
class Things:
    """One of everything in one environment, by its id."""

    meter: str
    customer: str
    feature: str
    plan: str
    price: str
    subscription: str
    item: str
    coupon: str
    association: str


def everything(api: Api) -> Things:
    meter = api.meter()["id"]
    customer = made(api.post("/customers", CUSTOMER))["id"]
    feature = made(api.post("/features", {"name": "Size", "type": "metered", "meter_id": meter, "lookup_key": "size"}))["id"]
    plan = made(api.post("/plans", PLAN))["id"]
    price = made(api.post("/prices", price_body(plan, meter, lookup_key="size")))["id"]
    subscription = made(api.post("/subscriptions", {"customer_id": customer, "plan_id": plan, "currency": "usd"}))
    coupon = made(api.post("/coupons", {"name": "Tenth", "type": "percentage", "cadence": "forever", "percentage_off": "10"}))
    applied = {"coupon_id": coupon["id"], "subscription_id": subscription["id"]}
    association = made(api.post("/coupons/associations", applied))["id"]
    [item] = subscription["line_items"]
    return Things(meter, customer, feature, plan, price, subscription["id"], item["id"], coupon["id"], association)


LISTED = {
    "customer": "customers",
    "feature": "features",
    "plan": "plans",
    "price": "prices",
    "subscription": "subscriptions",
    "coupon": "coupons",
    "association": "coupons/associations",
}
"""Where things of a kind are listed."""


def everything_else(api: Api, things: Things) -> Things:
    """One more of everything, which differs from the first in every member."""
    meter = api.meter("COUNT", name="Calls")["id"]
    told = {"external_id": "globex", "name": "Globex", "email": "x@globex.example", "parent_customer_id": things.customer}
    customer = made(api.post("/customers", told))["id"]
    feature = made(api.post("/features", {"name": "Calls", "type": "metered", "meter_id": meter, "lookup_key": "calls"}))["id"]
    plan = made(api.post("/plans", {"name": "Other", "lookup_key": "other"}))["id"]
    of_plan = made(api.post("/prices", price_body(plan, meter, currency="eur")))["id"]
    order = {"customer_id": customer, "plan_id": plan, "currency": "eur", "subscription_status": "paused"}
    subscription = made(api.post("/subscriptions", order))["id"]
    own = price_body(subscription, meter, entity_type="SUBSCRIPTION", currency="eur", lookup_key="calls")
    price = made(api.post("/prices", own))["id"]
    item = made(api.post(f"/subscriptions/{subscription}/lineitems", {"price_id": price}))["id"]
    for row in api.get(f"/subscriptions/{subscription}/lineitems").body["items"]:
        if row["id"] != item:
            api.delete(f"/subscriptions/lineitems/{row['id']}")
    api.call("DELETE", f"/prices/{of_plan}", {"end_date": "2030-01-01T00:00:00Z"})
    coupon = made(api.post("/coupons", {"name": "Fifth", "type": "percentage", "cadence": "once", "percentage_off": "20"}))["id"]
    association = made(api.post("/coupons/associations", {"coupon_id": coupon, "subscription_id": subscription}))["id"]
    return Things(meter, customer, feature, plan, price, subscription, item, coupon, association)
