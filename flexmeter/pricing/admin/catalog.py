"""Features, and plans with their prices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.checks import InlineModelAdminChecks
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.admin.utils import flatten
from django.forms import BaseModelFormSet, modelformset_factory
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.text import shown
from flexmeter.pricing.admin.base import PricingAdmin
from flexmeter.pricing.admin.forms import FIELDS, PricingForm
from flexmeter.pricing.models import Feature, Plan, Price
from flexmeter.pricing.references import CHARGED_BY, is_charged_by
from flexmeter.stores.database.transactions import read_alias


@admin.register(Feature)
class FeatureAdmin(PricingAdmin):
    list_display = ["called", "meter", "unit_plural", "status", "environment_name", "created_at"]
    list_display_links = ["called"]
    list_select_related = ["meter"]
    found_by = ("name", "lookup_key")
    raw_id_fields = ["meter"]
    settled = ("environment", "meter")
    fields = [
        *("environment", "meter", "name", "lookup_key", "description", "unit_singular", "unit_plural"),
        *("reporting_unit_singular", "reporting_unit_plural", "reporting_conversion_rate", "metadata", "status"),
    ]

    @admin.display(description=_("Name"), ordering="name")
    def called(self, row: Feature) -> str:
        return shown(row.name)


class PlanPriceForm(PricingForm):
    """A price of a plan; what is charged by it already cannot be changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and is_charged_by(self.instance, using=read_alias()):  # type: ignore[arg-type]
            for column in CHARGED_BY:
                if (name := column.removesuffix("_id")) in self.fields:
                    self.fields[name].disabled = True


class PlanPrices(BaseModelFormSet):
    """The prices of one plan, which name it by their `entity_id`."""

    def __init__(self, *args: Any, instance: Plan | None = None, save_as_new: bool = False, queryset: Any = None, **kwargs: Any):
        self.instance = instance
        rows = Price.objects.none()
        if instance is not None and not instance._state.adding:
            rows = Price.objects.filter(
                environment=instance.environment, entity_type=Price.EntityType.PLAN, entity_id=instance.pk
            ).order_by("created_at", "id")
        super().__init__(*args, **{**kwargs, "queryset": rows})

    @classmethod
    def get_default_prefix(cls) -> str:
        return "prices"

    def _construct_form(self, index: int, **kwargs: Any) -> Any:
        form = super()._construct_form(index, **kwargs)  # type: ignore[misc]  # which the stubs leave out
        return self._owned(form)

    @property
    def empty_form(self) -> Any:
        return self._owned(super().empty_form)

    def _owned(self, form: Any) -> Any:
        if self.instance is not None and form.instance._state.adding:
            form.instance.environment = self.instance.environment
            form.instance.entity_type, form.instance.entity_id = Price.EntityType.PLAN, self.instance.pk
        return form


class WithoutForeignKey(InlineModelAdminChecks):
    """A price names its plan without a foreign key, for other things have prices too."""

    def _check_exclude_of_parent_model(self, obj: Any, parent_model: Any) -> list[Any]:
        return []

    def _check_relation(self, obj: Any, parent_model: Any) -> list[Any]:
        return []


class PlanPriceInline(InlineModelAdmin):
    model = Price
    form = PlanPriceForm
    formset = PlanPrices  # type: ignore[assignment]
    template = "admin/edit_inline/stacked.html"
    checks_class = WithoutForeignKey
    formfield_overrides = FIELDS
    raw_id_fields = ["meter"]
    verbose_name_plural = _("prices")
    extra = 0
    can_delete = False
    show_change_link = True
    fields = [
        *("display_name", "type", "meter", ("currency", "billing_model", "amount"), ("tier_mode", "tiers")),
        *(("divide_by", "round"), "status"),
    ]

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        fields = flatten(self.fields)
        return modelformset_factory(
            Price,
            form=self.form,
            formset=self.formset,
            fields=fields,
            extra=self.get_extra(request, obj),
            can_delete=False,
            formfield_callback=lambda field, **options: self.formfield_for_dbfield(field, request, **options),
        )


@admin.register(Plan)
class PlanAdmin(PricingAdmin):
    list_display = ["called", "lookup_key", "status", "environment_name", "created_at"]
    list_display_links = ["called"]
    found_by = ("name", "lookup_key")
    fields = ["environment", "name", "lookup_key", "description", "metadata", "status"]
    inlines = [PlanPriceInline]

    def get_inline_instances(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return super().get_inline_instances(request, obj) if obj is not None else []  # prices follow once the plan is there

    @admin.display(description=_("Name"), ordering="name")
    def called(self, row: Plan) -> str:
        return shown(row.name)
