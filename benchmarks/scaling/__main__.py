"""How the cost of ingestion grows with batch size, meters, customers, dimensions, writers and the ledger, on PostgreSQL.

No aims: these are the figures that docs/scaling.md reasons from. Each is the median of alternating rounds over all sizes of one
row, so that what the machine does besides falls on all of them alike. Run: python -m benchmarks.scaling [--events N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any, Final

from benchmarks import large
from benchmarks.ingest import BATCH, BEGIN
from benchmarks.machine import start_postgres
from benchmarks.rounds import check_ledger, medians_told, seconds, set_up

EVENTS: Final = 10_000
"""Events of one trial."""
ROUNDS: Final = 5
PATIENCE_SECONDS: Final = 120.0
TABLES: Final = "flexmeter_event, flexmeter_rollup, flexmeter_uniquevalue, flexmeter_series, flexmeter_meter"

_numbers = count()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="size of the largest ledger")
    options = parser.parse_args()
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        told(
            "events in a call",
            {size: rate_of(batch=size, most=EVENTS // 20 if size == 1 else EVENTS) for size in (1, 10, 100, 1_000, 5_000)},
        )
        told("meters that count an event", {number: rate_of(meters=number) for number in (0, 1, 5, 20)})
        told(
            "customers in a batch of 1,000, five meters",
            {number: rate_of(meters=5, customers=number) for number in (1, 10, 100, 1_000)},
        )
        told(
            "combinations of two dimensions in a batch, one meter, one customer",
            {number: rate_of(customers=1, combinations=number) for number in (0, 10, 100, 500)},
        )
        told("writers at once, five meters", {number: rate_of_writers(number) for number in (1, 2, 4, 8)})
        compaction()
        ledger(options.events)


def told(what: str, trials: dict[int, Callable[[], float]]) -> None:
    """Print the rate of each size."""
    rates = medians_told(*trials.values(), rounds=ROUNDS)
    print(f"{what}: " + ", ".join(f"{size:,} {rate:,.0f} events/s" for size, rate in zip(trials, rates, strict=True)), flush=True)


def emptied(meters: int, dimensions: Sequence[str] = ()) -> None:
    """An empty ledger with so many meters."""
    from django.db import connection

    from flexmeter.stores.database import series

    from tests.factories import make_meter

    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLES} CASCADE")
    series.forget()
    for number in range(meters):
        make_meter("SUM", name=f"Meter {number}", event_name="llm_request", field="tokens", dimensions=tuple(dimensions))


def made(events: int, batch: int, customers: int, combinations: int, chooser: random.Random) -> Iterator[list[Any]]:
    """Batches of events that happen within minutes, in the order of their ids."""
    from flexmeter.events import UsageEvent, new_id
    from flexmeter.properties import dumps

    for start in range(0, events, batch):
        some = []
        for _ in range(min(batch, events - start)):
            at = BEGIN + timedelta(milliseconds=36 * next(_numbers))
            model = chooser.randrange(max(combinations, 1))
            properties = {"tokens": chooser.randrange(4_000), "model": f"model-{model % 50}", "region": f"region-{model // 50}"}
            customer = f"customer_{chooser.randrange(customers)}"
            some.append(
                UsageEvent(new_id("event"), "llm_request", customer, at, at, properties, dumps(properties), "api", "", True)
            )
        yield some


def rate_of(
    *, batch: int = BATCH, meters: int = 1, customers: int = 100, combinations: int = 0, most: int = EVENTS
) -> Callable[[], float]:
    """A trial: events per second of one writer into an empty ledger, all counted when it returns."""

    def trial() -> float:
        from flexmeter.ingest import ingest

        emptied(meters, ("model", "region") if combinations else ())
        chooser = random.Random(7)
        warm = list(made(2 * BATCH, BATCH, customers, combinations, chooser))
        batches = list(made(most, batch, customers, combinations, chooser))
        for some in warm:
            ingest(some)
        taken = seconds(lambda: [ingest(some) for some in batches])
        check_ledger(most + 2 * BATCH, meters=meters)
        return most / taken

    return trial


def rate_of_writers(writers: int) -> Callable[[], float]:
    """A trial: events per second of so many processes together, into an empty ledger of five meters."""

    def trial() -> float:
        from django.db import connections

        emptied(5)
        connections.close_all()  # no writer inherits one
        processes = multiprocessing.get_context("fork")
        start, end = processes.Barrier(writers + 1), processes.Barrier(writers + 1)
        started = [processes.Process(target=_write, args=(number, start, end), daemon=True) for number in range(writers)]
        for process in started:
            process.start()
        start.wait(PATIENCE_SECONDS)
        began = time.perf_counter()
        end.wait(PATIENCE_SECONDS)
        taken = time.perf_counter() - began
        for process in started:
            process.join()
        check_ledger(writers * (EVENTS + BATCH), meters=5)
        return writers * EVENTS / taken

    return trial


def _write(number: int, start: Any, end: Any) -> None:
    from flexmeter.ingest import ingest

    try:
        chooser = random.Random(number)
        first, *batches = made(EVENTS + BATCH, BATCH, 100, 0, chooser)
        ingest(first)
        start.wait(PATIENCE_SECONDS)
        for batch in batches:
            ingest(batch)
        end.wait(PATIENCE_SECONDS)
    except BaseException:
        start.abort()
        end.abort()
        raise


def compaction() -> None:
    """Print how fast appended rows are merged."""
    from flexmeter.ingest import ingest
    from flexmeter.maintenance.compaction import compact
    from flexmeter.models import Rollup

    emptied(5)
    for batch in made(10 * EVENTS, BATCH, 100, 0, random.Random(7)):
        ingest(batch)
    rows = Rollup.objects.count()
    taken = seconds(compact)
    left = Rollup.objects.count()
    print(
        f"compaction: {rows:,} rows of {10 * EVENTS:,} events became {left:,} in {taken:.1f} s, {rows / taken:,.0f} rows/s",
        flush=True,
    )


def ledger(largest: int) -> None:
    """Print the rate into ledgers of growing size, each filled as benchmarks.large does."""
    from flexmeter.ingest import ingest
    from flexmeter.models import Event, Meter

    for events in (largest // 100, largest // 10, largest):
        emptied(0)
        large.fill(events=events)
        Meter.objects.filter(event_name=large.NAMES[0]).update(event_name="llm_request")
        before = Event.objects.count()
        rates = []
        for _ in range(ROUNDS):
            batches = list(made(EVENTS, BATCH, 100, 0, random.Random(7)))
            rates.append(EVENTS / seconds(lambda: [ingest(batch) for batch in batches]))  # noqa: B023
        if Event.objects.count() != before + ROUNDS * EVENTS:
            raise RuntimeError("Events were lost or counted twice.")
        print(f"a ledger of {events:,} events, four meters: {sorted(rates)[ROUNDS // 2]:,.0f} events/s", flush=True)


if __name__ == "__main__":
    main()
