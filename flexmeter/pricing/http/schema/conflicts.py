"""Examples of requests that get a 409."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexmeter.http.errors import envelope
from flexmeter.http.schema.operations import Example


def conflict(summary: str, message: str, details: Mapping[str, Any], *, body: Any = None, **parameters: str) -> Example:
    """A change that something in use stands against."""
    return Example(summary, envelope(409, "invalid_operation", message, details), body, parameters)


def taken(summary: str, message: str, details: Mapping[str, Any], *, body: Any = None, **parameters: str) -> Example:
    """Something that can be there only once."""
    return Example(summary, envelope(409, "already_exists", message, details), body, parameters)
