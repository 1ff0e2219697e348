"""The rows of a JSON Lines or CSV file, each a decoded event or the reason why it is none."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from flexmeter import properties
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidEvent
from flexmeter.management.mapping import CsvMapping
from flexmeter.management.sources import Source, UnreadableSource


class Row(NamedTuple):
    """A row as it stands in the file, from line `line` on; `event` is what POST /events would be sent, if it is readable."""

    line: int
    raw: bytes
    event: Any = None
    fault: InvalidEvent | None = None


def line_limit() -> int:
    """Bytes of the longest line that can be an event: each byte of its properties may be escaped."""
    return 8 * conf.MAX_PROPERTIES_BYTES


def _too_long() -> InvalidEvent:
    return InvalidEvent("", "too_large", f"is longer than {line_limit()} bytes; the row given here is cut")


def jsonl_rows(source: Source) -> Iterator[Row]:
    """One JSON object on each line; empty lines are skipped."""
    for number, text, whole in source.lines():
        raw = text.strip()
        if not whole:
            yield Row(number, raw, fault=_too_long())
        elif raw:
            try:
                yield Row(number, raw, properties.loads(raw))
            except properties.InvalidJson as error:
                yield Row(number, raw, fault=InvalidEvent("", "json", f"is not JSON: {error}"))


def csv_rows(source: Source, mapping: CsvMapping, resume_at: tuple[int, int] | None = None) -> Iterator[Row]:
    """The rows below the header, which may span lines where a cell holds line breaks; empty rows are skipped.

    `resume_at` is the offset and line of the source after an earlier row. Raises CommandError for a mapping that does not
    fit the header.
    """
    taken: list[bytes] = []
    cut = False

    def decoded() -> Iterator[str]:
        nonlocal cut
        for line in source.lines():
            taken.append(line.text)
            cut = cut or not line.whole
            yield line.text.decode("utf-8", "surrogateescape")

    with _long_cells():
        reader = csv.reader(decoded(), delimiter=mapping.delimiter, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise UnreadableSource(f"{source.path} has no readable header: {error}.") from None
        if header is None:
            return
        columns = mapping.columns(header, source.path)
        if resume_at is not None and resume_at[0] > source.offset:
            source.go_to(*resume_at)
        while True:
            taken.clear()
            cut = False
            first = source.line + 1
            cells: list[str] | None = None
            fault: InvalidEvent | None = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = InvalidEvent("", "csv", f"is not CSV: {error}")
            raw = b"".join(taken).rstrip(b"\r\n")
            if cut:
                fault = _too_long()
            if fault is not None:
                yield Row(first, raw, fault=fault)
            elif cells:
                try:
                    yield Row(first, raw, columns.event(cells))
                except InvalidEvent as error:
                    yield Row(first, raw, fault=error)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell hold the largest properties object; the limit belongs to the csv module as a whole."""
    held = csv.field_size_limit(max(csv.field_size_limit(), 2 * conf.MAX_PROPERTIES_BYTES))
    try:
        yield
    finally:
        csv.field_size_limit(held)


def is_given(value: Any) -> bool:
    """Whether a member of an event says anything."""
    return value is not None and value != ""


def identified(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with its id under `event_id`, where it may be called `id` as in lists and exports."""
    if not is_given(event.get("event_id")) and is_given(event.get("id")):
        return {**event, "event_id": event["id"]}
    return event
