"""What the traffic costs: a plan with prices by the token and by the request, and a subscription for every customer.

All of it is made over HTTP, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from demo.client import Client
from demo.tally import Tally, TokenTally
from demo.traffic import API_REQUEST, CHAT, CODE, CUSTOMERS, LLM_REQUEST

PLAN = "pay-as-you-go"
SINCE = "2015-05-01T00:00:00Z"
CURRENCY = "usd"

NANO = Decimal("0.000000001")


class Tier(NamedTuple):
    """Requests up to and including `up_to` (None: all further ones) cost `nano_usd` each."""

    up_to: int | None
    nano_usd: int


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What a token of a model costs; `field` is the property that counts them."""

    model: str
    field: str
    nano_usd: int

    @property
    def key(self) -> str:
        return f"{self.model}-{self.field}".replace("_", "-")

    def count(self, tally: TokenTally) -> int:
        return int(getattr(tally, self.field))


TOKEN_PRICES = (
    TokenPrice(CHAT.model, "prompt_tokens", 500),
    TokenPrice(CHAT.model, "completion_tokens", 1_500),
    TokenPrice(CODE.model, "prompt_tokens", 300),
    TokenPrice(CODE.model, "completion_tokens", 1_200),
)
REQUESTS = "api-requests"
REQUEST_TIERS = (Tier(100, 0), Tier(1_000, 2_000_000), Tier(None, 1_500_000))
"""The first hundred requests of a customer are free."""
KEYS = (*(price.key for price in TOKEN_PRICES), REQUESTS)


def ensure_price_list(client: Client) -> tuple[int, int]:
    """See to it that the plan, its prices and the subscriptions are there; how many prices and subscriptions had to be made."""
    plan_id = _plan(client)
    prices = {price["lookup_key"] for price in client.get("/v1/prices", {"plan_ids": plan_id, "limit": 1_000})["items"]}
    new_prices = [body for body in _price_bodies(plan_id) if body["lookup_key"] not in prices]
    for body in new_prices:
        client.post("/v1/prices", body | {"meter_id": _meter(client, body["lookup_key"])})
    known = {customer["external_id"] for customer in client.get("/v1/customers", {"limit": 1_000})["items"]}
    for external_id in CUSTOMERS:
        if external_id not in known:
            client.post("/v1/customers", {"external_id": external_id})
    subscribed = client.get("/v1/subscriptions", {"plan_id": plan_id, "expand": "customer", "limit": 1_000})["items"]
    have = {subscription["customer"]["external_id"] for subscription in subscribed}
    new_customers = [external_id for external_id in CUSTOMERS if external_id not in have]
    for external_id in new_customers:
        order = {"external_customer_id": external_id, "plan_id": plan_id, "currency": CURRENCY, "start_date": SINCE}
        client.post("/v1/subscriptions", order)
    return len(new_prices), len(new_customers)


def owed(tally: Tally, customer: str) -> dict[str, Decimal]:
    """What a customer owes for each price, reckoned in whole nano-dollars from the count of the files."""
    nanos = {
        price.key: price.nano_usd * price.count(tally.by_customer_and_model.get((customer, price.model), TokenTally()))
        for price in TOKEN_PRICES
    }
    nanos[REQUESTS] = 0
    for number in range(1, tally.site_requests_by_customer[customer] + 1):
        nanos[REQUESTS] += next(tier.nano_usd for tier in REQUEST_TIERS if tier.up_to is None or number <= tier.up_to)
    return {key: nano * NANO for key, nano in nanos.items()}


def _plan(client: Client) -> str:
    found = client.get("/v1/plans", {"lookup_key": PLAN, "status": "published"})["items"]
    return str(found[0]["id"] if found else client.post("/v1/plans", {"name": "Pay as you go", "lookup_key": PLAN})["id"])


def _price_bodies(plan_id: str) -> Iterator[dict[str, Any]]:
    common = {
        "entity_type": "PLAN",
        "entity_id": plan_id,
        "type": "USAGE",
        "currency": CURRENCY,
        "billing_period": "MONTHLY",
        "invoice_cadence": "ARREAR",
    }
    for price in TOKEN_PRICES:
        told = {"lookup_key": price.key, "display_name": _name(price.key)}
        yield common | told | {"billing_model": "FLAT_FEE", "amount": f"{price.nano_usd * NANO:f}"}
    tiers = [{"up_to": tier.up_to, "unit_amount": f"{tier.nano_usd * NANO:f}"} for tier in REQUEST_TIERS]
    told = {"lookup_key": REQUESTS, "display_name": _name(REQUESTS)}
    yield common | told | {"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": tiers}


def _meter(client: Client, key: str) -> str:
    """The id of the meter that counts what a price is for, made if it is not there."""
    name = _name(key)
    for meter in client.get("/v1/meters", {"status": "published", "name": name})["items"]:
        return str(meter["id"])
    return str(client.post("/v1/meters", {"name": name, "reset_usage": "BILLING_PERIOD", **_counted(key)})["id"])


def _counted(key: str) -> Mapping[str, Any]:
    for price in TOKEN_PRICES:
        if price.key == key:
            filters = [{"key": "model", "values": [price.model]}]
            return {"event_name": LLM_REQUEST, "aggregation": {"type": "SUM", "field": price.field}, "filters": filters}
    return {"event_name": API_REQUEST, "aggregation": {"type": "COUNT"}}


def _name(key: str) -> str:
    """`chat-1-prompt-tokens` as `chat-1 prompt tokens`, `api-requests` as `API requests`."""
    for price in TOKEN_PRICES:
        if price.key == key:
            return f"{price.model} {price.field}".replace("_", " ")
    return "API requests"
