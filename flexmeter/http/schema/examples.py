"""What the examples tell of: one meter and four events. All answers in them follow from these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexmeter.http.base import ApiView
from flexmeter.http.errors import envelope
from flexmeter.http.schema.operations import Example

ENVIRONMENT = "main"
METER_ID = "meter_01JWQ4D8Z5K3T9XR6B2N7MVCHA"
KEY_ID = "key_01JWQ3ZW6T0Y8FJ4P9S5DEXKRM"
CREATED_AT = "2025-06-01T08:00:00Z"
INGESTED_AT = "2025-06-02T14:30:02.481526Z"

METER = {
    "name": "Prompt tokens",
    "event_name": "llm_request",
    "aggregation": {"type": "SUM", "field": "prompt_tokens"},
    "filters": [{"key": "model", "values": ["chat-1", "coder-1"]}],
    "reset_usage": "BILLING_PERIOD",
}

CHAT = {
    "event_id": "req-1001",
    "event_name": "llm_request",
    "external_customer_id": "customer-01",
    "timestamp": "2025-06-02T09:10:00Z",
    "source": "llm-chat",
    "properties": {"model": "chat-1", "prompt_tokens": 374, "completion_tokens": 44},
}
LATER_CHAT = {
    "event_id": "req-1002",
    "event_name": "llm_request",
    "external_customer_id": "customer-01",
    "timestamp": "2025-06-02T09:50:00Z",
    "source": "llm-chat",
    "properties": {"model": "chat-1", "prompt_tokens": "396", "completion_tokens": "109"},
}
CODE = {
    "event_id": "req-1003",
    "event_name": "llm_request",
    "external_customer_id": "customer-01",
    "timestamp": "2025-06-02T11:05:00.25Z",
    "source": "llm-code",
    "properties": {"model": "coder-1", "prompt_tokens": 4808, "completion_tokens": 10},
}
SCAN = {
    "event_id": "scan-7",
    "event_name": "page_scanned",
    "external_customer_id": "customer-02",
    "timestamp": "2025-06-02T14:30:00Z",
}
DAY = {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-03T00:00:00Z"}


def stored(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the API shows it."""
    shown = {name: event[name] for name in ("external_customer_id", "event_name", "timestamp")}
    absent = {"customer_id": "", "properties": None, "source": ""}
    given = {name: event.get(name, value) for name, value in absent.items()}
    return {"id": event["event_id"], **shown, **given, "environment_id": ENVIRONMENT, "ingested_at": INGESTED_AT}


def meter_answer(meter: Mapping[str, Any] = METER, **changed: Any) -> dict[str, Any]:
    """A meter as the API shows it."""
    unset = dict.fromkeys(("field", "expression", "multiplier", "bucket_size", "group_by"))
    return {
        "id": METER_ID,
        "tenant_id": ENVIRONMENT,
        "environment_id": ENVIRONMENT,
        "filters": [],
        "dimensions": [],
        "dimensions_passed_at": None,
        **meter,
        "aggregation": unset | meter["aggregation"],
        "status": "published",
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
        "created_by": KEY_ID,
        "updated_by": KEY_ID,
        **changed,
    }


def wrong(summary: str, message: str, details: Mapping[str, Any], *, body: Any = None, **parameters: str) -> Example:
    """A request that gets a 400."""
    return Example(summary, envelope(400, "validation_error", message, details), body, parameters)


def malformed(
    summary: str, member: str, reason: str, *, binding: str = ApiView.binding_message, body: Any = None, **parameters: str
) -> Example:
    """A request of the wrong shape, which gets a 400 that begins with the words of its view."""
    return wrong(summary, f"{binding}: {member} {reason}", {member: reason}, body=body, **parameters)


def missing(summary: str, message: str, details: Mapping[str, Any], *, body: Any = None, **parameters: str) -> Example:
    """A request for something that is not there, which gets a 404."""
    return Example(summary, envelope(404, "not_found", message, details), body, parameters)
