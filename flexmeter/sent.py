"""Events of a request that are kept as they were sent: checked at once, made only when somebody looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, overload

from flexmeter.conf import conf
from flexmeter.events import EARLIEST, LATEST, MAX_IDENTIFIER_LENGTH, STEP, UsageEvent, is_rfc3339, parse_event, parse_events
from flexmeter.metering import MAX_SAFE

_FIRST, _LAST = f"{EARLIEST.year:04d}-", f"{LATEST.year:04d}-"
LONGEST_SCALAR = 30
"""Characters of a number of these, or of a constant, in JSON."""


class SentEvents(Sequence[UsageEvent]):
    """What `parse_events` makes of the elements of `body`, each of which has an id; made anew with every look."""

    def __init__(self, body: str, elements: Sequence[Any], *, now: datetime, sender: str) -> None:
        self.body, self.sender, self.accepted_at = body, sender, now
        self._elements = elements

    def __len__(self) -> int:
        return len(self._elements)

    @overload
    def __getitem__(self, place: int) -> UsageEvent: ...
    @overload
    def __getitem__(self, place: slice) -> list[UsageEvent]: ...
    def __getitem__(self, place: int | slice) -> UsageEvent | list[UsageEvent]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return parse_event(self._elements[place], now=self.accepted_at + place * STEP, sender=self.sender)


def sent_events(body: str, elements: list[Any], *, now: datetime, sender: str = "") -> Sequence[UsageEvent]:
    """The events of a body, as SentEvents where it says all there is to know of them, in texts that stand there as they are.

    `elements` are what it holds, decoded. Raises what `parse_events` raises.
    """
    if "\\" in body or not all(isinstance(each, dict) and each.get("event_id") for each in elements):
        return parse_events(elements, now=now, sender=sender)
    events = SentEvents(body, elements, now=now, sender=sender)
    largest = conf.MAX_PROPERTIES_BYTES // 4  # as many bytes as a character may have
    if not all(_is_sound(each, largest) for each in elements):
        parse_events(elements, now=now, sender=sender)
    return events


def _is_sound(members: dict[str, Any], largest: int) -> bool:
    """Whether this is surely an event: not all are found, but none that is none. In JSON that escapes no character, texts
    hold nothing that databases do not."""
    get = members.get
    for name in ("event_id", "event_name", "external_customer_id"):
        value = get(name)
        if type(value) is not str or not 0 < len(value) <= MAX_IDENTIFIER_LENGTH or not value.strip():
            return False
    for name in ("source", "customer_id"):
        value = get(name, "")
        if type(value) is not str or len(value) > MAX_IDENTIFIER_LENGTH:
            return False
    moment = get("timestamp")
    if moment is not None and not (type(moment) is str and moment[-1:] == "Z" and _FIRST < moment < _LAST and is_rfc3339(moment)):
        return False
    properties = get("properties")
    return properties is None or (type(properties) is dict and _are_sound(properties, largest))


def _are_sound(properties: dict[str, Any], largest: int) -> bool:
    size = 0
    for name, value in properties.items():
        kind = type(value)
        size += len(name) + LONGEST_SCALAR
        if kind is str:
            size += len(value)
        elif kind is int:
            if not -MAX_SAFE <= value <= MAX_SAFE:
                return False
        elif kind is not float and kind is not bool and value is not None:
            return False
    return size <= largest
