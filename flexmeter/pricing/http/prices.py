"""Prices of plans."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from flexmeter.exceptions import DefinitionNotFound
from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.members import Members
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import ListView, OneView, PricingView, Resource
from flexmeter.pricing.http.filters import PriceFilter
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import Price
from flexmeter.pricing.references import end_price

SORTS = ("created_at", "updated_at", "display_name", "lookup_key")
PRICES = Resource(Price, PriceFilter, answers.prices, SORTS, expanded=frozenset({"meter"}))

RATE_COLUMNS: Columns = {
    "amount": ("amount", reading.decimal),
    "billing_model": ("billing_model", reading.text),
    "tier_mode": ("tier_mode", reading.text),
    "tiers": ("tiers", reading.tiers),
}
"""How a quantity becomes money; `transform_quantity` belongs to it too."""
PACKAGE_COLUMNS: Columns = {"divide_by": ("divide_by", reading.package), "round": ("round", reading.text)}
TOLD_COLUMNS: Columns = {
    "display_name": ("display_name", reading.text),
    "description": ("description", reading.description),
    "lookup_key": ("lookup_key", reading.text),
    "metadata": ("metadata", reading.metadata),
    "status": ("status", reading.status),
}
FIXED_COLUMNS: Columns = {
    "entity_type": ("entity_type", reading.text),
    "entity_id": ("entity_id", reading.text),
    "parent_price_id": ("parent_price_id", reading.text),
    "type": ("type", reading.text),
    "currency": ("currency", reading.currency),
    "billing_period": ("billing_period", reading.text),
    "billing_period_count": ("billing_period_count", reading.count),
    "billing_cadence": ("billing_cadence", reading.text),
    "invoice_cadence": ("invoice_cadence", reading.text),
    "start_date": ("start_date", reading.instant),
    "end_date": ("end_date", reading.instant),
}
UNHEEDED = ("price_unit_config", "bucket_size", "filter_values", "min_quantity", "trial_period_days", "price_unit_amount")
MOST_AT_ONCE = 100


class PricesView(ListView):
    resource = PRICES

    def post(self, request: Request) -> Answer:
        return self.shown(self.saved(price_of(self, self.body())), 201)


class BulkPricesView(PricingView):
    resource = PRICES

    def post(self, request: Request) -> Answer:
        bodies = reading.objects(self.body(), "items", most=MOST_AT_ONCE)
        if not bodies:
            raise InvalidPayload("items", "must hold at least one price")
        prices = []
        for index, body in enumerate(bodies):
            with reading.within(f"items[{index}]"):
                prices.append(price_of(self, body))
        stored = self.together(lambda: [self.saved(price) for price in prices])
        return Answer({"items": answers.prices(stored, self.resource.expanded)}, 201)


class PriceView(OneView):
    resource = PRICES

    def put(self, request: Request, id: str) -> Answer:
        body = self.body()
        reading.refuse(body, (*UNHEEDED, "effective_from"))
        price = self.find(Price, id, "id")
        columns = rate_columns(body, price) | reading.given(body, TOLD_COLUMNS)
        return self.shown(self.saved(price, columns))

    def delete(self, request: Request, id: str) -> Answer:
        """Archives a price that nothing has; with `end_date` one that is in use, which is charged until then."""
        end = members.instant(self.optional_body(), "end_date")
        price = self.find(Price, id, "id")
        if end is None:
            return self.archived(price)
        end_price(price, end, by=self.credentials.subject)
        return Answer({"message": "Price ended successfully"})


class PriceByKeyView(PricingView):
    resource = PRICES

    def get(self, request: Request, lookup_key: str) -> Answer:
        members.checked_text(lookup_key, "lookup_key")
        found = self.rows(Price).filter(lookup_key=lookup_key).order_by("-status", "-created_at", "-id").first()
        if found is None:
            raise DefinitionNotFound("price", lookup_key)
        return self.shown(found)


def price_of(view: PricingView, body: Members) -> Price:
    """A new price as a body describes it, not stored."""
    reading.refuse(body, UNHEEDED)
    if members.text(body, "price_unit_type") not in ("", "FIAT"):
        raise InvalidPayload("price_unit_type", "must be FIAT")
    for name in ("entity_id", "currency", "type", "billing_model"):
        members.text(body, name, required=True)
    columns = reading.given(body, {**FIXED_COLUMNS, **TOLD_COLUMNS})
    if meter_id := members.text(body, "meter_id"):
        columns["meter"] = view.meter(meter_id)
    if body.get("billing_model") != Price.BillingModel.TIERED and members.decimal(body, "amount") is None:
        raise InvalidPayload("amount", "is required unless billing_model is TIERED")
    return Price(environment=view.environment, **columns, **rate_columns(body))


def rate_columns(body: Members, price: Price | None = None) -> dict[str, Any]:
    """How a quantity becomes money, as a body says; a price that gets another model keeps nothing of its old one."""
    transform = reading.inner(body, "transform_quantity")
    columns = reading.given(body, RATE_COLUMNS)
    with reading.within("transform_quantity"):
        columns |= reading.given(transform, PACKAGE_COLUMNS)
    if price is not None and columns.get("billing_model", price.billing_model) != price.billing_model:
        columns = {"tier_mode": "", "tiers": None, "divide_by": None, "round": ""} | columns
    return columns
