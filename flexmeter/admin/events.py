"""Events: found, and explained one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from flexmeter import inbox
from flexmeter.admin import event_search
from flexmeter.admin.base import FilteredChangeList, ReadOnlyAdmin, page
from flexmeter.admin.event_page import EventPage, event_url
from flexmeter.admin.event_search import EventSearch, EventStatus
from flexmeter.admin.filters import ExactText, FilterForm, Instant
from flexmeter.admin.live import LivePages
from flexmeter.admin.text import moment, shown, titled
from flexmeter.environments import known_environments
from flexmeter.events import to_json
from flexmeter.explain import FoundEvent, look_up
from flexmeter.models import Event, Meter, RejectedEvent
from flexmeter.properties import dumps, text_fault
from flexmeter.stores.database.distinct import names_of_events
from flexmeter.stores.database.transactions import read_alias

SUGGESTED_NAMES = 50
PLACES_SHOWN = 10


class EventFilters(FilterForm):
    event_id = ExactText(label=_("Event id"))
    customer = ExactText(label=_("Customer id"))
    name = ExactText(label=_("Event name"))
    source = ExactText(label=_("Source"))
    status = forms.ChoiceField(
        label=_("Status"),
        required=False,
        choices=[
            ("", _("Any")),
            (EventStatus.METERED, _("A meter counts events of its name")),
            (EventStatus.UNMETERED, _("No meter counts events of its name")),
            (EventStatus.REPLACED, _("Sent again with other values")),
            (EventStatus.REPEATED, _("Sent again without a change")),
        ],
    )
    start = Instant(label=_("Happened from"))
    end = Instant(label=_("Happened before"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.suggest("name", names_of_events(self.chosen_environment, read_alias(), limit=SUGGESTED_NAMES))

    def clean(self) -> None:
        start, end = self.cleaned_data.get("start"), self.cleaned_data.get("end")
        if start and end and end <= start:
            self.add_error("end", _("The end must lie after the start."))

    def search(self) -> EventSearch:
        """What the valid form asks for."""
        wanted = self.cleaned_data
        return EventSearch(
            environment=wanted["environment"],
            event_id=wanted["event_id"],
            event_name=wanted["name"],
            external_customer_id=wanted["customer"],
            source=wanted["source"],
            status=wanted["status"],
            start=wanted["start"],
            end=wanted["end"],
        )


class EventChangeList(FilteredChangeList):
    """Events with the number of meters that count events of their name: whether one counts this event, its page tells."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        pairs = {(event.environment, event.event_name) for event in self.result_list}
        meters = Meter.objects.filter(environment__in={environment for environment, _ in pairs}).order_by()
        counted = meters.counting({name for _, name in pairs}).values_list("environment", "event_name").annotate(Count("pk"))
        counts = {(environment, name): count for environment, name, count in counted}
        for event in self.result_list:
            event.meter_count = counts.get((event.environment, event.event_name), 0)


@admin.register(Event)
class EventAdmin(LivePages, ReadOnlyAdmin):
    list_display = ["happened", "name", "customer", "identity", "origin", "meters"]
    list_display_links = ["happened", "identity"]
    ordering = ["-timestamp", "-event_id"]
    filter_form = EventFilters

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[FilteredChangeList]:
        return EventChangeList

    def tools(self, request: HttpRequest) -> list[tuple[str | Promise, str]]:
        return [(_("Watch live"), self.page_url("live"))]

    def narrowed(self, request: HttpRequest, rows: QuerySet[Event], filters: EventFilters) -> QuerySet[Event]:
        search = filters.search()
        found = search.of(rows.defer("properties"))
        if search.event_id and not found.rows.exists():
            filters.notes += whereabouts(search.environment, search.event_id, site=self.admin_site.name)
        if found.looked_until is not None:
            text = gettext("Looked through the newest {count} events, back to {time}. For older ones, move the time range.")
            filters.notes.append(format_html(text, count=f"{event_search.WALKED:,}", time=moment(found.looked_until)))
        return found.rows

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        event = self.get_object(request, unquote(object_id))
        if event is None:
            return self.missing(request, object_id)
        return self._event_page(request, EventPage(event.environment, event.event_id, FoundEvent(event, False), self.admin_site))

    @page("lookup/", name="lookup")
    def lookup(self, request: HttpRequest) -> HttpResponse:
        """An event by `environment` and `event_id`, wherever it is."""
        environment, event_id = _identity(request)
        found = look_up(event_id, environment=environment)
        if found is not None and not found.waits:
            return redirect(self.page_url("change", found.event.pk))
        return self._event_page(request, EventPage(environment, event_id, found, self.admin_site))

    @page("body/", name="body")
    def body(self, request: HttpRequest) -> HttpResponse:
        """An event by `environment` and `event_id` as a file of JSON, whole and exact."""
        environment, event_id = _identity(request)
        found = look_up(event_id, environment=environment)
        if found is None:
            raise Http404
        response = HttpResponse(dumps(to_json(found.event.as_usage_event())), content_type="application/json")
        response["Content-Disposition"] = 'attachment; filename="event.json"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def _event_page(self, request: HttpRequest, page: EventPage) -> HttpResponse:
        known = page.event is not None or page.rejected
        title = gettext("Event {event_id}").format(event_id=titled(page.event_id))
        context = {"page": page}
        return self.render(request, "admin/flexmeter/event.html", context, title=title, status=200 if known else 404)

    @admin.display(description=_("Happened"))
    def happened(self, event: Event) -> SafeString:
        return moment(event.timestamp)

    @admin.display(description=_("Event name"))
    def name(self, event: Event) -> SafeString:
        return shown(event.event_name)

    @admin.display(description=_("Customer"))
    def customer(self, event: Event) -> SafeString:
        return shown(event.external_customer_id)

    @admin.display(description=_("Event id"))
    def identity(self, event: Event) -> SafeString:
        return shown(event.event_id)

    @admin.display(description=_("Source"))
    def origin(self, event: Event) -> SafeString:
        return shown(event.source)

    @admin.display(description=_("Meters"))
    def meters(self, event: Event) -> str:
        count: int = event.meter_count  # type: ignore[attr-defined]  # the list's own
        return f"{count:,}" if count else gettext("none")


def whereabouts(environment: str, event_id: str, *, site: str) -> list[SafeString]:
    """Where an event is that a list of this environment does not show: links to its page, or a sentence that there is none."""
    stored = Event.objects.filter(environment__in={environment, *known_environments()}, event_id=event_id)
    places = list(stored.order_by("environment").values_list("environment", flat=True)[:PLACES_SHOWN])
    found = [
        (gettext("It is stored, and the other filters leave it out: {link}"), place) for place in places if place == environment
    ]
    if not found and inbox.find(event_id, environment=environment) is not None:
        found = [(gettext("It waits in the inbox to be counted: {link}"), environment)]
    if not found and RejectedEvent.objects.filter(environment=environment, event_id=event_id).exists():
        found = [(gettext("It was accepted and could not be counted: {link}"), environment)]
    text = gettext("An event of this id is stored in environment {environment}: {link}")
    found += [(text, place) for place in places if place != environment]
    if not found:
        return [escape(gettext("No event of this id is stored, waits or was rejected in this environment."))]
    return [
        format_html(
            text,
            environment=shown(place),
            link=format_html('<a href="{}">{}</a>', event_url(place, event_id, site=site), shown(event_id)),
        )
        for text, place in found
    ]


def _identity(request: HttpRequest) -> tuple[str, str]:
    """The environment and event id that a request names. Raises Http404 for what no event can be."""
    environment, event_id = request.GET.get("environment", ""), request.GET.get("event_id", "")
    if not event_id or text_fault(environment) or text_fault(event_id):
        raise Http404
    return environment, event_id
