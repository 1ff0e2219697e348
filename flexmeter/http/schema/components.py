"""The shapes of requests and answers, by the names they have in the schema.

An answer always has all its members: what is not known is null or empty. In a request null is the same as left out, and
members that no shape names are ignored.
"""

from __future__ import annotations

from flexmeter.aggregation import AggregationType
from flexmeter.conf import conf
from flexmeter.events import MAX_IDENTIFIER_LENGTH
from flexmeter.explain import Outcome
from flexmeter.http.filters import MAX_GET_PAGE_SIZE
from flexmeter.http.listing import DEFAULT_PAGE_SIZE, ORDERS, SORTS
from flexmeter.http.meters import SORTS as METER_SORTS
from flexmeter.http.schema.dialect import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    answer,
    described,
    list_of,
    map_of,
    nullable,
    ref,
    request,
)
from flexmeter.metering import MAX_DIMENSIONS
from flexmeter.models import Meter
from flexmeter.windows import WindowSize

DEFAULT_ORDER = "desc"
DECIMAL: Schema = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
"""A number with all its digits, as text."""
MONEY = described(DECIMAL, 'Money as a decimal; "0" where no prices are known.')
IDENTIFIER: Schema = {"type": "string", "maxLength": MAX_IDENTIFIER_LENGTH}
REQUIRED_IDENTIFIER: Schema = {**IDENTIFIER, "minLength": 1}

FILTERS = described(
    map_of(list_of(TEXT)),
    "Values by property name. An event passes if each named property, rendered as text, is one of its values; "
    'the value "" stands for a property that is missing.',
)
DIMENSIONS = described(
    list_of(IDENTIFIER, maxItems=MAX_DIMENSIONS, uniqueItems=True),
    "Properties by whose values the meter's usage is kept apart, so that filtering and grouping by them is quick. They change no "
    "figure.",
)
WINDOW_SIZE = described(ref("WindowSize"), "Splits the answer into calendar windows of this size.")
RANGE: dict[str, Schema] = {
    "start_time": described(TIME, "First instant that counts. By default seven days before end_time."),
    "end_time": described(TIME, "First instant that no longer counts. By default now."),
}
CUSTOMER: dict[str, Schema] = {
    "external_customer_id": described(TEXT, "Only events of this customer; of all customers by default."),
    "customer_id": described(TEXT, "Only events that were sent with this customer_id."),
}
CALENDAR: dict[str, Schema] = {
    "timezone": described(TEXT, "IANA name of the time zone the windows lie in. UTC by default and for unknown names."),
    "billing_anchor": described(TIME, "Its day of the month is the day that MONTH windows begin on."),
}

EVENT_LIST: dict[str, Schema] = {
    "external_customer_id": described(TEXT, "Exact customer id."),
    "event_name": described(TEXT, "Exact event name."),
    "event_id": described(TEXT, "Exact event id."),
    "source": described(TEXT, "Exact source."),
    "start_time": described(TIME, "First instant listed. By default seven days before end_time."),
    "end_time": described(TIME, "Last instant listed. By default now."),
    "property_filters": FILTERS,
    "page_size": {
        **INTEGER,
        "default": DEFAULT_PAGE_SIZE,
        "description": "Events of one page. Values below 1 stand for the default, large ones are cut to what the server allows.",
    },
    "offset": {**INTEGER, "default": 0, "description": "How many events to pass over. Ignored where a cursor is given."},
    "iter_first_key": described(TEXT, "The iter_first_key of an earlier answer: lists what comes before that event."),
    "iter_last_key": described(TEXT, "The iter_last_key of the page before: lists what comes after that event."),
    "sort": {**ref("EventSort"), "default": SORTS[0]},
    "order": {**ref("SortOrder"), "default": DEFAULT_ORDER},
}
GET_PAGE_SIZE: Schema = {**INTEGER, "default": DEFAULT_PAGE_SIZE, "minimum": 1, "maximum": MAX_GET_PAGE_SIZE}

TOTALS = ("total_cost", "subtotal", "total_discount")
POINT_COSTS = (
    *("cost", "subtotal", "discount"),
    *("computed_commitment_utilized_amount", "computed_overage_amount", "computed_true_up_amount"),
)
PRICED_TEXTS = (
    *("currency", "feature_id", "price_id", "sub_line_item_id", "subscription_id", "plan_id", "add_on_id"),
    *("unit", "unit_plural", "total_usage_display"),
)
PRICED_OBJECTS = (
    *("commitment_info", "reporting_unit", "group"),
    *("price", "feature", "subscription_line_item", "plan", "addon"),
)
ANYTHING: Schema = {"type": "object", "additionalProperties": True}


def _step(member: str, found: Schema) -> Schema:
    return answer({"status": ref("StepStatus"), member: found, "error": nullable(ref("ErrorResponse"))})


_COMMON: dict[str, Schema] = {
    "AggregationType": {
        **TEXT,
        "enum": [type.value for type in AggregationType],
        "description": "How events become one figure.",
    },
    "WindowSize": {
        **TEXT,
        "enum": [size.value for size in WindowSize],
        "description": "Length of a calendar window.",
    },
    "SortOrder": {**TEXT, "enum": list(ORDERS), "description": "Ascending or descending."},
    "MessageResponse": answer({"message": TEXT}),
    "ErrorResponse": request(
        {
            "success": described(BOOLEAN, "Always false."),
            "code": described(TEXT, "What went wrong, in a word that programs can rely on."),
            "message": described(TEXT, "What went wrong and where, for a person."),
            "http_status_code": described(INTEGER, "The status of the answer."),
            "details": ref("ErrorDetails"),
            "error": request(
                {
                    "message": described(TEXT, "The same message."),
                    "internal_error": described(TEXT, "The code, and the names of the members at fault."),
                    "details": ref("ErrorDetails"),
                },
                required=["message", "internal_error"],
                description="The same once more, where clients of another generation look for it.",
            ),
        },
        required=["success", "code", "message", "http_status_code", "error"],
        description="The body of every answer that is no success.",
    ),
    "ErrorDetails": described(
        ANYTHING, "Reasons by the member at fault, such as `events[3].timestamp`. Left out where there are none."
    ),
}

_INGESTION: dict[str, Schema] = {
    "IngestEventRequest": request(
        {
            "event_name": described(REQUIRED_IDENTIFIER, "What happened. White space around it is cut off."),
            "external_customer_id": described(REQUIRED_IDENTIFIER, "Whose usage it is, in your own words."),
            "event_id": described(
                IDENTIFIER, "Your id of this event: sent again, it counts once, with the values sent last. Made up if missing."
            ),
            "timestamp": described(TIME, "When it happened. Now, if missing. Kept in UTC, to the microsecond."),
            "source": described(IDENTIFIER, "Where the event comes from."),
            "customer_id": described(IDENTIFIER, "Another id of the customer, kept as it is."),
            "properties": described(
                ANYTHING, "Anything else about the event. Numbers may be sent as text and count all the same."
            ),
        },
        required=["event_name", "external_customer_id"],
        description="Something that happened and is to be counted.",
    ),
    "IngestEventResponse": answer({"message": TEXT, "event_id": described(TEXT, "The id that was sent, or made up.")}),
}

_EVENTS: dict[str, Schema] = {
    "StoredEvent": answer(
        {
            "id": described(TEXT, "The event_id it was sent with."),
            "external_customer_id": TEXT,
            "customer_id": described(TEXT, "As it was sent, or empty."),
            "event_name": TEXT,
            "timestamp": TIME,
            "properties": nullable(described(ANYTHING, "As they were sent.")),
            "source": described(TEXT, "As it was sent, or empty."),
            "environment_id": described(TEXT, "The environment of the key it was sent with."),
            "ingested_at": described(TIME, "When it was stored and counted; while it waits for that, when it was accepted."),
        },
        "An event as it stands now.",
    ),
    "EventSort": {**TEXT, "enum": list(SORTS), "description": "What events are sorted by."},
    "EventListRequest": request(EVENT_LIST, description="Which events to list. All members are optional."),
    "EventListResponse": answer(
        {
            "events": list_of(ref("StoredEvent")),
            "has_more": described(BOOLEAN, "Whether events follow this page."),
            "iter_first_key": nullable(described(TEXT, "Cursor of the first event of the page.")),
            "iter_last_key": nullable(
                described(TEXT, "Cursor of the last event of the page; null where a cursor led to the end.")
            ),
            "total_count": described(INTEGER, "How many events match on all pages together."),
            "offset": nullable(described(INTEGER, "Offset of the next page; null where a cursor was given.")),
        }
    ),
    "EventStatus": {
        **TEXT,
        "enum": ["processed", "processing", "failed"],
        "description": "processed: claimed by a line item, or without prices counted by a meter; "
        "processing: accepted and not counted yet; failed: neither.",
    },
    "EventLookupResponse": answer(
        {
            "event": ref("StoredEvent"),
            "events": described(list_of(ref("StoredEvent")), "All events of that id, which is this one."),
            "status": ref("EventStatus"),
            "processed_events": described(
                list_of(ref("ProcessedEvent")),
                "One for every line item that claims the event, or without prices for every meter that counted it.",
            ),
            "debug_tracker": nullable(ref("DebugTracker")),
            "verdicts": described(list_of(ref("EventVerdict")), "One entry for every meter of the event's name."),
        }
    ),
    "ProcessedEvent": answer(
        {
            "meter_id": TEXT,
            "qty_total": described(DECIMAL, "What the event is worth to the meter."),
            "processed_at": TIME,
            "customer_id": TEXT,
            **dict.fromkeys(
                ("subscription_id", "sub_line_item_id", "price_id", "feature_id"), described(TEXT, "Empty without prices.")
            ),
        },
        "What one line item, or without prices one meter, counted of an event.",
    ),
    "EventVerdict": answer(
        {
            "meter_id": TEXT,
            "outcome": ref("EventOutcome"),
            "reason": described(TEXT, "Why, in a sentence."),
        },
        "What one meter made of an event.",
    ),
    "EventOutcome": {
        **TEXT,
        "enum": [outcome.value for outcome in Outcome],
        "description": "counted; filtered: a filter kept it out; skipped: the expression has no value for it; "
        "archived: the meter counts no more.",
    },
    "StepStatus": {
        **TEXT,
        "enum": ["unprocessed", "found", "not_found", "error"],
        "description": "How a step went; unprocessed if one before it failed.",
    },
    "DebugTracker": answer(
        {
            "customer_lookup": _step("customer", nullable(ANYTHING)),
            "meter_matching": _step("matched_meters", list_of(ANYTHING)),
            "price_lookup": _step("matched_prices", list_of(ANYTHING)),
            "subscription_line_item_lookup": _step("matched_line_items", list_of(ANYTHING)),
            "attributed_to_customer": nullable(ANYTHING),
            "failure_point": nullable(ref("FailurePoint")),
        },
        "How far an event came that is not processed.",
    ),
    "FailurePoint": answer({"failure_point_type": TEXT, "error": nullable(ref("ErrorResponse"))}, "The first step that failed."),
    "MonitoringResponse": answer(
        {
            "total_count": described(INTEGER, "Events in the range."),
            "consumption_lag": described(INTEGER, "Events accepted and not stored yet."),
            "post_processing_lag": described(INTEGER, "Events stored and not counted yet."),
            "points": described(list_of(ref("MonitoringPoint")), "Ascending; empty without window_size."),
        }
    ),
    "MonitoringPoint": answer({"timestamp": described(TIME, "Start of the window."), "event_count": INTEGER}),
}

_USAGE: dict[str, Schema] = {
    "UsageRequest": request(
        {
            "event_name": described(TEXT, "Exact name of the events to count."),
            "aggregation_type": ref("AggregationType"),
            "property_name": described(TEXT, "The property to aggregate. Without it events are counted, whatever the type."),
            **CUSTOMER,
            **RANGE,
            "filters": FILTERS,
            "window_size": WINDOW_SIZE,
            "bucket_size": described(
                ref("WindowSize"), "For MAX and SUM: aggregates inside each window of this size, then adds the windows up."
            ),
            **CALENDAR,
            "multiplier": {
                "anyOf": [NUMBER, DECIMAL],
                "description": "For SUM_WITH_MULTIPLIER: what the sum is multiplied by. 1 by default.",
            },
            "group_by": described(
                list_of(TEXT),
                "For MAX with bucket_size: `properties.<name>`; the maximum is taken per value of that property, then added up.",
            ),
            "group_by_property": {
                **TEXT,
                "deprecated": True,
                "description": "An older way to say group_by: the name alone.",
            },
        },
        required=["event_name", "aggregation_type"],
    ),
    "MeterUsageRequest": request(
        {
            "meter_id": described(TEXT, "The meter to ask; an archived one answers too."),
            **CUSTOMER,
            **RANGE,
            "filters": described(FILTERS, f"Beside the meter's own. {FILTERS['description']}"),
            "window_size": WINDOW_SIZE,
            **CALENDAR,
            "bucket_size": described(TEXT, "Ignored: the meter's own is used."),
        },
        required=["meter_id"],
    ),
    "UsageResponse": answer(
        {
            "event_name": TEXT,
            "type": described(ref("AggregationType"), "The aggregation that was applied."),
            "value": described(
                NUMBER,
                "The figure of the whole range, never negative. 0 if the answer is split by window_size, except for a meter that "
                "never resets: then it is what there was before start_time.",
            ),
            "results": described(
                list_of(ref("UsageWindow")), "Windows that hold events, ascending; empty without window_size and bucket_size."
            ),
        }
    ),
    "UsageWindow": answer(
        {
            "window_size": described(TIME, "Start of the window, in spite of its name. It may lie before start_time."),
            "value": NUMBER,
        }
    ),
    "AnalyticsRequest": request(
        {
            "external_customer_id": described(TEXT, "Only usage of this customer; of all customers by default."),
            **RANGE,
            "window_size": described(
                ref("WindowSize"), "Adds points: usage by calendar window of this size, in the customer's time zone or UTC."
            ),
            "group_by": described(
                list_of(TEXT),
                "`source` or `properties.<name>`: an item per group within each line item or meter.",
            ),
            "sources": described(list_of(TEXT), "Only events from one of these sources."),
            "property_filters": FILTERS,
            "expand": described(
                list_of(TEXT),
                "Objects to add to each item: `price`, `meter`, `feature`, `subscription_line_item`, `plan`; "
                "`source` adds the sources of its events. Others are ignored.",
            ),
            "feature_ids": described(list_of(TEXT), "Only meters of these features."),
            "include_children": described(BOOLEAN, "Counts customers along who inherit the customer's subscriptions."),
            "breakdown_bucket": described(BOOLEAN, "Accepted for compatibility, without effect."),
        },
        description="All members are optional.",
    ),
    "AnalyticsResponse": answer(
        {
            "items": described(
                list_of(ref("AnalyticsItem")),
                "By name. Of a customer who subscribes one per line item and group, otherwise one per meter and group; "
                "only those that have events, or owe for a commitment.",
            ),
            **dict.fromkeys(TOTALS, MONEY),
            "currency": described(
                TEXT, "Of the customer's first subscription; the sums are of the items in it. Empty without prices."
            ),
            "custom_analytics": list_of(ANYTHING),
        }
    ),
    "AnalyticsItem": answer(
        {
            "meter_id": TEXT,
            "name": described(TEXT, "Name of the feature, or else of the meter."),
            "event_name": TEXT,
            "aggregation_type": ref("AggregationType"),
            "total_usage": described(DECIMAL, "Usage of the whole range, never negative."),
            "event_count": INTEGER,
            "source": nullable(described(TEXT, "The group's source, if grouped by it.")),
            "sources": described(list_of(TEXT), "Distinct sources, with expand `source`."),
            "properties": described(map_of(TEXT), "The group's properties by name, if grouped by them; none that is missing."),
            "window_size": nullable(ref("WindowSize")),
            "points": described(list_of(ref("AnalyticsPoint")), "Ascending; empty without window_size."),
            "meter": nullable(ref("MeterResponse")),
            **dict.fromkeys(TOTALS, MONEY),
            **dict.fromkeys(PRICED_TEXTS, described(TEXT, "Empty without prices.")),
            **dict.fromkeys(PRICED_OBJECTS, nullable(described(ANYTHING, "null without prices."))),
            "bucket_summaries": nullable(list_of(ANYTHING)),
        },
        "Usage of one line item or meter in one group, and what it costs.",
    ),
    "AnalyticsPoint": answer(
        {
            "timestamp": described(TIME, "Start of the window."),
            "usage": DECIMAL,
            "event_count": INTEGER,
            **dict.fromkeys(POINT_COSTS, MONEY),
        }
    ),
    "InferenceCostRequest": request(
        {"requestIds": described(list_of(TEXT, minItems=1), "Event ids of the inference requests.")}, required=["requestIds"]
    ),
    "InferenceCostResponse": answer(
        {"requests": described(list_of(ref("InferenceCost")), "In the order of the request, unknown ids too.")}
    ),
    "InferenceCost": answer(
        {
            "requestId": TEXT,
            "costNanoUsd": described(DECIMAL, 'Cost in billionths; "0" where nothing is charged.'),
        }
    ),
}

_METERS: dict[str, Schema] = {
    "MeterStatus": {
        **TEXT,
        "enum": [Meter.Status.PUBLISHED.value, Meter.Status.ARCHIVED.value],
        "description": "An archived meter counts no new events and answers for those it has counted.",
    },
    "ResetUsage": {
        **TEXT,
        "enum": list(Meter.ResetUsage.values),
        "description": "NEVER: usage adds up from the beginning of time instead of starting anew in each period.",
    },
    "MeterSort": {**TEXT, "enum": list(METER_SORTS), "description": "What meters are sorted by."},
    "MeterFilter": request({"key": REQUIRED_IDENTIFIER, "values": list_of(TEXT, minItems=1)}, required=["key", "values"]),
    "CreateMeterRequest": request(
        {
            "name": REQUIRED_IDENTIFIER,
            "event_name": described(REQUIRED_IDENTIFIER, "Exact name of the events to count."),
            "aggregation": request(
                {
                    "type": ref("AggregationType"),
                    "field": described(
                        IDENTIFIER, "The property to aggregate. Required unless type is COUNT or there is an expression."
                    ),
                    "expression": described(
                        TEXT, "Instead of field, for SUM, AVG, MAX, MIN and LATEST: arithmetic over the event's properties."
                    ),
                    "multiplier": {
                        "anyOf": [NUMBER, DECIMAL],
                        "description": "Required for SUM_WITH_MULTIPLIER: what the sum is multiplied by; above 0.",
                    },
                    "bucket_size": described(
                        ref("WindowSize"),
                        "For MAX and SUM: aggregates inside each window of this size, then adds the windows up.",
                    ),
                    "group_by": described(
                        IDENTIFIER, "For MAX with bucket_size: the maximum is taken per value of this property, then added up."
                    ),
                },
                required=["type"],
            ),
            "filters": described(
                list_of(ref("MeterFilter")),
                "An event counts if each property named here, rendered as text, is one of its values.",
            ),
            "reset_usage": ref("ResetUsage"),
            "dimensions": DIMENSIONS,
        },
        required=["name", "event_name", "aggregation", "reset_usage"],
    ),
    "UpdateMeterRequest": request(
        {
            "filters": described(
                list_of(ref("MeterFilter")), "Keys and values to add: at least one, unless there are dimensions."
            ),
            "dimensions": described(DIMENSIONS, "In place of those it has. The meter's history is counted anew."),
        },
        required=[],
    ),
    "MeterResponse": answer(
        {
            "id": TEXT,
            "name": TEXT,
            "tenant_id": described(TEXT, "The environment."),
            "environment_id": described(TEXT, "The environment."),
            "event_name": TEXT,
            "aggregation": answer(
                {
                    "type": ref("AggregationType"),
                    "field": nullable(TEXT),
                    "expression": nullable(TEXT),
                    "multiplier": nullable(DECIMAL),
                    "bucket_size": nullable(ref("WindowSize")),
                    "group_by": nullable(TEXT),
                }
            ),
            "filters": list_of(ref("MeterFilter")),
            "reset_usage": ref("ResetUsage"),
            "dimensions": list_of(TEXT),
            "dimensions_passed_at": described(
                nullable(TIME),
                "Since when a customer has more combinations of the dimensions' values than are kept apart; such a customer's "
                "answers are right but take longer.",
            ),
            "status": ref("MeterStatus"),
            "created_at": TIME,
            "updated_at": TIME,
            "created_by": described(TEXT, "Id of the key that created it, or empty."),
            "updated_by": described(TEXT, "Id of the key that changed it last, or empty."),
        },
        "Which events count, and how they become usage.",
    ),
    "MeterListResponse": answer(
        {
            "items": list_of(ref("MeterResponse")),
            "pagination": answer(
                {
                    "total": described(INTEGER, "Meters on all pages together."),
                    "limit": INTEGER,
                    "offset": described(INTEGER, "Offset of the next page."),
                }
            ),
        }
    ),
}


def components() -> dict[str, Schema]:
    """All shapes by name; some bounds follow the project's settings."""
    most = conf.MAX_BULK_EVENTS
    bulk = {
        "BulkIngestEventRequest": request(
            {"events": list_of(ref("IngestEventRequest"), minItems=1, maxItems=most)}, required=["events"]
        )
    }
    return _COMMON | _INGESTION | bulk | _EVENTS | _USAGE | _METERS
