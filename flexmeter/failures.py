"""What happens when metering itself fails while the metered work succeeds: it is logged and counted, or raised."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("flexmeter.metering")


class Failures:
    """How often metering has failed in this process, by event name; a monitoring system may read it at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, event_name: str) -> None:
        with self._lock:
            self._counts[event_name] += 1

    def by_event_name(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    @property
    def total(self) -> int:
        with self._lock:
            return self._counts.total()


failures = Failures()


@contextmanager
def tolerated(event_name: str, *, strict: bool) -> Iterator[None]:
    """Log and count what goes wrong in the block, and let it pass unless `strict`."""
    try:
        yield
    except Exception:
        failures.add(event_name)
        logger.exception("The usage %r could not be metered.", event_name)
        if strict:
            raise
