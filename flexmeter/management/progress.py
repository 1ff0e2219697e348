"""Telling on stderr how far a command has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0


class Stream(Protocol):
    """A stream of Django's commands."""

    def write(self, msg: str, style_func: Callable[[str], str] | None = ..., ending: str | None = ...) -> None: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


class Progress:
    """A line with rate and time left: rewritten in place on a terminal, elsewhere a new one every ten seconds.

    Use it as a context manager, so that what follows begins on a line of its own.
    """

    def __init__(
        self, stream: Stream, label: str, unit: str, *, shown: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream, self.label, self.unit, self.shown, self.clock = stream, label, unit, shown, clock
        self.terminal = stream.isatty()
        self.began = self.told = clock()
        self.first: tuple[int, float] | None = None
        self.width = 0

    def begin(self, done: int = 0, part: float = 0.0) -> None:
        """Say where the work begins when that is not zero, so that what was done before does not count as speed."""
        self.first, self.began = (done, part), self.clock()

    def show(self, done: int, part: float | None = None, note: str = "") -> None:
        """Tell that `done` units are done, which is `part` (0 to 1) of the work; None when its size is not known."""
        if self.first is None:
            self.begin()
        now = self.clock()
        if not self.shown or now - self.told < (TERMINAL_SECONDS if self.terminal else LOG_SECONDS):
            return
        self.told = now
        self._write(self.line(done, part, note, now - self.began))

    def line(self, done: int, part: float | None, note: str, elapsed: float) -> str:
        """The text for `done` units after `elapsed` seconds."""
        first_done, first_part = self.first or (0, 0.0)
        words = [f"{self.label}: {done:,} {self.unit}"]
        if note:
            words.append(note)
        if elapsed > 0:
            words.append(f"{(done - first_done) / elapsed:,.0f}/s")
        if part is not None:
            words.append(f"{part:.0%}")
            if part > first_part:
                words.append(f"{_duration(elapsed * (1 - part) / (part - first_part))} left")
        return ", ".join(words)

    def _write(self, text: str) -> None:
        if self.terminal:
            self.stream.write("\r" + text.ljust(self.width), _plain, "")
            self.width = len(text)
        else:
            self.stream.write(text, _plain)
        self.stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.width:
            self.stream.write("", _plain, "\n")
            self.width = 0


def _plain(text: str) -> str:
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
