"""Lists by query string, through django-filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import django_filters
from django.http import QueryDict

from flexmeter.http.errors import InvalidPayload
from flexmeter.http.listing import DEFAULT_PAGE_SIZE, EXACT_FILTERS, EventListing
from flexmeter.http.members import MAX_TEXT
from flexmeter.models import Event, Meter
from flexmeter.properties import text_fault

MAX_GET_PAGE_SIZE = 50


class Unstripped(django_filters.CharFilter):
    """Exact text, white space included: identifiers compare byte for byte."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, max_length=MAX_TEXT, **kwargs)


class EventFilter(django_filters.FilterSet):
    """Query parameters of `GET /events` that name a column."""

    external_customer_id = Unstripped(help_text="Exact customer id.")
    event_name = Unstripped(help_text="Exact event name.")
    event_id = Unstripped(help_text="Exact event id.")
    source = Unstripped(help_text="Exact source.")

    class Meta:
        model = Event
        fields = EXACT_FILTERS


class MeterFilter(django_filters.FilterSet):
    """Query parameters of `GET /meters`."""

    event_name = Unstripped(help_text="Exact event name.")
    name = Unstripped(help_text="Exact name of the meter.")
    aggregation_type = Unstripped(help_text="Exact aggregation type, such as SUM.")
    status = django_filters.ChoiceFilter(choices=Meter.Status.choices, help_text="published or archived; both by default.")

    class Meta:
        model = Meter
        fields = ("event_name", "name", "aggregation_type", "status")


def validated(filterset: django_filters.FilterSet) -> django_filters.FilterSet:
    """The filter set, or InvalidPayload naming its first wrong parameter."""
    for name, value in (filterset.data or {}).items():
        if reason := text_fault(str(value)):
            raise InvalidPayload(name, reason)
    if not filterset.is_valid():
        for name, faults in filterset.errors.items():
            raise InvalidPayload(name, " ".join(faults))
    return filterset


def listing_of(environment: str, parameters: QueryDict) -> EventListing:
    """The event listing a query string asks for; a page size beyond 1 to 50 falls back to 50."""
    validated(EventFilter(parameters, queryset=Event.objects.none()))
    body: dict[str, Any] = {name: value for name, value in parameters.items() if value}
    for name in ("page_size", "offset"):
        if name in body:
            body[name] = _integer(body[name], name)
    if not 1 <= body.get("page_size", DEFAULT_PAGE_SIZE) <= MAX_GET_PAGE_SIZE:
        body["page_size"] = DEFAULT_PAGE_SIZE
    for name in ("sort", "order"):
        if parameters.get(name) == "":
            body[name] = ""
    if "property_filters" in body:
        body["property_filters"] = property_filters(body["property_filters"])
    return EventListing.of(environment, body)


def property_filters(text: str) -> Mapping[str, list[str]]:
    """`key1:v1,v2;key2:v3` as an object of key to values. Raises InvalidPayload for an entry without a colon."""
    filters: dict[str, list[str]] = {}
    for entry in filter(None, text.split(";")):
        key, colon, values = entry.partition(":")
        if not colon or not key:
            raise InvalidPayload("property_filters", "must look like key1:v1,v2;key2:v3")
        filters.setdefault(key, []).extend(values.split(","))
    return filters


def _integer(text: str, name: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise InvalidPayload(name, "must be an integer")
    return int(text)
