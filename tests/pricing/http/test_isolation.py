"""Nothing of another environment is ever visible: its ids answer exactly like ids that nobody has."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from tests.http.client import Answer, Api
from tests.pricing.http.things import CUSTOMER, Things, everything, price_body

UNKNOWN = Things(
    *("meter_x", "cust_x", "feat_x", "plan_x", "price_x", "subs_x", "subs_line_x", "coupon_x", "coupon_assoc_x"),
)

Call = tuple[str, str, Any]


def calls(own: Things, other: Things) -> dict[str, Call]:
    """Every way to name a thing by its id, as a call that names the other's; what else is needed is one's own."""
    by_path = {
        "customer": ("/customers", other.customer),
        "feature": ("/features", other.feature),
        "plan": ("/plans", other.plan),
        "price": ("/prices", other.price),
        "subscription": ("/subscriptions", other.subscription),
        "line item": ("/subscriptions/lineitems", other.item),
        "coupon": ("/coupons", other.coupon),
        "association": ("/coupons/associations", other.association),
    }
    found: dict[str, Call] = {}
    for name, (path, id) in by_path.items():
        found[f"get {name}"] = ("GET", f"{path}/{id}", None)
        found[f"change {name}"] = ("PUT", f"{path}/{id}", {"metadata": {"a": "b"}, "name": "changed"})
        if name not in ("subscription", "association"):
            found[f"delete {name}"] = ("DELETE", f"{path}/{id}", None)
    ordered = {"customer_id": own.customer, "plan_id": own.plan, "currency": "usd"}
    return found | {
        "change customer by query": ("PUT", f"/customers?id={other.customer}", {"name": "changed"}),
        "cancel": ("POST", f"/subscriptions/{other.subscription}/cancel", {}),
        "items": ("GET", f"/subscriptions/{other.subscription}/lineitems", None),
        "add item": ("POST", f"/subscriptions/{other.subscription}/lineitems", {"price_id": own.price}),
        "end price": ("DELETE", f"/prices/{other.price}", {"end_date": "2030-01-01T00:00:00Z"}),
        "end item": ("DELETE", f"/subscriptions/lineitems/{other.item}", {}),
        "reprice item": ("PUT", f"/subscriptions/lineitems/{other.item}", {"amount": "5"}),
        "feature of meter": ("POST", "/features", {"name": "Theft", "type": "metered", "meter_id": other.meter}),
        "price of plan": ("POST", "/prices", price_body(other.plan, own.meter)),
        "price of meter": ("POST", "/prices", price_body(own.plan, other.meter)),
        "price of parent": ("POST", "/prices", price_body(own.plan, own.meter, parent_price_id=other.price)),
        "bulk price of meter": ("POST", "/prices/bulk", {"items": [price_body(own.plan, other.meter)]}),
        "child": ("POST", "/customers", CUSTOMER | {"external_id": "child", "parent_customer_id": other.customer}),
        "subscribe customer": ("POST", "/subscriptions", ordered | {"customer_id": other.customer}),
        "subscribe plan": ("POST", "/subscriptions", ordered | {"plan_id": other.plan}),
        "subscribe with coupon": ("POST", "/subscriptions", ordered | {"coupons": [other.coupon]}),
        "subscribe with item coupon": ("POST", "/subscriptions", ordered | {"line_item_coupons": {own.price: [other.coupon]}}),
        "subscribe with override": ("POST", "/subscriptions", ordered | {"override_line_items": [{"price_id": other.price}]}),
        "subscribe with item": ("POST", "/subscriptions", ordered | {"line_items": [{"price_id": other.price}]}),
        "subscribe with commitment": (
            "POST", "/subscriptions", ordered | {"line_item_commitments": {other.price: {"commitment_type": "amount"}}},
        ),
        "add other's price": ("POST", f"/subscriptions/{own.subscription}/lineitems", {"price_id": other.price}),
        "apply coupon": ("POST", "/coupons/associations", {"coupon_id": other.coupon, "subscription_id": own.subscription}),
        "apply to": ("POST", "/coupons/associations", {"coupon_id": own.coupon, "subscription_id": other.subscription}),
        "apply to item": (
            "POST", "/coupons/associations",
            {"coupon_id": own.coupon, "subscription_id": own.subscription, "subscription_line_item_id": other.item},
        ),
        "filter customers": ("GET", f"/customers?customer_ids={other.customer}", None),
        "filter children": ("GET", f"/customers?parent_customer_id={other.customer}", None),
        "filter features": ("GET", f"/features?feature_ids={other.feature}&expand=meter", None),
        "filter features by meter": ("GET", f"/features?meter_ids={other.meter}", None),
        "filter plans": ("GET", f"/plans?plan_ids={other.plan}&expand=prices", None),
        "filter prices": ("GET", f"/prices?price_ids={other.price}", None),
        "filter prices by plan": ("GET", f"/prices?plan_ids={other.plan}", None),
        "filter prices by meter": ("POST", "/prices/search", {"meter_ids": [other.meter]}),
        "filter subscriptions": ("POST", "/subscriptions/search", {"subscription_ids": [other.subscription]}),
        "filter subscriptions by customer": ("GET", f"/subscriptions?customer_id={other.customer}", None),
        "filter subscriptions by plan": ("GET", f"/subscriptions?plan_id={other.plan}", None),
        "filter items": ("POST", "/subscriptions/lineitems/search", {"subscription_line_item_ids": [other.item]}),
        "filter items by subscription": ("POST", "/subscriptions/lineitems/search", {"subscription_ids": [other.subscription]}),
        "filter coupons": ("POST", "/coupons/search", {"coupon_ids": [other.coupon]}),
        "filter associations": ("GET", f"/coupons/associations?coupon_ids={other.coupon}", None),
    }  # fmt: skip


NAMES = list(calls(UNKNOWN, UNKNOWN))


def answered(api: Api, call: Call, ids: Things) -> tuple[int, str]:
    """Status and body, without the id that was asked for."""
    method, path, body = call
    answer: Answer = api.call(method, path, b"" if body is None else body)
    text = json.dumps(answer.body)
    for name, id in asdict(ids).items():
        text = text.replace(id, name)
    return answer.status, text


@pytest.fixture
def worlds(api: Api, stranger: Api) -> tuple[Things, Things]:
    return everything(api), everything(stranger)


def test_a_foreign_id_is_answered_exactly_as_an_unknown_one(api: Api, stranger: Api, worlds: tuple[Things, Things]):
    own, foreign = worlds
    before = snapshot(stranger, foreign)
    differences = []
    for name in NAMES:
        unknown = answered(api, calls(own, UNKNOWN)[name], UNKNOWN)
        known = answered(api, calls(own, foreign)[name], foreign)
        if unknown != known:
            differences.append((name, unknown, known))
        found = json.loads(known[1]) or {}
        assert known[0] in (400, 404) or found.get("items") == [], (name, known)
    assert differences == []
    assert snapshot(stranger, foreign) == before


def test_the_same_external_id_and_lookup_key_lead_everybody_to_their_own(api: Api, stranger: Api, worlds: tuple[Things, Things]):
    for caller, things in zip((api, stranger), worlds, strict=True):
        assert caller.get("/customers/external/acme").body["id"] == things.customer
        assert caller.get("/prices/lookup/size").body["id"] == things.price
        assert [found["id"] for found in caller.get("/plans?lookup_key=standard").body["items"]] == [things.plan]
        listed = caller.get("/customers/external/acme/subscriptions").body["items"]
        assert [found["id"] for found in listed] == [things.subscription]


def test_environment_members_of_a_body_are_ignored(api: Api, stranger: Api):
    sent = CUSTOMER | {"environment": "elsewhere", "environment_id": "elsewhere", "tenant_id": "elsewhere", "id": "cust_mine"}
    created = api.post("/customers", sent).body
    assert (created["environment_id"], created["tenant_id"]) == ("main", "main")
    assert created["id"] != "cust_mine"
    assert stranger.get("/customers").body["items"] == []
    assert api.put(f"/customers/{created['id']}", {"environment": "elsewhere", "name": "x"}).body["environment_id"] == "main"


def snapshot(api: Api, things: Things) -> list[Any]:
    paths = [
        *(f"/customers/{things.customer}", f"/features/{things.feature}", f"/plans/{things.plan}", f"/prices/{things.price}"),
        *(f"/subscriptions/{things.subscription}", f"/coupons/{things.coupon}", f"/coupons/associations/{things.association}"),
    ]
    return [api.get(path).body for path in paths]
