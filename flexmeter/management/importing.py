"""Rows into the ledger, batch by batch, with every row that cannot be counted kept in a file of its own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from django.db import OperationalError, connections, reset_queries

from flexmeter.events import EARLIEST, UsageEvent, parse_event, parse_timestamp
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError, InvalidEvent
from flexmeter.ingest import Ingested, ingest
from flexmeter.management.checkpoint import Checkpoint
from flexmeter.management.rows import Row, identified, is_given
from flexmeter.models import now
from flexmeter.stores.database.locks import retained_from

BATCH_ROWS = 1_000
BATCH_BYTES = 8 * 1024 * 1024
ATTEMPTS = 5
SHORTEST_STEP = timedelta(microseconds=1)

_POSITION = re.compile(r"events\[([0-9]+)\]\.?")


class NamelessRows(FlexmeterError):
    """A row has no id, and nothing tells from which import it is, so none can be derived."""


class RejectsUnwritable(FlexmeterError):
    """A row was rejected and there is nowhere to keep it; the batch it belongs to was not ingested."""


@dataclass(slots=True)
class Counts:
    """What became of the rows of a file; `conflicts` are those whose id is stored with other values that stand."""

    rows: int = 0
    stored: int = 0
    replaced: int = 0
    repeated: int = 0
    conflicts: int = 0
    rejected: int = 0

    def add(self, ingested: Ingested) -> None:
        self.stored += ingested.stored
        self.replaced += ingested.replaced
        self.repeated += ingested.repeated
        self.conflicts += ingested.rejected

    def __add__(self, other: Counts) -> Counts:
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Counts(**sums)


class Clock:
    """Instants that grow from row to row, so that of two rows with one id the later wins."""

    def __init__(self) -> None:
        self._last = now()

    def tick(self) -> datetime:
        self._last = max(now(), self._last + SHORTEST_STEP)
        return self._last


class Rejects:
    """The file of rejected rows, made when the first one comes: JSON Lines with file, line, field, reason and row."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        self._file: BinaryIO | None = None

    def size(self) -> int:
        if self._file is not None:
            return self._file.tell()
        return self.path.stat().st_size if self.path.is_file() else 0

    def cut(self, size: int) -> None:
        """Take away what was written after the file had this size: it will be written again."""
        self.close()
        if self.path.is_file() and not size:
            self.path.unlink()
        elif self.path.is_file() and self.path.stat().st_size > size:
            with self.path.open("r+b") as file:
                file.truncate(size)

    def add(self, row: Row, fault: InvalidEvent) -> None:
        if self._file is None:
            try:
                self._file = self.path.open("ab")
            except OSError as error:
                raise RejectsUnwritable(
                    f"Line {row.line} is rejected ({fault}), and {self.path} cannot be written: {error.strerror}. "
                    "Name another file with --rejects."
                ) from None
        rejected = {
            "file": self.source,
            "line": row.line,
            "field": fault.field,
            "reason": f"{fault.field or 'row'} {fault.message}",
            "row": row.raw.decode("utf-8", "backslashreplace"),
        }
        self._file.write(json.dumps(rejected).encode("ascii") + b"\n")

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def derived_id(name: str, row: bytes, occurrence: int) -> str:
    """The id of a row that carries none: always the same for the same row of the same import.

    Rows of one content are told apart by how many of them came before; where they stand does not matter.
    """
    parts = (name.encode("utf-8", "surrogateescape"), row, str(occurrence).encode("ascii"))
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return "row_" + digest.hexdigest()


@dataclass(slots=True)
class Importer:
    """Takes the rows of one file into an environment.

    `name` is that of the import in derived ids; None refuses rows without an id, for the reason in `nameless`.
    Rows that say when they were accepted, as exports do, keep that unless `accept_now`.
    """

    environment: str
    alias: str
    checkpoint: Checkpoint
    rejects: Rejects
    clock: Clock
    name: str | None
    nameless: str = ""
    accept_now: bool = False
    counts: Counts = field(default_factory=Counts)
    sleep: Callable[[float], None] = time.sleep

    def take(self, rows: Iterable[Row]) -> Iterator[Counts]:
        """Ingest rows and yield the counts after each committed batch.

        Raises what `rows` raises after ingesting those that came before, EnvironmentBusy and OperationalError when
        the database could not be written to time and again.
        """
        batch: list[tuple[Row, UsageEvent]] = []
        size = pending = 0
        failure: FlexmeterError | None = None
        iterator = iter(rows)
        while failure is None:
            try:
                row = next(iterator, None)
            except FlexmeterError as error:
                row, failure = None, error
            if row is not None:
                pending += 1
                try:
                    batch.append((row, self._event(row)))
                except InvalidEvent as fault:
                    self._reject(row, fault)
                size += len(row.raw)
                if pending < BATCH_ROWS and size < BATCH_BYTES:
                    continue
            if pending:
                self._ingest(batch)
                self.counts.rows += pending
                batch.clear()
                size = pending = 0
                self.rejects.flush()
                reset_queries()  # which DEBUG = True collects
                yield self.counts
            if row is None:
                break
        if failure is not None:
            raise failure

    def _event(self, row: Row) -> UsageEvent:
        if row.fault is not None:
            raise row.fault
        accepted_at, raw = self.clock.tick(), row.event
        if isinstance(raw, Mapping):
            raw = identified(raw)
            if not is_given(raw.get("event_id")):
                raw = {**raw, "event_id": self._derived_id(row.raw)}
            if is_given(raw.get("accepted_at")) and not self.accept_now:
                accepted_at = min(_accepted_at(raw["accepted_at"]), accepted_at)
        return parse_event(raw, now=accepted_at)

    def _derived_id(self, raw: bytes) -> str:
        if self.name is None:
            raise NamelessRows(self.nameless)
        occurrence = self.checkpoint.occurrence(blake2b(raw, digest_size=16).digest())
        return derived_id(self.name, raw, occurrence)

    def _ingest(self, batch: list[tuple[Row, UsageEvent]]) -> None:
        while batch:
            try:
                self.counts.add(self._ingest_patiently([event for _, event in batch]))
                return
            except InvalidEvent as fault:
                batch = self._without_refused(batch, fault)

    def _ingest_patiently(self, events: list[UsageEvent]) -> Ingested:
        for attempt in range(1, ATTEMPTS):
            try:
                return ingest(events, environment=self.environment, using=self.alias)
            except (EnvironmentBusy, OperationalError):
                if connections[self.alias].in_atomic_block:
                    raise  # nothing can be repeated within a caller's transaction
                connections[self.alias].close_if_unusable_or_obsolete()
                self.sleep(0.5 * 2**attempt)
        return ingest(events, environment=self.environment, using=self.alias)

    def _without_refused(self, batch: list[tuple[Row, UsageEvent]], fault: InvalidEvent) -> list[tuple[Row, UsageEvent]]:
        """Reject the rows a refusal is about and return the rest."""
        floor = retained_from(self.environment, self.alias)
        position = _POSITION.match(fault.field)
        refused = {int(position[1]) if position else 0}
        if fault.code == "pruned" and floor is not None:
            refused.update(index for index, (_, event) in enumerate(batch) if event.timestamp < floor)
        rest = []
        for index, (row, event) in enumerate(batch):
            if index in refused:
                self._reject(row, InvalidEvent(_POSITION.sub("", fault.field), fault.code, fault.message))
            else:
                rest.append((row, event))
        return rest

    def _reject(self, row: Row, fault: InvalidEvent) -> None:
        self.rejects.add(row, fault)
        self.counts.rejected += 1


def _accepted_at(value: Any) -> datetime:
    try:
        instant = value if isinstance(value, datetime) else parse_timestamp(value)
    except ValueError as error:
        raise InvalidEvent("accepted_at", "invalid", str(error)) from None
    instant = instant.astimezone(UTC)
    if instant < EARLIEST:
        raise InvalidEvent("accepted_at", "invalid", f"must not lie before {EARLIEST.year}-01-01")
    return instant
