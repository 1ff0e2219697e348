"""Figures for Prometheus, of this process; without prometheus_client they are not kept.

The two of lag are asked of the database when they are scraped. With several processes use prometheus_client's
multiprocess mode, and export the lag from one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError

if TYPE_CHECKING:
    prometheus: Any
else:
    try:
        import prometheus_client as prometheus
    except ImportError:
        prometheus = None

Lag = tuple[int, datetime | None]
"""Events that wait, and when the oldest of them was accepted."""

_ask_lag: list[Callable[[], Lag]] = []


def lag_told_by(ask: Callable[[], Lag]) -> None:
    """Say who knows the lag; the last one who says so is asked."""
    _ask_lag[:] = [ask]


class LagCollector:
    """Asks how much waits whenever somebody scrapes. Says nothing, rather than zero, while the database does not answer."""

    def collect(self) -> Iterator[Any]:
        try:
            events, oldest = _ask_lag[0]()
        except (IndexError, DatabaseError, InterfaceError):
            return
        age = 0.0 if oldest is None else max((datetime.now(UTC) - oldest).total_seconds(), 0.0)
        gauge = prometheus.metrics_core.GaugeMetricFamily
        yield gauge("flexmeter_lag_events", "Events accepted and not counted yet, in all environments.", value=events)
        yield gauge("flexmeter_lag_seconds", "Age of the oldest event that is not counted yet.", value=age)

    def describe(self) -> list[Any]:
        """Nothing, so that registering asks no database."""
        return []


if prometheus is not None:
    _accepted = prometheus.Counter("flexmeter_accepted_events", "Events committed, counted or to be counted.")
    _ingested = prometheus.Counter("flexmeter_ingested_events", "Events counted, by outcome.", ["outcome"])
    _stored, _replaced = _ingested.labels("stored"), _ingested.labels("replaced")
    _duplicates = prometheus.Counter("flexmeter_duplicate_events", "Events that were known already, changed or not.")
    _rejected = prometheus.Counter("flexmeter_rejected_events", "Accepted events that could not be counted.", ["reason"])
    _seconds = prometheus.Histogram("flexmeter_batch_seconds", "Seconds in which a batch was counted and committed.")
    prometheus.REGISTRY.register(LagCollector())


def accepted(events: int) -> None:
    if prometheus is not None:
        _accepted.inc(events)


def ingested(stored: int, replaced: int, repeated: int) -> None:
    if prometheus is not None:
        _stored.inc(stored)
        if replaced or repeated:
            _replaced.inc(replaced)
            _duplicates.inc(replaced + repeated)


def rejected(reason: str) -> None:
    if prometheus is not None:
        _rejected.labels(reason).inc()


def batch_took(seconds: float) -> None:
    if prometheus is not None:
        _seconds.observe(seconds)
