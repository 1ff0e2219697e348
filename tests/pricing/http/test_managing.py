"""Customers, features, plans, prices, subscriptions and coupons over HTTP: made, shown, listed, changed, ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from flexmeter.models import ApiKey
from flexmeter.pricing.models import Customer, LineItem, Price

from tests.http.client import EVER, Api, make_event
from tests.pricing.http.things import CUSTOMER, LISTED, PLAN, TIERS, Things, everything, everything_else, made, price_body

PATHS = ("customers", "features", "plans", "prices", "subscriptions", "coupons", "coupons/associations")


@pytest.fixture
def things(api: Api) -> Things:
    return everything(api)


def item_ids(api: Api, path: str) -> list[str]:
    answer = api.get(path)
    assert answer.status == 200, answer
    return [item["id"] for item in answer.body["items"]]


def test_a_new_customer_is_shown_with_who_made_it(api: Api):
    customer = made(api.post("/customers", CUSTOMER))
    assert CUSTOMER.items() <= customer.items()
    assert (customer["status"], customer["timezone"], customer["parent_customer_id"]) == ("published", None, None)
    assert customer["created_by"] == customer["updated_by"] == ApiKey.objects.get().id
    for path in (customer["id"], "external/acme", "lookup/acme", "external/acme/"):
        assert api.get(f"/customers/{path}").body == customer


def test_an_external_id_is_taken_once_and_may_hold_slashes(api: Api):
    odd = made(api.post("/customers", {"external_id": "a/b c%/"}))
    assert api.get("/customers/external/a%2Fb%20c%25%2F").body["id"] == odd["id"]
    again = api.post("/customers", {"external_id": "a/b c%/"})
    assert (again.status, again.body["code"]) == (409, "already_exists")
    assert "external_id" in again.details
    assert Customer.objects.count() == 1


def test_members_that_are_left_out_stay_as_they_are(api: Api, things: Things):
    for path, member in (
        (f"/customers/{things.customer}", "name"),
        (f"/features/{things.feature}", "name"),
        (f"/plans/{things.plan}", "description"),
        (f"/prices/{things.price}", "display_name"),
        (f"/coupons/{things.coupon}", "name"),
    ):
        before = api.get(path).body
        changed = api.put(path, {member: "Other", "metadata": None})
        assert changed.status == 200
        assert changed.body == before | {member: "Other", "updated_at": changed.body["updated_at"]}
        assert api.get(path).body == changed.body


def test_a_tiered_price_keeps_its_tiers_in_order_and_its_amounts_as_text(api: Api, things: Things):
    body = price_body(things.plan, things.meter, billing_model="TIERED", tier_mode="SLAB", tiers=TIERS, amount=None)
    price = made(api.post("/prices", body))
    assert price["tiers"] == [
        {"up_to": 100, "unit_amount": "0.1", "flat_amount": "2"},
        {"up_to": None, "unit_amount": "0.01", "flat_amount": None},
    ]
    flat = api.put(f"/prices/{price['id']}", {"billing_model": "FLAT_FEE", "amount": 0.25}).body
    assert (flat["tiers"], flat["tier_mode"], flat["amount"]) == (None, None, "0.25")
    packed = api.put(f"/prices/{price['id']}", {"billing_model": "PACKAGE", "transform_quantity": {"divide_by": 10}}).body
    assert packed["transform_quantity"] == {"divide_by": 10, "round": "up"}


def test_several_prices_are_made_together_or_not_at_all(api: Api, things: Things):
    good, bad = price_body(things.plan, things.meter), price_body(things.plan, things.meter, currency="xxx")
    answer = api.post("/prices/bulk", {"items": [good, bad]})
    assert (answer.status, Price.objects.count()) == (400, 1)
    answer = api.post("/prices/bulk", {"items": [good, good | {"amount": "-1"}]})
    assert (answer.status, Price.objects.count()) == (400, 1)
    assert len(made(api.post("/prices/bulk", {"items": [good, good]}))["items"]) == 2


def test_a_subscription_has_a_line_item_for_every_price_of_the_plan_in_its_currency(api: Api, things: Things):
    euro = made(api.post("/prices", price_body(things.plan, things.meter, currency="EUR", amount="0.003")))
    order = {"external_customer_id": "acme", "plan_id": things.plan}
    which = api.post("/subscriptions", order)
    assert (which.status, which.details) == (400, {"currency": "must be one of eur, usd"})
    subscription = made(api.post("/subscriptions", order | {"currency": "eur", "start_date": "2025-01-01T00:00:00Z"}))
    [item] = subscription["line_items"]
    assert (item["price_id"], item["price"]["amount"], item["start_date"]) == (euro["id"], "0.003", "2025-01-01T00:00:00Z")
    assert subscription["customer"]["id"] == things.customer
    assert subscription["plan"]["id"] == things.plan


def test_a_subscription_takes_commitments_overrides_further_prices_and_coupons(api: Api, things: Things):
    other = made(api.post("/plans", PLAN | {"name": "Other", "lookup_key": ""}))["id"]
    extra = made(api.post("/prices", price_body(other, things.meter, display_name="Extra")))["id"]
    subscription = made(
        api.post(
            "/subscriptions",
            {
                "customer_id": things.customer,
                "plan_id": things.plan,
                "start_date": "2025-01-01T00:00:00Z",
                "line_item_commitments": {
                    things.price: {
                        "commitment_type": "amount", "commitment_amount": 10, "enable_true_up": True, "overage_factor": 2,
                    },
                },
                "override_line_items": [{"price_id": things.price, "amount": "0.001"}],
                "line_items": [{"price_id": extra, "end_date": "2025-02-01T00:00:00Z"}],
                "coupons": [things.coupon],
                "line_item_coupons": {things.price: [things.coupon]},
            },
        )
    )  # fmt: skip
    items = {
        item["price"]["parent_price_id"] or item["price_id"]: item
        for item in subscription["line_items"]
        if item["price_id"] != things.price
    }
    own, further = items[things.price], items[extra]
    assert (own["price"]["amount"], own["price"]["entity_type"]) == ("0.001", "SUBSCRIPTION")
    assert (own["commitment_amount"], own["commitment_true_up_enabled"], own["commitment_overage_factor"]) == ("10", True, "2")
    assert (further["display_name"], further["end_date"]) == ("Extra", "2025-02-01T00:00:00Z")
    applied = [(found["coupon_id"], found["subscription_line_item_id"]) for found in subscription["coupon_associations"]]
    assert sorted(applied, key=str) == sorted([(things.coupon, None), (things.coupon, own["id"])], key=str)


def test_what_is_ordered_wrongly_leaves_nothing_behind(api: Api, things: Things):
    before = LineItem.objects.count()
    for wrong in (
        {"override_line_items": [{"price_id": things.price, "amount": "-1"}]},
        {"override_line_items": [{"price_id": "price_x"}]},
        {"line_items": [{"price_id": things.price, "quantity": "-1"}]},
        {"line_item_commitments": {things.price: {"commitment_type": "amount"}}},
        {"coupons": ["coupon_x"]},
    ):
        answer = api.post("/subscriptions", {"customer_id": things.customer, "plan_id": things.plan} | wrong)
        assert answer.status in (400, 404), answer
    assert LineItem.objects.count() == before


def test_what_is_in_use_is_not_archived_and_says_what_uses_it(api: Api, things: Things):
    for path, users in (
        (f"/customers/{things.customer}", "1 subscription"),
        (f"/plans/{things.plan}", "1 subscription"),
        (f"/prices/{things.price}", "1 line item"),
        (f"/coupons/{things.coupon}", "1 subscription"),
    ):
        for answer in (api.delete(path), api.put(path, {"status": "archived"})):
            assert (answer.status, answer.body["code"]) == (409, "invalid_operation")
            assert users in answer.message
        assert api.get(path).body["status"] == "published"
    assert api.post(f"/subscriptions/{things.subscription}/cancel").body["status"] == "cancelled"
    assert api.delete(f"/customers/{things.customer}").status == 204
    for path in (f"/plans/{things.plan}", f"/prices/{things.price}", f"/coupons/{things.coupon}", f"/features/{things.feature}"):
        assert "archived" in api.delete(path).body["message"]
        assert api.get(path).body["status"] == "archived"
        assert api.put(path, {"status": "published"}).body["status"] == "published"


def test_nobody_subscribes_to_what_is_archived(api: Api, things: Things):
    api.post(f"/subscriptions/{things.subscription}/cancel")
    order = {"customer_id": things.customer, "plan_id": things.plan}
    for path, member in ((f"/customers/{things.customer}", "customer_id"), (f"/plans/{things.plan}", "plan_id")):
        api.delete(path)
        answer = api.post("/subscriptions", order)
        assert (answer.status, member in answer.details) == (400, True)
        api.put(path, {"status": "published"})
    api.delete(f"/prices/{things.price}")
    assert api.post("/subscriptions", order).details == {"plan_id": "has no prices"}


def test_what_is_charged_by_a_price_stays_as_it_was(api: Api, things: Things):
    path = f"/prices/{things.price}"
    for change in (
        {"amount": "5"},
        {"billing_model": "PACKAGE", "transform_quantity": {"divide_by": 5}},
        {"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": TIERS},
    ):
        answer = api.put(path, change)
        assert (answer.status, answer.body["code"]) == (409, "invalid_operation")
    assert api.put(path, {"amount": "0.0020", "display_name": "Same"}).status == 200
    tiers = {"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": TIERS}
    tiered = made(api.post("/prices", price_body(things.plan, things.meter, amount="0", **tiers)))["id"]
    made(api.post("/subscriptions", {"customer_id": things.customer, "plan_id": things.plan, "currency": "usd"}))
    assert api.put(f"/prices/{tiered}", tiers | {"tiers": TIERS[::-1]}).status == 200
    assert api.put(f"/prices/{tiered}", tiers | {"tiers": TIERS[:1]}).status == 409
    assert api.put(path, {"amount": "-1"}).status == 400
    ended = api.call("DELETE", path, {"end_date": "2035-01-01T00:00:00Z"})
    assert ended.status == 200
    assert api.get(f"/subscriptions/lineitems/{things.item}").body["end_date"] == "2035-01-01T00:00:00Z"


def test_a_line_item_gets_a_price_of_its_own_from_a_day_on(api: Api, things: Things):
    change = {"amount": "0.5", "effective_from": "2035-01-01T00:00:00Z"}
    later = api.put(f"/subscriptions/lineitems/{things.item}", change).body
    assert (later["price"]["amount"], later["start_date"]) == ("0.5", "2035-01-01T00:00:00Z")
    assert api.get(f"/subscriptions/lineitems/{things.item}").body["end_date"] == "2035-01-01T00:00:00Z"
    assert len(item_ids(api, f"/subscriptions/{things.subscription}/lineitems")) == 2


def test_a_subscription_is_cancelled_once_from_an_instant_on(api: Api, things: Things):
    path = f"/subscriptions/{things.subscription}"
    early = api.post(f"{path}/cancel", {"cancellation_type": "scheduled_date", "cancel_at": "2020-01-01T00:00:00Z"})
    assert (early.status, "cancel_at" in early.details) == (400, True)
    later = {"cancellation_type": "scheduled_date", "cancel_at": "2035-01-01T00:00:00Z", "reason": "moved"}
    answer = api.post(f"{path}/cancel", later)
    assert (answer.body["effective_date"], answer.body["reason"]) == ("2035-01-01T00:00:00Z", "moved")
    shown = api.get(path).body
    assert (shown["subscription_status"], shown["cancelled_at"]) == ("cancelled", "2035-01-01T00:00:00Z")
    assert api.post(f"{path}/cancel").status == 409


def test_usage_costs_what_the_prices_that_were_made_say(api: Api, things: Things):
    api.post(f"/subscriptions/{things.subscription}/cancel")
    order = {"customer_id": things.customer, "plan_id": things.plan, "start_date": "2025-01-01T00:00:00Z"}
    made(api.post("/subscriptions", order))
    api.accept(make_event("a", properties={"size": 250}))
    answer = api.post("/events/analytics", EVER | {"external_customer_id": "acme"})
    assert (answer.body["total_cost"], answer.body["currency"]) == ("0.5", "usd")


def test_lists_are_narrowed_sorted_and_paged(api: Api):
    ids = [made(api.post("/customers", {"external_id": f"c{n}", "name": name}))["id"] for n, name in enumerate("bac")]
    assert item_ids(api, "/customers") == ids[::-1]
    assert item_ids(api, "/customers?sort=name&order=asc") == [ids[1], ids[0], ids[2]]
    assert item_ids(api, "/customers?limit=1&offset=1") == [ids[1]]
    assert item_ids(api, "/customers?external_ids=c0&external_ids=c2") == [ids[2], ids[0]]
    assert item_ids(api, "/customers?name=b") == [ids[0]]
    assert item_ids(api, "/customers?start_time=2100-01-01T00:00:00Z") == []
    api.delete(f"/customers/{ids[0]}")
    assert item_ids(api, "/customers?status=archived") == [ids[0]]
    searched = api.post("/customers/search", {"sort": [{"field": "external_id", "direction": "asc"}], "limit": 2}).body
    assert [item["id"] for item in searched["items"]] == ids[:2]
    assert searched["pagination"] == {"total": 3, "limit": 2, "offset": 2}
    assert api.post("/customers/search").body["pagination"]["total"] == 3


def test_every_filter_of_a_list_narrows_it(api: Api, things: Things):
    other = everything_else(api, things)
    exact: dict[str, dict[str, tuple[str, str]]] = {
        "customers": {
            "external_id": ("acme", "globex"), "email": ("billing@acme.example", "x@globex.example"), "name": ("Acme", "Globex"),
            "customer_ids": (things.customer, other.customer), "external_ids": ("acme", "globex"),
        },
        "features": {
            "name": ("Size", "Calls"), "name_contains": ("IZ", "ALL"), "lookup_key": ("size", "calls"),
            "lookup_keys": ("size", "calls"),
            "feature_ids": (things.feature, other.feature), "meter_ids": (things.meter, other.meter),
        },
        "plans": {
            "name": ("Standard", "Other"), "lookup_key": ("standard", "other"), "plan_ids": (things.plan, other.plan),
        },
        "prices": {
            "lookup_key": ("size", "calls"), "entity_ids": (things.plan, other.subscription),
            "price_ids": (things.price, other.price),
        },
        "subscriptions": {
            "customer_id": (things.customer, other.customer), "external_customer_id": ("acme", "globex"),
            "customer_ids": (things.customer, other.customer), "plan_id": (things.plan, other.plan),
            "subscription_ids": (things.subscription, other.subscription), "subscription_status": ("active", "paused"),
        },
        "coupons": {"name": ("Tenth", "Fifth"), "coupon_ids": (things.coupon, other.coupon)},
        "coupons/associations": {
            "coupon_ids": (things.coupon, other.coupon), "subscription_ids": (things.subscription, other.subscription),
        },
    }  # fmt: skip
    ids = {path: (getattr(things, name), getattr(other, name)) for name, path in LISTED.items()}
    for path, filters in exact.items():
        assert set(ids[path]) <= set(item_ids(api, f"/{path}"))
        for name, values in filters.items():
            for id, value in zip(ids[path], values, strict=True):
                assert item_ids(api, f"/{path}?{urlencode({name: value})}") == [id], (path, name, value)
                if path != "coupons/associations":
                    body = {
                        name: [value]
                        if name.endswith(("_ids", "_keys", "subscription_status")) or name == "external_ids"
                        else value
                    }
                    assert [item["id"] for item in api.post(f"/{path}/search", body).body["items"]] == [id], (path, body)
        assert item_ids(api, f"/{path}?{urlencode({next(iter(filters)): 'nothing'})}") == []
    of_plan = [id for id in item_ids(api, "/prices") if id not in (things.price, other.price)]
    assert item_ids(api, "/prices?entity_type=SUBSCRIPTION") == [other.price]
    assert item_ids(api, "/prices?entity_type=PLAN") == [*of_plan, things.price]
    assert item_ids(api, "/prices?currency=usd") == item_ids(api, f"/prices?meter_ids={things.meter}") == [things.price]
    assert item_ids(api, "/prices?currency=eur") == item_ids(api, f"/prices?meter_ids={other.meter}") == [other.price, *of_plan]
    assert item_ids(api, f"/prices?plan_ids={things.plan}") == [things.price]
    assert item_ids(api, f"/prices?subscription_id={other.subscription}") == [other.price]
    assert item_ids(api, f"/prices?parent_price_id={things.price}") == []
    assert item_ids(api, f"/customers?parent_customer_id={things.customer}") == [other.customer]
    assert item_ids(api, "/subscriptions?parent_subscription_ids=subs_x") == []
    assert item_ids(api, f"/subscriptions/{things.subscription}/lineitems") == [things.item]


def test_line_items_are_searched_by_what_they_belong_to(api: Api, things: Things):
    other = everything_else(api, things)
    for name, values in {
        "subscription_line_item_ids": (things.item, other.item), "subscription_ids": (things.subscription, other.subscription),
        "customer_ids": (things.customer, other.customer), "price_ids": (things.price, other.price),
        "meter_ids": (things.meter, other.meter),
    }.items():  # fmt: skip
        for id, value in zip((things.item, other.item), values, strict=True):
            found = api.post("/subscriptions/lineitems/search", {name: [value]}).body["items"]
            assert [item["id"] for item in found if item["id"] in (things.item, other.item)] == [id], name


def test_applied_coupons_are_listed_while_they_reduce_costs(api: Api, things: Things):
    assert item_ids(api, "/coupons/associations?active_only=true") == [things.association]
    api.put(f"/coupons/associations/{things.association}", {"end_date": "2026-01-01T00:00:00Z"})
    shown = api.get(f"/coupons/associations/{things.association}").body
    ended = api.put(f"/coupons/associations/{things.association}", {"end_date": shown["start_date"]})
    assert ended.status == 200
    assert item_ids(api, "/coupons/associations?active_only=true") == []
    assert item_ids(api, "/coupons/associations") == [things.association]


def test_an_archived_thing_is_listed_by_its_status_and_can_be_taken_up_again(api: Api):
    meter = api.meter()["id"]
    bodies = {
        "customers": {"external_id": "idle"}, "plans": {"name": "Idle"},
        "features": {"name": "Idle", "type": "metered", "meter_id": meter},
        "coupons": {"name": "Idle", "type": "percentage", "cadence": "forever", "percentage_off": "10"},
    }  # fmt: skip
    for path, body in bodies.items():
        id = made(api.post(f"/{path}", body))["id"]
        assert api.delete(f"/{path}/{id}").status in (200, 204)
        assert item_ids(api, f"/{path}?status=published") == []
        assert item_ids(api, f"/{path}?status=archived") == item_ids(api, f"/{path}") == [id]
        assert api.put(f"/{path}/{id}", {"status": "published"}).body["status"] == "published"
        assert item_ids(api, f"/{path}?status=published") == [id]
        assert api.delete(f"/{path}/nothing").status == 404


def test_a_price_whose_tiers_end_is_refused_in_words(api: Api, things: Things):
    tiers = {"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": TIERS[1:]}
    answer = api.post("/prices", price_body(things.plan, things.meter, amount=None, **tiers))
    assert (answer.status, answer.message) == (400, "What do units above 100 cost?")
    assert answer.details == {"tiers": "must end with a tier whose up_to is null"}


def test_the_end_of_a_subscription_ends_its_charges(api: Api, things: Things):
    order = {"external_customer_id": "acme", "plan_id": things.plan, "start_date": "2025-01-01T00:00:00Z"}
    api.post(f"/subscriptions/{things.subscription}/cancel")
    subscription = made(api.post("/subscriptions", order))["id"]
    api.accept(*(make_event(timestamp=f"2025-06-0{day}T09:10:00Z", properties={"size": 250}) for day in (2, 3)))
    owed = []
    for change in ({}, {"end_date": "2025-06-03T00:00:00Z"}):
        assert api.put(f"/subscriptions/{subscription}", change).status == 200
        owed.append(api.post("/events/analytics", EVER | {"external_customer_id": "acme"}).body["total_cost"])
    assert owed == ["1", "0.5"]


def test_lists_show_along_what_is_asked_for(api: Api, things: Things):
    [plan] = api.get("/plans?expand=prices,meters").body["items"]
    assert (plan["prices"][0]["id"], plan["prices"][0]["meter"]["id"]) == (things.price, things.meter)
    [subscription] = api.post("/subscriptions/search", {"expand": "line_items", "with_line_items": True}).body["items"]
    assert (subscription["line_items"][0]["id"], subscription["plan"]) == (things.item, None)
    assert api.get("/features?expand=meters").body["items"][0]["meter"]["id"] == things.meter
    assert api.get("/subscriptions").body["items"][0]["line_items"] is None


COUNT_AND_ROWS = 2


@pytest.mark.parametrize(
    ("path", "more"),
    [
        *((path, 0) for path in PATHS),
        ("features?expand=meter", 1),
        ("prices?expand=meter", 1),
        ("plans?expand=prices", 1),
        ("plans?expand=prices,meter", 2),
        ("subscriptions?expand=customer,plan", 2),
        ("subscriptions?expand=line_items", 4),
        ("subscriptions?expand=customer,plan,line_items,coupon_associations", 7),
        ("coupons/associations?expand=coupon", 1),
    ],
)
def test_a_list_takes_as_many_queries_whatever_it_holds(api: Api, path: str, more: int, django_assert_num_queries: Any):
    things = everything(api)
    for n in range(3):
        meter = api.meter(name=f"Meter {n}")["id"]
        customer = made(api.post("/customers", {"external_id": f"customer {n}"}))["id"]
        made(api.post("/features", {"name": f"Feature {n}", "type": "metered", "meter_id": meter}))
        plan = made(api.post("/plans", {"name": f"Plan {n}"}))["id"]
        made(api.post("/prices/bulk", {"items": [price_body(plan, meter)] * 3}))
        order = {"customer_id": customer, "plan_id": plan, "coupons": [things.coupon]}
        made(api.post("/subscriptions", order))
    api.get("/meters")  # the key is remembered
    with django_assert_num_queries(COUNT_AND_ROWS + more):
        answer = api.get(f"/{path}")
    assert answer.body["items"]
