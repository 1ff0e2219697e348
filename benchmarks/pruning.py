"""Pruning beside ingestion, on ten million events in PostgreSQL: how much longer the slowest batches take meanwhile.

One process ingests a batch every tenth of a second, whatever happens. Meanwhile another prunes one day, pauses for as long,
prunes the next, and so on. Aim: of a hundred batches 99 take at most twice as long while it prunes as while it pauses. In
the end what is stored and what is counted has to be what was there, less what was pruned, plus what came in.
Run: python -m benchmarks.pruning
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import time
from datetime import timedelta
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import large
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, percentile, report, set_up

BATCH = 250
SECONDS_A_BATCH = 0.1
WARM_UP_SECONDS = 5.0
DAYS = 6
AT_LEAST_SECONDS = 3.0
"""How long a pause or a prune counts at least: a day of few events is pruned in no time."""
AIM = 2.0

Stretch = tuple[float, float]


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        large.fill()
        report(outcome())


def outcome() -> Outcome:
    """What came of pruning the first DAYS days of the ledger behind Django's settings."""
    from django.db import connections

    connections.close_all()  # the process that ingests must not inherit one
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe()
    stopped = processes.Event()
    sender = processes.Process(target=ingest_steadily, args=(stopped, theirs), daemon=True)
    sender.start()
    try:
        time.sleep(WARM_UP_SECONDS)
        pauses, prunes, pruned = alternately()
    finally:
        stopped.set()
    taken: dict[float, float] = ours.recv()
    sender.join()
    check(pruned, ingested=len(taken) * BATCH)
    slow = {name: percentile(within(taken, spans), 0.99) for name, spans in (("pause", pauses), ("prune", prunes))}
    middle = {name: statistics.median(within(taken, spans)) for name, spans in (("pause", pauses), ("prune", prunes))}
    ratio = slow["prune"] / slow["pause"]
    lasting = sum(end - start for start, end in prunes)
    return Outcome(
        "pruning beside ingestion",
        f"99 of 100 batches of {BATCH} took at most {slow['prune'] * 1e3:.0f} ms, {ratio:.2f} times as long as without "
        f"({slow['pause'] * 1e3:.0f} ms); half {middle['prune'] * 1e3:.0f} against {middle['pause'] * 1e3:.0f} ms; "
        f"{pruned:,} events pruned at {pruned / lasting:,.0f} a second",
        f"at most {AIM:g} times",
        ratio <= AIM,
        {
            "p99_seconds": slow["prune"],
            "baseline_p99_seconds": slow["pause"],
            "ratio": ratio,
            "p50_seconds": middle["prune"],
            "baseline_p50_seconds": middle["pause"],
            "batches": len(taken),
            "pruned": pruned,
            "events": large.EVENTS,
        },
    )


def alternately() -> tuple[list[Stretch], list[Stretch], int]:
    """Prune day after day: when nothing was done, when something was pruned, and how many events."""
    from flexmeter.maintenance.retention import prune

    pauses: list[Stretch] = []
    prunes: list[Stretch] = []
    pruned = 0
    for day in range(1, DAYS + 1):
        began = time.monotonic()
        pruned += prune(large.BEGIN + timedelta(days=day), environment="default")
        done = time.monotonic()
        prunes.append((began, done))
        time.sleep(max(done - began, AT_LEAST_SECONDS))
        pauses.append((done, time.monotonic()))
    return pauses, prunes, pruned


def ingest_steadily(stopped: Any, result: Connection) -> None:
    """Ingest batches until told to stop; tells when each was begun and how long it took."""
    from flexmeter.ingest import ingest

    chooser = random.Random(7)
    taken: dict[float, float] = {}
    start = time.monotonic()
    for number in count():
        if stopped.is_set():
            break
        batch = make_batch(chooser, number * BATCH)
        if (early := start + number * SECONDS_A_BATCH - time.monotonic()) > 0:
            time.sleep(early)
        began = time.monotonic()
        ingest(batch)
        taken[began] = time.monotonic() - began
    result.send(taken)


def make_batch(chooser: random.Random, first: int) -> list[Any]:
    """Events like those of the ledger, after its end."""
    from flexmeter.events import UsageEvent, new_id
    from flexmeter.properties import dumps

    events = []
    for number in range(first, first + BATCH):
        properties = {"tokens": chooser.randrange(4_000), "user": chooser.choice(large.USERS), "model": f"model-{number % 7}"}
        at = large.END + timedelta(milliseconds=number)
        name, customer = chooser.choice(large.NAMES), chooser.choice(large.CUSTOMERS)
        events.append(UsageEvent(new_id("event"), name, customer, at, at, properties, dumps(properties), "api", "", True))
    return events


def within(taken: dict[float, float], spans: list[Stretch]) -> list[float]:
    """What the batches took that were begun in these spans."""
    return [seconds for began, seconds in taken.items() if any(start <= began < end for start, end in spans)]


def check(pruned: int, ingested: int) -> None:
    """Raise unless just the events of the days that were pruned are gone, and all are counted."""
    from flexmeter.models import Event, Meter
    from flexmeter.usage import usage

    floor = large.BEGIN + timedelta(days=DAYS)
    stored = Event.objects.filter(environment="default")
    if stored.count() != large.EVENTS - pruned + ingested or stored.filter(timestamp__lt=floor).exists():
        raise RuntimeError(f"Of {large.EVENTS} events {pruned} were pruned, {ingested} came in, {stored.count()} are there.")
    end = large.END + timedelta(days=1)
    counts = [usage(meter=meter, start=large.BEGIN, end=end).value for meter in Meter.objects.filter(aggregation_type="COUNT")]
    if sum(counts) != large.EVENTS + ingested:
        raise RuntimeError(f"{large.EVENTS + ingested} events there were in all, {sum(counts)} are counted.")


if __name__ == "__main__":
    main()
