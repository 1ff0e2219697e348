"""Customers, features, plans, prices and line items in the form of the API. What is not set is null."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from flexmeter.events import format_timestamp
from flexmeter.pricing.currencies import display
from flexmeter.pricing.models import Customer, Feature, LineItem, Plan, Price, Record, Subscription
from flexmeter.properties import plain


def customer_shape(customer: Customer) -> dict[str, Any]:
    return {
        **_common(customer),
        "external_id": customer.external_id,
        "name": customer.name,
        "email": customer.email,
        "timezone": customer.timezone or None,
        "parent_customer_id": customer.parent_id,
        "metadata": customer.metadata,
        "status": customer.status,
        **dict.fromkeys(
            ("address_line1", "address_line2", "address_city", "address_state", "address_postal_code", "address_country")
        ),
        **dict.fromkeys(("billing_currency", "contact", "contact_persons", "tax_treatment")),
    }


def feature_shape(feature: Feature) -> dict[str, Any]:
    return {
        **_common(feature),
        "name": feature.name,
        "lookup_key": feature.lookup_key,
        "description": feature.description,
        "meter_id": feature.meter_id,
        "type": feature.type,
        "unit_singular": feature.unit_singular,
        "unit_plural": feature.unit_plural,
        "reporting_unit": reporting_unit_shape(feature),
        "metadata": feature.metadata,
        "status": feature.status,
        **dict.fromkeys(("alert_settings", "group", "group_id")),
    }


def reporting_unit_shape(feature: Feature) -> dict[str, Any] | None:
    if feature.reporting_conversion_rate is None:
        return None
    return {
        "unit_singular": feature.reporting_unit_singular,
        "unit_plural": feature.reporting_unit_plural,
        "conversion_rate": plain(feature.reporting_conversion_rate),
    }


def plan_shape(plan: Plan) -> dict[str, Any]:
    return {
        **_common(plan),
        "name": plan.name,
        "lookup_key": plan.lookup_key,
        "description": plan.description,
        "display_order": None,
        "metadata": plan.metadata,
        "status": plan.status,
    }


def price_shape(price: Price) -> dict[str, Any]:
    transform = None
    if price.billing_model == Price.BillingModel.PACKAGE:
        transform = {"divide_by": price.divide_by, "round": price.round or Price.Round.UP.value}
    return {
        **_common(price),
        "amount": plain(price.amount),
        "display_amount": display(price.amount, price.currency),
        "currency": price.currency,
        "type": price.type,
        "entity_type": price.entity_type,
        "entity_id": price.entity_id,
        "parent_price_id": price.parent_price_id or None,
        "meter_id": price.meter_id,
        "billing_model": price.billing_model,
        "tier_mode": price.tier_mode or None,
        "tiers": price.tiers or None,
        "transform_quantity": transform,
        "billing_period": price.billing_period,
        "billing_period_count": price.billing_period_count,
        "billing_cadence": price.billing_cadence,
        "invoice_cadence": price.invoice_cadence,
        "display_name": price.display_name,
        "description": price.description,
        "lookup_key": price.lookup_key,
        "start_date": _moment(price.start_date),
        "end_date": _moment(price.end_date),
        "metadata": price.metadata,
        "status": price.status,
        "price_unit_type": "FIAT",
        **dict.fromkeys(
            (
                "addon", "bucket_size", "conversion_rate", "display_price_unit_amount", "feature", "group", "group_id", "meter",
                "min_quantity", "plan", "price_unit", "price_unit_amount", "price_unit_id", "price_unit_tiers", "pricing_unit",
                "sequence", "trial_period", "trial_period_days",
            )
        ),
    }  # fmt: skip


def line_item_shape(item: LineItem) -> dict[str, Any]:
    """A line item; its subscription, customer, plan, price and meter are looked at."""
    subscription, price = item.subscription, item.price
    return {
        **_common(item),
        "subscription_id": item.subscription_id,
        "customer_id": subscription.customer_id,
        "entity_id": price.entity_id,
        "entity_type": price.entity_type.lower() if price.entity_type != Price.EntityType.PRICE else None,
        "price_id": item.price_id,
        "price_type": price.type,
        "meter_id": item.meter_id,
        "meter_display_name": item.meter.name if item.meter is not None else None,
        "plan_display_name": subscription.plan.name if subscription.plan is not None else None,
        "display_name": item.display_name,
        "quantity": plain(item.quantity),
        "currency": subscription.currency,
        "billing_period": price.billing_period,
        "billing_period_count": price.billing_period_count,
        "invoice_cadence": price.invoice_cadence,
        "start_date": _moment(item.start_date),
        "end_date": _moment(item.end_date),
        "commitment_type": item.commitment_type or None,
        "commitment_amount": decimal_or_none(item.commitment_amount),
        "commitment_quantity": decimal_or_none(item.commitment_quantity),
        "commitment_overage_factor": decimal_or_none(item.commitment_overage_factor),
        "commitment_true_up_enabled": item.commitment_true_up_enabled,
        "commitment_windowed": item.commitment_windowed,
        "commitment_duration": item.commitment_duration or None,
        "metadata": item.metadata,
        "status": item.status,
        **dict.fromkeys(("price", "price_unit", "price_unit_id", "subscription_phase_id", "trial_period", "trial_period_days")),
    }


def subscription_shape(subscription: Subscription) -> dict[str, Any]:
    """A subscription without its line items."""
    return {
        **_common(subscription),
        "customer_id": subscription.customer_id,
        "plan_id": subscription.plan_id,
        "parent_subscription_id": subscription.parent_id,
        "subscription_status": subscription.status,
        "status": "published",
        "currency": subscription.currency,
        "billing_anchor": _moment(subscription.billing_anchor),
        "billing_period": subscription.billing_period,
        "billing_period_count": subscription.billing_period_count,
        "billing_cadence": "RECURRING",
        "start_date": _moment(subscription.start_date),
        "end_date": _moment(subscription.end_date),
        "cancelled_at": _moment(subscription.cancelled_at),
        "metadata": subscription.metadata,
    }


def decimal_or_none(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _moment(value: datetime | None) -> str | None:
    return None if value is None else format_timestamp(value)


def _common(row: Record) -> dict[str, Any]:
    return {
        "id": row.pk,
        "tenant_id": row.environment,
        "environment_id": row.environment,
        "created_at": format_timestamp(row.created_at),
        "created_by": row.created_by,
        "updated_at": format_timestamp(row.updated_at),
        "updated_by": row.updated_by,
    }
