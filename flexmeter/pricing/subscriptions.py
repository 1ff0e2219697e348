"""Subscribing customers to plans, and what changes afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from flexmeter.models import now
from flexmeter.pricing.catalog import save
from flexmeter.pricing.exceptions import InvalidPricing
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, LineItem, Plan, Price, Status, Subscription
from flexmeter.stores.database.transactions import write_alias


def subscribe(
    customer: Customer,
    plan: Plan,
    *,
    currency: str = "",
    start: datetime | None = None,
    commitments: Mapping[str, Mapping[str, Any]] | None = None,
    by: str = "",
    using: str | None = None,
    **members: Any,
) -> Subscription:
    """Subscribe a customer to a plan from `start` (default: now) on: every price of the plan becomes a line item.

    Of the plan's prices those in `currency` apply; it need not be named where they have only one. `commitments` maps price ids
    to members of the line item, such as `{"commitment_type": "amount", "commitment_amount": Decimal(100)}`; `members` are
    further members of the subscription. Raises InvalidPricing.
    """
    alias = using or write_alias()
    begin = start or now()
    prices = prices_of(plan, currency, alias)
    with transaction.atomic(using=alias):
        subscription = Subscription(
            environment=customer.environment,
            customer=customer,
            plan=plan,
            currency=prices[0].currency,
            start_date=begin,
            **{"billing_anchor": begin} | members,
        )
        save(subscription, by=by, using=alias)
        for price in prices:
            add_line_item(subscription, price, by=by, using=alias, **(commitments or {}).get(price.pk, {}))
    return subscription


def prices_of(plan: Plan, currency: str, alias: str) -> list[Price]:
    """The published prices of a plan in a currency, which may be "" where it has one only. Raises InvalidPricing for none."""
    owned = Price.objects.using(alias).filter(
        environment=plan.environment, entity_type=Price.EntityType.PLAN, entity_id=plan.pk, status=Status.PUBLISHED
    )
    prices = list(owned.order_by("id"))
    currencies = sorted({price.currency for price in prices})
    if not prices:
        raise InvalidPricing("The plan has no prices", {"plan_id": "has no prices"})
    if not currency and len(currencies) > 1:
        raise InvalidPricing("In which currency?", {"currency": f"must be one of {', '.join(currencies)}"})
    chosen = [price for price in prices if price.currency == (currency or currencies[0])]
    if not chosen:
        raise InvalidPricing(f"The plan has no prices in {currency}", {"currency": f"must be one of {', '.join(currencies)}"})
    return chosen


def add_line_item(
    subscription: Subscription,
    price: Price,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    by: str = "",
    using: str | None = None,
    **members: Any,
) -> LineItem:
    """Have a price apply to a subscription in [start, end), by default for as long as both last. Raises InvalidPricing."""
    starts = (subscription.start_date, price.start_date or subscription.start_date)
    ends = [moment for moment in (subscription.end_date, price.end_date) if moment is not None]
    item = LineItem(
        environment=subscription.environment,
        subscription=subscription,
        price=price,
        meter_id=price.meter_id,
        start_date=start or max(starts),
        end_date=end or min(ends, default=None),
        **{"display_name": price.display_name} | members,
    )
    return save(item, by=by, using=using)


def end_line_item(item: LineItem, at: datetime, *, by: str = "", using: str | None = None) -> LineItem:
    """Have a line item apply only until `at`."""
    item.end_date = at
    return save(item, by=by, using=using)


def override_price(
    item: LineItem, *, start: datetime | None = None, by: str = "", using: str | None = None, **changes: Any
) -> LineItem:
    """Charge one subscription by a price of its own from `start` (default: from the item's start) on.

    `changes` are the members in which it differs from the item's price. Returns the line item that has it. Raises InvalidPricing.
    """
    alias = using or write_alias()
    begin = start or item.start_date
    held = item.price
    copied = {field.attname: getattr(held, field.attname) for field in held._meta.concrete_fields if field.name not in _OWN}
    price = Price(
        **copied
        | {
            "entity_type": Price.EntityType.SUBSCRIPTION,
            "entity_id": item.subscription_id,
            "parent_price_id": held.parent_price_id or held.pk,
        }
        | changes
    )
    with transaction.atomic(using=alias):
        save(price, by=by, using=alias)
        later = LineItem(
            **{field.attname: getattr(item, field.attname) for field in item._meta.concrete_fields if field.name not in _OWN}
            | {"price_id": price.pk, "start_date": begin}
        )
        end_line_item(item, begin, by=by, using=alias)
        return save(later, by=by, using=alias)


_OWN = frozenset({"id", "created_at", "created_by", "updated_at", "updated_by"})


def cancel(subscription: Subscription, at: datetime | None = None, *, by: str = "", using: str | None = None) -> Subscription:
    """Charge nothing more from `at` (default: now) on; what was used before stays charged."""
    subscription.status = Subscription.Status.CANCELLED
    subscription.cancelled_at = at or now()
    return save(subscription, by=by, using=using)


def inherit(
    parent: Subscription, customer: Customer, *, start: datetime | None = None, by: str = "", using: str | None = None
) -> Subscription:
    """Have a customer below the subscription's own use it too. Raises InvalidPricing."""
    if customer.parent_id != parent.customer_id:
        raise InvalidPricing(
            "Only customers below the subscription's own can inherit from it", {"customer_id": "has another parent"}
        )
    return save(
        Subscription(
            environment=parent.environment,
            customer=customer,
            plan_id=parent.plan_id,
            parent=parent,
            currency=parent.currency,
            billing_anchor=parent.billing_anchor,
            billing_period=parent.billing_period,
            billing_period_count=parent.billing_period_count,
            start_date=start or now(),
        ),
        by=by,
        using=using,
    )


def apply_coupon(
    coupon: Coupon,
    to: Subscription | LineItem,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    by: str = "",
    using: str | None = None,
) -> CouponAssociation:
    """Have a coupon reduce a subscription's costs, or one line item's, in [start, end). Raises InvalidPricing."""
    association = CouponAssociation(
        environment=to.environment,
        coupon=coupon,
        subscription_id=to.subscription_id if isinstance(to, LineItem) else to.pk,
        line_item=to if isinstance(to, LineItem) else None,
        start_date=start or to.start_date,
        end_date=end,
    )
    return save(association, by=by, using=using)
