"""Values and rows with defaults: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flexmeter.events import UsageEvent
from flexmeter.meters import MeterDefinition, create_meter
from flexmeter.models import DEFAULT_ENVIRONMENT, Meter, Rollup, Series
from flexmeter.properties import dumps
from flexmeter.slots import new_part, position

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    """`at("2024-03-10 12:05")`: that instant, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_event(
    event_id: str = "event_1",
    *,
    event_name: str = "tokens",
    external_customer_id: str = "acme",
    timestamp: datetime = NOON,
    accepted_at: datetime = NOON + timedelta(minutes=1),
    properties: Mapping[str, Any] | None = None,
    **changed: Any,
) -> UsageEvent:
    text = None if properties is None else dumps(properties)
    return UsageEvent(event_id, event_name, external_customer_id, timestamp, accepted_at, properties, text, **changed)


def make_meter(
    aggregation_type: str = "COUNT", *, environment: str = DEFAULT_ENVIRONMENT, using: str | None = None, **changed: Any
) -> Meter:
    return create_meter(make_definition(aggregation_type, **changed), environment=environment, using=using)


def make_definition(aggregation_type: str = "COUNT", **changed: Any) -> MeterDefinition:
    return MeterDefinition(**{"name": "A meter", "event_name": "tokens", "aggregation_type": aggregation_type} | changed)


def make_rollup(series: Series, bucket: datetime, level: Rollup.Level = Rollup.Level.APPENDED, **measures: Any) -> Rollup:
    """A row that is not stored yet."""
    slot, part = position(level, bucket)
    return Rollup(series=series, slot=slot, part=part + new_part(), **measures)
