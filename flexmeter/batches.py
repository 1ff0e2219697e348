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

from flexmeter.events import STEP, UsageEvent, from_json, json_text
from flexmeter.exceptions import FlexmeterError, InvalidEvent
from flexmeter.models import InboxBatch
from flexmeter.properties import InvalidJson, loads
from flexmeter.sent import SentEvents

MOST_EVENTS = 1_000
EVENTS_OF_A_STEP = 200
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


class Body(NamedTuple):
    """What a row holds, as text. Of a request's body the row says who sent it and when it came."""

    text: str
    sender: str
    accepted_at: datetime

    def elements(self) -> Any:
        """A list of what `from_json` takes; what stands there instead where somebody has changed it."""
        try:
            body = loads(self.text)
        except InvalidJson:
            return self.text
        elements = body.get("events") if isinstance(body, dict) else None
        if not isinstance(elements, list):
            return body
        for place, members in enumerate(elements):
            if isinstance(members, dict):
                members["accepted_at"] = (self.accepted_at + place * STEP).isoformat()
                members["sender"] = self.sender
        return elements


def bodies(pks: Sequence[int], alias: str) -> dict[int, Body]:
    """What rows hold, as far as they are there, by row."""
    rows = InboxBatch.objects.using(alias).filter(pk__in=pks)
    return {pk: Body(*row) for pk, *row in rows.values_list("pk", Cast("events", TextField()), "sender", "accepted_at")}


class Reading:
    """The events of a row, which are made of its text step by step; `faults` are the elements that are none, and why."""

    def __init__(self, body: Body) -> None:
        self.events: list[UsageEvent] = []
        self.faults: list[tuple[Any, Exception]] = []
        self.steps = self._guarded(body)
        self._error: Exception | None = None

    def finish(self) -> None:
        """Take the steps that are left. Raises what went wrong in any, but for faults."""
        for _ in self.steps:
            pass
        if self._error is not None:
            raise self._error

    def _guarded(self, body: Body) -> Iterator[None]:
        try:
            yield from self._read(body.elements())
        except Exception as error:  # noqa: BLE001  # nobody's but who needs these events
            self._error = error

    def _read(self, elements: Any) -> Iterator[None]:
        yield
        if not isinstance(elements, list):
            self.faults.append((elements, InvalidEvent("", "invalid", "A batch must be a list of events.")))
            return
        for place, members in enumerate(elements, 1):
            try:
                if not isinstance(members, dict):
                    raise InvalidEvent("", "type", "must be an object")
                self.events.append(from_json(members))
            except (FlexmeterError, ValueError) as error:
                self.faults.append((members, error))
            if place % EVENTS_OF_A_STEP == 0:
                yield
