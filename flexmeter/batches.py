"""Events as they stand in the inbox: a row for each call, written fast and read back as the same events.

Most rows hold a list of events, each with all that is known of it. Where a request's body says as much, it is kept as it was
sent: an object with a list of `events`, which came at `accepted_at` from the row's `sender`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import TextField
from django.db.models.functions import Cast

from flexmeter.events import STEP, UsageEvent, json_text
from flexmeter.models import InboxBatch
from flexmeter.properties import InvalidJson
from flexmeter.sent import SentEvents

MOST_EVENTS = 1_000
MOST_CHARACTERS = 2_000_000
INSERT = """
    INSERT INTO flexmeter_inboxbatch (environment, events, event_count, size, sender, attempts, accepted_at)
    VALUES (%s, %s, %s, %s, %s, 0, %s)
"""


class Row(NamedTuple):
    """What INSERT takes."""

    environment: str
    events: str
    event_count: int
    size: int
    sender: str
    accepted_at: datetime

    def parameters(self, alias: str) -> list[Any]:
        return [*self[:-1], connections[alias].ops.adapt_datetimefield_value(self.accepted_at)]


def _rows_written(events: Iterable[UsageEvent], environment: str) -> Iterator[Row]:
    """Rows of not more than MOST_EVENTS and MOST_CHARACTERS each, or of one event that is larger."""
    texts: list[str] = []
    size = 0
    first = None
    for event in events:
        text = json_text(event)
        if first is not None and (len(texts) == MOST_EVENTS or size + len(text) > MOST_CHARACTERS):
            yield Row(environment, f"[{','.join(texts)}]", len(texts), size, "", first.accepted_at)
            texts, size, first = [], 0, None
        first = first or event
        texts.append(text)
        size += len(text)
    if first is not None:
        yield Row(environment, f"[{','.join(texts)}]", len(texts), size, "", first.accepted_at)


def rows_of(events: Sequence[UsageEvent], environment: str) -> Iterator[Row]:
    """Rows of events: one that keeps their body as it was sent, if it is not too large, or rows of so many events.

    A waiting event is found by its id as text, which is why a body that escapes characters is written anew.
    """
    if isinstance(events, SentEvents) and len(events) <= MOST_EVENTS and len(events.body) <= MOST_CHARACTERS:
        yield Row(environment, events.body, len(events), len(events.body), events.sender, events.accepted_at)
    else:
        yield from _rows_written(events, environment)


def bodies(pks: Sequence[int], alias: str) -> dict[int, Any]:
    """Lists of what `from_json` takes by row; as they stand there where somebody has made them something else."""
    rows = InboxBatch.objects.using(alias).filter(pk__in=pks)
    try:
        return {pk: _members(*row) for pk, *row in rows.values_list("pk", "events", "sender", "accepted_at")}
    except InvalidJson:
        if len(pks) > 1:
            return {pk: body for one in pks for pk, body in bodies([one], alias).items()}
        return dict(rows.values_list("pk", Cast("events", TextField())))


def _members(body: Any, sender: str, accepted_at: datetime) -> Any:
    elements = body.get("events") if isinstance(body, dict) else None
    if not isinstance(elements, list):
        return body
    for place, members in enumerate(elements):
        if isinstance(members, dict):
            members["accepted_at"] = (accepted_at + place * STEP).isoformat()
            members["sender"] = sender
    return elements
