"""Questions about usage, as they are described."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flexmeter.http.schema.components import POINT_COSTS, PRICED_OBJECTS, PRICED_TEXTS, TOTALS
from flexmeter.http.schema.examples import DAY, METER, METER_ID, malformed, meter_answer, missing, wrong
from flexmeter.http.schema.operations import Example, Operation
from flexmeter.windows import WindowSize

TAG = "Usage"
PROMPT_TOKENS = {"event_name": "llm_request", "aggregation_type": "SUM", "property_name": "prompt_tokens"}
CUSTOMER_DAY = {"external_customer_id": "customer-01", **DAY}


def analytics_item(source: str, usage: str, event_count: int, /, **changed: Any) -> dict[str, Any]:
    """The example's meter in the group of one source."""
    return {
        "meter_id": METER_ID,
        "name": METER["name"],
        "event_name": METER["event_name"],
        "aggregation_type": "SUM",
        "total_usage": usage,
        "event_count": event_count,
        "source": source,
        "sources": [],
        "properties": {},
        "window_size": "DAY",
        "points": [analytics_point(usage, event_count)],
        **dict.fromkeys(TOTALS, "0"),
        **dict.fromkeys(PRICED_TEXTS, ""),
        **dict.fromkeys((*PRICED_OBJECTS, "bucket_summaries", "meter")),
        **changed,
    }


def analytics_point(usage: str, event_count: int) -> dict[str, Any]:
    costs = dict.fromkeys(POINT_COSTS, "0")
    return {"timestamp": DAY["start_time"], "usage": usage, "event_count": event_count, **costs}


def analytics_answer(*items: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(TOTALS, "0"), "currency": "", "items": list(items), "custom_analytics": []}


INFERENCE_COST = Operation(
    method="POST",
    path="/events/huggingface-inference",
    id="getHuggingfaceInferenceData",
    tag=TAG,
    summary="What single inference requests cost",
    description="One entry per id, in billionths of the currency's unit: what the prices of the event's time make of its own "
    "quantity. An event that no line item claims costs 0. Without a body the list is empty.",
    body="InferenceCostRequest",
    body_required=False,
    answer="InferenceCostResponse",
    examples={
        "two_requests": Example(
            "Two requests, one of them unknown",
            body={"requestIds": ["req-1001", "req-9999"]},
            answer={"requests": [{"requestId": "req-1001", "costNanoUsd": "0"}, {"requestId": "req-9999", "costNanoUsd": "0"}]},
        ),
    },
    faults={
        400: {
            "no_ids": malformed(
                "No ids", "requestIds", "is required and must name at least one event id", body={"requestIds": []}
            ),
        }
    },
)

OPERATIONS = (
    Operation(
        method="POST",
        path="/events/usage",
        id="getUsageStatistics",
        tag=TAG,
        summary="Usage by an aggregation of your own",
        description="One figure for the range, or one per calendar window. Sums are exact. Windows without events are left out.",
        body="UsageRequest",
        answer="UsageResponse",
        examples={
            "total": Example(
                "A customer's prompt tokens of a day",
                body={**PROMPT_TOKENS, **CUSTOMER_DAY},
                answer={"event_name": "llm_request", "type": "SUM", "value": 5578, "results": []},
            ),
            "by_hour": Example(
                "The same by the hour",
                body={**PROMPT_TOKENS, **CUSTOMER_DAY, "window_size": "HOUR"},
                answer={
                    "event_name": "llm_request",
                    "type": "SUM",
                    "value": 0,
                    "results": [
                        {"window_size": "2025-06-02T09:00:00Z", "value": 770},
                        {"window_size": "2025-06-02T11:00:00Z", "value": 4808},
                    ],
                },
            ),
            "peaks": Example(
                "The sum of each hour's largest prompt, chats only",
                body={
                    **PROMPT_TOKENS,
                    **CUSTOMER_DAY,
                    "aggregation_type": "MAX",
                    "bucket_size": "HOUR",
                    "filters": {"model": ["chat-1"]},
                },
                answer={
                    "event_name": "llm_request",
                    "type": "MAX",
                    "value": 396,
                    "results": [{"window_size": "2025-06-02T09:00:00Z", "value": 396}],
                },
            ),
        },
        faults={
            400: {
                "unknown_aggregation": wrong(
                    "An aggregation that does not exist",
                    "The specified aggregation type is not supported",
                    {"aggregation_type": "MEDIAN"},
                    body={**PROMPT_TOKENS, "aggregation_type": "MEDIAN"},
                ),
            }
        },
    ),
    Operation(
        method="POST",
        path="/events/usage/meter",
        id="getUsageByMeter",
        tag=TAG,
        summary="Usage by a meter",
        description="What the meter counts, by its own filters and those of the request. A meter counts past events too. One "
        "that never resets counts everything up to end_time.",
        body="MeterUsageRequest",
        answer="UsageResponse",
        examples={
            "by_day": Example(
                "A customer's prompt tokens by day in Berlin",
                body={"meter_id": METER_ID, **CUSTOMER_DAY, "window_size": "DAY", "timezone": "Europe/Berlin"},
                answer={
                    "event_name": "llm_request",
                    "type": "SUM",
                    "value": 0,
                    "results": [{"window_size": "2025-06-01T22:00:00Z", "value": 5578}],
                },
            ),
        },
        faults={
            400: {
                "unknown_window": wrong(
                    "A window that does not exist",
                    "Invalid window size",
                    {"window_size": "FORTNIGHT", "allowed_values": [size.value for size in WindowSize]},
                    body={"meter_id": METER_ID, "window_size": "FORTNIGHT"},
                ),
            },
            404: {
                "unknown": missing(
                    "An unknown meter",
                    "Meter not found",
                    {"meter_id": "meter_9999", "tenant_id": "main"},
                    body={"meter_id": "meter_9999"},
                ),
            },
        },
    ),
    Operation(
        method="POST",
        path="/events/analytics",
        id="getUsageAnalytics",
        tag=TAG,
        summary="Usage side by side, and what it costs",
        description="Of a customer who subscribes: one item per line item and group, with its cost. Otherwise one per meter and "
        "group that has events, without costs.",
        body="AnalyticsRequest",
        answer="AnalyticsResponse",
        examples={
            "by_source": Example(
                "A customer's day by source",
                body={**CUSTOMER_DAY, "group_by": ["source"], "window_size": "DAY"},
                answer=analytics_answer(analytics_item("llm-chat", "770", 2), analytics_item("llm-code", "4808", 1)),
            ),
            "one_model": Example(
                "One model's share, with its meter and sources",
                body={
                    **CUSTOMER_DAY,
                    "group_by": ["properties.model"],
                    "property_filters": {"model": ["coder-1"]},
                    "expand": ["meter", "source"],
                },
                answer=analytics_answer(
                    analytics_item(
                        "llm-code",
                        "4808",
                        1,
                        source=None,
                        sources=["llm-code"],
                        properties={"model": "coder-1"},
                        window_size=None,
                        points=[],
                        meter=meter_answer(),
                    )
                ),
            ),
        },
        faults={
            400: {
                "unknown_group": wrong(
                    "A property without its prefix",
                    "group_by entry \"model\" is not recognized (allowed: 'meter_id', 'source', 'properties.<name>')",
                    {"group_by_entry": "model"},
                    body={"group_by": ["model"]},
                ),
            }
        },
    ),
    INFERENCE_COST,
    replace(
        INFERENCE_COST,
        path="/events/huggingface-billing",
        id="getHuggingfaceBillingData",
        summary="What single inference requests cost, by another name",
        description="The same as `POST /events/huggingface-inference`.",
    ),
)
