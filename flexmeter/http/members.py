"""Reading members of a request: types are checked, null is the same as left out, and faults name the member."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from flexmeter import windows
from flexmeter.conf import conf
from flexmeter.events import NOT_GIVEN, parse_timestamp
from flexmeter.exceptions import InvalidQuery
from flexmeter.http.errors import InvalidPayload
from flexmeter.metering import Filters, filters_of
from flexmeter.models import now
from flexmeter.properties import number, text_fault
from flexmeter.queries import calendar_in
from flexmeter.windows import Calendar, WindowSize

DEFAULT_RANGE = timedelta(days=7)
MAX_TEXT = 4_096
MAX_FILTER_TEXT = 65_536
MAX_LIST = 10_000

Members = Mapping[str, Any]


class Range(NamedTuple):
    start: datetime
    end: datetime


def text(members: Members, name: str, *, required: bool = False, limit: int = MAX_TEXT) -> str:
    """A string; "" where it is absent or null."""
    value = members.get(name)
    if value is None or value == "":
        if required:
            raise InvalidPayload(name, "is required and must not be empty")
        return ""
    return checked_text(value, name, limit)


def checked_text(value: Any, name: str, limit: int = MAX_TEXT) -> str:
    """The value, if it is a string that can be compared with what is stored."""
    if not isinstance(value, str):
        raise InvalidPayload(name, "must be a string")
    if len(value) > limit:
        raise InvalidPayload(name, f"must not be longer than {limit} characters")
    if reason := text_fault(value):
        raise InvalidPayload(name, reason)
    return value


def integer(members: Members, name: str, default: int) -> int:
    value = members.get(name)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidPayload(name, "must be an integer")
    if abs(value) >= 2**63:
        raise InvalidPayload(name, "is too large")
    return value


def boolean(members: Members, name: str) -> bool:
    value = members.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidPayload(name, "must be true or false")
    return value


def decimal(members: Members, name: str) -> Decimal | None:
    """A number, or a string holding one; None where it is absent, null or empty."""
    value = members.get(name)
    if value is None or value == "":
        return None
    parsed = number(value)
    if parsed is None:
        raise InvalidPayload(name, "must be a number or a string holding one")
    return parsed


def texts(members: Members, name: str, *, most: int = MAX_LIST, limit: int = MAX_FILTER_TEXT) -> list[str]:
    """A list of strings; [] where it is absent or null."""
    value = members.get(name)
    return [] if value is None else _strings(value, name, most, limit)


def _strings(value: Any, name: str, most: int = MAX_LIST, limit: int = MAX_FILTER_TEXT) -> list[str]:
    if not isinstance(value, list):
        raise InvalidPayload(name, "must be a list of strings")
    if len(value) > most:
        raise InvalidPayload(name, f"must not have more than {most} entries")
    return [checked_text(item, f"{name}[{index}]", limit) for index, item in enumerate(value)]


def instant(members: Members, name: str) -> datetime | None:
    """A timestamp in UTC; None where it is absent, null or the zero time."""
    value = members.get(name)
    if value is None:
        return None
    try:
        parsed = parse_timestamp(value).astimezone(UTC)
    except ValueError as error:
        raise InvalidPayload(name, str(error)) from None
    return None if parsed == NOT_GIVEN else parsed


def time_range(members: Members) -> Range:
    """`start_time` and `end_time`, by default the last seven days. Raises InvalidPayload for an end before the start."""
    end = instant(members, "end_time") or now()
    start = instant(members, "start_time")
    if start is None:
        start = end - DEFAULT_RANGE if end - NOT_GIVEN > DEFAULT_RANGE else NOT_GIVEN
    if end < start:
        raise InvalidPayload("end_time", "must not lie before start_time")
    return Range(start, end)


def property_filters(members: Members, name: str) -> Filters:
    """An object of property name to list of values; keys with empty lists do not filter."""
    value = members.get(name)
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise InvalidPayload(name, "must be an object of property name to list of strings")
    filters: dict[str, list[str]] = {}
    for key, values in value.items():
        checked_text(key, f"a key of {name}", MAX_FILTER_TEXT)
        filters[key] = [] if values is None else _strings(values, f"{name}.{key}")
    if sum(map(len, filters.values())) > conf.MAX_FILTER_VALUES:
        raise InvalidPayload(name, f"must not name more than {conf.MAX_FILTER_VALUES} values")
    return filters_of(filters)


def window(members: Members, name: str) -> WindowSize | None:
    """A window size; None where it is absent, null or empty. Raises InvalidQuery for an unknown one."""
    value = text(members, name)
    if not value:
        return None
    try:
        return WindowSize(value)
    except ValueError:
        raise InvalidQuery("Invalid window size", {name: value, "allowed_values": [size.value for size in WindowSize]}) from None


def calendar(members: Members) -> Calendar:
    """How the request's windows lie: `timezone` (unknown: UTC) and the day of month of `billing_anchor`."""
    anchor = members.get("billing_anchor")
    day = 1
    if anchor is not None:
        try:
            moment = parse_timestamp(anchor)
        except ValueError as error:
            raise InvalidPayload("billing_anchor", str(error)) from None
        if moment.astimezone(UTC) != NOT_GIVEN:
            day = windows.anchor_day(moment)
    return calendar_in(windows.zone(text(members, "timezone")), day)
