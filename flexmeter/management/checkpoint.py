"""How far an import of a file has come, kept beside the file so that a killed import can go on.

It is a small SQLite database of its own: constant memory however many rows there are, and whole after a kill.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from flexmeter.exceptions import FlexmeterError


class CheckpointUnusable(FlexmeterError):
    """The checkpoint's file is in use by another import, or is something else; nothing was changed."""


class Checkpoint:
    """The last place all rows before which are committed, and how often each row without an id has occurred up to it.

    Only one import at a time can hold a file's checkpoint. Without a path, or where it cannot be written, it serves
    just this run: `kept` tells. What was counted since the last `commit` is forgotten when the process is killed.
    """

    APPLICATION: ClassVar[int] = 0x666C7872
    SCHEMA: ClassVar[tuple[str, ...]] = (
        f"PRAGMA application_id = {APPLICATION}",
        "CREATE TABLE IF NOT EXISTS place (only INTEGER PRIMARY KEY CHECK (only = 1), import TEXT, place TEXT)",
        "CREATE TABLE IF NOT EXISTS seen (row BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID",
    )

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.kept = path is not None
        self.last: Mapping[str, Any] = {}
        try:
            self._connection = self._connect(str(path or ""))
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise CheckpointUnusable(f"{path} is in use: another import of this file is running.") from None
            self.path, self.kept = None, False
            self._connection = self._connect("")  # a temporary file

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA synchronous = OFF")  # a lost place costs time, never a count
            connection.execute("BEGIN EXCLUSIVE")
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != self.APPLICATION:
                raise CheckpointUnusable(f"{name} is no checkpoint of an import. Move it away; nothing was imported.")
            for statement in self.SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            connection.close()
            raise
        except sqlite3.DatabaseError:
            connection.close()
            raise CheckpointUnusable(
                f"{name} is no checkpoint of an import, or a damaged one. Delete it to begin anew."
            ) from None
        except CheckpointUnusable:
            connection.close()
            raise
        return connection

    def place(self, of_import: Mapping[str, Any]) -> dict[str, Any] | None:
        """The place an interrupted import noted, if it was the same import in every respect; it becomes `last`."""
        found = self._connection.execute("SELECT import, place FROM place").fetchone()
        if found is None or found[0] != _text(of_import):
            return None
        place: dict[str, Any] | None = json.loads(found[1])
        self.last = place or {}
        return place

    def begin(self, of_import: Mapping[str, Any]) -> None:
        """Forget everything and begin an import."""
        self._connection.execute("DELETE FROM place")
        self._connection.execute("DELETE FROM seen")
        self._connection.execute("INSERT INTO place VALUES (1, ?, 'null')", [_text(of_import)])

    def occurrence(self, row: bytes) -> int:
        """How often this row has occurred, with this time."""
        found = self._connection.execute("SELECT times FROM seen WHERE row = ?", [row]).fetchone()
        times = found[0] + 1 if found else 1
        self._connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", [row, times])
        return times

    def commit(self, place: Mapping[str, Any]) -> None:
        """Note that everything before `place` is committed; it becomes `last`."""
        self._connection.execute("UPDATE place SET place = ?", [_text(place)])
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN EXCLUSIVE")
        self.last = place

    def close(self) -> None:
        """Leave the last committed place for a later import to go on from."""
        self._connection.close()

    def remove(self) -> None:
        """The import is complete: close, and leave nothing behind."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path.with_name(self.path.name + "-journal").unlink(missing_ok=True)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
