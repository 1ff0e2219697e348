"""Meters: defined after a look at what they would count, archived, deleted and recounted, all through the services."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from flexmeter import windows
from flexmeter.admin.base import FilteredChangeList, page
from flexmeter.admin.charts import Chart, Datum, bar_chart, sparkline
from flexmeter.admin.event_page import event_url
from flexmeter.admin.filters import ExactText, FilterForm
from flexmeter.admin.meter_form import RESETS, TYPES, MeterForm
from flexmeter.admin.text import shown, titled
from flexmeter.admin.usage import UsagePages, figure
from flexmeter.admin.usage_form import SIZES
from flexmeter.aggregation import ZERO, AggregationType
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError
from flexmeter.explain import Outcome
from flexmeter.maintenance.rebuild import Progress, rebuild, restart
from flexmeter.meters import MeterDefinition, archive_meter, change_meter, create_meter, delete_meter, unarchive_meter
from flexmeter.models import Meter, now
from flexmeter.preview import COUNTED_EVENTS, JUDGED_EVENTS, PREVIEWED_DAYS, Preview, preview
from flexmeter.queries import calendar_in
from flexmeter.stores.database.locks import retained_from
from flexmeter.stores.database.summaries import counts_by_hour
from flexmeter.stores.database.transactions import read_alias, write_alias
from flexmeter.windows import Calendar, WindowSize

HOURS = 24
SECONDS_OF_A_REQUEST = 2.0
"""How long one request counts a meter's history, at most by one chunk more."""
JUDGED_SHOWN = 10


own_transactions = method_decorator(transaction.non_atomic_requests)
"""For views that call services, which hold locks for an instant only; a transaction around the request would hold on to them."""


class MeterFilters(FilterForm):
    event_name = ExactText(label=_("Event name"))
    status = forms.ChoiceField(
        label=_("Status"),
        required=False,
        choices=[
            ("", _("Any")),
            (Meter.Status.PUBLISHED, _("Counting")),
            (Meter.Status.ARCHIVED, _("Archived")),
            ("building", _("Past events are being counted")),
        ],
    )


class MeterChangeList(FilteredChangeList):
    """A list that asks once for what all its meters counted lately."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        end = windows.following(now(), WindowSize.HOUR, Calendar())
        hours = [end - timedelta(hours=hour) for hour in range(HOURS, 0, -1)]
        self.result_list = list(self.result_list)
        counts = counts_by_hour([meter.pk for meter in self.result_list], hours[0], end, read_alias()) if self.result_list else {}
        for meter in self.result_list:
            of_meter = counts.get(meter.pk, {})
            meter.counted_lately = [of_meter.get(hour, 0) for hour in hours]


@admin.register(Meter)
class MeterAdmin(UsagePages):
    list_display = ["title", "lately", "usage", "aggregation", "event", "state"]
    list_display_links = ["title"]
    ordering = ["name", "id"]
    sortable_by = ["title", "event"]
    filter_form = MeterFilters
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Meter]:
        return super().get_queryset(request).exclude(status=Meter.Status.DELETED)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return MeterChangeList

    def narrowed(self, request: HttpRequest, rows: QuerySet[Meter], filters: FilterForm) -> QuerySet[Meter]:
        wanted = filters.cleaned_data
        rows = rows.filter(environment=wanted["environment"])
        if wanted["event_name"]:
            rows = rows.filter(event_name=wanted["event_name"])
        if wanted["status"] == "building":
            return rows.filter(rollups_ready=False)
        return rows.filter(status=wanted["status"]) if wanted["status"] else rows

    @admin.display(description=_("Name"), ordering="name")
    def title(self, meter: Meter) -> SafeString:
        return shown(meter.name)

    @admin.display(description=_("Event name"), ordering="event_name")
    def event(self, meter: Meter) -> SafeString:
        return shown(meter.event_name)

    @admin.display(description=_("Aggregation"))
    def aggregation(self, meter: Meter) -> SafeString:
        measured = meter.expression or meter.field
        if not measured or meter.aggregation_type == AggregationType.COUNT:
            return format_html("{}", meter.aggregation_type)
        return format_html("{} {}", meter.aggregation_type, shown(titled(measured)))

    @admin.display(description=_("Status"))
    def state(self, meter: Meter) -> SafeString:
        told = _("archived") if meter.status == Meter.Status.ARCHIVED else _("counting")
        if meter.rollups_ready:
            return format_html("{}", told)
        url = self.page_url("rebuild", quote(meter.pk))
        return format_html('{}, <a href="{}">{}</a>', told, url, gettext("past events {part}").format(part=_part(meter)))

    @admin.display(description=_("Last 24 hours"))
    def lately(self, meter: Any) -> SafeString:
        counts: list[int] = meter.counted_lately
        told = ngettext("{count} event in 24 hours", "{count} events in 24 hours", sum(counts)).format(count=f"{sum(counts):,}")
        number = format_html('<span class="fm-lately">{}</span>', f"{sum(counts):,}")
        return format_html('<span class="fm-figures">{} {}</span>', sparkline(counts, told), number)

    @admin.display(description=_("Usage"))
    def usage(self, meter: Meter) -> SafeString:
        return format_html('<a href="{}">{}</a>', self.page_url("usage", quote(meter.pk)), gettext("Usage"))

    @own_transactions
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self._edit(request, None)

    @own_transactions
    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        meter = self.live_meter(object_id)
        if not self.has_change_permission(request, meter):
            if request.method == "POST":
                raise PermissionDenied
            return self._meter_page(request, meter, None)
        return self._edit(request, meter)

    def _edit(self, request: HttpRequest, meter: Meter | None) -> HttpResponse:
        form = MeterForm(request.POST if request.method == "POST" else None, meter=meter)
        tried = None
        if request.method == "POST" and form.is_valid() and form.definition is not None:
            if "save" in request.POST and form.is_previewed:
                return self._saved(request, form, form.definition)
            if "save" in request.POST and form.cleaned_data["previewed"]:
                messages.warning(request, gettext("What you saw is not what is to be saved. Here is the preview anew."))
            tried = self._tried(request, form, form.definition)
        return self._meter_page(request, meter, form, tried)

    def _tried(self, request: HttpRequest, form: MeterForm, definition: MeterDefinition) -> dict[str, Any]:
        """What the preview of a valid form shows, and the seal that lets it be saved."""
        calendar = calendar_in(windows.zone(timezone.get_current_timezone_name()))
        replacing = None if form.meter is None else form.meter.pk
        found = preview(definition, environment=form.chosen_environment, replacing=replacing, calendar=calendar)
        form.data = {**form.data.dict(), "previewed": form.seal()}  # type: ignore[attr-defined]
        sees_events = request.user.has_perm("flexmeter.view_event")
        zone = timezone.get_current_timezone()
        judged = [
            (
                judged,
                judged.verdict.told_in(zone),
                event_url(form.chosen_environment, judged.event.event_id, site=self.admin_site.name),
            )
            for judged in (_sampled(found) if sees_events else [])
        ]
        values = {point.start: point for point in found.points}
        days = windows.axis(found.start, found.end, _step(definition), calendar)
        rows = [(day, values[day].value, values[day].event_count) if day in values else (day, ZERO, 0) for day in days]
        return {
            "preview": found,
            "judged": judged,
            "judged_count": len(found.judged),
            "most_judged": f"{JUDGED_EVENTS:,}",
            "most_counted": f"{COUNTED_EVENTS:,}",
            "outcomes": [(told, found.outcomes.get(outcome, 0)) for outcome, told in _OUTCOMES.items()],
            "days": PREVIEWED_DAYS,
            "value": figure(found.value),
            "before": None if found.before is None else figure(found.before),
            "differences": [
                (each.external_customer_id, figure(each.before), figure(each.after), _signed(each.change))
                for each in found.differences
            ],
            "undifferent": found.differing - len(found.differences),
            "rows": [(f"{timezone.localtime(day):%Y-%m-%d}", figure(value), events) for day, value, events in rows],
            "chart": _preview_chart(rows),
            "environment": form.chosen_environment,
        }

    def _saved(self, request: HttpRequest, form: MeterForm, definition: MeterDefinition) -> HttpResponse:
        by = str(request.user.get_username())
        try:
            if form.meter is None:
                meter = create_meter(definition, environment=form.chosen_environment, by=by)
                self.log_addition(request, meter, [{"added": {}}])
                messages.success(request, gettext("{meter} was saved.").format(meter=titled(meter.name)))
            else:
                changed = form.changed_labels
                meter = change_meter(form.meter.pk, definition, environment=form.chosen_environment, by=by)
                if changed:
                    self.record(request, meter, gettext("Changed {fields}.").format(fields=", ".join(changed)))
                messages.success(request, gettext("{meter} was saved.").format(meter=titled(meter.name)))
        except FlexmeterError as error:
            form.add_error(None, str(error))
            return self._meter_page(request, form.meter, form)
        return HttpResponseRedirect(self._after(meter))

    def _after(self, meter: Meter) -> str:
        """Where to go once a meter was changed: to its page, or where its past events are being counted."""
        return self.page_url("change" if meter.rollups_ready else "rebuild", quote(meter.pk))

    def _meter_page(
        self, request: HttpRequest, meter: Meter | None, form: MeterForm | None, tried: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = gettext("New meter") if meter is None else titled(meter.name)
        context: dict[str, Any] = {"meter": meter, "form": form, "tried": tried}
        if meter is not None:
            context |= {
                "part": _part(meter),
                "type": TYPES[AggregationType(meter.aggregation_type)],
                "reset": RESETS[Meter.ResetUsage(meter.reset_usage)],
                "buckets": SIZES[WindowSize(meter.bucket_size)] if meter.bucket_size else "",
                "tools": self._tools(request, meter),
            }
        return self.render(request, "admin/flexmeter/meter/meter.html", context, title=title, obj=meter)

    def _tools(self, request: HttpRequest, meter: Meter) -> list[tuple[str, str]]:
        """What this user may do with the meter."""
        key = quote(meter.pk)
        tools = [(gettext("Usage"), self.page_url("usage", key)), (gettext("History"), self.page_url("history", key))]
        if self.has_act_permission(request):
            archived = meter.status == Meter.Status.ARCHIVED
            name = "unarchive" if archived else "archive"
            tools.append((gettext("Unarchive") if archived else gettext("Archive"), self.page_url(name, key)))
            tools.append((gettext("Count past events"), self.page_url("rebuild", key)))
        if self.has_delete_permission(request, meter):
            tools.append((gettext("Delete"), self.page_url("delete", key)))
        return tools

    @page("<path:object_id>/archive/", name="archive", need="act")
    @own_transactions
    def archive_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter = self.live_meter(object_id)
        text = _(
            "It counts nothing that is accepted from then on. What it has counted stays answerable, and it can be unarchived."
        )
        return self._confirmed(request, meter, gettext("Archive"), [text], archive_meter, gettext("Archived."))

    @page("<path:object_id>/unarchive/", name="unarchive", need="act")
    @own_transactions
    def unarchive_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter = self.live_meter(object_id)
        text = _("It counts again as if it had never been archived: what came meanwhile is counted too.")
        texts = [text, *self._losses(meter)]
        return self._confirmed(request, meter, gettext("Unarchive"), texts, unarchive_meter, gettext("Unarchived."))

    @own_transactions
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        meter = self.live_meter(object_id)
        if not self.has_delete_permission(request, meter):
            raise PermissionDenied
        if request.method == "POST":
            try:
                delete_meter(meter.pk, environment=meter.environment, by=str(request.user.get_username()))
            except FlexmeterError as error:
                messages.error(request, str(error))
            else:
                self.record_deletion(request, meter, gettext("Deleted."))
                messages.success(request, gettext("{meter} was deleted.").format(meter=titled(meter.name)))
            return HttpResponseRedirect(self.page_url("changelist"))
        texts = [_("The meter and what it has counted are gone for good, and its id is unknown from then on. The events stay.")]
        return self._asked(request, meter, gettext("Delete"), texts)

    def _confirmed(
        self,
        request: HttpRequest,
        meter: Meter,
        verb: str,
        texts: Sequence[Any],
        service: Callable[..., Meter],
        done: str,
    ) -> HttpResponse:
        """Ask, or on POST do it."""
        if request.method != "POST":
            return self._asked(request, meter, verb, texts)
        try:
            changed = service(meter.pk, environment=meter.environment, by=str(request.user.get_username()))
        except FlexmeterError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(self.page_url("changelist"))
        if changed.status != meter.status:
            self.record(request, changed, done)
        messages.success(request, f"{titled(meter.name)}: {done}")
        return HttpResponseRedirect(self._after(changed))

    def _asked(self, request: HttpRequest, meter: Meter, verb: str, texts: Sequence[Any]) -> HttpResponse:
        title = gettext("{verb} {meter}?").format(verb=verb, meter=titled(meter.name))
        context = {"meter": meter, "verb": verb, "texts": texts}
        return self.render(request, "admin/flexmeter/meter/confirm.html", context, title=title, obj=meter)

    def _losses(self, meter: Meter) -> list[str]:
        """What a recount would lose."""
        floor = retained_from(meter.environment, read_alias())
        if floor is None:
            return []
        told = gettext(
            "Events before {time} were removed by retention. What only rollups still know of them is lost with the recount."
        )
        return [told.format(time=f"{timezone.localtime(floor):%Y-%m-%d %H:%M}")]

    @page("<path:object_id>/rebuild/", name="rebuild")
    @own_transactions
    def rebuild_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter = self.live_meter(object_id)
        here = self.page_url("rebuild", quote(meter.pk))
        if request.method == "POST":
            try:
                if "restart" in request.POST:
                    restart(meter.pk)
                    self.record(request, meter, gettext("Had its past events counted anew."))
                elif "begin" in request.POST:
                    self.record(request, meter, gettext("Had its past events counted."))
                _count_for_a_while(meter.pk)
            except EnvironmentBusy as error:
                messages.error(request, str(error))
                return HttpResponseRedirect(here)
            except Meter.DoesNotExist:
                raise Http404 from None
            ready = Meter.objects.using(write_alias()).filter(pk=meter.pk, rollups_ready=True).exists()
            if ready:
                messages.success(request, gettext("The past events of {meter} are counted.").format(meter=titled(meter.name)))
            return HttpResponseRedirect(here if ready else f"{here}?counting=1")
        context = {
            "meter": meter,
            "part": _part(meter),
            "counting": "counting" in request.GET and not meter.rollups_ready and self.has_act_permission(request),
            "done": min(meter.rebuild_done, meter.rebuild_total),
        }
        title = gettext("Past events of {meter}").format(meter=titled(meter.name))
        return self.render(request, "admin/flexmeter/meter/rebuild.html", context, title=title, obj=meter)


_OUTCOMES = {
    Outcome.COUNTED: _("counted"),
    Outcome.FILTERED: _("left out by a filter"),
    Outcome.SKIPPED: _("without a value of the expression"),
    Outcome.ARCHIVED: _("accepted after the meter was archived"),
}


class _Enough(Exception):
    """A request has counted as long as one should."""


def _count_for_a_while(meter_id: str) -> None:
    """Count a meter's history on, chunk by chunk, for about SECONDS_OF_A_REQUEST; the next call goes on from there."""
    began = time.monotonic()

    def report(progress: Progress) -> None:
        if time.monotonic() - began > SECONDS_OF_A_REQUEST:
            raise _Enough

    with suppress(_Enough):
        rebuild(meter_id, report=report)


def _part(meter: Meter) -> str:
    """How much of its history a meter has counted."""
    if meter.rollups_ready:
        return "100 %"
    if not meter.rebuild_total:
        return "0 %"
    return f"{min(100 * meter.rebuild_done // meter.rebuild_total, 99)} %"


def _sampled(found: Preview) -> list[Any]:
    """Some of the judged events: the newest that count, and the newest that do not."""
    counted = [each for each in found.judged if each.verdict.outcome is Outcome.COUNTED]
    others = [each for each in found.judged if each.verdict.outcome is not Outcome.COUNTED]
    return counted[:JUDGED_SHOWN] + others[:JUDGED_SHOWN]


def _step(definition: MeterDefinition) -> WindowSize:
    """The windows of a preview: days, or the meter's buckets where they are longer."""
    given = definition.bucket_size
    return WindowSize(given) if given in (WindowSize.WEEK, WindowSize.MONTH) else WindowSize.DAY


def _preview_chart(rows: Sequence[tuple[datetime, Decimal, int]]) -> Chart:
    data = []
    for day, value, _events in rows:
        local = timezone.localtime(day)
        data.append(Datum(value, f"{local:%Y-%m-%d}: {figure(value)}", date_format(local, "j M")))
    return bar_chart(data, title=gettext("Usage by day, if the meter is saved"))


def _signed(change: Decimal) -> str:
    return f"+{figure(change)}" if change > 0 else figure(change)
