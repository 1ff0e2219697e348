"""Operations on events, as they are described."""

from __future__ import annotations

from flexmeter.http.errors import envelope
from flexmeter.http.events import BulkView, EventsView
from flexmeter.http.filters import EventFilter
from flexmeter.http.schema.components import EVENT_LIST, GET_PAGE_SIZE
from flexmeter.http.schema.dialect import TEXT, TIME, ref
from flexmeter.http.schema.examples import (
    CHAT,
    CODE,
    DAY,
    LATER_CHAT,
    METER_ID,
    SCAN,
    malformed,
    missing,
    stored,
    wrong,
)
from flexmeter.http.schema.operations import Example, Operation, Parameter, query_parameters

TAG = "Events"
NOT_A_TIME = "must be an RFC 3339 timestamp with an offset, such as 2024-03-20T15:04:05Z"
UNKNOWN_EVENT = ("Event not found in events table", {"event_id": "req-9999"})

PAGE = {
    "events": [stored(CODE), stored(LATER_CHAT)],
    "has_more": True,
    "iter_first_key": "1748862300250000000::req-1003",
    "iter_last_key": "1748857800000000000::req-1002",
    "total_count": 3,
    "offset": 2,
}
WHOLE_LIST = {
    "events": [stored(CODE), stored(LATER_CHAT), stored(CHAT)],
    "has_more": False,
    "iter_first_key": PAGE["iter_first_key"],
    "iter_last_key": "1748855400000000000::req-1001",
    "total_count": 3,
    "offset": 50,
}
LAST_PAGE = {
    "events": [stored(CHAT)],
    "has_more": False,
    "iter_first_key": "1748855400000000000::req-1001",
    "iter_last_key": None,
    "total_count": 3,
    "offset": None,
}

COUNTED = {
    "event": stored(CHAT),
    "events": [stored(CHAT)],
    "status": "processed",
    "processed_events": [
        {
            "customer_id": "",
            "subscription_id": "",
            "sub_line_item_id": "",
            "price_id": "",
            "meter_id": METER_ID,
            "feature_id": "",
            "qty_total": "374",
            "processed_at": stored(CHAT)["ingested_at"],
        }
    ],
    "debug_tracker": None,
    "verdicts": [
        {
            "meter_id": METER_ID,
            "outcome": "counted",
            "reason": "Counted 374 as `prompt_tokens` in bucket 2025-06-02 09:00 to 09:15 UTC.",
        }
    ],
}
NOT_COUNTED = {
    "event": stored(SCAN),
    "events": [stored(SCAN)],
    "status": "failed",
    "processed_events": [],
    "debug_tracker": {
        "customer_lookup": {"status": "found", "customer": None, "error": None},
        "meter_matching": {"status": "not_found", "matched_meters": [], "error": None},
        "price_lookup": {"status": "unprocessed", "matched_prices": [], "error": None},
        "subscription_line_item_lookup": {"status": "unprocessed", "matched_line_items": [], "error": None},
        "attributed_to_customer": None,
        "failure_point": {
            "failure_point_type": "meter_lookup",
            "error": envelope(404, "not_found", "No meters found matching event_name: page_scanned"),
        },
    },
    "verdicts": [],
}

NARROWING = (
    Parameter("external_customer_id", TEXT, "If given, the event must be this customer's."),
    Parameter("start_time", TIME, "If given, the event must not lie before it."),
    Parameter("end_time", TIME, "If given, the event must not lie after it."),
)

OPERATIONS = (
    Operation(
        method="POST",
        path="/events",
        id="ingestEvent",
        tag=TAG,
        summary="Send an event",
        description="Takes in one event and counts it by every meter it matches. An event_id that was sent before counts once: "
        "the event takes the values sent last, and what it was is kept as a revision. Figures count it at once, or where the "
        "project counts in the background shortly after the answer.",
        status=202,
        body="IngestEventRequest",
        answer="IngestEventResponse",
        examples={
            "llm_request": Example(
                "A request to a language model",
                body=CHAT,
                answer={"message": "Event accepted for processing", "event_id": "req-1001"},
            ),
        },
        faults={
            400: {
                "no_customer": malformed(
                    "No customer",
                    "external_customer_id",
                    "is required and must not be empty",
                    binding=EventsView.binding_message,
                    body={"event_name": "llm_request"},
                ),
            }
        },
    ),
    Operation(
        method="POST",
        path="/events/bulk",
        id="ingestEventsBulk",
        tag=TAG,
        summary="Send many events",
        description="Takes in all events or none. Of two with one event_id the later one applies. A body may come with "
        "`Content-Encoding: gzip`.",
        status=202,
        body="BulkIngestEventRequest",
        answer="MessageResponse",
        examples={
            "three_events": Example(
                "Three events",
                body={"events": [LATER_CHAT, CODE, SCAN]},
                answer={"message": "Events accepted for processing"},
            ),
        },
        faults={
            400: {
                "bad_timestamp": malformed(
                    "A timestamp without an offset",
                    "events[1].timestamp",
                    NOT_A_TIME,
                    binding=BulkView.binding_message,
                    body={"events": [CODE, {**SCAN, "timestamp": "2025-06-02 14:30"}]},
                ),
            }
        },
    ),
    Operation(
        method="POST",
        path="/events/query",
        id="listRawEvents",
        tag=TAG,
        summary="List events",
        description="Events that meet all conditions, newest first unless told otherwise. Go on with the `iter_last_key` of "
        "the answer until `has_more` is false, or with its `offset`.",
        body="EventListRequest",
        answer="EventListResponse",
        examples={
            "first_page": Example(
                "A customer's newest two events of a day",
                body={"external_customer_id": "customer-01", **DAY, "page_size": 2},
                answer=PAGE,
            ),
            "last_page": Example(
                "The page after that",
                body={"external_customer_id": "customer-01", **DAY, "page_size": 2, "iter_last_key": PAGE["iter_last_key"]},
                answer=LAST_PAGE,
            ),
        },
        faults={
            400: {
                "bad_order": wrong(
                    "An order that does not exist",
                    "Request validation failed due to invalid order by value",
                    {"order": "newest", "allowed_values": ["asc", "desc"]},
                    body={"order": "newest"},
                ),
            }
        },
    ),
    Operation(
        method="GET",
        path="/events",
        id="listEvents",
        tag=TAG,
        summary="List events by query string",
        description="The same list as that of `POST /events/query`.",
        answer="EventListResponse",
        parameters=(
            *(Parameter(name, TEXT, filter.extra["help_text"]) for name, filter in EventFilter.base_filters.items()),
            *query_parameters(EVENT_LIST, ("start_time", "end_time")),
            Parameter("property_filters", TEXT, "Values by property name, written as `key1:value1,value2;key2:value3`."),
            Parameter("page_size", GET_PAGE_SIZE, "Events of one page. Anything beyond the bounds stands for the default."),
            *query_parameters(EVENT_LIST, ("offset", "iter_first_key", "iter_last_key", "sort", "order")),
        ),
        examples={
            "two_models": Example(
                "A customer's events of a day, by two models",
                parameters={"external_customer_id": "customer-01", "property_filters": "model:chat-1,coder-1", **DAY},
                answer=WHOLE_LIST,
            ),
        },
        faults={
            400: {
                "bad_page_size": malformed(
                    "A page size that is no number",
                    "page_size",
                    "must be an integer",
                    binding=EventsView.binding_message,
                    page_size="all",
                ),
            }
        },
    ),
    Operation(
        method="GET",
        path="/events/{event_id}",
        id="getEvent",
        tag=TAG,
        summary="What became of an event",
        description="The event, which meters counted it with what quantity, and why the others did not. The id may hold any "
        "character, escaped; an id that is the name of another path is only found by `GET /events/lookup`.",
        answer="EventLookupResponse",
        parameters=(Parameter("event_id", TEXT, "The event_id it was sent with.", in_path=True), *NARROWING),
        examples={
            "counted": Example("An event that a meter counted", parameters={"event_id": "req-1001"}, answer=COUNTED),
            "not_counted": Example("An event that no meter counts", parameters={"event_id": "scan-7"}, answer=NOT_COUNTED),
        },
        faults={
            400: {
                "bad_time": malformed(
                    "A time that is none",
                    "start_time",
                    NOT_A_TIME,
                    event_id="req-1001",
                    start_time="yesterday",
                ),
            },
            404: {"unknown": missing("An unknown id", *UNKNOWN_EVENT, event_id="req-9999")},
        },
    ),
    Operation(
        method="GET",
        path="/events/lookup",
        id="lookupEvent",
        tag=TAG,
        summary="What became of an event, by query string",
        description="The same answer as that of `GET /events/{event_id}`, for any id at all.",
        answer="EventLookupResponse",
        parameters=(Parameter("id", TEXT, "The event_id it was sent with.", required=True), *NARROWING),
        examples={
            "counted": Example(
                "An event that a meter counted",
                parameters={"id": "req-1001", "external_customer_id": "customer-01"},
                answer=COUNTED,
            ),
            "not_counted": Example("An event that no meter counts", parameters={"id": "scan-7"}, answer=NOT_COUNTED),
        },
        faults={
            400: {"no_id": wrong("No id", "Please provide a valid event ID", {"id": "is required"})},
            404: {"unknown": missing("An unknown id", *UNKNOWN_EVENT, id="req-9999")},
        },
    ),
    Operation(
        method="GET",
        path="/events/monitoring",
        id="getEventMonitoring",
        tag=TAG,
        summary="How many events came, and how many wait",
        description="Events of the key's environment, of all customers. Give both start_time and end_time, or neither for the "
        "last 24 hours.",
        answer="MonitoringResponse",
        parameters=(
            Parameter("start_time", TIME, "First instant that counts."),
            Parameter("end_time", TIME, "First instant that no longer counts."),
            Parameter("window_size", ref("WindowSize"), "Adds points: counts by calendar window of this size, in UTC."),
        ),
        examples={
            "by_hour": Example(
                "A day by the hour",
                parameters={**DAY, "window_size": "HOUR"},
                answer={
                    "total_count": 4,
                    "consumption_lag": 0,
                    "post_processing_lag": 0,
                    "points": [
                        {"timestamp": "2025-06-02T09:00:00Z", "event_count": 2},
                        {"timestamp": "2025-06-02T11:00:00Z", "event_count": 1},
                        {"timestamp": "2025-06-02T14:00:00Z", "event_count": 1},
                    ],
                },
            ),
        },
        faults={
            400: {
                "half_a_range": wrong(
                    "A start without an end",
                    "Please provide both start_time and end_time, or leave both empty for default 24 hour window",
                    {"end_time": "is missing"},
                    start_time=DAY["start_time"],
                ),
            }
        },
    ),
)
