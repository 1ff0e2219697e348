"""What the columns of a CSV file say of an event."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from django.core.management.base import CommandError

from flexmeter import properties
from flexmeter.exceptions import InvalidEvent
from flexmeter.properties import EXACT

FIELDS: Final = (
    "event_id", "event_name", "external_customer_id", "customer_id", "timestamp", "source", "properties", "accepted_at",
)  # fmt: skip
EXPORTED: Final = ("id", *FIELDS[1:])
"""The header of flexmeter_export's CSV, by which an import knows it."""
REQUIRED: Final = ("event_name", "external_customer_id")
PROPERTY: Final = "properties."

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A cell that begins with one of these may be run as a formula by a spreadsheet program."""
DEFUSED: Final = "'"

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNITS: Final = {"unix": Decimal(10**6), "unix-ms": Decimal(10**3)}
"""Microseconds in a unit of these formats."""

_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?P<fraction>\.[0-9]+)?"
    r"(?: ?(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?)?"
)
_EPOCH_TIME = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_LONG_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]+")
_NUMBER_CHARACTERS = frozenset("0123456789.-")


def defused(cell: str) -> str:
    """The cell as a spreadsheet program shows it; `fused` gives it back."""
    return DEFUSED + cell if cell.startswith((*FORMULA_STARTS, DEFUSED)) else cell


def fused(cell: str) -> str:
    """The cell as it was before `defused`."""
    return cell.removeprefix(DEFUSED)


@dataclass(frozen=True, slots=True)
class TimestampReader:
    """Reads the timestamps of a file; `zone` is that of timestamps which name none.

    `format` is `iso`, `unix` (seconds), `unix-ms` (milliseconds) or a pattern of strptime. Digits beyond microseconds
    are cut. A local time that occurs twice, when clocks are set back, is taken for the first one.
    """

    format: str = "iso"
    zone: tzinfo | None = None

    def read(self, text: str) -> datetime:
        """The instant in UTC. Raises ValueError with a reason fit for a person."""
        try:
            if self.format == "iso":
                return self._located(_iso(text))
            if self.format in UNITS:
                if _EPOCH_TIME.fullmatch(text) is None:
                    raise ValueError(f"{text!r} is no number")
                return EPOCH + timedelta(microseconds=int(EXACT.multiply(Decimal(text), UNITS[self.format])))
            return self._located(datetime.strptime(_LONG_FRACTION.sub(r"\1", text), self.format))  # noqa: DTZ007  # _located
        except OverflowError:
            raise ValueError(f"{text!r} is no point in time in the format {self.format}") from None

    def _located(self, moment: datetime) -> datetime:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        if self.zone is None:
            raise ValueError(f"{str(moment)!r} names no time zone; --timezone says which one is meant")
        instant = moment.replace(tzinfo=self.zone).astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) != moment:
            raise ValueError(f"{str(moment)!r} does not exist in {self.zone}: clocks were set forward past it")
        return instant


def _iso(text: str) -> datetime:
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no timestamp such as 2024-03-20 15:04:05; --timestamp-format tells of other formats")
    fraction, zone = found["fraction"] or "", found["zone"] or ""
    whole = found["time"] or "00:00"
    if fraction and whole.count(":") == 1:
        raise ValueError(f"{text!r} is no valid point in time")
    try:
        return datetime.fromisoformat(f"{found['date']}T{whole}{fraction[:7]}{'+00:00' if zone == 'UTC' else zone}")
    except ValueError:
        raise ValueError(f"{text!r} is no valid point in time") from None


@dataclass(frozen=True, slots=True)
class CsvMapping:
    """How a CSV file is to be read: columns and constants by member of the event (`event_name`, `properties.tokens`, …).

    A column whose name is that of a member needs no entry; `id` is one only in flexmeter_export's own files, elsewhere it
    may number anything. With `rest_as_properties` every column that is not used
    otherwise becomes the property of its name.
    """

    by_column: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    rest_as_properties: bool = False
    timestamps: TimestampReader = field(default_factory=TimestampReader)
    delimiter: str = ","

    def columns(self, header: Sequence[str], path: str) -> Columns:
        """The mapping for a file with this header. Raises CommandError for one that does not fit."""
        places: dict[str, int] = {}
        for member, column in self.by_column.items():
            places[member] = self._place(column, header, path)
        named = set(places.values())
        exported = tuple(header) == EXPORTED
        for index, column in enumerate(header):
            member = "event_id" if exported and column == "id" else column
            known = member in FIELDS or (member.startswith(PROPERTY) and member != PROPERTY)
            if known and index not in named and member not in places and member not in self.constants:
                places[member] = self._place(column, header, path)
        if self.rest_as_properties:
            used = set(places.values())
            for index, column in enumerate(header):
                member = PROPERTY + column
                if index not in used and column and column not in FIELDS and member not in {*places, *self.constants}:
                    places[member] = self._place(column, header, path)
        for member in REQUIRED:
            if member not in places and not self.constants.get(member):
                raise CommandError(
                    f"{path}: no column is {member}. Name it with --map {member}=COLUMN, or give all rows one value with "
                    f"--constant {member}=VALUE. The columns are: {_listed(header)}."
                )
        return Columns(self, len(header), places, defused=exported)

    def _place(self, column: str, header: Sequence[str], path: str) -> int:
        if header.count(column) != 1:
            there = "more than one column is" if column in header else "no column is"
            raise CommandError(f"{path}: {there} called {column!r}. The columns are: {_listed(header)}.")
        return header.index(column)


class Columns:
    """A mapping bound to the header of a file."""

    def __init__(self, mapping: CsvMapping, width: int, places: Mapping[str, int], *, defused: bool) -> None:
        self._timestamps, self._width, self._defused = mapping.timestamps, width, defused
        self._members = [(member, place) for member, place in places.items() if not member.startswith(PROPERTY)]
        self._properties = [
            (member.removeprefix(PROPERTY), place) for member, place in places.items() if member.startswith(PROPERTY)
        ]
        self._constants = {member: value for member, value in mapping.constants.items() if not member.startswith(PROPERTY)}
        self._constant_properties = {
            member.removeprefix(PROPERTY): scalar(value)
            for member, value in mapping.constants.items()
            if member.startswith(PROPERTY)
        }

    def event(self, cells: Sequence[str]) -> dict[str, Any]:
        """The event a row tells of, as POST /events would be sent it. Raises InvalidEvent."""
        if len(cells) != self._width:
            raise InvalidEvent("", "csv", f"has {len(cells)} cells where the header has {self._width}")
        if not all(map(_is_utf8, cells)):
            raise InvalidEvent("", "encoding", "is not UTF-8")
        if self._defused:
            cells = [fused(cell) for cell in cells]
        event: dict[str, Any] = {**self._constants, **{member: cells[place] for member, place in self._members}}
        for member in ("timestamp", "accepted_at"):
            if text := event.get(member):
                try:
                    event[member] = self._timestamps.read(text)
                except ValueError as error:
                    raise InvalidEvent(member, "invalid", str(error)) from None
            else:
                event.pop(member, None)
        event["properties"] = self._read_properties(event.get("properties"), cells)
        return event

    def _read_properties(self, text: str | None, cells: Sequence[str]) -> Any:
        held: Any = None
        if text:
            try:
                held = properties.loads(text)
            except properties.InvalidJson as error:
                raise InvalidEvent("properties", "json", f"must be a JSON object: {error}") from None
        found = self._constant_properties | {name: scalar(cells[place]) for name, place in self._properties if cells[place] != ""}
        if not found or not isinstance(held, dict | None):
            return held
        return (held or {}) | found


def scalar(text: str) -> Any:
    """A cell as the value of a property: a number if it is written just as flexmeter writes that number, otherwise text.

    So `12` and `0.5` become numbers, while `007`, `1.50` and `1e3` stay as they are. Either way it counts the same.
    """
    if len(text) <= 40 and _NUMBER_CHARACTERS.issuperset(text):
        try:
            value = properties.loads(text)
        except properties.InvalidJson:
            return text
        if properties.rendered(value) == text:
            return value
    return text


def _is_utf8(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(header: Sequence[str]) -> str:
    return ", ".join(map(repr, header[:50]))
