"""What the pages of pricing have in common: rows are stored by `references`, and archived where something needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.base import FlexmeterAdmin, page
from flexmeter.admin.filters import ExactText, FilterForm
from flexmeter.admin.text import shown, titled
from flexmeter.environments import default_environment, known_environments
from flexmeter.exceptions import InvalidDefinition
from flexmeter.pricing import references
from flexmeter.pricing.admin.forms import FIELDS, OFFERED, PricingForm
from flexmeter.pricing.models import Record, Status
from flexmeter.stores.database.transactions import read_alias, write_alias


class PricingFilters(FilterForm):
    named = ExactText(label=_("Name or key"), max_length=255)
    status = forms.ChoiceField(label=_("Status"), required=False, choices=[("", _("all")), *OFFERED])


class PricingAdmin(FlexmeterAdmin):
    """A kind of thing that is published, archived, and deleted only while nothing has needed it."""

    form = PricingForm
    formfield_overrides = FIELDS
    filter_form: type[FilterForm] | None = PricingFilters
    change_form_template = "admin/flexmeter_pricing/change_form.html"
    ordering = ["-created_at", "-id"]
    actions: Any = ["archive_selected"]
    found_by: tuple[str, ...] = ("name",)
    """Columns that the filter for a name compares."""
    settled: tuple[str, ...] = ("environment",)
    """Fields that cannot be changed once the row is there."""
    times = ("id", "created_at", "created_by", "updated_at", "updated_by")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*super().get_readonly_fields(request, obj), *(self.settled if obj is not None else ()), *self.times]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = [name for name in self.get_fields(request, obj) if name not in self.times]
        about = [(_("Record"), {"fields": self.times, "classes": ["collapse"]})] if obj is not None else []
        return [(None, {"fields": fields}), *about]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields or super().get_fields(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        known = known_environments()
        return {"environment": default_environment(known), **super().get_changeform_initial_data(request)}

    def narrowed(self, request: HttpRequest, rows: QuerySet, filters: FilterForm) -> QuerySet:
        wanted = filters.cleaned_data
        rows = rows.filter(environment=wanted["environment"])
        if wanted.get("status"):
            rows = rows.filter(status=wanted["status"])
        if wanted.get("named"):
            either = Q()
            for column in self.found_by:
                either |= Q(**{column: wanted["named"]})
            rows = rows.filter(either)
        return rows

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        references.save(obj, by=request.user.get_username(), using=write_alias())

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for row in formset.save(commit=False):
            references.save(row, by=request.user.get_username(), using=write_alias())
        for row in formset.deleted_objects:
            row.delete()
        formset.save_m2m()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or not references.is_referred_to(obj, using=read_alias()))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    @admin.action(description=_("Archive the selected %(verbose_name_plural)s"), permissions=["change"])
    def archive_selected(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        archived = 0
        for row in rows:
            if self._archived(request, row):
                archived += 1
        if archived:
            messages.success(request, gettext("Archived: {number}.").format(number=archived))

    @page("<path:object_id>/archive/", name="archive", need="change", post_needs="change")
    def archive_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row_of(request, object_id)
        if request.method == "POST":
            if self._archived(request, row):
                messages.success(request, gettext("“{name}” was archived.").format(name=titled(row)))
            return redirect(self.page_url("change", row.pk))
        context = {"row": row, "users": references.uses(row, using=read_alias())}
        title = gettext("Archive “{name}”").format(name=titled(row))
        return self.render(request, "admin/flexmeter_pricing/archive.html", context, title=title, obj=row)

    def _archived(self, request: HttpRequest, row: Record) -> bool:
        try:
            references.archive(row, by=request.user.get_username())
        except InvalidDefinition as error:
            messages.error(request, f"{titled(row)}: {error.message}")
            return False
        self.record(request, row, gettext("Archived."))
        return True

    def row_of(self, request: HttpRequest, object_id: str) -> Any:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return row

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj") or context.get("original")
        if row is not None:
            context["links"] = self.links(request, row)
            context.update(self.beneath(request, row))
        return super().render_change_form(request, context, *args, **kwargs)

    def links(self, request: HttpRequest, row: Any) -> list[tuple[Any, str]]:
        """Label and address of the links above a row's form."""
        can_archive = getattr(row, "status", "") == Status.PUBLISHED and self.has_change_permission(request, row)
        return [(_("Archive…"), self.page_url("archive", row.pk))] if can_archive else []

    def beneath(self, request: HttpRequest, row: Any) -> Mapping[str, Any]:
        """What a template needs to show more beneath a row's form."""
        return {}

    @admin.display(description=_("Environment"))
    def environment_name(self, row: Record) -> str:
        return shown(row.environment)
