"""Coupons, and what they are applied to."""

from __future__ import annotations

from rest_framework.request import Request

from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import InvalidPayload
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import ListView, OneView, Resource
from flexmeter.pricing.http.filters import AssociationFilter, CouponFilter
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import Coupon, CouponAssociation, LineItem, Subscription
from flexmeter.pricing.references import refuse_archived
from flexmeter.pricing.subscriptions import apply_coupon

COUPONS = Resource(Coupon, CouponFilter, answers.coupons)
ASSOCIATIONS = Resource(
    CouponAssociation,
    AssociationFilter,
    answers.associations,
    ("created_at", "updated_at", "start_date"),
    expanded=frozenset({"coupon"}),
)
TOLD_COLUMNS: Columns = {
    "name": ("name", reading.text),
    "metadata": ("metadata", reading.metadata),
    "status": ("status", reading.status),
}
COLUMNS: Columns = {
    **TOLD_COLUMNS,
    "type": ("type", reading.text),
    "cadence": ("cadence", reading.text),
    "percentage_off": ("percentage_off", reading.decimal),
    "amount_off": ("amount_off", reading.decimal),
    "currency": ("currency", reading.currency),
}
UNHEEDED = ("max_redemptions", "redeem_after", "redeem_before", "duration_in_periods", "rules")


class CouponsView(ListView):
    resource = COUPONS

    def post(self, request: Request) -> Answer:
        body = self.body()
        for name in ("name", "type", "cadence"):
            members.text(body, name, required=True)
        reading.refuse(body, UNHEEDED)
        return self.shown(self.saved(Coupon(environment=self.environment, **reading.given(body, COLUMNS))), 201)


class CouponView(OneView):
    resource = COUPONS

    def put(self, request: Request, id: str) -> Answer:
        """Changes what a coupon is called; what it takes off is settled."""
        columns = reading.given(self.body(), TOLD_COLUMNS)
        return self.shown(self.saved(self.find(Coupon, id, "id"), columns))

    def delete(self, request: Request, id: str) -> Answer:
        return self.archived(self.find(Coupon, id, "id"))


class AssociationsView(ListView):
    resource = ASSOCIATIONS

    def post(self, request: Request) -> Answer:
        """Has a coupon reduce a subscription's costs, or one line item's."""
        body = self.body()
        coupon, subscription = self.named(Coupon, body, "coupon_id"), self.named(Subscription, body, "subscription_id")
        start, end = members.instant(body, "start_date"), members.instant(body, "end_date")
        refuse_archived(coupon)
        to: Subscription | LineItem = subscription
        if members.text(body, "subscription_line_item_id"):
            to = self.named(LineItem, body, "subscription_line_item_id")
            if to.subscription_id != subscription.pk:
                raise InvalidPayload("subscription_line_item_id", "belongs to another subscription")
        return self.shown(apply_coupon(coupon, to, start=start, end=end, by=self.credentials.subject), 201)


class AssociationView(OneView):
    resource = ASSOCIATIONS

    def put(self, request: Request, id: str) -> Answer:
        columns = reading.given(self.body(), {"end_date": ("end_date", reading.instant)})
        return self.shown(self.saved(self.find(CouponAssociation, id, "id"), columns))
