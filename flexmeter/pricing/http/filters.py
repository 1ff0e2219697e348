"""Lists by query string, or by the same members in a body, through django-filter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import QueryDict

from flexmeter.events import parse_timestamp
from flexmeter.http import members
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.filters import Unstripped
from flexmeter.http.members import Members
from flexmeter.models import now
from flexmeter.pricing.http.reading import objects, within
from flexmeter.pricing.models import Coupon, CouponAssociation, Customer, Feature, LineItem, Plan, Price, Status, Subscription
from flexmeter.properties import text_fault

MOST_IDS = 1_000


class Texts(forms.Field):
    """A parameter that may stand several times."""

    widget = forms.SelectMultiple

    def to_python(self, value: Any) -> list[str]:
        texts = [text for text in value or () if text]
        if len(texts) > MOST_IDS:
            raise ValidationError(f"must not have more than {MOST_IDS} entries")
        for text in texts:
            if len(text) > members.MAX_TEXT:
                raise ValidationError(f"must not be longer than {members.MAX_TEXT} characters")
            if reason := text_fault(text):
                raise ValidationError(reason)
        return texts


class Several(django_filters.Filter):
    """Any of several exact values."""

    field_class = Texts

    def __init__(self, field_name: str, **kwargs: Any) -> None:
        super().__init__(field_name, lookup_expr="in", **kwargs)


class MomentField(forms.CharField):
    def to_python(self, value: Any) -> datetime | None:
        if not value:
            return None
        try:
            return parse_timestamp(value).astimezone(UTC)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Moment(django_filters.Filter):
    """An instant with an offset."""

    field_class = MomentField


class CreatedFilter(django_filters.FilterSet):
    start_time = Moment("created_at", "gte", help_text="First instant of creation.")
    end_time = Moment("created_at", "lte", help_text="Last instant of creation.")


class StatusFilter(CreatedFilter):
    status = django_filters.ChoiceFilter(choices=Status.choices, help_text="published or archived; both by default.")


class CustomerFilter(StatusFilter):
    external_id = Unstripped(help_text="Exact external id.")
    email = Unstripped(help_text="Exact e-mail address.")
    name = Unstripped(help_text="Exact name.")
    parent_customer_id = Unstripped(field_name="parent_id", help_text="Only customers right below this one.")
    customer_ids = Several("id", help_text="Any of these ids.")
    external_ids = Several("external_id", help_text="Any of these external ids.")

    class Meta:
        model = Customer
        fields: tuple[str, ...] = ()


class FeatureFilter(StatusFilter):
    name = Unstripped(help_text="Exact name.")
    name_contains = Unstripped(field_name="name", lookup_expr="icontains", help_text="Part of the name.")
    lookup_key = Unstripped(help_text="Exact lookup key.")
    feature_ids = Several("id", help_text="Any of these ids.")
    lookup_keys = Several("lookup_key", help_text="Any of these lookup keys.")
    meter_ids = Several("meter_id", help_text="Features of any of these meters.")

    class Meta:
        model = Feature
        fields: tuple[str, ...] = ()


class PlanFilter(StatusFilter):
    name = Unstripped(help_text="Exact name.")
    lookup_key = Unstripped(help_text="Exact lookup key.")
    plan_ids = Several("id", help_text="Any of these ids.")

    class Meta:
        model = Plan
        fields: tuple[str, ...] = ()


class PriceFilter(StatusFilter):
    lookup_key = Unstripped(help_text="Exact lookup key.")
    entity_type = django_filters.ChoiceFilter(choices=Price.EntityType.choices, help_text="Kind of what has the price.")
    entity_ids = Several("entity_id", help_text="Prices of any of these plans or subscriptions.")
    plan_ids = Several("entity_id", method="of_plans", help_text="Prices of any of these plans.")
    subscription_id = Unstripped(method="of_subscription", help_text="Prices made for this subscription.")
    parent_price_id = Unstripped(help_text="Overrides of this price.")
    price_ids = Several("id", help_text="Any of these ids.")
    meter_ids = Several("meter_id", help_text="Prices of any of these meters.")
    currency = Unstripped(help_text="Exact currency, in lower case.")

    class Meta:
        model = Price
        fields: tuple[str, ...] = ()

    def of_plans(self, rows: QuerySet[Price], name: str, ids: list[str]) -> QuerySet[Price]:
        return rows.filter(entity_type=Price.EntityType.PLAN, entity_id__in=ids)

    def of_subscription(self, rows: QuerySet[Price], name: str, id: str) -> QuerySet[Price]:
        return rows.filter(entity_type=Price.EntityType.SUBSCRIPTION, entity_id=id)


class SubscriptionFilter(CreatedFilter):
    customer_id = Unstripped(help_text="Subscriptions of this customer.")
    external_customer_id = Unstripped(field_name="customer__external_id", help_text="Subscriptions of this customer.")
    customer_ids = Several("customer_id", help_text="Subscriptions of any of these customers.")
    plan_id = Unstripped(help_text="Subscriptions to this plan.")
    subscription_ids = Several("id", help_text="Any of these ids.")
    parent_subscription_ids = Several("parent_id", help_text="Subscriptions that inherit from any of these.")
    subscription_status = Several("status", help_text="Any of these: active, trialing, paused, cancelled, draft, incomplete.")

    class Meta:
        model = Subscription
        fields: tuple[str, ...] = ()


class LineItemFilter(StatusFilter):
    subscription_line_item_ids = Several("id", help_text="Any of these ids.")
    subscription_ids = Several("subscription_id", help_text="Line items of any of these subscriptions.")
    customer_ids = Several("subscription__customer_id", help_text="Line items of any of these customers.")
    price_ids = Several("price_id", help_text="Line items with any of these prices.")
    meter_ids = Several("meter_id", help_text="Line items of any of these meters.")

    class Meta:
        model = LineItem
        fields: tuple[str, ...] = ()


class CouponFilter(StatusFilter):
    name = Unstripped(help_text="Exact name.")
    coupon_ids = Several("id", help_text="Any of these ids.")

    class Meta:
        model = Coupon
        fields: tuple[str, ...] = ()


class AssociationFilter(CreatedFilter):
    coupon_ids = Several("coupon_id", help_text="Any of these coupons.")
    subscription_ids = Several("subscription_id", help_text="Coupons of any of these subscriptions.")
    active_only = django_filters.BooleanFilter(method="now_active", help_text="Only those that reduce costs now.")

    class Meta:
        model = CouponAssociation
        fields: tuple[str, ...] = ()

    def now_active(self, rows: QuerySet[CouponAssociation], name: str, wanted: bool) -> QuerySet[CouponAssociation]:
        instant = now()
        active = Q(start_date__lte=instant) & (Q(end_date=None) | Q(end_date__gt=instant))
        return rows.filter(active) if wanted else rows


def parameters_of(body: Members, filters: type[django_filters.FilterSet]) -> QueryDict:
    """A body that asks for a list, as the query string that asks for the same."""
    parameters = QueryDict(mutable=True)
    for name, filter in filters.base_filters.items():
        if isinstance(filter, Several):
            parameters.setlist(name, members.texts(body, name, most=MOST_IDS, limit=members.MAX_TEXT))
        elif isinstance(filter, django_filters.BooleanFilter):
            parameters[name] = "true" if members.boolean(body, name) else ""
        else:
            parameters[name] = members.text(body, name)
    for name in ("limit", "offset"):
        if body.get(name) is not None:
            parameters[name] = str(members.integer(body, name, 0))
    for name in ("order", "expand"):
        parameters[name] = members.text(body, name)
    if body.get("filters"):
        raise InvalidPayload("filters", "is not supported here; use the members that name a column")
    if isinstance(body.get("sort"), list):
        for entry in objects(body, "sort", most=1):
            with within("sort[0]"):
                parameters["sort"] = members.text(entry, "field")
                if direction := members.text(entry, "direction"):
                    parameters["order"] = direction
    else:
        parameters["sort"] = members.text(body, "sort")
    return parameters
