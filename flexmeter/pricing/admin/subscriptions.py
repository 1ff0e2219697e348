"""Subscriptions with their line items and coupons, and what they cost."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.base import admin_url, page
from flexmeter.admin.filters import ExactText, FilterForm, Instant
from flexmeter.admin.text import moment, shown, titled
from flexmeter.exceptions import InvalidDefinition, InvalidQuery
from flexmeter.models import now
from flexmeter.pricebook import CostQuery, current
from flexmeter.pricing.admin.base import PricingAdmin
from flexmeter.pricing.admin.forms import FIELDS, PricingForm
from flexmeter.pricing.cost import added
from flexmeter.pricing.currencies import display
from flexmeter.pricing.models import CouponAssociation, Customer, LineItem, Plan, Subscription
from flexmeter.pricing.references import refuse_archived
from flexmeter.pricing.subscriptions import cancel, prices_of, subscribe
from flexmeter.properties import plain
from flexmeter.stores.database.transactions import write_alias


class SubscriptionForm(PricingForm):
    """A subscription; a new one needs a plan that has prices in its currency."""

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.instance._state.adding:
            for name in ("customer", "plan"):
                row = self.cleaned_data.get(name)
                if row is None and name == "plan" and name not in self.errors:
                    self.add_error(name, _("Which plan is subscribed to?"))
                elif row is not None:
                    self._refuse_unusable(name, row)
            if "plan" in self.cleaned_data and "plan" not in self.errors:
                self._refuse_without_prices(self.cleaned_data["plan"])
        return cleaned

    def _refuse_without_prices(self, plan: Plan) -> None:
        try:
            prices_of(plan, self.cleaned_data.get("currency", ""), write_alias())
        except InvalidDefinition as error:
            self.add_error("plan", error.message)

    def _refuse_unusable(self, name: str, row: Any) -> None:
        if row.environment != self.cleaned_data.get("environment"):
            self.add_error(name, _("This belongs to another environment."))
            return
        try:
            refuse_archived(row)
        except InvalidDefinition as error:
            self.add_error(name, error.message)


class OwnedRows(BaseInlineFormSet):
    """Rows of a subscription, in its environment; a line item has the meter of its price."""

    def _construct_form(self, index: int, **kwargs: Any) -> Any:
        form = super()._construct_form(index, **kwargs)  # type: ignore[misc]  # which the stubs leave out
        form.instance.environment = self.instance.environment
        return form


class LineItemForm(PricingForm):
    def clean(self) -> Any:
        cleaned = super().clean()
        if price := self.cleaned_data.get("price"):
            self.instance.meter_id = price.meter_id  # type: ignore[attr-defined]
        return cleaned


class LineItemInline(admin.StackedInline):
    model = LineItem
    form = LineItemForm
    formset = OwnedRows
    formfield_overrides = FIELDS
    raw_id_fields = ["price"]
    extra = 0
    can_delete = False
    fields = [
        *("price", "display_name", "quantity", ("start_date", "end_date")),
        *(("commitment_type", "commitment_amount", "commitment_quantity", "commitment_overage_factor"),),
        *(("commitment_true_up_enabled", "commitment_windowed", "commitment_duration"), "status"),
    ]


class CouponInline(admin.TabularInline):
    model = CouponAssociation
    form = PricingForm
    formset = OwnedRows
    raw_id_fields = ["coupon", "line_item"]
    extra = 0
    can_delete = False
    fields = ["coupon", "line_item", "start_date", "end_date"]


class SubscriptionFilters(FilterForm):
    customer = ExactText(label=_("Customer id"))
    status = forms.ChoiceField(label=_("Status"), required=False, choices=[("", _("all")), *Subscription.Status.choices])


class Period(forms.Form):
    """From when to when costs are asked for."""

    start = Instant(label=_("From"))
    end = Instant(label=_("Until"))


class Cancellation(forms.Form):
    at = Instant(label=_("Charge nothing from"))


@admin.register(Subscription)
class SubscriptionAdmin(PricingAdmin):
    list_display = ["identity", "customer_name", "plan_name", "status", "currency", "started", "environment_name"]
    list_display_links = ["identity"]
    list_select_related = ["customer", "plan"]
    form = SubscriptionForm
    filter_form = SubscriptionFilters
    raw_id_fields = ["customer", "plan", "parent"]
    settled = ("environment", "customer", "plan", "currency", "parent", "start_date", "cancelled_at")
    fields = [
        *("environment", "customer", "plan", "currency", "status", "start_date", "end_date", "cancelled_at"),
        *("billing_anchor", "billing_period", "billing_period_count", "metadata"),
    ]
    inlines = [LineItemInline, CouponInline]
    actions = []

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = list(self.fields or ())
        return (
            fields if obj is not None else [name for name in fields if name not in ("status", "cancelled_at", "billing_anchor")]
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        cancelled = obj is not None and obj.status == Subscription.Status.CANCELLED
        return [*super().get_readonly_fields(request, obj), *(["status"] if cancelled else [])]

    def get_inline_instances(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return super().get_inline_instances(request, obj) if obj is not None else []  # the plan's prices become line items

    def narrowed(self, request: HttpRequest, rows: QuerySet, filters: FilterForm) -> QuerySet:
        wanted = filters.cleaned_data
        conditions = {"customer__external_id": wanted["customer"], "status": wanted["status"]}
        chosen = {name: value for name, value in conditions.items() if value}
        return rows.filter(environment=wanted["environment"], **chosen)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        own = ("id", "end_date", "billing_period", "billing_period_count", "metadata")
        subscribe(
            obj.customer,
            obj.plan,
            currency=obj.currency,
            start=obj.start_date,
            by=request.user.get_username(),
            using=write_alias(),
            **{name: getattr(obj, name) for name in own},
        )
        obj.refresh_from_db(using=write_alias())

    def links(self, request: HttpRequest, row: Any) -> list[tuple[Any, str]]:
        site = self.admin_site.name
        found: list[tuple[Any, str]] = [
            (_("Usage and costs"), self.page_url("costs", row.pk)),
            (_("Customer"), admin_url(Customer, "change", row.customer_id, site=site)),
        ]
        if row.status != Subscription.Status.CANCELLED and self.has_change_permission(request, row):
            found.append((_("Cancel…"), self.page_url("cancel", row.pk)))
        return found

    @page("<path:object_id>/cancel/", name="cancel", need="change", post_needs="change")
    def cancel_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row_of(request, object_id)
        form = Cancellation(request.POST or None)
        if request.method == "POST" and form.is_valid():
            instant = form.cleaned_data["at"] or now()
            if instant < row.start_date:
                form.add_error("at", _("This lies before the start of the subscription."))
            else:
                cancel(row, instant, by=request.user.get_username(), using=write_alias())
                self.record(request, row, gettext("Cancelled."))
                messages.success(request, gettext("The subscription was cancelled."))
                return redirect(self.page_url("change", row.pk))
        title = gettext("Cancel {name}").format(name=titled(row))
        return self.render(request, "admin/flexmeter_pricing/cancel.html", {"row": row, "form": form}, title=title, obj=row)

    @page("<path:object_id>/costs/", name="costs")
    def costs_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row_of(request, object_id)
        end = now()
        form = Period(request.GET or {"start": _month_of(end), "end": end.isoformat()})
        context: dict[str, Any] = {"row": row, "form": form}
        if form.is_valid():
            start, end = form.cleaned_data["start"] or row.start_date, form.cleaned_data["end"] or end
            try:
                query = CostQuery(row.environment, start, end, row.customer.external_id)
                items = [item for item in current().costs(query).items if item.subscription_id == row.pk]
            except InvalidQuery as error:
                form.add_error(None, error.message)
            else:
                context["items"] = [(item, plain(item.usage), display(item.cost, row.currency)) for item in items]
                context["total"] = display(added(item.cost for item in items), row.currency)
        title = gettext("Usage and costs of {name}").format(name=titled(row))
        return self.render(request, "admin/flexmeter_pricing/costs.html", context, title=title, obj=row)

    @admin.display(description=_("Subscription"))
    def identity(self, row: Subscription) -> str:
        return shown(row.pk)

    @admin.display(description=_("Customer"))
    def customer_name(self, row: Subscription) -> str:
        return shown(row.customer)

    @admin.display(description=_("Plan"))
    def plan_name(self, row: Subscription) -> str:
        return shown(row.plan) if row.plan is not None else ""

    @admin.display(description=_("Since"), ordering="start_date")
    def started(self, row: Subscription) -> str:
        return moment(row.start_date)


def _month_of(instant: Any) -> str:
    return str(instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0).isoformat())
