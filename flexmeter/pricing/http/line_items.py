"""Line items of subscriptions: added, changed and ended."""

from __future__ import annotations

from rest_framework.request import Request

from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.members import Members
from flexmeter.models import now
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import OneView, PricingView, Resource
from flexmeter.pricing.http.filters import LineItemFilter
from flexmeter.pricing.http.prices import RATE_COLUMNS, rate_columns
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import LineItem, Price, Subscription
from flexmeter.pricing.references import refuse_archived
from flexmeter.pricing.subscriptions import add_line_item, end_line_item, override_price
from flexmeter.stores.database.transactions import write_alias

LINE_ITEMS = Resource(LineItem, LineItemFilter, answers.line_items, ("created_at", "updated_at", "start_date"))

COMMITMENT_COLUMNS: Columns = {
    "commitment_type": ("commitment_type", reading.text),
    "commitment_amount": ("commitment_amount", reading.decimal),
    "commitment_quantity": ("commitment_quantity", reading.decimal),
    "commitment_overage_factor": ("commitment_overage_factor", reading.decimal),
    "commitment_true_up_enabled": ("commitment_true_up_enabled", reading.boolean),
    "commitment_windowed": ("commitment_windowed", reading.boolean),
    "commitment_duration": ("commitment_duration", reading.text),
}
ITEM_COLUMNS: Columns = {
    **COMMITMENT_COLUMNS,
    "display_name": ("display_name", reading.text),
    "quantity": ("quantity", reading.decimal),
    "metadata": ("metadata", reading.metadata),
}
UNHEEDED = ("price", "commitment_time_buckets", "price_unit_amount", "price_unit_tiers", "bucket_size")


class SubscriptionItemsView(PricingView):
    """The line items of one subscription."""

    resource = LINE_ITEMS

    def get(self, request: Request, id: str) -> Answer:
        return self.page(self.parameters(), subscription=self.find(Subscription, id, "id"))

    def post(self, request: Request, id: str) -> Answer:
        body = self.body()
        return self.shown(add_item(self, self.find(Subscription, id, "id"), body), 201)


class LineItemView(OneView):
    resource = LINE_ITEMS

    def put(self, request: Request, id: str) -> Answer:
        """Changes what was committed to; with members of a price, charges by a price of its own from `effective_from` on."""
        body = self.body()
        reading.refuse(body, UNHEEDED)
        columns = reading.given(body, ITEM_COLUMNS)
        item = self.find(LineItem, id, "id")
        repriced = any(body.get(name) is not None for name in (*RATE_COLUMNS, "transform_quantity"))

        def change() -> LineItem:
            saved = self.saved(item, columns)
            return override(self, saved, body) if repriced else saved

        return self.shown(self.together(change))

    def delete(self, request: Request, id: str) -> Answer:
        """Charges nothing more by it from `effective_from` (now, if missing) on."""
        at = members.instant(self.optional_body(), "effective_from") or now()
        item = self.find(LineItem, id, "id")
        if at < item.start_date:
            raise InvalidPayload("effective_from", "must not lie before the line item's start_date")
        return self.shown(end_line_item(item, at, by=self.credentials.subject, using=write_alias()))


def add_item(view: PricingView, subscription: Subscription, body: Members, where: str = "") -> LineItem:
    """A further line item of a subscription, as a body describes it."""
    with reading.within(where):
        reading.refuse(body, UNHEEDED)
        start, end = members.instant(body, "start_date"), members.instant(body, "end_date")
        columns = reading.given(body, ITEM_COLUMNS)
        price = view.named(Price, body, "price_id")
    refuse_archived(price)
    by = view.credentials.subject
    return add_line_item(subscription, price, start=start, end=end, by=by, using=write_alias(), **columns)


def override(view: PricingView, item: LineItem, body: Members, where: str = "") -> LineItem:
    """The line item that charges by a price of the subscription's own instead."""
    with reading.within(where):
        reading.refuse(body, UNHEEDED)
        start = members.instant(body, "effective_from")
        if start is not None and start < item.start_date:
            raise InvalidPayload("effective_from", "must not lie before the line item's start_date")
        changes = rate_columns(body, item.price)
        quantity = reading.given(body, {"quantity": ("quantity", reading.decimal)})
    later = override_price(item, start=start, by=view.credentials.subject, using=write_alias(), **changes)
    return view.saved(later, quantity) if quantity else later
