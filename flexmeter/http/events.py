"""Events: taken in, listed, looked up and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncMinute
from rest_framework.request import Request

from flexmeter import inbox, recording, windows
from flexmeter.conf import conf
from flexmeter.events import MAX_SENDER_LENGTH, UsageEvent, format_timestamp, parse_event, parse_events
from flexmeter.exceptions import InvalidQuery
from flexmeter.explain import explain, look_up
from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.base import ApiView
from flexmeter.http.bodies import decoded, read_body
from flexmeter.http.errors import VALIDATION_FAILED, ApiError, InvalidPayload, invalid
from flexmeter.http.filters import listing_of
from flexmeter.http.listing import EventListing
from flexmeter.http.throttling import charge_events
from flexmeter.http.tracker import lookup_shape, waiting_shape
from flexmeter.measuring import refuse_pruned
from flexmeter.models import Event, now
from flexmeter.queries import calendar_in
from flexmeter.sent import sent_events
from flexmeter.stores.database.counting import count_events
from flexmeter.stores.database.extents import Extent
from flexmeter.stores.database.transactions import read_alias

LATEST_WINDOW = timedelta(hours=24)


class IngestView(ApiView):
    """Common to what takes events in: the answer leaves after the commit."""

    scopes = {"POST": "ingest"}
    binding_message = "Invalid request payload"

    @property
    def sender(self) -> str:
        """What the events are marked with."""
        return (self.credentials.sender or self.credentials.subject)[:MAX_SENDER_LENGTH]

    def accept(self, events: Sequence[UsageEvent]) -> None:
        """Have events counted, or waiting to be."""
        if conf.INGEST == "celery" and inbox.is_full(self.environment):
            message = f"{conf.MAX_WAITING_EVENTS} events wait to be counted here. Nothing was stored; try again later."
            raise ApiError(503, "service_unavailable", message)
        charge_events(self.credentials, len(events))
        recording.accept(events, environment=self.environment, commit=True)


class EventsView(IngestView):
    """One event, or a list by query string."""

    def post(self, request: Request) -> Answer:
        event = parse_event(self.body(), now=now(), sender=self.sender)
        self.accept([event])
        return Answer({"message": "Event accepted for processing", "event_id": event.event_id}, 202)

    def get(self, request: Request) -> Answer:
        return Answer(listing_of(self.environment, self.parameters()).page())


class BulkView(IngestView):
    """Up to FLEXMETER_MAX_BULK_EVENTS events, all or none."""

    def post(self, request: Request) -> Answer:
        body = read_body(request._request)
        elements = decoded(body).get("events")
        if elements is None:
            raise InvalidPayload("events", "is required")
        if not isinstance(elements, list):
            raise InvalidPayload("events", "must be a list of events")
        if not elements:
            raise invalid(VALIDATION_FAILED, {"events": "must hold at least one event"})
        if len(elements) > conf.MAX_BULK_EVENTS:
            reason = f"must not hold more than {conf.MAX_BULK_EVENTS} events"
            raise invalid(VALIDATION_FAILED, {"events": reason})
        if conf.INGEST == "celery":
            self.accept(sent_events(body.decode(), elements, now=now(), sender=self.sender))
        else:
            self.accept(parse_events(elements, now=now(), sender=self.sender))
        return Answer({"message": "Events accepted for processing"}, 202)


class QueryView(ApiView):
    """Raw events, page by page."""

    def post(self, request: Request) -> Answer:
        return Answer(EventListing.of(self.environment, self.body()).page())


class LookupView(ApiView):
    """What became of one event, by `?id=` or by the path."""

    def get(self, request: Request, event_id: str | None = None) -> Answer:
        parameters = _given(self.parameters())
        wanted = event_id if event_id is not None else parameters.get("id", "")
        if not wanted:
            raise ApiError(400, "validation_error", "Please provide a valid event ID", {"id": "is required"})
        members.checked_text(wanted, "id", 65_536)
        customer = members.text(parameters, "external_customer_id")
        start, end = members.instant(parameters, "start_time"), members.instant(parameters, "end_time")
        found = look_up(wanted, environment=self.environment)
        if found is None and event_id is not None and wanted.endswith("/"):
            found = look_up(wanted[:-1], environment=self.environment)
        if (
            found is None
            or (customer and found.event.external_customer_id != customer)
            or (start is not None and found.event.timestamp < start)
            or (end is not None and found.event.timestamp > end)
        ):
            raise ApiError(404, "not_found", "Event not found in events table", {"event_id": wanted})
        return Answer(waiting_shape(found.event) if found.waits else lookup_shape(explain(found.event)))


class MonitoringView(ApiView):
    """How many events there were lately, and how many are accepted but not yet counted."""

    binding_message = "Please check the query parameters"

    def get(self, request: Request) -> Answer:
        parameters = _given(self.parameters())
        start, end = members.instant(parameters, "start_time"), members.instant(parameters, "end_time")
        if (start is None) != (end is None):
            message = "Please provide both start_time and end_time, or leave both empty for default 24 hour window"
            raise InvalidQuery(message, {"start_time" if start is None else "end_time": "is missing"})
        if start is None or end is None:
            end = now()
            start = end - LATEST_WINDOW
        if end < start:
            raise InvalidPayload("end_time", "must not lie before start_time")
        size = members.window(parameters, "window_size")
        refuse_pruned(self.environment, start, end, read_alias())
        lag = inbox.backlog(self.environment).events
        answer: dict[str, Any] = {"consumption_lag": lag, "post_processing_lag": 0, "points": []}
        rows = Event.objects.using(read_alias()).in_environment(self.environment).between(start, end)
        if size is None:
            total = count_events(Extent(self.environment, start, end), rows.db)
            return Answer({"total_count": total, **answer})
        counts: Counter[datetime] = Counter()
        calendar = calendar_in(UTC)
        by_minute = (
            rows.annotate(minute=TruncMinute("timestamp", tzinfo=UTC))
            .values_list("minute")
            .annotate(events=Count("id"))
            .order_by()
        )
        for minute, events in by_minute:
            counts[windows.floor(minute, size, calendar)] += events
        if len(counts) > conf.MAX_WINDOWS:
            raise InvalidQuery(
                f"The answer would have more than {conf.MAX_WINDOWS} windows; ask for a shorter range or longer windows",
                {"window_size": size.value},
            )
        answer["points"] = [{"timestamp": format_timestamp(start), "event_count": counts[start]} for start in sorted(counts)]
        return Answer({"total_count": sum(counts.values()), **answer})


def _given(parameters: Any) -> dict[str, str]:
    """Query parameters that were not left empty."""
    return {name: value for name, value in parameters.items() if value}
