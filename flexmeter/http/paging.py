"""Lists by `limit` and `offset`, in an order of the caller's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flexmeter.http.errors import ApiError, InvalidPayload

DEFAULT_LIMIT = 50
MAX_LIMIT = 1_000
MAX_OFFSET = 2**31
ORDERS = ("asc", "desc")


class Page(NamedTuple):
    """Which part of a list is wanted; `ordering` names columns, ending with the id."""

    limit: int
    offset: int
    ordering: list[str]

    @classmethod
    def of(cls, parameters: Mapping[str, str], sorts: Sequence[str]) -> Page:
        """The page that parameters ask for: by default the first, newest first. Raises InvalidPayload and ApiError."""
        return cls(
            _bounded(parameters, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
            _bounded(parameters, "offset", 0, 0, MAX_OFFSET),
            _ordering(parameters, sorts),
        )

    def pagination(self, total: int) -> dict[str, int]:
        """What an answer says of the page."""
        return {"total": total, "limit": self.limit, "offset": self.offset + self.limit}


def _bounded(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    given = parameters.get(name)
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 12 and least <= int(given) <= most):
        raise InvalidPayload(name, f"must be an integer from {least} to {most}")
    return int(given)


def _ordering(parameters: Mapping[str, str], sorts: Sequence[str]) -> list[str]:
    sort, order = parameters.get("sort") or "created_at", parameters.get("order") or "desc"
    for name, value, allowed in (("sort", sort, sorts), ("order", order, ORDERS)):
        if value not in allowed:
            details = {name: value, "allowed_values": list(allowed)}
            raise ApiError(400, "validation_error", f"Request validation failed due to invalid {name}", details)
    sign = "-" if order == "desc" else ""
    return [sign + sort, sign + "id"]
