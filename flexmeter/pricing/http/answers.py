"""What the API shows, with what is expanded. Members that clients know and that do not exist here are null."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.db.models import prefetch_related_objects

from flexmeter.events import format_timestamp
from flexmeter.http.shapes import meter_shape
from flexmeter.models import Meter
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, Feature, LineItem, Plan, Price, Status, Subscription
from flexmeter.pricing.shapes import (
    customer_shape,
    decimal_or_none,
    feature_shape,
    line_item_shape,
    plan_shape,
    price_shape,
    subscription_shape,
)
from flexmeter.stores.database.transactions import read_alias

Shape = dict[str, Any]


def customers(rows: Sequence[Customer], expand: frozenset[str]) -> list[Shape]:
    return [{**customer_shape(row), "integrations": None} for row in rows]


def features(rows: Sequence[Feature], expand: frozenset[str]) -> list[Shape]:
    meters = _meters([row.meter_id for row in rows]) if {"meter", "meters"} & expand else {}
    return [{**feature_shape(row), "meter": meters.get(row.meter_id)} for row in rows]


def prices(rows: Sequence[Price], expand: frozenset[str]) -> list[Shape]:
    meters = _meters([row.meter_id for row in rows]) if {"meter", "meters"} & expand else {}
    return [{**price_shape(row), "meter": meters.get(str(row.meter_id))} for row in rows]


def plans(rows: Sequence[Plan], expand: frozenset[str]) -> list[Shape]:
    owned: dict[str, list[Shape]] = defaultdict(list)
    if wanted := "prices" in expand and rows:
        found = Price.objects.using(read_alias()).filter(
            environment__in={row.environment for row in rows},
            entity_type=Price.EntityType.PLAN,
            entity_id__in=[row.pk for row in rows],
            status=Status.PUBLISHED,
        )
        for price in prices(list(found.order_by("created_at", "id")), expand):
            owned[price["entity_id"]].append(price)
    return [
        {
            **plan_shape(row),
            "prices": owned[row.pk] if wanted else None,
            **dict.fromkeys(("entitlements", "credit_grants", "price_sync_status")),
        }
        for row in rows
    ]


def subscriptions(rows: Sequence[Subscription], expand: frozenset[str]) -> list[Shape]:
    related: list[str] = [name for name in ("customer", "plan") if name in expand]
    with_items, with_coupons = "line_items" in expand, "coupon_associations" in expand
    if with_items:
        related += ["line_items__price", "line_items__meter", "plan"]
    if with_coupons:
        related += ["coupons__coupon"]
    prefetch_related_objects(rows, *related)
    return [
        {
            **subscription_shape(row),
            "subscription_type": "inherited" if row.parent_id else "standalone",
            "customer": customer_shape(row.customer) if "customer" in expand else None,
            "plan": plan_shape(row.plan) if "plan" in expand and row.plan is not None else None,
            "line_items": _items(row) if with_items else None,
            "coupon_associations": associations(list(row.coupons.all()), frozenset({"coupon"})) if with_coupons else None,
            **dict.fromkeys(ABSENT_FROM_SUBSCRIPTIONS),
        }
        for row in rows
    ]


ABSENT_FROM_SUBSCRIPTIONS = (
    *("active_pause_id", "auto_invoice_threshold", "billing_cycle", "cancel_at", "cancel_at_period_end", "checkout_session"),
    *("collection_method", "commitment_amount", "commitment_duration", "credit_grants", "current_period_end"),
    *("current_period_start", "enable_true_up", "entitlements", "gateway_payment_method_id", "invoicing_customer_id"),
    *("latest_invoice", "line_item_grouping", "lookup_key", "overage_factor", "pause_status", "pauses", "payment_behavior"),
    *(
        "payment_terms",
        "phases",
        "proration_behavior",
        "synced_price_sequence",
        "timezone",
        "trial_end",
        "trial_start",
        "version",
    ),
)


def line_items(rows: Sequence[LineItem], expand: frozenset[str]) -> list[Shape]:
    prefetch_related_objects(rows, "subscription__plan", "price", "meter")
    return [line_item(row) for row in rows]


def line_item(row: LineItem) -> Shape:
    """A line item with its price; what belongs to it is looked at."""
    absent = dict.fromkeys(("addon_association_id", "commitment_time_buckets", "meter"))
    return {**line_item_shape(row), "price": price_shape(row.price), **absent}


def _items(subscription: Subscription) -> list[Shape]:
    items = sorted(subscription.line_items.all(), key=lambda item: (item.created_at, item.pk))
    for item in items:
        item.subscription = subscription  # with its plan, which was fetched along
    return [line_item(item) for item in items]


def coupons(rows: Sequence[Coupon], expand: frozenset[str]) -> list[Shape]:
    return [
        {
            **_common(row),
            "name": row.name,
            "type": row.type,
            "cadence": row.cadence,
            "percentage_off": decimal_or_none(row.percentage_off),
            "amount_off": decimal_or_none(row.amount_off),
            "currency": row.currency or None,
            "metadata": row.metadata,
            "status": row.status,
            **dict.fromkeys(("coupon_code", "duration_in_periods", "max_redemptions", "redeem_after", "redeem_before")),
            **dict.fromkeys(("rules", "total_redemptions")),
        }
        for row in rows
    ]


def associations(rows: Sequence[CouponAssociation], expand: frozenset[str]) -> list[Shape]:
    if "coupon" in expand:
        prefetch_related_objects(rows, "coupon")
    return [
        {
            **_common(row),
            "coupon_id": row.coupon_id,
            "coupon": coupons([row.coupon], frozenset())[0] if "coupon" in expand else None,
            "subscription_id": row.subscription_id,
            "subscription_line_item_id": row.line_item_id,
            "start_date": format_timestamp(row.start_date),
            "end_date": None if row.end_date is None else format_timestamp(row.end_date),
            "status": Status.PUBLISHED.value,
            **dict.fromkeys(("metadata", "subscription_line_item", "subscription_phase_id")),
        }
        for row in rows
    ]


def _common(row: Coupon | CouponAssociation) -> Shape:
    return {
        "id": row.pk,
        "tenant_id": row.environment,
        "environment_id": row.environment,
        "created_at": format_timestamp(row.created_at),
        "created_by": row.created_by,
        "updated_at": format_timestamp(row.updated_at),
        "updated_by": row.updated_by,
    }


def _meters(ids: Sequence[str | None]) -> dict[str, Shape]:
    meters = Meter.objects.using(read_alias()).filter(pk__in={id for id in ids if id})
    return {meter.pk: meter_shape(meter) for meter in meters}
