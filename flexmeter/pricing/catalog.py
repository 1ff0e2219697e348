"""Storing and finding what pricing knows: one door for Python code, the HTTP API and the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import IntegrityError, transaction

from flexmeter.exceptions import AlreadyDefined, DefinitionNotFound
from flexmeter.models import now
from flexmeter.pricing import validity
from flexmeter.pricing.models import (
    Coupon,
    CouponAssociation,
    Customer,
    Feature,
    LineItem,
    Plan,
    Price,
    Record,
    Status,
    Subscription,
)
from flexmeter.stores.database.transactions import read_alias, write_alias

Row = TypeVar("Row", bound=Record)


def check(row: Record, alias: str) -> None:
    """Raise InvalidPricing for the first rule that the row breaks."""
    if isinstance(row, Plan):
        validity.check_plan(row)
    elif isinstance(row, Coupon):
        validity.check_coupon(row)
    else:
        _CHECKS[type(row)](row, using=alias)


_CHECKS: dict[type[Record], Callable[..., None]] = {
    Customer: validity.check_customer,
    Feature: validity.check_feature,
    Price: validity.check_price,
    Subscription: validity.check_subscription,
    LineItem: validity.check_line_item,
    CouponAssociation: validity.check_coupon_association,
}
_UNIQUE: dict[type[Record], tuple[str, str]] = {
    Customer: ("external_id", "A customer with this external id exists already"),
    Feature: ("meter_id", "The meter has a feature already"),
}


def save(row: Row, *, by: str = "", using: str | None = None) -> Row:
    """Store a row, new or changed, that keeps all rules.

        save(Customer(external_id="acme", timezone="Asia/Tokyo"))
        save(Price(entity_type="PLAN", entity_id=plan.id, meter=meter, amount=Decimal("0.002"), currency="usd"))

    Raises InvalidPricing for the first rule broken, and AlreadyDefined for a customer's external id that is taken or a meter
    that has its feature. Nothing is stored then.
    """
    alias = using or write_alias()
    check(row, alias)
    row.updated_at = now()
    row.updated_by = by
    if row._state.adding:
        row.created_by = by
    try:
        with transaction.atomic(using=alias):
            row.save(using=alias)
    except IntegrityError:
        if type(row) not in _UNIQUE:
            raise
        column, message = _UNIQUE[type(row)]
        raise AlreadyDefined(message, {column: str(getattr(row, column))}) from None
    return row


def archive(row: Row, *, by: str = "", using: str | None = None) -> Row:
    """Take something out of use; what refers to it stays as it is."""
    row.status = Status.ARCHIVED  # type: ignore[attr-defined]
    return save(row, by=by, using=using)


def find(model: type[Row], id: str, *, environment: str, using: str | None = None) -> Row:
    """The row of that id. Raises DefinitionNotFound, also for one of another environment."""
    rows: Any = model._default_manager.using(using or read_alias())
    row: Row | None = rows.filter(pk=id, environment=environment).first()
    if row is None:
        raise DefinitionNotFound(model._meta.verbose_name_raw, id)
    return row


def find_customer(external_id: str, *, environment: str, using: str | None = None) -> Customer | None:
    """The customer that events call so, or None; one that was deleted is none."""
    customers = Customer.objects.using(using or read_alias()).filter(environment=environment, external_id=external_id)
    return customers.exclude(status=Status.DELETED).first()
