"""The inbox: what was accepted and waits to be counted, since when, and a button that counts it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from flexmeter import draining, inbox
from flexmeter.activity import MOST_COUNTED, Figure
from flexmeter.admin.base import ReadOnlyAdmin, admin_url, page
from flexmeter.admin.json_text import pretty
from flexmeter.admin.text import duration, moment, shown
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.health import figure_told
from flexmeter.models import Event, InboxBatch, now

DRAINED_EVENTS = 50_000
DRAINED_SECONDS = 5.0
EVENTS_SHOWN = 200
BODY_CHARACTERS = 4_000


@admin.register(InboxBatch)
class InboxBatchAdmin(ReadOnlyAdmin):
    list_display = ["number", "environment_name", "held", "age", "accepted", "tries", "characters"]
    list_display_links = ["number"]
    ordering = ["id"]
    actions = None
    change_list_template = "admin/flexmeter/inbox/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("events")

    def changelist_view(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        survey = inbox.survey(batches=MOST_COUNTED)
        total = survey.total
        context = {
            "title": _("Inbox"),
            "total": figure_told(Figure(total.events, survey.is_capped)),
            "total_events": total.events,
            "oldest": _age(total.oldest),
            "is_capped": survey.is_capped,
            "most": MOST_COUNTED,
            "environments": [
                (name, backlog, _age(backlog.oldest), self.page_url("changelist", query={"environment__exact": name}))
                for name, backlog in survey.environments.items()
            ],
            "can_drain": self.has_act_permission(request),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description=_("Batch"), ordering="id")
    def number(self, batch: InboxBatch) -> str:
        return str(batch.pk)

    @admin.display(description=_("Environment"))
    def environment_name(self, batch: InboxBatch) -> SafeString:
        return shown(batch.environment)

    @admin.display(description=_("Events"))
    def held(self, batch: InboxBatch) -> str:
        return f"{batch.event_count:,}"

    @admin.display(description=_("Failed attempts"))
    def tries(self, batch: InboxBatch) -> str:
        return f"{batch.attempts:,}"

    @admin.display(description=_("Characters, about"))
    def characters(self, batch: InboxBatch) -> str:
        return f"{batch.size:,}"

    @admin.display(description=_("Waits for"))
    def age(self, batch: InboxBatch) -> str:
        return _age(batch.accepted_at)

    @admin.display(description=_("Accepted"))
    def accepted(self, batch: InboxBatch) -> SafeString:
        return moment(batch.accepted_at)

    @page("drain/", name="drain", need="act")
    def drain(self, request: HttpRequest) -> HttpResponse:
        """Count what waits, for a few seconds at most."""
        if request.method == "POST":
            try:
                drained = inbox.drain(events=DRAINED_EVENTS, seconds=DRAINED_SECONDS)
            except EnvironmentBusy as error:
                self.message_user(request, str(error), messages.ERROR)
            except (DatabaseError, InterfaceError):
                wrong = _("The database did not answer in time. What was not counted still waits; try again.")
                self.message_user(request, wrong, messages.ERROR)
            else:
                told = drained_told(drained)
                self._record_drain(request, told)
                level = messages.WARNING if drained.rejected or drained.ingested.rejected else messages.SUCCESS
                self.message_user(request, told, level)
        return redirect(self.page_url("changelist"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        batch = self.get_object(request, unquote(object_id))
        if batch is None:
            self.message_user(
                request, _("This batch does not wait any more: its events were counted or rejected."), messages.INFO
            )
            return redirect(self.page_url("changelist"))
        contents = inbox.contents(batch)
        elements = contents if isinstance(contents, list) else []
        context = {
            "batch": batch,
            "age": _age(batch.accepted_at),
            "events": [self._line(batch, element) for element in elements[:EVENTS_SHOWN]],
            "others": max(len(elements) - EVENTS_SHOWN, 0),
            "unreadable": None if isinstance(contents, list) else pretty(contents, BODY_CHARACTERS),
            "tries": draining.TRIES,
        }
        title = _("Batch {number}").format(number=batch.pk)
        return self.render(request, "admin/flexmeter/inbox/batch.html", context, title=title, obj=batch)

    def _line(self, batch: InboxBatch, element: Any) -> tuple[str, str, str, str]:
        """An event's id, name and customer as far as they are text, and where it is explained."""
        members = element if isinstance(element, dict) else {}
        names = [members.get(name) for name in ("event_id", "event_name", "external_customer_id")]
        event_id, event_name, customer = (value if isinstance(value, str) else "" for value in names)
        query = {"environment": batch.environment, "event_id": event_id}
        url = admin_url(Event, "lookup", query=query, site=self.admin_site.name) if event_id else ""
        return event_id, event_name, customer, url

    def _record_drain(self, request: HttpRequest, told: str) -> None:
        user_id: Any = request.user.pk
        LogEntry.objects.create(
            user_id=user_id,
            content_type_id=get_content_type_for_model(InboxBatch).pk,
            object_repr=gettext("Inbox"),
            action_flag=CHANGE,
            change_message=told,
        )


def drained_told(drained: inbox.Drained) -> str:
    """What a drain did, in a sentence or two."""
    if not drained.batches:
        return gettext("Nothing waits that no other process is counting.")
    counted = drained.ingested
    told = ngettext(
        "%(events)s event was taken from the inbox: %(outcomes)s.", "%(events)s events were taken from the inbox: %(outcomes)s.",
        drained.events,
    )  # fmt: skip
    outcomes = {
        gettext("%(count)s stored"): counted.stored,
        gettext("%(count)s replaced earlier values"): counted.replaced,
        gettext("%(count)s known already"): counted.repeated,
        gettext("%(count)s rejected"): counted.rejected + drained.rejected,
    }
    sentence = told % {
        "events": f"{drained.events:,}",
        "outcomes": ", ".join(text % {"count": f"{number:,}"} for text, number in outcomes.items() if number),
    }
    return sentence + (" " + gettext("More wait: count again, or leave them to the workers.") if drained.more else "")


def _age(instant: datetime | None) -> str:
    return "" if instant is None else duration(timedelta(seconds=max(int((now() - instant).total_seconds()), 0)))
