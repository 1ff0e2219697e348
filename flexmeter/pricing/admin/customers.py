"""Customers and coupons."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.base import admin_url
from flexmeter.admin.text import shown
from flexmeter.pricing.admin.base import PricingAdmin
from flexmeter.pricing.models import Coupon, Customer, Subscription


@admin.register(Customer)
class CustomerAdmin(PricingAdmin):
    list_display = ["external", "name", "timezone", "status", "environment_name", "created_at"]
    list_display_links = ["external"]
    found_by = ("external_id", "name", "email")
    raw_id_fields = ["parent"]
    fields = [
        *("environment", "external_id", "name", "email", "timezone", "parent"),
        *("host_model", "host_pk", "metadata", "status"),
    ]

    @admin.display(description=_("External id"), ordering="external_id")
    def external(self, row: Customer) -> str:
        return shown(row.external_id)

    def links(self, request: HttpRequest, row: Any) -> list[tuple[Any, str]]:
        query = {"environment": row.environment, "customer": row.external_id}
        subscriptions = (_("Subscriptions"), admin_url(Subscription, "changelist", query=query, site=self.admin_site.name))
        return [subscriptions, *super().links(request, row)]


@admin.register(Coupon)
class CouponAdmin(PricingAdmin):
    list_display = ["called", "type", "cadence", "takes_off", "status", "environment_name", "created_at"]
    list_display_links = ["called"]
    settled = ("environment", "type", "cadence", "percentage_off", "amount_off", "currency")
    fields = [
        *("environment", "name", "type", "cadence", "percentage_off", "amount_off", "currency"),
        *("metadata", "status"),
    ]

    @admin.display(description=_("Name"), ordering="name")
    def called(self, row: Coupon) -> str:
        return shown(row.name)

    @admin.display(description=_("Takes off"))
    def takes_off(self, row: Coupon) -> str:
        return f"{row.percentage_off} %" if row.percentage_off is not None else f"{row.amount_off} {row.currency}"
