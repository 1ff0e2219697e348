"""Nothing of what usage costs passes through the decimal context of the thread, which would cut it to so many digits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Context, Decimal, InvalidOperation, Rounded, getcontext, setcontext
from fractions import Fraction
from typing import Any

import pytest
from django.test import Client

from flexmeter.pricing.cost import FlatFee, Slab, Tier, Volume, cost, working
from flexmeter.pricing.subscriptions import apply_coupon

from tests.admin.pages import read
from tests.http.client import Api, make_event
from tests.pricing.factories import line_item, make_coupon, make_feature, make_meter, make_subscription, package, tiered
from tests.pricing.http.things import price_body

JUNE = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-07-01T00:00:00Z"}
LONG = "123456789012345678901234567890123456789.0123456789"
OTHER = "9.9999999999999999999999999999999999999999"
"""Of 49 and 41 digits, while a context has 28 unless told otherwise."""
RATE = "0.000000000000000000000000000000000000000007"
TIERS = [{"up_to": 10**30, "unit_amount": RATE, "flat_amount": OTHER}, {"up_to": None, "unit_amount": OTHER}]


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    """Whatever does not bring a context of its own keeps one digit, and raises where that is too few."""
    held = getcontext()
    setcontext(Context(prec=1, traps=[InvalidOperation, Rounded]))
    yield
    setcontext(held)


def test_the_context_is_narrow_indeed():
    number = Decimal(LONG)
    for rounding in (lambda: -number, lambda: abs(number), lambda: number + 0, lambda: number * 1, lambda: sum([number])):
        with pytest.raises(Rounded):
            rounding()


def plain(number: Fraction) -> str:
    """A fraction with a finite decimal expansion, written out."""
    places = next(places for places in range(500) if (number * 10**places).denominator == 1)
    digits = str((number * 10**places).numerator).rjust(places + 1, "0")
    text = f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}"
    return text.rstrip("0").rstrip(".")


def hundredths(number: Fraction) -> Fraction:
    return Fraction((number * 100 + Fraction(1, 2)).__floor__(), 100)


def slab(quantity: Fraction) -> Fraction:
    return 10**30 * Fraction(RATE) + Fraction(OTHER) + (quantity - 10**30) * Fraction(OTHER)


def send(api: Api, *sizes: str, **members: Any) -> None:
    api.accept(
        *(make_event(f"e{place}", properties={"size": size}, **members) for place, size in enumerate(sizes))
    )  # fmt: skip


def the_item(api: Api, **query: Any) -> dict[str, Any]:
    answer = api.post("/events/analytics", JUNE | {"external_customer_id": "acme"} | query)
    assert answer.status == 200, answer
    [item] = answer.body["items"]
    assert (answer.body["total_cost"], answer.body["subtotal"]) == (item["total_cost"], item["subtotal"])
    return item


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"amount": Decimal(RATE)}, lambda quantity: quantity * Fraction(RATE)),
        (tiered("SLAB", TIERS), slab),
        (tiered("VOLUME", TIERS), lambda quantity: quantity * Fraction(OTHER)),
        ({"amount": Decimal(OTHER)} | package(7), lambda quantity: -(-quantity // 7) * Fraction(OTHER)),
        ({"amount": Decimal(OTHER)} | package(7, "down"), lambda quantity: quantity // 7 * Fraction(OTHER)),
    ],
)
@pytest.mark.parametrize("query", [{}, {"group_by": ["source"]}, {"window_size": "DAY"}])
def test_an_item_costs_all_its_digits(api: Api, price: dict[str, Any], expected: Any, query: dict[str, Any]):
    line_item(make_meter(), **price)
    send(api, LONG, OTHER)
    item, quantity = the_item(api, **query), Fraction(LONG) + Fraction(OTHER)
    assert (item["total_usage"], item["total_cost"]) == (plain(quantity), plain(expected(quantity)))
    assert [point["cost"] for point in item["points"]] == ([item["total_cost"]] if query.get("window_size") else [])


def test_commitments_and_coupons_keep_all_digits_before_the_point(api: Api):
    members = {"commitment_type": "amount", "commitment_amount": Decimal(1000), "commitment_overage_factor": Decimal("1.3")}
    held = line_item(make_meter(), amount=Decimal(1), item=members)
    apply_coupon(make_coupon("33.3"), held)
    apply_coupon(make_coupon("50"), held.subscription)
    send(api, LONG)
    item = the_item(api)
    charged = hundredths(1000 + (Fraction(LONG) - 1000) * Fraction("1.3"))
    first = hundredths(charged * Fraction("0.333"))
    second = hundredths((charged - first) * Fraction("0.5"))
    assert item["subtotal"] == plain(charged)
    assert (item["total_discount"], item["total_cost"]) == (plain(first + second), plain(charged - first - second))
    assert item["commitment_info"]["computed_overage_amount"] == plain(hundredths((Fraction(LONG) - 1000) * Fraction("1.3")))


def test_bucketed_costs_and_windowed_commitments_keep_all_digits_before_the_point(api: Api):
    members = {"commitment_type": "quantity", "commitment_quantity": Decimal(LONG), "commitment_true_up_enabled": True}
    make_subscription(make_meter(name="bucketed", bucket_size="DAY"), amount=Decimal(OTHER))
    send(api, LONG, OTHER)
    item, cost_of_day = the_item(api, window_size="DAY"), (Fraction(LONG) + Fraction(OTHER)) * Fraction(OTHER)
    assert (item["total_cost"], item["points"][0]["cost"]) == (plain(hundredths(cost_of_day)), plain(cost_of_day))
    held = line_item(
        make_meter(name="committed", event_name="other", bucket_size="DAY"), amount=Decimal(OTHER), customer="globex",
        item=members | {"commitment_windowed": True},
    )  # fmt: skip
    assert held.commitment_quantity == Decimal(LONG)
    [item] = api.post("/events/analytics", JUNE | {"external_customer_id": "globex"}).body["items"]
    assert item["total_cost"] == plain(hundredths(30 * Fraction(LONG) * Fraction(OTHER)))


def test_a_single_event_costs_all_its_digits(api: Api):
    make_subscription(make_meter(), make_meter("SUM_WITH_MULTIPLIER", multiplier=Decimal(OTHER)), amount=Decimal(OTHER))
    send(api, LONG)
    [entry] = api.post("/events/huggingface-billing", {"requestIds": ["e0"]}).body["requests"]
    whole = Fraction(LONG) * Fraction(OTHER) * (1 + Fraction(OTHER))
    assert entry == {"requestId": "e0", "costNanoUsd": plain(whole * 10**9)}
    body = api.get("/events/lookup?id=e0").body
    expected = {plain(Fraction(LONG)), plain(Fraction(LONG) * Fraction(OTHER))}
    assert {entry["qty_total"] for entry in body["processed_events"]} == expected


def test_a_reporting_unit_is_rounded_once(api: Api):
    meter = make_meter()
    make_feature(
        meter, reporting_unit_singular="x", reporting_unit_plural="xs", reporting_conversion_rate=Decimal("0.0000000003"),
    )  # fmt: skip
    send(api, LONG)
    assert the_item(api)["total_usage_display"] == plain(hundredths(Fraction(LONG) / Fraction("0.0000000003")))


def test_amounts_go_through_the_api_as_they_were_sent(api: Api):
    meter, plan = api.meter()["id"], api.post("/plans", {"name": "Long"}).body["id"]
    body = json.dumps(price_body(plan, meter, amount="AMOUNT"))
    for sent in (f'"{LONG}"', LONG):
        price = api.post("/prices", body.replace('"AMOUNT"', sent))
        assert (price.status, price.body["amount"]) == (201, LONG)
        assert api.get(f"/prices/{price.body['id']}").body["display_amount"] == f"${LONG}"


def test_the_working_of_a_cost_shows_all_digits():
    assert [step.sentence for step in working(FlatFee(Decimal(OTHER)), Decimal(LONG))] == [
        f"{LONG} × {OTHER} = {plain(Fraction(LONG) * Fraction(OTHER))}: every unit at the same amount"
    ]
    tiers = tuple(
        Tier(None if tier["up_to"] is None else Decimal(tier["up_to"]), Decimal(tier["unit_amount"])) for tier in TIERS
    )  # fmt: skip
    for rate in (Slab(tiers), Volume(tiers)):
        assert Fraction(cost(rate, Decimal(LONG))) == sum(
            Fraction(step.quantity) * Fraction(step.rate) for step in working(rate, Decimal(LONG))
        )


def test_the_calculator_of_a_price_shows_all_digits(admin_client: Client):
    price = line_item(make_meter(), amount=Decimal(OTHER)).price
    page = read(admin_client, f"/admin/flexmeter_pricing/price/{price.pk}/change/", {"quantity": LONG})
    assert f"${plain(Fraction(LONG) * Fraction(OTHER))}" in page.text
