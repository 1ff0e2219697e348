"""Waiting for another process or thread, with an end."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 180.0, every: float = 0.02) -> T:
    """Ask `condition` until its answer is true and return that answer.

    `within` and `every` are seconds. Raises AssertionError with the last answer when the time is over.
    """
    end = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"still {answer!r} after {within} seconds: {condition}")
        time.sleep(every)


def within_one_hour() -> None:
    """Return when the hour of the clock does not end within half a minute, for a test that must not see it change."""
    eventually(lambda: (now := datetime.now(UTC)).minute < 59 or now.second < 30)
