"""A progress bar on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import time
from datetime import timedelta

from django.core.management.base import OutputWrapper

WIDTH = 28


class Progress:
    """How much of `total` is done. On a terminal the bar stays in its line until the total is reached."""

    def __init__(self, out: OutputWrapper, title: str, total: int, *, every: timedelta = timedelta(seconds=5)) -> None:
        self._out, self._title, self._total, self._every = out, title, total, every.total_seconds()
        self._done = 0
        self._started = self._shown = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        finished = self._done >= self._total
        if self._out.isatty():
            self._out.write(f"\r{self._line(now)}\x1b[K", ending="\n" if finished else "")
        elif finished or now - self._shown >= self._every:
            self._out.write(self._line(now))
            self._shown = now
        self._out.flush()

    def _line(self, now: float) -> str:
        filled = self._done * WIDTH // self._total
        rate = self._done / max(now - self._started, 0.001)
        bar = "█" * filled + "░" * (WIDTH - filled)
        return f"  {self._title:<16}  {bar}  {self._done:>7,} of {self._total:,}  {rate:>9,.0f}/s"
