"""The health page: what waits, what came in, what was refused, and what to do about whatever is not in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from flexmeter import activity, health, inbox
from flexmeter.activity import MOST_COUNTED, Figure, Hour
from flexmeter.admin.base import ReadOnlyAdmin, admin_url
from flexmeter.admin.charts import Chart, Datum, bar_chart
from flexmeter.admin.filters import FilterForm
from flexmeter.admin.text import duration
from flexmeter.health import Finding, State, answered, figure_told
from flexmeter.models import Event, Health, InboxBatch, Meter, RejectedEvent, now

DAY = timedelta(days=1)
METERS_SHOWN = 20
STATES = {State.OK: _("in order"), State.WARNING: _("warning"), State.ERROR: _("error"), State.UNKNOWN: _("unknown")}
NAMES = {
    "settings": _("Settings"),
    "database": _("Database"),
    "tables": _("Tables"),
    "inbox": _("Inbox"),
    "failing": _("Failing batches"),
    "beat": _("Beat schedule"),
    "sweep": _("Sweep"),
    "workers": _("Workers"),
    "rejected": _("Rejected events"),
    "meters": _("Meters"),
    "verification": _("Verification"),
    "retention": _("Retention"),
    "durability": _("Durability"),
    "isolation": _("Isolation"),
}
WORST_FIRST = (State.ERROR, State.WARNING, State.UNKNOWN, State.OK)


class HealthFilters(FilterForm):
    """Which environment the figures are of; the findings are of all."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in words; None is unknown. `note` says what it is of."""

    label: str
    told: str | None
    note: str = ""
    url: str = ""


@admin.register(Health)
class HealthAdmin(ReadOnlyAdmin):
    class Media:
        css = {"all": ["flexmeter/meters.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        findings = list(health.examine(quick=True))
        form = answered(lambda: HealthFilters(request.GET))
        page = Figures(request, self.admin_site.name, form.chosen_environment) if form and form.is_valid() else None
        context = {
            "summary": _summary(findings),
            "wrong": [_row(finding) for finding in _worst_first(findings) if finding.state is not State.OK],
            "fine": [_row(finding) for finding in findings if finding.state is State.OK],
            "worst": min((finding.state for finding in findings), key=WORST_FIRST.index),
            "form": form,
            "page": page,
            "seen_at": now(),
            **(extra_context or {}),
        }
        return self.render(request, "admin/flexmeter/health/page.html", context, title=_("Health"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        return self.changelist_view(request)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        return self.changelist_view(request)


class Figures:
    """What happened in an environment in the last day. Each figure looks at a bounded number of rows, or is unknown."""

    def __init__(self, request: HttpRequest, site: str, environment: str) -> None:
        self.environment, self.site, self.until = environment, site, now()
        self.since = self.until - DAY
        self.may_see = {
            model: request.user.has_perm(f"flexmeter.view_{model._meta.model_name}")
            for model in (Event, InboxBatch, Meter, RejectedEvent)
        }
        self.survey = answered(lambda: inbox.survey(batches=MOST_COUNTED))
        self.hours = answered(lambda: activity.events_by_hour(environment, until=self.until))
        self.repeats = answered(lambda: activity.repeats(environment, since=self.since, until=self.until))
        self.replacements = answered(lambda: activity.replacements(environment, since=self.since))
        self.rejections = answered(lambda: activity.rejections(environment, since=self.since))
        self.meters = answered(lambda: list(Meter.objects.being_built().order_by("id")[: METERS_SHOWN + 1]))

    @property
    def tiles(self) -> list[Tile]:
        return [*self._waiting(), self._came_in(), *self._came_again(), self._refused()]

    def _waiting(self) -> list[Tile]:
        events, oldest, url = None, None, self._url(InboxBatch, {})
        if self.survey is not None:
            waiting = self.survey.total
            events = figure_told(Figure(waiting.events, self.survey.is_capped))
            oldest = _age(waiting.oldest, self.until) if waiting.oldest else gettext("nothing waits")
        return [
            Tile(gettext("Events that wait"), events, gettext("in all environments"), url),
            Tile(gettext("Oldest waits for"), oldest, gettext("in all environments"), url),
        ]

    def _came_in(self) -> Tile:
        label, note = gettext("Events, 24 hours"), gettext("by when they happened")
        counted = [hour.events for hour in self.hours or () if hour.events is not None]
        if self.hours is None or not counted:
            return Tile(label, None, note)
        is_capped = len(counted) < len(self.hours) or any(figure.is_capped for figure in counted)
        total = Figure(sum(figure.count for figure in counted), is_capped)
        return Tile(label, figure_told(total), note, self._url(Event, {"start": self.hours[0].start.isoformat()}))

    def _came_again(self) -> list[Tile]:
        repeated, note = None, ""
        if self.repeats is not None:
            repeated = f"{self.repeats.repeated:,}"
            if self.repeats.looked_at.is_capped:
                note = gettext("of the newest %(count)s events") % {"count": f"{self.repeats.looked_at.count:,}"}
            else:
                note = gettext("of the events of 24 hours")
        replaced = None if self.replacements is None else figure_told(self.replacements)
        return [
            Tile(gettext("Sent again, unchanged"), repeated, note, self._url(Event, {"status": "repeated"})),
            Tile(gettext("Sent again, changed"), replaced, gettext("in 24 hours"), self._url(Event, {"status": "replaced"})),
        ]

    def _refused(self) -> Tile:
        told = None if self.rejections is None else figure_told(self.rejections.total)
        return Tile(gettext("Rejected"), told, gettext("in 24 hours"), self._refused_url())

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """Why events were rejected in the last day: reason, number and address of the list, the most frequent first."""
        if self.rejections is None:
            return []
        ordered = sorted(self.rejections.events.items(), key=lambda item: (-item[1], item[0]))
        return [(reason, f"{events:,}", self._refused_url(reason)) for reason, events in ordered]

    @property
    def rebuilds(self) -> list[tuple[Meter, str, str]]:
        """Meters being rebuilt: how far each has come, and the address of its page."""
        return [
            (meter, _progress(meter), admin_url(Meter, "change", meter.pk, site=self.site) if self.may_see[Meter] else "")
            for meter in (self.meters or [])[:METERS_SHOWN]
        ]

    @property
    def more_rebuilds(self) -> bool:
        return self.meters is not None and len(self.meters) > METERS_SHOWN

    @property
    def chart(self) -> Chart | None:
        return (
            None
            if self.hours is None
            else bar_chart(
                [self._datum(hour) for hour in self.hours],
                title=gettext("Events by hour"),
                description=gettext(
                    "Events of the last 24 hours by the hour in which they happened; the same figures are in the table."
                ),
            )
        )

    def _datum(self, hour: Hour) -> Datum:
        label = f"{_local(hour.start):%Y-%m-%d %H:%M}: {hour_told(hour)}"
        return Datum(Decimal(hour.events.count if hour.events else 0), label, f"{_local(hour.start):%H:%M}", self.hour_url(hour))

    def hour_url(self, hour: Hour) -> str:
        return self._url(Event, {"start": hour.start.isoformat(), "end": (hour.start + timedelta(hours=1)).isoformat()})

    @property
    def hourly(self) -> list[tuple[datetime, str, str]]:
        """Start, number and address of each hour, the newest first."""
        return [(hour.start, hour_told(hour), self.hour_url(hour)) for hour in reversed(self.hours or [])]

    def _refused_url(self, reason: str = "") -> str:
        return self._url(RejectedEvent, {"reason": reason, "start": self.since.replace(microsecond=0).isoformat()})

    def _url(self, model: type[Any], query: Mapping[str, str]) -> str:
        """The address of a list, or "" for those who may not see it."""
        if not self.may_see[model]:
            return ""
        wanted = query if model is InboxBatch else {"environment": self.environment, **query}
        return admin_url(model, "changelist", query=wanted, site=self.site)


def hour_told(hour: Hour) -> str:
    return gettext("unknown") if hour.events is None else figure_told(hour.events)


def _summary(findings: Sequence[Finding]) -> str:
    wrong = [str(NAMES[finding.name]) for finding in findings if finding.state in (State.ERROR, State.WARNING)]
    unknown = [str(NAMES[finding.name]) for finding in findings if finding.state is State.UNKNOWN]
    told = []
    if wrong:
        told.append(gettext("Needs attention: %(names)s.") % {"names": ", ".join(wrong)})
    if unknown:
        told.append(gettext("Cannot be told: %(names)s.") % {"names": ", ".join(unknown)})
    return " ".join(told) or gettext("Everything is in order.")


def _row(finding: Finding) -> tuple[Finding, Any, Any]:
    return finding, NAMES[finding.name], STATES[finding.state]


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: WORST_FIRST.index(finding.state))


def _progress(meter: Meter) -> str:
    if not meter.rebuild_total:
        return gettext("not begun")
    done = min(meter.rebuild_done * 100 // meter.rebuild_total, 100)
    told = gettext("%(percent)s %% (%(done)s of about %(total)s events)")
    return told % {"percent": done, "done": f"{meter.rebuild_done:,}", "total": f"{meter.rebuild_total:,}"}


def _age(instant: datetime, at: datetime) -> str:
    return duration(timedelta(seconds=max(int((at - instant).total_seconds()), 0)))


def _local(instant: datetime) -> datetime:
    return timezone.localtime(instant)
