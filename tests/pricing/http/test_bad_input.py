"""Whatever is sent, what is wrong with it is said by name, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.pricing.models import Coupon, Customer, Feature, LineItem, Plan, Price, Subscription

from tests.examples import examples
from tests.http.client import Answer, Api
from tests.http.test_bad_input import ANY_JSON, ANY_TEXT
from tests.pricing.http.things import Things, everything, price_body

WRONG: dict[str, list[Any]] = {
    "text": [7, True, [], ["x"], {}, {"a": 1}, "a\x00b", "\ud800", "x" * 5_000],
    "long": [7, True, [], {}, "a\x00b", "x" * 70_000],
    "decimal": [True, [], {}, "x", "1,5", "NaN", "Infinity", "1e400", "-1", -0.5, "9" * 101, "0." + "1" * 120, "1_0", "\u0663"],
    "count": [0, -1, 1.5, "3", True, [], {}, 2**31, 2**63, 2**70, 10**300],
    "package": [0, -1, 1.5, "3", True, [], {}, 2**63, 10**300],
    "instant": [
        7,
        True,
        [],
        {},
        "yesterday",
        "2025-01-01",
        "2025-01-01T00:00:00",
        "2025-02-30T00:00:00Z",
        "12025-01-01T00:00:00Z",
    ],
    "boolean": [1, 0, "true", [], {}],
    "metadata": [7, True, [], "x", {"a": 1}, {"a": None}, {"a\x00": "b"}, {"a": "b\x00"}, {"a": "\ud800"}, {"a": "x" * 70_000}],
    "enum": [7, True, [], {}, "x", "a\x00b", "x" * 5_000, "PUBLISHED "],
    "status": [7, True, [], {}, "x", "deleted", "a\x00b"],
    "tiers": [
        7,
        True,
        "x",
        {},
        [7],
        [[]],
        [None],
        [{}],
        [{"unit_amount": "x"}],
        [{"unit_amount": "-1"}],
        [{"unit_amount": "1", "up_to": 0}],
        [{"unit_amount": "1", "up_to": 1.5}],
        [{"unit_amount": "1", "up_to": "x"}],
        [{"unit_amount": "1", "up_to": True}],
        [{"unit_amount": "1", "flat_amount": "x"}],
        [{"unit_amount": "9" * 101}],
        [{"unit_amount": "1", "up_to": 10**200}],
        [{"unit_amount": "1"}, {"unit_amount": "2"}],
        [{"unit_amount": "1"}] * 1_001,
    ],
    "sort": [7, True, {}, "x", [1], [{"field": 7}], [{"field": "x"}], [{}, {}]],
    "object": [7, True, "x", [], [1]],
    "objects": [7, True, "x", {}, [1], [None], ["x"], [[]]],
    "texts": [7, True, "x", {}, [1], [None], ["a\x00b"]],
    "id": [7, True, [], {}, "x", "a\x00b", "x" * 5_000, "../..", "%"],
}
"""Unusable values by the kind of the member."""

ABOUT = {"metadata": "metadata", "status": "status"}
MEMBERS: dict[str, dict[str, str]] = {
    "POST /customers": {
        "external_id": "text",
        "name": "text",
        "email": "text",
        "timezone": "text",
        "parent_customer_id": "id",
        **ABOUT,
    },
    "PUT /customers/{customer}": {"external_id": "text", "name": "text", "timezone": "enum", "parent_customer_id": "id", **ABOUT},
    "POST /features": {
        "name": "text",
        "lookup_key": "text",
        "description": "long",
        "type": "enum",
        "unit_singular": "text",
        "unit_plural": "text",
        "meter_id": "id",
        "reporting_unit": "object",
        **ABOUT,
    },
    "PUT /features/{feature}": {"name": "text", "description": "long", "reporting_unit": "object", **ABOUT},
    "POST /plans": {"name": "text", "lookup_key": "text", "description": "long", **ABOUT},
    "PUT /plans/{plan}": {"name": "text", "lookup_key": "text", **ABOUT},
    "POST /prices": {
        "entity_type": "enum",
        "entity_id": "id",
        "parent_price_id": "id",
        "type": "enum",
        "meter_id": "id",
        "amount": "decimal",
        "currency": "enum",
        "billing_model": "enum",
        "tier_mode": "enum",
        "tiers": "tiers",
        "transform_quantity": "object",
        "billing_period": "enum",
        "billing_period_count": "count",
        "billing_cadence": "enum",
        "invoice_cadence": "enum",
        "display_name": "text",
        "description": "long",
        "lookup_key": "text",
        "start_date": "instant",
        "end_date": "instant",
        "price_unit_type": "enum",
        **ABOUT,
    },
    "PUT /prices/{price}": {"display_name": "text", "description": "long", "lookup_key": "text", "amount": "decimal", **ABOUT},
    "DELETE /prices/{price}": {"end_date": "instant"},
    "POST /subscriptions": {
        "customer_id": "id",
        "plan_id": "id",
        "currency": "enum",
        "start_date": "instant",
        "end_date": "instant",
        "billing_anchor": "instant",
        "billing_period": "enum",
        "billing_period_count": "count",
        "subscription_status": "enum",
        "metadata": "metadata",
        "line_item_commitments": "object",
        "override_line_items": "objects",
        "line_items": "objects",
        "coupons": "texts",
        "line_item_coupons": "object",
    },
    "PUT /subscriptions/{subscription}": {
        "end_date": "instant",
        "billing_anchor": "instant",
        "billing_period": "enum",
        "billing_period_count": "count",
        "subscription_status": "enum",
        "metadata": "metadata",
    },
    "POST /subscriptions/{subscription}/cancel": {"cancellation_type": "enum", "cancel_at": "instant", "reason": "text"},
    "POST /subscriptions/{subscription}/lineitems": {
        "price_id": "id",
        "display_name": "text",
        "quantity": "decimal",
        "start_date": "instant",
        "end_date": "instant",
        "metadata": "metadata",
        "commitment_type": "enum",
        "commitment_amount": "decimal",
        "commitment_quantity": "decimal",
        "commitment_overage_factor": "decimal",
        "commitment_true_up_enabled": "boolean",
        "commitment_windowed": "boolean",
        "commitment_duration": "enum",
    },
    "PUT /subscriptions/lineitems/{item}": {
        "metadata": "metadata",
        "commitment_type": "enum",
        "commitment_amount": "decimal",
        "amount": "decimal",
        "tiers": "tiers",
        "tier_mode": "enum",
        "billing_model": "enum",
        "transform_quantity": "object",
    },
    "DELETE /subscriptions/lineitems/{item}": {"effective_from": "instant"},
    "POST /coupons": {
        "name": "text",
        "type": "enum",
        "cadence": "enum",
        "percentage_off": "decimal",
        **ABOUT,
    },
    "PUT /coupons/{coupon}": {"name": "text", **ABOUT},
    "POST /coupons/associations": {
        "coupon_id": "id",
        "subscription_id": "id",
        "subscription_line_item_id": "id",
        "start_date": "instant",
        "end_date": "instant",
    },
    "PUT /coupons/associations/{association}": {"end_date": "instant"},
    "POST /customers/search": {
        "external_id": "text",
        "external_ids": "texts",
        "status": "enum",
        "start_time": "instant",
        "limit": "count",
        "sort": "sort",
        "order": "enum",
    },
    "POST /prices/search": {"price_ids": "texts", "entity_type": "enum", "currency": "text", "sort": "sort"},
    "POST /subscriptions/search": {"subscription_ids": "texts", "customer_id": "text", "subscription_status": "texts"},
}
ALIASES = {
    "parent_customer_id": ("customer_id",),
    "subscription_line_item_id": ("line_item_id",),
    "parent_price_id": ("price_id",),
    "customer_id": ("external_customer_id",),
}
COMMITTED = {"commitment_type": "amount", "commitment_amount": "5"}


def good(route: str, things: Things) -> dict[str, Any]:
    """A body that is right, but for a member."""
    return {
        "POST /customers": {"external_id": "new"},
        "POST /features": {"name": "New", "type": "metered", "meter_id": things.meter},
        "POST /plans": {"name": "New"},
        "POST /prices": price_body(things.plan, things.meter),
        "POST /subscriptions": {"customer_id": things.customer, "plan_id": things.plan, "currency": "usd"},
        "POST /subscriptions/{subscription}/cancel": {"cancellation_type": "scheduled_date", "cancel_at": "2031-01-01T00:00:00Z"},
        "POST /subscriptions/{subscription}/lineitems": {"price_id": things.price} | COMMITTED,
        "PUT /subscriptions/lineitems/{item}": COMMITTED,
        "POST /coupons": {"name": "New", "type": "percentage", "cadence": "once", "percentage_off": "5"},
        "POST /coupons/associations": {"coupon_id": things.coupon, "subscription_id": things.subscription},
    }.get(route, {})  # fmt: skip


def send(api: Api, route: str, body: Any, things: Things) -> Answer:
    method, path = route.format(**vars(things)).split(" ", 1)
    return api.call(method, path, body if isinstance(body, (str, bytes)) else json.dumps(body))


def names(answer: Answer, member: str) -> bool:
    words = (member, *ALIASES.get(member, ()))
    return any(word in answer.message or any(word in key for key in answer.details) for word in words)


def counted() -> list[int]:
    return [model.objects.count() for model in (Customer, Feature, Plan, Price, Subscription, LineItem, Coupon)]


@pytest.fixture
def things(api: Api) -> Things:
    return everything(api)


@pytest.mark.parametrize("route", MEMBERS)
def test_an_unusable_member_is_refused_by_name(api: Api, things: Things, route: str):
    before = counted()
    for member, kind in MEMBERS[route].items():
        for wrong in WRONG[kind]:
            answer = send(api, route, good(route, things) | {member: wrong}, things)
            shown = (route, member, str(wrong)[:80], answer.body)
            assert answer.status in (400, 404), shown
            assert names(answer, member), shown
            assert len(str(answer.body)) < 6_000, shown
    assert counted() == before
    answer = send(api, route, good(route, things), things)
    assert answer.status < 500
    if route.startswith("POST"):
        assert answer.status in (200, 201) or route == "POST /features", answer


def test_a_required_member_is_asked_for_by_name(api: Api, things: Things):
    required = {
        "POST /customers": ["external_id"],
        "POST /features": ["name", "meter_id"],
        "POST /plans": ["name"],
        "POST /prices": ["entity_id", "currency", "type", "billing_model", "amount", "meter_id"],
        "POST /subscriptions": ["customer_id", "plan_id"],
        "POST /subscriptions/{subscription}/lineitems": ["price_id"],
        "POST /coupons": ["name", "type", "cadence", "percentage_off"],
        "POST /coupons/associations": ["coupon_id", "subscription_id"],
    }
    for route, members in required.items():
        for member in members:
            for absent in ({}, {member: None}, {member: ""}):
                body = {name: value for name, value in good(route, things).items() if name != member} | absent
                answer = send(api, route, body, things)
                assert (answer.status, names(answer, member)) == (400, True), (route, member, answer.body)


def test_what_would_change_the_charge_and_is_not_known_is_refused_and_the_rest_ignored(api: Api, things: Things):
    for route, member, value in [
        ("POST /prices", "trial_period_days", 14),
        ("POST /prices", "filter_values", {"model": ["a"]}),
        ("POST /prices", "price_unit_type", "CUSTOM"),
        ("POST /subscriptions", "addons", [{"addon_id": "x"}]),
        ("POST /subscriptions", "phases", [{}]),
        ("POST /subscriptions", "commitment_amount", "100"),
        ("POST /coupons", "max_redemptions", 5),
        ("POST /customers/search", "filters", [{"field": "name"}]),
    ]:
        answer = send(api, route, good(route, things) | {member: value}, things)
        assert (answer.status, names(answer, member)) == (400, True), answer
    unknown = {"colour": "red", "tiers_of": 5, "payment_behavior": "allow_incomplete", "customer": {"id": "x"}}
    for route in ("POST /prices", "POST /subscriptions", "POST /coupons", "POST /plans"):
        assert send(api, route, good(route, things) | unknown, things).status == 201


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=1001", "offset=-1", "offset=99999999999", "sort=amount", "order=up"]
)
def test_an_unusable_parameter_is_refused_by_name(api: Api, query: str):
    for path in ("customers", "features", "plans", "prices", "subscriptions", "coupons", "coupons/associations"):
        answer = api.get(f"/{path}?{query}")
        assert (answer.status, names(answer, query.partition("=")[0])) == (400, True), answer
        assert api.get(f"/{path}?start_time=yesterday").status == 400
        assert api.get(f"/{path}?unknown=1").status == 200
        assert api.get(f"/{path}?start_time=a%00").status == 400


ROUTES = [route for route in MEMBERS if not route.startswith("DELETE")]


@examples(60)
@given(
    route=st.sampled_from(ROUTES),
    changes=st.dictionaries(st.sampled_from(sorted({name for members in MEMBERS.values() for name in members})) | ANY_TEXT,
                            ANY_JSON, max_size=4),
)  # fmt: skip
def test_any_json_gets_an_answer_below_500(api: Api, route: str, changes: dict[str, Any]):
    things = existing(api)
    assert send(api, route, json.dumps(good(route, things) | changes), things).status < 500


def existing(api: Api) -> Things:
    """One of everything, made when the first example asks."""
    made = _made.get(api.headers["x-api-key"])
    if made is None:
        _made.clear()
        made = _made[api.headers["x-api-key"]] = everything(api)
    return made


_made: dict[str, Things] = {}
