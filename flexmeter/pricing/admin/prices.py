"""Prices, each with a calculator that shows its working."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.base import admin_url
from flexmeter.admin.text import shown
from flexmeter.pricing.admin.base import PricingAdmin
from flexmeter.pricing.admin.forms import ExactDecimal
from flexmeter.pricing.cost import added, working
from flexmeter.pricing.currencies import display
from flexmeter.pricing.models import Plan, Price, Subscription
from flexmeter.pricing.references import CHARGED_BY, is_charged_by
from flexmeter.pricing.validity import price_warnings
from flexmeter.properties import dumps, plain
from flexmeter.stores.database.transactions import read_alias


class Calculator(forms.Form):
    """A quantity to put a price on."""

    quantity = ExactDecimal(label=_("Quantity"), required=False)


@admin.register(Price)
class PriceAdmin(PricingAdmin):
    list_display = ["called", "owner", "costs", "billing_model", "meter", "status", "environment_name", "created_at"]
    list_display_links = ["called"]
    list_select_related = ["meter"]
    found_by = ("display_name", "lookup_key", "entity_id")
    raw_id_fields = ["meter"]
    settled = ("environment", "entity_type", "entity_id", "parent_price_id")
    fields = [
        *("environment", "entity_type", "entity_id", "parent_price_id", "display_name", "type", "meter", "currency"),
        *("billing_model", "amount", "tier_mode", "tiers", "divide_by", "round"),
        *("billing_period", "billing_period_count", "billing_cadence", "invoice_cadence", "start_date", "end_date"),
        *("description", "lookup_key", "metadata", "status"),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = super().get_readonly_fields(request, obj)
        if self._is_settled(obj):
            fields += [column.removesuffix("_id") for column in CHARGED_BY]
        return [*fields, "tiers_as_json"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        settled = self._is_settled(obj) or not (obj is None or self.has_change_permission(request, obj))
        return ["tiers_as_json" if name == "tiers" and settled else name for name in super().get_fields(request, obj)]

    def _is_settled(self, price: Price | None) -> bool:
        return price is not None and is_charged_by(price, using=read_alias())

    @admin.display(description=_("Tiers"), empty_value="-")
    def tiers_as_json(self, row: Price) -> str:
        return dumps(row.tiers) if row.tiers else ""

    def links(self, request: HttpRequest, row: Any) -> list[tuple[Any, str]]:
        model = {Price.EntityType.PLAN: Plan, Price.EntityType.SUBSCRIPTION: Subscription}.get(row.entity_type)
        owner = [] if model is None else [(model._meta.verbose_name, admin_url(model, "change", row.entity_id))]
        return [*owner, *super().links(request, row)]

    def beneath(self, request: HttpRequest, row: Any) -> Mapping[str, Any]:
        context: dict[str, Any] = {"warnings": price_warnings(row), "calculator": Calculator(request.GET or None)}
        form = context["calculator"]
        if form.is_bound and form.is_valid() and form.cleaned_data["quantity"] is not None:
            quantity = form.cleaned_data["quantity"]
            steps = working(row.rate(), quantity)
            context["steps"] = steps
            context["quantity"] = plain(quantity)
            context["total"] = display(added(step.amount for step in steps), row.currency)
        return context

    @admin.display(description=_("Price"), ordering="display_name")
    def called(self, row: Price) -> str:
        return shown(row.display_name or row.pk)

    @admin.display(description=_("Of"))
    def owner(self, row: Price) -> str:
        return shown(f"{row.get_entity_type_display()} {row.entity_id}")

    @admin.display(description=_("Amount"))
    def costs(self, row: Price) -> str:
        if row.billing_model == Price.BillingModel.TIERED:
            return str(_("%(number)s tiers") % {"number": len(row.tiers or ())})
        each = f" / {row.divide_by}" if row.billing_model == Price.BillingModel.PACKAGE else ""
        return f"{display(row.amount, row.currency)}{each}"
