"""The way of the traffic into the ledger: batches over HTTP."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from threading import Event
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from demo.client import Client
from demo.progress import Progress
from demo.traffic import TRACES, Trace

BULK_SIZE = 1_000


def load(client: Client, out: OutputWrapper) -> int:
    """Send every event of the files and return how many that were. Each file's progress is a line on `out`."""
    sent = 0
    with _interrupted_between_batches() as interrupted:
        for trace in TRACES:
            progress = Progress(out, trace.title, trace.rows)
            for batch in _batches(trace):
                client.post("/v1/events/bulk", {"events": batch})
                progress.advance(len(batch))
                sent += len(batch)
                if interrupted.is_set():
                    raise KeyboardInterrupt
    return sent


@contextmanager
def _interrupted_between_batches() -> Iterator[Event]:
    """Ctrl-C sets an event while the block runs: an exception out of nowhere may hit a finalizer, which swallows it."""
    interrupted = Event()
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def wait_until_counted(client: Client, *, patience: timedelta = timedelta(minutes=2)) -> None:
    """Return when no accepted event waits to be counted, which is at once unless FLEXMETER_INGEST is "celery".

    Raises CommandError when nothing has moved for as long as `patience`.
    """
    least, moved = None, time.monotonic()
    while waiting := client.get("/v1/events/monitoring")["consumption_lag"]:
        if least is None or waiting < least:
            least, moved = waiting, time.monotonic()
        if time.monotonic() - moved > patience.total_seconds():
            raise CommandError(f"{waiting:,} events were accepted but are not counted. Is a Celery worker running?")
        time.sleep(0.2)


def _batches(trace: Trace) -> Iterator[list[dict[str, Any]]]:
    events = trace.events()
    while batch := list(islice(events, BULK_SIZE)):
        yield batch
