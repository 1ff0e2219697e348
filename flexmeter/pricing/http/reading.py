"""Members of a request as columns of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flexmeter.http import members
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.members import Members
from flexmeter.pricing.models import Status, Subscription

MAX_DESCRIPTION = 65_536
MAX_COUNT = 1_000

Reader = Callable[[Members, str], Any]
Columns = Mapping[str, tuple[str, Reader]]
"""Column and reader by the name of the member."""

text: Reader = members.text
decimal: Reader = members.decimal
instant: Reader = members.instant
boolean: Reader = members.boolean


def description(body: Members, name: str) -> str:
    return members.text(body, name, limit=MAX_DESCRIPTION)


def count(body: Members, name: str) -> int:
    """A small number above 0."""
    value = members.integer(body, name, 1)
    if not 1 <= value <= MAX_COUNT:
        raise InvalidPayload(name, f"must be an integer from 1 to {MAX_COUNT}")
    return value


def package(body: Members, name: str) -> int:
    """How many units are in a package."""
    value = members.integer(body, name, 0)
    if value < 1:
        raise InvalidPayload(name, "must be an integer greater than 0")
    return value


def status(body: Members, name: str) -> str:
    """Whether something is in use or not."""
    value = members.text(body, name)
    if value not in (Status.PUBLISHED, Status.ARCHIVED):
        raise InvalidPayload(name, "must be published or archived")
    return value


def subscription_status(body: Members, name: str) -> str:
    value = members.text(body, name)
    if value == Subscription.Status.CANCELLED:
        raise InvalidPayload(name, "becomes cancelled by a call of its own, with /cancel")
    if value not in Subscription.Status.values:
        raise InvalidPayload(name, f"must be one of {', '.join(Subscription.Status.values)}")
    return value


def currency(body: Members, name: str) -> str:
    """A code of a currency, however it is written."""
    return members.text(body, name).lower()


def metadata(body: Members, name: str) -> Any:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise InvalidPayload(name, "must be an object of strings")
    return value


def tiers(body: Members, name: str) -> Any:
    value = body.get(name)
    if not isinstance(value, list):
        raise InvalidPayload(name, "must be a list of objects with up_to, unit_amount and flat_amount")
    return value or None


def given(body: Members, columns: Columns) -> dict[str, Any]:
    """The columns that a body has members for; null is the same as left out."""
    return {column: read(body, name) for name, (column, read) in columns.items() if body.get(name) is not None}


def inner(body: Members, name: str) -> Members:
    """An object within a body; {} where it is absent or null."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidPayload(name, "must be an object")
    return value


def objects(body: Members, name: str, *, most: int = 1_000) -> list[Members]:
    """A list of objects; [] where it is absent or null."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidPayload(name, "must be a list of objects")
    if len(value) > most:
        raise InvalidPayload(name, f"must not have more than {most} entries")
    return value


class within:
    """While the block runs, a fault's member is named as part of another, unless that is "": `amount` of `items[2]`."""

    def __init__(self, outer: str) -> None:
        self.outer = outer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self.outer and isinstance(error, InvalidPayload):
            raise InvalidPayload(f"{self.outer}.{error.field}" if error.field else self.outer, error.reason) from None


def refuse(body: Members, names: Iterable[str]) -> None:
    """Refuse members that would change what is charged and that nothing here heeds."""
    for name in names:
        if body.get(name) not in (None, "", 0, "0", False, [], {}):
            raise InvalidPayload(name, "is not supported here")
