"""Stored objects in the shape of the API."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from flexmeter.events import format_timestamp
from flexmeter.models import Event, Meter
from flexmeter.properties import MAX_MAGNITUDE, plain
from flexmeter.stores.database.extents import ListedEvent

EVENT_COLUMNS = ListedEvent._fields
"""What `event_shape` tells of."""


def event_shape(event: Event | ListedEvent) -> dict[str, Any]:
    """An event as lists and look-ups show it."""
    return {
        "id": event.event_id,
        "external_customer_id": event.external_customer_id,
        "customer_id": event.customer_id,
        "event_name": event.event_name,
        "timestamp": format_timestamp(event.timestamp),
        "properties": event.properties,
        "source": event.source,
        "environment_id": event.environment,
        "ingested_at": format_timestamp(event.ingested_at),
    }


def meter_shape(meter: Meter) -> dict[str, Any]:
    """A meter with every member any client knows; what is not set is null."""
    return {
        "id": meter.id,
        "name": meter.name,
        "tenant_id": meter.environment,
        "environment_id": meter.environment,
        "event_name": meter.event_name,
        "aggregation": {
            "type": meter.aggregation_type,
            "field": meter.field or None,
            "expression": meter.expression or None,
            "multiplier": None if meter.multiplier is None else plain(meter.multiplier),
            "bucket_size": meter.bucket_size or None,
            "group_by": meter.group_by or None,
        },
        "filters": meter.filters,
        "reset_usage": meter.reset_usage,
        "dimensions": meter.dimensions,
        "dimensions_passed_at": None if meter.dimensions_passed_at is None else format_timestamp(meter.dimensions_passed_at),
        "status": meter.status,
        "created_at": format_timestamp(meter.created_at),
        "updated_at": format_timestamp(meter.updated_at),
        "created_by": meter.created_by,
        "updated_by": meter.updated_by,
    }


def json_number(value: Decimal) -> int | Decimal:
    """A figure as a JSON number without exponent, within the range of a double."""
    if value > MAX_MAGNITUDE:
        value = MAX_MAGNITUDE
    return int(value) if value == value.to_integral_value() else Decimal(plain(value))
