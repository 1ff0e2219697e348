"""The demo's meters, and how they come to be: over HTTP, once."""

from __future__ import annotations

from typing import Any

from demo.client import Client
from demo.traffic import API_REQUEST, LLM_REQUEST

LLM_REQUESTS = "LLM requests"
PROMPT_TOKENS = "Prompt tokens"
COMPLETION_TOKENS = "Completion tokens"
WEIGHTED_TOKENS = "Weighted tokens"
SITE_REQUESTS = "Site requests"
SITE_VISITORS = "Site visitors"
SITE_BANDWIDTH = "Site bandwidth"
SITE_PEAKS = "Largest response of each hour"

METERS: dict[str, tuple[str, dict[str, Any]]] = {
    LLM_REQUESTS: (LLM_REQUEST, {"type": "COUNT"}),
    PROMPT_TOKENS: (LLM_REQUEST, {"type": "SUM", "field": "prompt_tokens"}),
    COMPLETION_TOKENS: (LLM_REQUEST, {"type": "SUM", "field": "completion_tokens"}),
    WEIGHTED_TOKENS: (LLM_REQUEST, {"type": "SUM", "expression": "prompt_tokens + 3 * completion_tokens"}),
    SITE_REQUESTS: (API_REQUEST, {"type": "COUNT"}),
    SITE_VISITORS: (API_REQUEST, {"type": "COUNT_UNIQUE", "field": "visitor"}),
    SITE_BANDWIDTH: (API_REQUEST, {"type": "SUM", "field": "bytes"}),
    SITE_PEAKS: (API_REQUEST, {"type": "MAX", "field": "bytes", "bucket_size": "HOUR"}),
}
"""Event name and aggregation by the name of the meter."""


def existing_meters(client: Client) -> dict[str, str]:
    """Ids of the demo's published meters by their names."""
    meters = client.get("/v1/meters", {"status": "published", "limit": 1_000})["items"]
    return {meter["name"]: meter["id"] for meter in meters if meter["name"] in METERS}


def create_meter(client: Client, name: str) -> str:
    """Create one of METERS and return its id."""
    event_name, aggregation = METERS[name]
    meter = {"name": name, "event_name": event_name, "aggregation": aggregation, "reset_usage": "BILLING_PERIOD"}
    return str(client.post("/v1/meters", meter)["id"])
