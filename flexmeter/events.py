"""A usage event as a value, and the rules it must keep to become one."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from flexmeter import properties as json_properties
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidEvent
from flexmeter.properties import quoted

MAX_IDENTIFIER_LENGTH: Final = 255
EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
"""First instant every supported database stores."""
LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""Event timestamps lie before this instant, so that a window in any time zone can still be named."""
MAX_SENDER_LENGTH: Final = 64
STEP: Final = timedelta(microseconds=1)
"""By which `accepted_at` grows from each event of a batch to the next, so that of two with one id the later wins."""
NOT_GIVEN: Final = datetime(1, 1, 1, tzinfo=UTC)
"""The zero time of Go clients, which stands for a timestamp that was not given."""

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


class UsageEvent(NamedTuple):
    """One billable act, as it travels from a door to the store.

    `timestamp` is when it happened and `accepted_at` when it was taken in (both aware, UTC). `timestamp_given` tells
    whether the sender named the timestamp. Two events with one `event_id` are the same act: it counts once, with the
    values accepted last. `properties_json` is the text of `properties`, or None where there are none. `sender` names the
    credentials it came with; it is "" for what the host's own code recorded, and no part of the act.
    """

    event_id: str
    event_name: str
    external_customer_id: str
    timestamp: datetime
    accepted_at: datetime
    properties: Mapping[str, Any] | None = None
    properties_json: str | None = None
    source: str = ""
    customer_id: str = ""
    timestamp_given: bool = True
    sender: str = ""

    def same_content(self, other: UsageEvent) -> bool:
        """Whether both say the same of the act; when they were accepted does not matter."""
        return (
            self.event_name == other.event_name
            and self.external_customer_id == other.external_customer_id
            and self.timestamp == other.timestamp
            and self.source == other.source
            and self.customer_id == other.customer_id
            and (
                (self.properties_json is not None and self.properties_json == other.properties_json)
                or json_properties.same(self.properties, other.properties)
            )
        )


class _Ulids:
    """ULIDs that grow with every call within this process, also within one millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        moment = time.time_ns() // 1_000_000
        with self._lock:
            if moment > self._last >> 80:
                self._last = moment << 80 | secrets.randbits(80)
            else:
                self._last += 1 + secrets.randbits(32)
            return self._last


_ulids = _Ulids()


def new_id(prefix: str) -> str:
    """`prefix`, an underscore and a ULID: 26 Crockford base-32 characters that sort by creation time."""
    value = _ulids.next()
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])}"


def parse_timestamp(text: str) -> datetime:
    """Strict RFC 3339 with an offset, in its own offset; digits beyond microseconds are cut.

    Raises ValueError with a reason fit for a client.
    """
    if not isinstance(text, str):
        raise ValueError("must be a string holding an RFC 3339 timestamp")
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("must be an RFC 3339 timestamp with an offset, such as 2024-03-20T15:04:05Z")
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not UTC:
            instant.astimezone(UTC)  # raises where UTC would be outside of time
    except (ValueError, OverflowError):
        raise ValueError(f"is no valid point in time: {text}") from None
    return instant


def is_rfc3339(text: str) -> bool:
    """Whether a text is an RFC 3339 timestamp, of whatever point in time."""
    try:
        return _RFC3339.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def format_timestamp(instant: datetime) -> str:
    """RFC 3339 in UTC with `Z`, without trailing zeros in the fraction."""
    instant = instant.astimezone(UTC)
    text = f"{instant.year:04d}-{instant.month:02d}-{instant.day:02d}T{instant:%H:%M:%S}"
    if instant.microsecond:
        text += f".{instant.microsecond:06d}".rstrip("0")
    return text + "Z"


def to_json(event: UsageEvent) -> dict[str, Any]:
    """The event as JSON members, complete enough for `from_json` to give back the same event."""
    members = {
        "event_id": event.event_id,
        "event_name": event.event_name,
        "external_customer_id": event.external_customer_id,
        "customer_id": event.customer_id,
        "timestamp": event.timestamp.isoformat() if event.timestamp_given else None,
        "accepted_at": event.accepted_at.isoformat(),
        "source": event.source,
        "properties": event.properties,
    }
    return members | {"sender": event.sender} if event.sender else members


def json_text(event: UsageEvent) -> str:
    """What `to_json` gives, as text."""
    event_id, name, customer, timestamp, accepted_at, properties, text, source, customer_id, given, sender = event
    if text is None:
        text = "null" if properties is None else json_properties.dumps(properties)
    sent = f',"sender":{quoted(sender)}' if sender else ""
    happened = f'"{timestamp.isoformat()}"' if given else "null"
    return (
        f'{{"event_id":{quoted(event_id)},"event_name":{quoted(name)},"external_customer_id":{quoted(customer)},'
        f'"customer_id":{quoted(customer_id)},"timestamp":{happened},"accepted_at":"{accepted_at.isoformat()}",'
        f'"source":{quoted(source)},"properties":{text}{sent}}}'
    )


def from_json(members: Mapping[str, Any]) -> UsageEvent:
    """The event that `to_json` described. Raises InvalidEvent where somebody has changed it into no event."""
    accepted_at = members.get("accepted_at")
    try:
        instant = datetime.fromisoformat(accepted_at) if isinstance(accepted_at, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidEvent("accepted_at", "invalid", "must be a timestamp with an offset")
    return parse_event(members, now=instant.astimezone(UTC), sender=_text(members, "sender")[:MAX_SENDER_LENGTH])


def _text(raw: Mapping[str, Any], field: str, required: bool = False) -> str:
    value = raw.get(field)
    if type(value) is str and 0 < len(value) <= MAX_IDENTIFIER_LENGTH and value.isascii() and "\x00" not in value:
        return value
    if value is None or value == "":
        if required:
            raise InvalidEvent(field, "required", "is required and must not be empty")
        return ""
    if not isinstance(value, str):
        raise InvalidEvent(field, "type", "must be a string")
    if len(value) > MAX_IDENTIFIER_LENGTH:
        raise InvalidEvent(field, "too_long", f"must not be longer than {MAX_IDENTIFIER_LENGTH} characters")
    if reason := json_properties.text_fault(value):
        raise InvalidEvent(field, "invalid", reason)
    return value


def _timestamp(value: Any, now: datetime) -> tuple[datetime, bool]:
    if value is None:
        return now, False
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidEvent("timestamp", "invalid", "must have a time zone")
        instant = value.astimezone(UTC)
    else:
        try:
            instant = parse_timestamp(value).astimezone(UTC)
        except ValueError as error:
            raise InvalidEvent("timestamp", "invalid", str(error)) from None
    if EARLIEST <= instant < LATEST:
        return instant, True
    if instant == NOT_GIVEN:
        return now, False
    raise InvalidEvent("timestamp", "invalid", f"must lie between {EARLIEST.year}-01-01 and {LATEST.year}-12-31 in UTC")


def _properties(value: Any) -> tuple[Mapping[str, Any] | None, str | None]:
    if value is None:
        return None, None
    if not isinstance(value, dict):
        raise InvalidEvent("properties", "type", "must be an object")
    text = json_properties.dumps(value)
    # Short text from a JSON decoder has room for no other fault than bad characters: no need to walk the values.
    suspect = len(text) > 200 or "\\u0000" in text or json_properties.text_fault(text)
    if suspect and (found := json_properties.fault(value, "properties")):
        raise InvalidEvent(found[0], "invalid", found[1])
    if len(text) > 16_384 and len(text.encode("utf-8")) > conf.MAX_PROPERTIES_BYTES:
        raise InvalidEvent("properties", "too_large", f"must not be larger than {conf.MAX_PROPERTIES_BYTES} bytes of JSON")
    return value, text


def parse_event(raw: Any, *, now: datetime, sender: str = "") -> UsageEvent:
    """Build an event from decoded JSON; members that are not part of the contract are ignored.

    `now` becomes `accepted_at`, and the timestamp where none was given. A missing or empty `event_id` is generated.
    `event_name` is trimmed; everything else is kept exactly as sent. `timestamp` may be an aware datetime.
    Raises InvalidEvent for the first member that breaks the contract.
    """
    if not isinstance(raw, Mapping):
        raise InvalidEvent("", "type", "must be an object")
    name = _text(raw, "event_name", True).strip()
    if not name:
        raise InvalidEvent("event_name", "required", "must not be blank")
    customer = _text(raw, "external_customer_id", True)
    if not customer.strip():
        raise InvalidEvent("external_customer_id", "required", "must not be blank")
    event_id = _text(raw, "event_id")
    customer_id, source = _text(raw, "customer_id"), _text(raw, "source")
    timestamp, given = _timestamp(raw.get("timestamp"), now)
    properties, text = _properties(raw.get("properties"))
    event_id = event_id or new_id("event")
    return UsageEvent(event_id, name, customer, timestamp, now, properties, text, source, customer_id, given, sender)


def parse_events(raws: list[Any], *, now: datetime, sender: str = "") -> list[UsageEvent]:
    """Build the events of one batch, all or none.

    `accepted_at` grows by STEP from each to the next. Raises InvalidEvent whose field starts with the position, such as
    `events[3].event_name`.
    """
    events = []
    for index, raw in enumerate(raws):
        try:
            events.append(parse_event(raw, now=now, sender=sender))
        except InvalidEvent as error:
            raise error.within(f"events[{index}]") from None
        now += STEP
    return events
