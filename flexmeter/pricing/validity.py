"""The rules that customers, features, prices, subscriptions and coupons keep, in words.

Each `check_` function looks at a row as it is about to be saved and raises InvalidPricing for the first rule it breaks, with
the member in `details`. The admin, the HTTP API and Python code all go through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db import models

from flexmeter.exceptions import MeterNotFound
from flexmeter.meters import BUCKETED_TYPES, find_meter
from flexmeter.pricing.currencies import CODES
from flexmeter.pricing.exceptions import InvalidPricing
from flexmeter.pricing.models import (
    Coupon,
    CouponAssociation,
    Customer,
    Feature,
    LineItem,
    Plan,
    Price,
    Subscription,
)
from flexmeter.properties import fault, number, plain, text_fault
from flexmeter.windows import zone_is_unknown

MAX_DIGITS = 100
MAX_TIERS = 1_000
MAX_JSON_CHARACTERS = 65_536
MOST_PERIODS = 1_000
_FAILED = "Request validation failed"


def check_customer(customer: Customer, *, using: str) -> None:
    _check_columns(customer)
    _require(customer.external_id.strip(), "external_id", "is required and must not be blank")
    if customer.timezone and zone_is_unknown(customer.timezone):
        raise InvalidPricing(f"{customer.timezone!r} is no time zone", {"timezone": "must be a name such as Asia/Tokyo"})
    if bool(customer.host_model) != bool(customer.host_pk):
        raise InvalidPricing(_FAILED, {"host_pk": "must be given together with host_model"})
    ancestor = _related(customer, "parent", using)
    while ancestor is not None:
        if ancestor.pk == customer.pk:
            raise InvalidPricing("A customer cannot be below itself", {"parent": "is this customer or one below it"})
        ancestor = ancestor.parent


def check_feature(feature: Feature, *, using: str) -> None:
    _check_columns(feature)
    _require(feature.name.strip(), "name", "is required and must not be blank")
    _check_meter(feature.meter_id, feature.environment, using)
    rate = feature.reporting_conversion_rate
    if rate is not None:
        _check_amount(rate, "reporting_unit.conversion_rate")
        if rate <= 0:
            raise InvalidPricing(
                "The conversion rate must be greater than zero", {"reporting_unit.conversion_rate": "must be greater than 0"}
            )
    named = [bool(feature.reporting_unit_singular), bool(feature.reporting_unit_plural), rate is not None]
    if any(named) and not all(named):
        raise InvalidPricing(
            "A reporting unit needs its names, singular and plural, and a conversion rate", {"reporting_unit": "is incomplete"}
        )


def check_plan(plan: Plan) -> None:
    _check_columns(plan)
    _require(plan.name.strip(), "name", "is required and must not be blank")


def _check_period_count(count: int) -> None:
    if not 1 <= count <= MOST_PERIODS:
        raise InvalidPricing(_FAILED, {"billing_period_count": f"must lie between 1 and {MOST_PERIODS}"})


def check_price(price: Price, *, using: str) -> None:
    _check_columns(price)
    _check_currency(price.currency)
    _check_amount(price.amount, "amount")
    _check_dates(price.start_date, price.end_date)
    _require(price.entity_id, "entity_id", "is required")
    _check_period_count(price.billing_period_count)
    if price.type == Price.Type.USAGE:
        if not price.meter_id:
            raise InvalidPricing("A usage price needs the meter it is for", {"meter_id": "is required for USAGE"})
        _check_meter(price.meter_id, price.environment, using)
    elif price.meter_id:
        raise InvalidPricing("Only usage prices have a meter", {"meter_id": "must not be given for FIXED"})
    owner = {Price.EntityType.PLAN: Plan, Price.EntityType.SUBSCRIPTION: Subscription}.get(Price.EntityType(price.entity_type))
    if owner is not None and not _known(owner, price.entity_id, price.environment, using):
        raise InvalidPricing(
            f"There is no {price.entity_type.lower()} {price.entity_id}", {"entity_id": f"is no {price.entity_type.lower()} here"}
        )
    if price.parent_price_id and not _known(Price, price.parent_price_id, price.environment, using):
        raise InvalidPricing("There is no such parent price", {"parent_price_id": "is no price here"})
    _check_model(price, using)


def price_warnings(price: Price) -> list[str]:
    """What is allowed but worth a second look."""
    tiers = price.tiers or ()
    if price.billing_model != Price.BillingModel.TIERED or any(tier.get("up_to") is None for tier in tiers):
        return []
    last = max(Decimal(tier["up_to"]) for tier in tiers)
    if price.tier_mode == Price.TierMode.SLAB:
        return [f"No tier is open: units above {plain(last)} are not charged."]
    return [f"No tier is open: quantities above {plain(last)} are charged like the last tier."]


def check_subscription(subscription: Subscription, *, using: str) -> None:
    _check_columns(subscription)
    _check_currency(subscription.currency)
    _check_dates(subscription.start_date, subscription.end_date)
    _check_period_count(subscription.billing_period_count)
    if not _known(Customer, subscription.customer_id, subscription.environment, using):
        raise InvalidPricing("There is no such customer", {"customer_id": "is no customer here"})
    if subscription.plan_id and not _known(Plan, subscription.plan_id, subscription.environment, using):
        raise InvalidPricing("There is no such plan", {"plan_id": "is no plan here"})
    if subscription.cancelled_at is not None and subscription.status != Subscription.Status.CANCELLED:
        raise InvalidPricing("Only a cancelled subscription has been cancelled", {"cancelled_at": "needs the status cancelled"})
    if subscription.status == Subscription.Status.CANCELLED and subscription.cancelled_at is None:
        raise InvalidPricing("Since when is the subscription cancelled?", {"cancelled_at": "is required"})
    parent = _related(subscription, "parent", using)
    if parent is not None and (parent.pk == subscription.pk or parent.parent_id is not None):
        raise InvalidPricing(
            "A subscription can inherit only from one that does not inherit itself", {"parent_id": "inherits itself"}
        )


def check_line_item(item: LineItem, *, using: str) -> None:
    _check_columns(item)
    _check_dates(item.start_date, item.end_date)
    _check_amount(item.quantity, "quantity")
    price: Price | None = _related(item, "price", using)
    subscription: Subscription | None = _related(item, "subscription", using)
    if price is None or subscription is None:
        raise InvalidPricing("A line item belongs to a subscription and a price", {"price_id": "is required"})
    if price.meter_id != item.meter_id:
        raise InvalidPricing("A line item has the meter of its price", {"meter_id": f"must be {price.meter_id}"})
    if price.currency != subscription.currency:
        raise InvalidPricing(
            f"The price is in {price.currency}, the subscription in {subscription.currency}",
            {"currency": f"must be {subscription.currency}"},
        )
    _check_commitment(item, price, using)


def check_coupon(coupon: Coupon) -> None:
    _check_columns(coupon)
    _require(coupon.name.strip(), "name", "is required and must not be blank")
    if coupon.type == Coupon.Type.PERCENTAGE:
        percentage = coupon.percentage_off
        if percentage is None or not 0 < percentage <= 100:
            raise InvalidPricing("The percentage must lie between 0 and 100", {"percentage_off": "must be above 0, at most 100"})
        _check_amount(percentage, "percentage_off")
    else:
        if coupon.amount_off is None or coupon.amount_off <= 0:
            raise InvalidPricing("The amount must be greater than zero", {"amount_off": "must be greater than 0"})
        _check_amount(coupon.amount_off, "amount_off")
        _check_currency(coupon.currency)


def check_coupon_association(association: CouponAssociation, *, using: str) -> None:
    _check_columns(association)
    _check_dates(association.start_date, association.end_date)
    for kind, model in (("coupon", Coupon), ("subscription", Subscription)):
        if not _known(model, getattr(association, f"{kind}_id"), association.environment, using):
            raise InvalidPricing(f"There is no such {kind}", {f"{kind}_id": f"is no {kind} here"})
    item = _related(association, "line_item", using)
    if item is not None and item.subscription_id != association.subscription_id:
        raise InvalidPricing("The line item is none of the subscription's", {"line_item_id": "belongs to another subscription"})


def normalized_tiers(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tiers ascending, the open one last, amounts as plain text: the form that is kept. Raises InvalidPricing."""
    tiers = []
    if not isinstance(given, (list, tuple)):
        raise InvalidPricing("Tiers are a list", {"tiers": "must be a list of objects"})
    if len(given) > MAX_TIERS:
        raise InvalidPricing(_FAILED, {"tiers": f"must not be more than {MAX_TIERS}"})
    for index, tier in enumerate(given):
        where = f"tiers[{index}]"
        if not isinstance(tier, Mapping):
            raise InvalidPricing(_FAILED, {where: "must be an object with up_to, unit_amount and flat_amount"})
        up_to = tier.get("up_to")
        bound = None if up_to is None else _decimal(up_to, f"{where}.up_to")
        if bound is not None and (bound <= 0 or bound != bound.to_integral_value()):
            raise InvalidPricing("A tier ends at a whole number of units", {f"{where}.up_to": "must be an integer above 0"})
        if tier.get("unit_amount") is None:
            raise InvalidPricing(_FAILED, {f"{where}.unit_amount": "is required"})
        flat = tier.get("flat_amount")
        tiers.append(
            {
                "up_to": None if bound is None else int(bound),
                "unit_amount": plain(_decimal(tier["unit_amount"], f"{where}.unit_amount")),
                "flat_amount": None if flat is None else plain(_decimal(flat, f"{where}.flat_amount")),
            }
        )
    if not tiers:
        raise InvalidPricing("A tiered price needs tiers", {"tiers": "must not be empty"})
    tiers.sort(key=lambda tier: (tier["up_to"] is None, tier["up_to"]))
    for lower, upper in pairwise(tiers):
        if lower["up_to"] == upper["up_to"]:
            told = "open" if lower["up_to"] is None else f"up to {lower['up_to']}"
            raise InvalidPricing(f"Two tiers are {told}", {"tiers": "must differ in up_to"})
    return tiers


def _is_stored_with(price: Price, using: str) -> bool:
    """Whether the price has these very tiers already."""
    if price._state.adding:
        return False
    return bool(Price.objects.using(using).filter(pk=price.pk).values_list("tiers", flat=True).first() == price.tiers)


def _check_model(price: Price, using: str) -> None:
    tiered = price.billing_model == Price.BillingModel.TIERED
    if tiered:
        if not price.tier_mode:
            raise InvalidPricing("A tiered price is VOLUME or SLAB", {"tier_mode": "is required for TIERED"})
        price.tiers = normalized_tiers(price.tiers or ())
        if price.tiers[-1]["up_to"] is not None and not _is_stored_with(price, using):
            raise InvalidPricing(
                f"What do units above {price.tiers[-1]['up_to']} cost?", {"tiers": "must end with a tier whose up_to is null"}
            )
    elif price.tiers or price.tier_mode:
        member = "tiers" if price.tiers else "tier_mode"
        raise InvalidPricing("Only a tiered price has tiers", {member: f"must not be given for {price.billing_model}"})
    if price.billing_model == Price.BillingModel.PACKAGE:
        if not price.divide_by or price.divide_by <= 0:
            raise InvalidPricing(
                "How many units are in a package?", {"transform_quantity.divide_by": "must be an integer greater than 0"}
            )
        if price.divide_by >= 2**63:
            raise InvalidPricing(_FAILED, {"transform_quantity.divide_by": "is too large"})
        price.round = price.round or Price.Round.UP
    elif price.divide_by is not None or price.round:
        raise InvalidPricing(
            "Only a package price divides the quantity", {"transform_quantity": f"must not be given for {price.billing_model}"}
        )


def _check_commitment(item: LineItem, price: Price, using: str) -> None:
    kinds = LineItem.CommitmentKind
    given = {kinds.AMOUNT: item.commitment_amount, kinds.QUANTITY: item.commitment_quantity}
    if not item.commitment_type:
        if any(value is not None for value in given.values()) or item.commitment_windowed or item.commitment_true_up_enabled:
            raise InvalidPricing("What is committed to, an amount or a quantity?", {"commitment_type": "is required"})
        return
    kind = kinds(item.commitment_type)
    if price.type != Price.Type.USAGE:
        raise InvalidPricing("Only usage can be committed to", {"commitment_type": "needs a USAGE price"})
    for other, value in given.items():
        member = f"commitment_{other.value}"
        if other is kind:
            if value is None or value <= 0:
                raise InvalidPricing("A commitment is greater than zero", {member: "must be greater than 0"})
            _check_amount(value, member)
        elif value is not None:
            raise InvalidPricing(_FAILED, {member: f"must not be given for a commitment of {kind.value}"})
    factor = item.commitment_overage_factor
    if factor is not None:
        _check_amount(factor, "commitment_overage_factor")
        if factor < 1:
            raise InvalidPricing("The overage factor is at least 1", {"commitment_overage_factor": "must be at least 1"})
    if item.commitment_windowed:
        meter = find_meter(str(item.meter_id), environment=item.environment, using=using)
        if not (meter.bucket_size and meter.aggregation_type in BUCKETED_TYPES):
            raise InvalidPricing(
                "Only a bucketed meter has windows to commit to", {"commitment_windowed": "needs a meter with bucket_size"}
            )


def _check_columns(row: models.Model) -> None:
    """Texts fit their columns and can be stored, choices are known, JSON is of the right shape."""
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if isinstance(value, str):
            if field.max_length is not None and len(value) > field.max_length:
                raise InvalidPricing(_FAILED, {field.name: f"must not be longer than {field.max_length} characters"})
            if reason := text_fault(value):
                raise InvalidPricing(_FAILED, {field.name: reason})
        choices = [choice for choice, _ in field.choices or ()]
        if choices and value not in choices and not (value == "" and field.blank):
            raise InvalidPricing(
                f"Invalid {field.name}", {field.name: f"must be one of {', '.join(choices)}", "provided_value": str(value)[:100]}
            )
        if field.name == "metadata":
            _check_metadata(value)


def _check_metadata(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise InvalidPricing(_FAILED, {"metadata": "must be an object"})
    if found := fault(value, "metadata"):
        raise InvalidPricing(_FAILED, {found[0]: found[1]})
    for name, text in value.items():
        if not isinstance(text, str):
            raise InvalidPricing(_FAILED, {f"metadata.{name}": "must be a string"})
    if len(str(value)) > MAX_JSON_CHARACTERS:
        raise InvalidPricing(_FAILED, {"metadata": f"must not be longer than {MAX_JSON_CHARACTERS} characters"})


def _decimal(given: Any, member: str) -> Decimal:
    parsed = number(given)
    if parsed is None:
        raise InvalidPricing(_FAILED, {member: "must be a number or a string holding one"})
    _check_amount(parsed, member)
    return parsed


def _check_amount(value: Decimal | None, member: str) -> None:
    if value is None or not value.is_finite():
        raise InvalidPricing(_FAILED, {member: "must be a number"})
    if value < 0:
        raise InvalidPricing(_FAILED, {member: "must not be negative"})
    if len(plain(value)) > MAX_DIGITS:
        raise InvalidPricing(_FAILED, {member: f"must not have more than {MAX_DIGITS} digits"})


def _check_currency(currency: str) -> None:
    if currency not in CODES:
        raise InvalidPricing(
            f"{currency[:20]!r} is no currency", {"currency": "must be a code of ISO 4217 in lower case, such as usd"}
        )


def _check_dates(start: datetime | None, end: datetime | None) -> None:
    for member, value in (("start_date", start), ("end_date", end)):
        if value is not None and value.tzinfo is None:
            raise InvalidPricing(_FAILED, {member: "must have a time zone"})
    if start is not None and end is not None and end < start:
        raise InvalidPricing("The end lies before the start", {"end_date": "must not lie before start_date"})


def _check_meter(meter_id: str | None, environment: str, using: str) -> None:
    try:
        find_meter(str(meter_id), environment=environment, using=using)
    except MeterNotFound:
        raise InvalidPricing("There is no such meter", {"meter_id": "is no meter here"}) from None


def _require(value: str, member: str, reason: str) -> None:
    if not value:
        raise InvalidPricing(_FAILED, {member: reason})


def _known(model: type[models.Model], id: str, environment: str, using: str) -> bool:
    return model._default_manager.using(using).filter(pk=id, environment=environment).exists()


def _related(row: Any, name: str, using: str) -> Any:
    """The row that a foreign key names, if it lies in the same environment."""
    id = getattr(row, f"{name}_id")
    if id is None:
        return None
    model = row._meta.get_field(name).related_model
    found = model._default_manager.using(using).filter(pk=id, environment=row.environment).first()
    if found is None:
        raise InvalidPricing(f"There is no such {name.replace('_', ' ')}", {f"{name}_id": "is unknown here"})
    return found
