"""Reading events from the newest on, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q

from flexmeter.events import UsageEvent
from flexmeter.models import Event
from flexmeter.queries import Scope
from flexmeter.stores.database.reading import EVENT_COLUMNS, scoped


class Place(NamedTuple):
    """Where a list of events, the newest first, has come to: behind this event."""

    timestamp: datetime
    event_id: str


def newest_events(
    scope: Scope,
    event_names: Iterable[str],
    start: datetime | None,
    end: datetime | None,
    alias: str,
    *,
    limit: int,
    after: Place | None = None,
) -> Iterator[UsageEvent]:
    """Stream events of [start, end), the newest first and no more than `limit`; property filters are left to the caller."""
    names = sorted(set(event_names))
    rows = scoped(Event.objects.using(alias).filter(event_name__in=names), scope).between(start, end)
    if after is not None:
        behind = Q(timestamp__lt=after.timestamp) | Q(timestamp=after.timestamp, event_id__lt=after.event_id)
        rows = rows.filter(behind, timestamp__lte=after.timestamp)
    ordered = rows.order_by("-timestamp", "-event_id")[:limit]
    for event_id, name, customer, timestamp, accepted_at, properties, source, customer_id in ordered.values_list(
        *EVENT_COLUMNS
    ).iterator(chunk_size=2_000):
        yield UsageEvent(event_id, name, customer, timestamp, accepted_at, properties, None, source, customer_id)
