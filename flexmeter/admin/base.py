"""What all pages of flexmeter in the admin have in common.

A ModelAdmin gets further pages with `@page`, a form of filters that the database can answer with `filter_form`, and
records what somebody did with `record`. Values that somebody sent are shown with `shown` of flexmeter.admin.text, or in
templates with its filter of the library `flexmeter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import Any, Literal, TypeVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.text import capfirst

from flexmeter.admin.filters import FilterForm
from flexmeter.admin.paging import CappedPaginator
from flexmeter.properties import text_fault

View = TypeVar("View", bound=Callable[..., HttpResponse])
Need = Literal["view", "act", "add", "change", "delete"]


def page(route: str, *, name: str, need: Need = "view", post_needs: Need = "act") -> Callable[[View], View]:
    """Make a method of a FlexmeterAdmin a page of its own, at `route` below the model's list.

    Its URL is `admin:flexmeter_<model>_<name>`. Who lacks the permission gets a 403: `need` for looking, `post_needs` as
    well for anything but GET and HEAD. Begin a page of one object with `<path:object_id>/`, and `unquote` the id.
    """

    def declared(view: View) -> View:
        view.flexmeter_page = (route, name, need, post_needs)  # type: ignore[attr-defined]
        return view

    return declared


class FilteredChangeList(ChangeList):
    """A list narrowed by its ModelAdmin's `filter_form`; while that has errors the list is empty and the form says why."""

    model_admin: FlexmeterAdmin
    filters: FilterForm | None = None

    def get_filters_params(self, params: Any = None) -> Any:
        remaining = super().get_filters_params(params)
        form = self.model_admin.filter_form
        ours = {key: value for key, value in remaining.items() if form is None or key not in form.base_fields}
        if any(text_fault(text) for key, values in ours.items() for text in (key, *values)):
            raise IncorrectLookupParameters
        return ours

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet:
        rows = super().get_queryset(request, exclude_parameters)
        self.filters = self.model_admin.filters_of(request)
        if self.filters is None:
            return rows
        if not self.filters.is_valid():
            return rows.none()
        return self.model_admin.narrowed(request, rows, self.filters)


class FlexmeterAdmin(admin.ModelAdmin):
    """Lists that stay quick on tables of any size, and pages beside them."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 50
    filter_form: type[FilterForm] | None = None
    """Filters above the list: a form of GET parameters. What it means is said by `narrowed`."""
    change_list_template = "admin/flexmeter/change_list.html"

    class Media:
        css = {"all": ["flexmeter/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FilteredChangeList

    def filters_of(self, request: HttpRequest) -> FilterForm | None:
        """The bound filter form of a request."""
        return None if self.filter_form is None else self.filter_form(request.GET)

    def narrowed(self, request: HttpRequest, rows: QuerySet, filters: FilterForm) -> QuerySet:
        """The rows that the valid filter form asks for, by an index or within bounds; what to say is left in its `notes`."""
        return rows

    def tools(self, request: HttpRequest) -> list[tuple[str | Promise, str]]:
        """Label and address of the links above the list."""
        return []

    def changelist_view(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        frame = {"title": capfirst(self.opts.verbose_name_plural), "tools": self.tools(request)}
        return super().changelist_view(request, {**frame, **(extra_context or {})})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if text_fault(object_id) else super().get_object(request, object_id, from_field)

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may do more than look: the change permission, also where rows cannot be edited.

        For actions: `@admin.action(permissions=["act"])`.
        """
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def get_urls(self) -> list[URLPattern]:
        return [*self._page_urls(), *super().get_urls()]

    def _page_urls(self) -> list[URLPattern]:
        patterns = []
        for attribute in dir(type(self)):
            declared = getattr(getattr(type(self), attribute), "flexmeter_page", None)
            if declared is None:
                continue
            route, name, need, post_needs = declared
            view = partial(self._permitted, getattr(self, attribute), need, post_needs)
            update_wrapper(view, getattr(self, attribute))
            patterns.append(path(route, self.admin_site.admin_view(view), name=self.page_name(name)))
        return patterns

    def _permitted(
        self, view: Callable[..., HttpResponse], need: Need, post_needs: Need, request: HttpRequest, **kwargs: Any
    ) -> Any:
        needs = {need} if request.method in ("GET", "HEAD") else {need, post_needs}
        if not all(getattr(self, f"has_{each}_permission")(request) for each in needs):
            raise PermissionDenied
        return view(request, **kwargs)

    def page_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def page_url(self, name: str, *args: Any, query: Mapping[str, Any] | None = None) -> str:
        """The address of the page `name`, or of "changelist"."""
        return admin_url(self.model, name, *args, query=query, site=self.admin_site.name)

    def render(
        self,
        request: HttpRequest,
        template: str,
        context: Mapping[str, Any] | None = None,
        *,
        title: str | Promise,
        obj: Model | None = None,
        status: int = 200,
    ) -> TemplateResponse:
        """A page in the admin's frame; `template` extends "admin/flexmeter/page.html". `obj` is the row it is about."""
        request.current_app = self.admin_site.name
        frame = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "module_name": capfirst(self.opts.verbose_name_plural),
            "object": obj,
            "media": self.media,
            "has_view_permission": self.has_view_permission(request),
            "has_act_permission": self.has_act_permission(request),
        }
        return TemplateResponse(request, template, {**frame, **(context or {})}, status=status)

    def missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Where somebody goes who asked for a row that is not there: to the index, with a sentence that says so."""
        return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]  # not in stubs

    def record(self, request: HttpRequest, obj: Model, message: str | Promise) -> None:
        """Keep in the admin's log who did something to a row, beyond what the admin's own forms do."""
        self.log_change(request, obj, str(message))

    def record_deletion(self, request: HttpRequest, obj: Model, message: str | Promise) -> None:
        """Keep in the admin's log who removed a row; call it while the row is still there."""
        from django.contrib.admin.models import DELETION, LogEntry

        user_id: Any = request.user.pk
        LogEntry.objects.log_actions(user_id, [obj], DELETION, str(message), single_object=True)


class ReadOnlyAdmin(FlexmeterAdmin):
    """Rows that nobody adds, edits or deletes by a form."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def admin_url(model: type[Model], name: str, *args: Any, query: Mapping[str, Any] | None = None, site: str = "admin") -> str:
    """The address of a model's page in the admin; members of `query` that are None or empty are left out."""
    opts = model._meta
    given = {key: value for key, value in (query or {}).items() if value not in (None, "")}
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_{name}", args=args, current_app=site)
    return f"{address}?{urlencode(given)}" if given else address
