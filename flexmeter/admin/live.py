"""The newest events as they come in."""

from __future__ import annotations

from typing import Any

from django.db.models import Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from flexmeter.admin.base import FlexmeterAdmin, page
from flexmeter.admin.event_search import unindexed
from flexmeter.admin.filters import ExactText, FilterForm
from flexmeter.admin.text import moment_text, pieces
from flexmeter.events import format_timestamp
from flexmeter.models import Event

SENT = 100
"""Events of one answer, at most."""
LOOKED_AT = 10_000
"""Newest rows that are looked through for events that pass the filters."""
MILLISECONDS_BETWEEN_POLLS = 2_000


class LiveFilters(FilterForm):
    name = ExactText(label=gettext_lazy("Event name"))
    customer = ExactText(label=gettext_lazy("Customer id"))


class LivePages(FlexmeterAdmin):
    """The live view of events, and the answers it asks for while it runs."""

    @page("live/", name="live")
    def live(self, request: HttpRequest) -> HttpResponse:
        context = {
            "form": LiveFilters(request.GET),
            "answers_url": self.page_url("live_events"),
            "milliseconds": MILLISECONDS_BETWEEN_POLLS,
            "most_rows": SENT,
        }
        return self.render(request, "admin/flexmeter/live.html", context, title=_("Live events"))

    @page("live/events/", name="live_events")
    def live_events(self, request: HttpRequest) -> HttpResponse:
        """The newest events that pass the filters, as JSON, newest first.

        Rows commit in another order than they are numbered, so an answer is not what came after the last one: it is always
        the newest ones, and who asks merges them by `key`.
        """
        filters = LiveFilters(request.GET)
        if not filters.is_valid():
            return JsonResponse({"errors": filters.errors}, status=400)
        events = newest(filters.cleaned_data)
        return JsonResponse({"events": [self._told(event) for event in events]})

    def _told(self, event: Event) -> dict[str, Any]:
        """What the page shows. Texts are pieces: text and marks in turn."""
        return {
            "key": event.pk,
            "version": format_timestamp(event.accepted_at),
            "url": self.page_url("change", event.pk),
            "ingested": moment_text(event.ingested_at),
            "happened": moment_text(event.timestamp),
            "name": pieces(event.event_name),
            "customer": pieces(event.external_customer_id),
            "event_id": pieces(event.event_id),
        }


def newest(wanted: dict[str, Any]) -> list[Event]:
    """The events that were stored last, among the newest LOOKED_AT rows."""
    last = Event.objects.aggregate(last=Max("pk"))["last"] or 0
    columns = {"environment": "environment", "event_name": "name", "external_customer_id": "customer"}
    checks = [unindexed(column, wanted[field]) for column, field in columns.items() if wanted[field]]
    rows = Event.objects.defer("properties").filter(*checks, pk__gt=last - LOOKED_AT)
    return list(rows.order_by("-pk")[:SENT])
