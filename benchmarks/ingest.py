"""ingest() in batches of 1,000, dedupe and rollups included, against plain COPY of the same rows into an equal event table.

PostgreSQL, one connection each, both committing every batch; the baseline encodes the rows as the driver does, and its
table has the same indexes. Run: python -m benchmarks.ingest
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, check_ledger, report, seconds, set_up

BATCH = 1_000
BATCHES = 20
ROUNDS = 15
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = (
    "environment, event_id, event_name, external_customer_id, customer_id, source, timestamp, accepted_at, ingested_at, "
    "repeated_at, properties"
)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    meters: int
    customers: int
    repeated: float
    aim: float


CASES = (
    Case("one meter", 1, 100, 0.0, 0.75),
    Case("five meters, 100 customers", 5, 100, 0.0, 0.6),
    Case("five meters, 1,000 customers", 5, 1_000, 0.0, 0.45),
    Case("one meter, a tenth repeated", 1, 100, 0.1, 0.5),
)


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        report(*(outcome(case) for case in CASES))


def make_events(case: Case, chooser: random.Random, first: int) -> list[Any]:
    """One batch: its ids are in the order of time, its events spread over an hour."""
    from flexmeter.events import UsageEvent, new_id
    from flexmeter.properties import dumps

    events = []
    for place in range(BATCH):
        number = first + place
        at = BEGIN + timedelta(milliseconds=36 * number)
        properties = {"tokens": chooser.randrange(4_000), "model": f"model-{number % 7}", "region": "eu", "cached": False}
        customer = f"customer_{chooser.randrange(case.customers)}"
        text = dumps(properties)
        events.append(UsageEvent(new_id("event"), "llm_request", customer, at, at, properties, text, "api", "", True))
    return events


def outcome(case: Case) -> Outcome:
    from django.db import connection

    from flexmeter.ingest import ingest
    from flexmeter.models import Meter

    from tests.factories import make_meter

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE flexmeter_event, flexmeter_rollup, flexmeter_uniquevalue, flexmeter_series CASCADE")
        cursor.execute("TRUNCATE flexmeter_meter CASCADE")
        cursor.execute("DROP TABLE IF EXISTS baseline")
        cursor.execute("CREATE TABLE baseline (LIKE flexmeter_event INCLUDING ALL)")
    Meter.objects.all().delete()
    for number in range(case.meters):
        make_meter("SUM", name=f"Meter {number}", event_name="llm_request", field="tokens")
    chooser = random.Random(7)
    taken: tuple[list[float], list[float]] = ([], [])
    sent: set[str] = set()
    for number in range(ROUNDS + 1):
        batches = [make_events(case, chooser, (number * BATCHES + place) * BATCH) for place in range(BATCHES)]
        fresh = [list(batch) for batch in batches]
        if case.repeated:
            for before, batch in pairwise(batches):
                again = before[-int(BATCH * case.repeated) :]
                batch[: len(again)] = [event._replace(accepted_at=event.accepted_at + timedelta(minutes=1)) for event in again]
        ours = seconds(lambda: [ingest(batch) for batch in batches])  # noqa: B023
        theirs = seconds(lambda: [copy(batch) for batch in fresh])  # noqa: B023
        if number:  # the first fills caches
            taken[0].append(ours)
            taken[1].append(theirs)
        sent |= {event.event_id for batch in batches for event in batch}
    check_ledger(len(sent), meters=case.meters)
    candidate, baseline = (statistics.median(each) for each in taken)
    rate, limit = BATCHES * BATCH / candidate, BATCHES * BATCH / baseline
    return Outcome(
        f"ingest, {case.name}",
        f"{rate:,.0f} events/s, {rate / limit:.2f} of plain COPY ({limit:,.0f})",
        f"at least {case.aim}",
        rate / limit >= case.aim,
        {"events_per_second": rate, "baseline_events_per_second": limit, "ratio": rate / limit, "events": len(sent)},
    )


def copy(events: Sequence[Any], into: str = "baseline", *, keep: bool = True) -> None:
    """Copy a batch in a transaction of its own, which is rolled back where nothing is to be kept."""
    from django.db import connection, transaction

    from flexmeter.models import now

    with transaction.atomic(), connection.cursor() as cursor:
        instant = now()
        with cursor.cursor.copy(f"COPY {into} ({COLUMNS}) FROM STDIN") as rows:
            for event in events:
                rows.write_row(
                    (
                        "default", event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
                        event.timestamp, event.accepted_at, instant, None, event.properties_json,
                    )
                )  # fmt: skip
        transaction.set_rollback(not keep)


if __name__ == "__main__":
    main()
