"""Files that are read line by line: plain or compressed, from disk or from standard input."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self, cast

from flexmeter.exceptions import FlexmeterError

STDIN: Final = "-"
GZIP_MAGIC: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"


class UnreadableSource(FlexmeterError):
    """A file cannot be read, or not to its end; what was read before is sound."""


class Line(NamedTuple):
    """A line as it stands in the file, with its line ending; `whole` is False if it was longer than the limit and cut."""

    number: int
    text: bytes
    whole: bool


class Source:
    """An open file; `size` is its length on disk in bytes, None where there is no end to foresee.

    `offset` and `line` say how far it was read: bytes after unpacking, and lines. A byte order mark is skipped.
    """

    def __init__(self, path: str, *, line_limit: int) -> None:
        self.path, self.line_limit = path, line_limit
        self.offset = self.line = 0
        self.size: int | None = None
        self.modified = 0
        try:
            self._file = self._open()
            packed = self._file.peek(2)[:2] == GZIP_MAGIC
        except OSError as error:
            raise UnreadableSource(f"{path} cannot be read: {error.strerror or error}.") from None
        self._lines: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=self._file)) if packed else self._file

    def _open(self) -> io.BufferedReader:
        if self.path == STDIN:
            # A file object of our own, so that closing it leaves the interpreter's alone.
            return io.BufferedReader(io.FileIO(os.dup(sys.stdin.fileno())))
        file = Path(self.path).open("rb")  # noqa: SIM115  # close() closes it
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            self.size, self.modified = status.st_size, status.st_mtime_ns
        return file

    def part(self) -> float | None:
        """How much of the file was read, 0 to 1; None if that cannot be known."""
        if self.size is None:
            return None
        return min(self._file.tell() / self.size, 1.0) if self.size else 1.0

    def lines(self) -> Iterator[Line]:
        """The lines from here to the end; a longer line than the limit is given cut. Raises UnreadableSource."""
        while text := self._readline():
            length, rest = len(text), text
            while len(rest) == self.line_limit and not rest.endswith(b"\n"):
                rest = self._readline()
                length += len(rest)
            whole = length == len(text)
            if not self.offset:
                text = text.removeprefix(BOM)
            self.line += 1
            self.offset += length
            yield Line(self.line, text, whole)

    def _readline(self) -> bytes:
        try:
            return self._lines.readline(self.line_limit)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableSource(f"{self.path} is damaged after line {self.line}: {error}.") from None

    def go_to(self, offset: int, line: int) -> None:
        """Go on behind `line`, where `offset` was then."""
        try:
            self._lines.seek(offset)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableSource(f"{self.path} is damaged before line {line}: {error}.") from None
        self.offset, self.line = offset, line

    def close(self) -> None:
        self._lines.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
