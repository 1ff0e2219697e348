"""What refers to a row, so that nothing is taken away from under what is charged."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from django.db import models, transaction
from django.db.models import Q

from flexmeter.models import now
from flexmeter.pricing import catalog
from flexmeter.pricing.exceptions import InvalidPricing
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, LineItem, Plan, Price, Record, Status, Subscription
from flexmeter.pricing.subscriptions import end_line_item
from flexmeter.stores.database.transactions import write_alias

Row = TypeVar("Row", bound=Record)


class InUse(InvalidPricing):
    """Something is charged by it, so it cannot be taken away or changed like that; nothing was changed."""


def uses(row: Record, *, using: str) -> str:
    """What still needs the row, such as "2 subscriptions"; "" if nothing does and it can be archived."""
    running = Q(end_date=None) | Q(end_date__gt=now())
    alive = ~Q(status=Subscription.Status.CANCELLED)
    if isinstance(row, Customer):
        children = row.children.using(using).exclude(status=Status.ARCHIVED)
        subscriptions = row.subscriptions.using(using).filter(alive & running)
        return _counted(subscriptions, "subscription") or _counted(children, "customer")
    if isinstance(row, Plan):
        return _counted(row.subscriptions.using(using).filter(alive & running), "subscription")
    active = running & ~Q(subscription__status=Subscription.Status.CANCELLED)
    if isinstance(row, Price):
        return _counted(row.line_items.using(using).filter(active, status=Status.PUBLISHED), "line item")
    if isinstance(row, Coupon):
        return _counted(row.associations.using(using).filter(active), "subscription")
    return ""


def is_referred_to(row: Record, *, using: str) -> bool:
    """Whether anything, past or present, would lose by the row's deletion."""
    if isinstance(row, Customer):
        return row.subscriptions.using(using).exists() or row.children.using(using).exists()
    if isinstance(row, Plan):
        prices = Price.objects.using(using).filter(
            environment=row.environment, entity_type=Price.EntityType.PLAN, entity_id=row.pk
        )
        return row.subscriptions.using(using).exists() or prices.exists()
    if isinstance(row, Price):
        return LineItem.objects.using(using).filter(environment=row.environment, price=row).exists() or (
            Price.objects.using(using).filter(environment=row.environment, parent_price_id=row.pk).exists()
        )
    if isinstance(row, Coupon):
        return CouponAssociation.objects.using(using).filter(environment=row.environment, coupon=row).exists()
    return isinstance(row, (Subscription, LineItem))


def save(row: Row, *, by: str = "", using: str | None = None) -> Row:
    """Store a row, new or changed, unless that takes away or changes what something is charged by.

    Raises InUse then, and what `catalog.save` raises.
    """
    alias = using or write_alias()
    with transaction.atomic(using=alias):
        catalog.check(row, alias)  # first of all, for it brings tiers into the form that is kept
        keep_uses(row, using=alias)
        return catalog.save(row, by=by, using=alias)


def archive(row: Row, *, by: str = "", using: str | None = None) -> Row:
    """Take a row out of use. Raises InUse while something needs it."""
    row.status = Status.ARCHIVED  # type: ignore[attr-defined]
    return save(row, by=by, using=using)


def end_price(price: Price, at: datetime, *, by: str = "", using: str | None = None) -> Price:
    """Charge nothing by a price from `at` on: its line items end then, and no new subscription has it."""
    alias = using or write_alias()
    with transaction.atomic(using=alias):
        running = Q(end_date=None) | Q(end_date__gt=at)
        for item in price.line_items.using(alias).filter(running, status=Status.PUBLISHED).order_by("id"):
            end_line_item(item, max(at, item.start_date), by=by, using=alias)
        price.end_date = max(at, price.start_date or at)
        price.status = Status.ARCHIVED
        return catalog.save(price, by=by, using=alias)


CHARGED_BY = ("type", "meter_id", "amount", "currency", "billing_model", "tier_mode", "tiers", "divide_by", "round")
"""Columns of a price that say what usage costs."""


def is_charged_by(price: Price, *, using: str) -> bool:
    """Whether line items have the price, so that what it says of costs is settled."""
    return LineItem.objects.using(using).filter(environment=price.environment, price=price).exists()


def keep_uses(row: Record, *, using: str) -> None:
    """Raise InUse if saving the row would take away or change what something is charged by."""
    stored = None if row._state.adding else type(row)._default_manager.using(using).filter(pk=row.pk).first()
    if stored is None:
        return
    kind = str(row._meta.verbose_name)
    was, becomes = getattr(stored, "status", ""), getattr(row, "status", "")
    if was == Status.PUBLISHED and becomes in (Status.ARCHIVED, Status.DELETED) and (users := uses(stored, using=using)):
        raise InUse(f"The {kind} is in use by {users}; end or cancel these first", {"status": f"is needed by {users}"})
    if isinstance(stored, Price) and isinstance(row, Price) and is_charged_by(stored, using=using):
        for column in CHARGED_BY:
            if getattr(stored, column) != getattr(row, column):
                member = "transform_quantity" if column in ("divide_by", "round") else column
                raise InUse(
                    "Usage is charged by this price already: end it and add another, or override it for a subscription",
                    {member: "cannot be changed once line items have the price"},
                )


def refuse_archived(row: Customer | Plan | Price | Coupon) -> None:
    """Raise InvalidPricing for a row that is out of use."""
    if row.status != Status.PUBLISHED:
        kind = row._meta.verbose_name
        raise InvalidPricing(f"The {kind} is {row.status}", {f"{row._meta.model_name}_id": f"is a {kind} that is {row.status}"})


def _counted(rows: models.QuerySet[Record], noun: str) -> str:
    number = rows.count()
    return f"{number} {noun}{'s' if number != 1 else ''}" if number else ""
