"""The answer to "what became of this event": its status, what it was counted as, or where it got stuck."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flexmeter import pricebook
from flexmeter.aggregation import ZERO, clamped
from flexmeter.events import format_timestamp
from flexmeter.explain import Explanation
from flexmeter.http.errors import envelope
from flexmeter.http.shapes import event_shape
from flexmeter.models import Event
from flexmeter.pricebook import EventCost
from flexmeter.properties import plain

UNPROCESSED = "unprocessed"


def lookup_shape(explanation: Explanation) -> dict[str, Any]:
    """Where usage has prices, an event is processed once a line item claims it; otherwise once a meter has counted it.

    If it is not processed, the tracker shows where it got stuck.
    """
    event = explanation.event
    shape = event_shape(event)
    counted = [(verdict.meter, verdict.quantity or ZERO) for verdict in explanation.counted]
    trace = pricebook.current().trace(event, counted)
    if trace is None:
        processed = [_processed(event, meter.pk, quantity) for meter, quantity in counted]
        tracker: Mapping[str, Any] | None = None if processed else _tracker(explanation)
    else:
        processed = [_processed(event, cost.meter_id, cost.quantity, cost) for cost in trace.costs]
        tracker = trace.tracker
    return {
        "event": shape,
        "events": [shape],
        "status": "processed" if processed else "failed" if tracker and tracker["failure_point"] else "processing",
        "processed_events": processed,
        "debug_tracker": tracker,
        "verdicts": [
            {"meter_id": verdict.meter.pk, "outcome": verdict.outcome.value, "reason": verdict.sentence}
            for verdict in explanation.verdicts
        ],
    }


def _processed(event: Event, meter_id: str, quantity: Decimal, cost: EventCost | None = None) -> dict[str, Any]:
    return {
        "customer_id": cost.customer_id if cost else event.customer_id,
        "subscription_id": cost.subscription_id if cost else "",
        "sub_line_item_id": cost.line_item_id if cost else "",
        "price_id": cost.price_id if cost else "",
        "meter_id": meter_id,
        "feature_id": cost.feature_id if cost else "",
        "qty_total": plain(clamped(quantity)),
        "processed_at": format_timestamp(event.ingested_at),
    }


def waiting_shape(event: Event) -> dict[str, Any]:
    """An event that was accepted and is not counted yet: no step has been taken."""
    shape = event_shape(event)
    tracker = _steps(UNPROCESSED, UNPROCESSED) | {"attributed_to_customer": None, "failure_point": None}
    return {
        "event": shape,
        "events": [shape],
        "status": "processing",
        "processed_events": [],
        "debug_tracker": tracker,
        "verdicts": [],
    }


def _tracker(explanation: Explanation) -> dict[str, Any]:
    reason = f"No meters found matching event_name: {explanation.event.event_name}"
    failure = {"failure_point_type": "meter_lookup", "error": envelope(404, "not_found", reason)}
    return _steps("found", "not_found") | {"attributed_to_customer": None, "failure_point": failure}


def _steps(customer: str, meters: str) -> dict[str, Any]:
    return {
        "customer_lookup": {"status": customer, "customer": None, "error": None},
        "meter_matching": {"status": meters, "matched_meters": [], "error": None},
        "price_lookup": {"status": UNPROCESSED, "matched_prices": [], "error": None},
        "subscription_line_item_lookup": {"status": UNPROCESSED, "matched_line_items": [], "error": None},
    }
