"""Subscriptions: made with a line item for every price of the plan, changed and cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request

from flexmeter.events import format_timestamp
from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import ApiError, InvalidPayload
from flexmeter.http.members import Members
from flexmeter.models import now
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import ListView, OneView, PricingView, Resource
from flexmeter.pricing.http.customers import by_external_id
from flexmeter.pricing.http.filters import SubscriptionFilter
from flexmeter.pricing.http.line_items import COMMITMENT_COLUMNS, add_item, override
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import Coupon, Customer, LineItem, Plan, Subscription
from flexmeter.pricing.references import refuse_archived
from flexmeter.pricing.subscriptions import apply_coupon, cancel, subscribe
from flexmeter.stores.database.transactions import write_alias

SORTS = ("created_at", "updated_at", "start_date")
SUBSCRIPTIONS = Resource(
    Subscription,
    SubscriptionFilter,
    answers.subscriptions,
    SORTS,
    expanded=frozenset({"customer", "plan", "line_items", "coupon_associations"}),
)
COLUMNS: Columns = {
    "billing_period": ("billing_period", reading.text),
    "billing_period_count": ("billing_period_count", reading.count),
    "billing_anchor": ("billing_anchor", reading.instant),
    "end_date": ("end_date", reading.instant),
    "metadata": ("metadata", reading.metadata),
    "subscription_status": ("status", reading.subscription_status),
}
COMMITTED: Columns = {
    **COMMITMENT_COLUMNS,
    "enable_true_up": ("commitment_true_up_enabled", reading.boolean),
    "is_window_commitment": ("commitment_windowed", reading.boolean),
    "overage_factor": ("commitment_overage_factor", reading.decimal),
}
UNHEEDED = (
    *("addons", "phases", "commitment_amount", "overage_factor", "trial_period_days", "include_price_ids"),
    *("subscription_coupons", "inheritance", "override_entitlements", "credit_grants", "tax_rate_overrides"),
)
IMMEDIATE, SCHEDULED = "immediate", "scheduled_date"


class SubscriptionsView(ListView):
    resource = SUBSCRIPTIONS

    def post(self, request: Request) -> Answer:
        body = self.body()
        reading.refuse(body, UNHEEDED)
        order = Order(self, body)
        return self.shown(self.together(order.placed), 201)


class SubscriptionView(OneView):
    resource = SUBSCRIPTIONS

    def put(self, request: Request, id: str) -> Answer:
        body = self.body()
        subscription = self.find(Subscription, id, "id")
        if body.get("status") is not None and body.get("subscription_status") is None:
            body = body | {"subscription_status": body["status"]}
        return self.shown(self.saved(subscription, reading.given(body, COLUMNS)))


class CancelView(PricingView):
    resource = SUBSCRIPTIONS

    def post(self, request: Request, id: str) -> Answer:
        body = self.optional_body()
        subscription = self.find(Subscription, id, "id")
        kind = members.text(body, "cancellation_type") or IMMEDIATE
        if kind not in (IMMEDIATE, SCHEDULED):
            raise InvalidPayload("cancellation_type", f"must be {IMMEDIATE} or {SCHEDULED}")
        at = members.instant(body, "cancel_at")
        if kind == SCHEDULED and at is None:
            raise InvalidPayload("cancel_at", f"is required for {SCHEDULED}")
        reason = members.text(body, "reason")
        if subscription.status == Subscription.Status.CANCELLED:
            told = {"subscription_id": f"has been cancelled since {_shown(subscription.cancelled_at)}"}
            raise ApiError(409, "invalid_operation", "The subscription is cancelled already", told)
        instant = at if kind == SCHEDULED else None
        if instant is not None and instant < subscription.start_date:
            raise InvalidPayload("cancel_at", "must not lie before the subscription's start_date")
        cancelled = cancel(subscription, instant, by=self.credentials.subject, using=write_alias())
        return Answer(
            {
                "subscription_id": cancelled.pk,
                "status": cancelled.status,
                "cancellation_type": kind,
                "effective_date": _shown(cancelled.cancelled_at),
                "processed_at": format_timestamp(now()),
                "reason": reason or None,
                "message": "Subscription cancelled successfully",
                "proration_details": [],
                "proration_invoice": None,
                "total_credit_amount": "0",
            }
        )


class CustomerSubscriptionsView(PricingView):
    """The subscriptions of the customer that events call so."""

    resource = SUBSCRIPTIONS

    def get(self, request: Request, external_id: str) -> Answer:
        return self.page(self.parameters(), customer=by_external_id(self, external_id))


class Order:
    """A subscription as a body asks for it: everything is read before anything is stored."""

    def __init__(self, view: PricingView, body: Members) -> None:
        self.view, self.body = view, body
        self.customer, self.plan = self._customer(), view.named(Plan, body, "plan_id")
        refuse_archived(self.customer)
        refuse_archived(self.plan)
        self.currency = reading.currency(body, "currency")
        self.start = members.instant(body, "start_date")
        self.columns = reading.given(body, COLUMNS)
        self.commitments = self._commitments()
        self.overrides = reading.objects(body, "override_line_items")
        self.added = reading.objects(body, "line_items")
        self.coupons = [self._coupon(id, "coupons") for id in members.texts(body, "coupons")]
        self.item_coupons = {
            price_id: [self._coupon(id, "line_item_coupons") for id in members.texts(by_price, price_id)]
            for by_price in [reading.inner(body, "line_item_coupons")]
            for price_id in by_price
        }

    def placed(self) -> Subscription:
        by, alias = self.view.credentials.subject, write_alias()
        subscription = subscribe(
            self.customer,
            self.plan,
            currency=self.currency,
            start=self.start,
            commitments=self.commitments,
            by=by,
            using=alias,
            **self.columns,
        )
        items: QuerySet[LineItem] = subscription.line_items.using(alias).select_related("price")
        by_price = {item.price_id: item for item in items}
        self._all_known(by_price)
        for index, entry in enumerate(self.overrides):
            price_id = members.text(entry, "price_id", required=True)
            by_price[price_id] = override(self.view, by_price[price_id], entry, f"override_line_items[{index}]")
        for index, entry in enumerate(self.added):
            add_item(self.view, subscription, entry, f"line_items[{index}]")
        for coupon in self.coupons:
            apply_coupon(coupon, subscription, by=by, using=alias)
        for price_id, coupons in self.item_coupons.items():
            for coupon in coupons:
                apply_coupon(coupon, by_price[price_id], by=by, using=alias)
        return subscription

    def _customer(self) -> Customer:
        if members.text(self.body, "customer_id"):
            return self.view.named(Customer, self.body, "customer_id")
        external_id = members.text(self.body, "external_customer_id")
        if not external_id:
            raise InvalidPayload("customer_id", "or external_customer_id is required")
        return by_external_id(self.view, external_id)

    def _commitments(self) -> dict[str, dict[str, Any]]:
        by_price = reading.inner(self.body, "line_item_commitments")
        commitments = {}
        for price_id in by_price:
            with reading.within("line_item_commitments"):
                entry = reading.inner(by_price, price_id)
                with reading.within(price_id):
                    commitments[price_id] = reading.given(entry, COMMITTED)
        return commitments

    def _coupon(self, id: str, member: str) -> Coupon:
        coupon = self.view.find(Coupon, id, member)
        refuse_archived(coupon)
        return coupon

    def _all_known(self, by_price: Mapping[str, LineItem]) -> None:
        """Refuse what is said of prices that are not copied from the plan."""
        named = {
            "line_item_commitments": list(self.commitments),
            "override_line_items": [members.text(entry, "price_id", required=True) for entry in self.overrides],
            "line_item_coupons": list(self.item_coupons),
        }
        for member, ids in named.items():
            for id in ids:
                if id not in by_price:
                    raise InvalidPayload(member, f"names {id[:100]!r}, which is no price of the plan in this currency")


def _shown(instant: datetime | None) -> str | None:
    return None if instant is None else format_timestamp(instant)
