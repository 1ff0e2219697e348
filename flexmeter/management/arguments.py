"""Values of command line arguments; each raises ArgumentTypeError with what would have been right."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime

from flexmeter.events import EARLIEST, LATEST, parse_timestamp
from flexmeter.properties import text_fault

MAX_DAYS = 36_500

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def instant(text: str) -> datetime:
    """An RFC 3339 timestamp, or a date for the start of that day in UTC."""
    try:
        value = parse_timestamp(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is neither a date such as 2024-03-20 nor a time such as 2024-03-20T15:04:05Z"
        ) from None
    if not EARLIEST <= value < LATEST:
        raise ArgumentTypeError(f"{text!r} must lie between {EARLIEST.year}-01-01 and {LATEST.year}-12-31 in UTC")
    return value


def days(text: str) -> int:
    """A whole number of days, from 1 on."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= MAX_DAYS:
        raise ArgumentTypeError(f"{text!r} is no number of days from 1 to {MAX_DAYS}")
    return int(text)


def seconds(text: str) -> float:
    """A pause of at least 0.01 and at most 3600 seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 3_600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.01 to 3600")
    return value


def environment_name(text: str) -> str:
    """The name of an environment: 1 to 64 characters."""
    if not text.strip() or len(text) > 64:
        raise ArgumentTypeError("must be 1 to 64 characters")
    return storable(text)


def storable(text: str) -> str:
    """Text that every supported database gives back unchanged."""
    if reason := text_fault(text):
        raise ArgumentTypeError(f"{text!r} {reason}")
    return text
