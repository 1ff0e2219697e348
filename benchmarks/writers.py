"""Four writers at once calling ingest() in batches of 1,000, against four doing a plain deduplicating insert of the same rows.

PostgreSQL, five meters, 1,000 customers that all writers share; the plain insert goes into an equal table, a statement a
batch. No writer may be stopped by another: retries and deadlocks miss the aim too. Run: python -m benchmarks.writers
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from typing import Any

from benchmarks.ingest import BATCH, COLUMNS, Case, make_events
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, check_ledger, compared, medians_told, report, set_up

WRITERS = 4
BATCHES = 10
ROUNDS = 5
AIM = 0.65
PATIENCE_SECONDS = 300.0
CASE = Case("five meters, 1,000 customers", 5, 1_000, 0.0, AIM)
INSERT = f"""
    INSERT INTO baseline ({COLUMNS})
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::json[])
    ON CONFLICT DO NOTHING
"""  # noqa: S608


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        from django.db import connection, connections

        from tests.factories import make_meter

        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE baseline (LIKE flexmeter_event INCLUDING ALL)")
        for number in range(CASE.meters):
            make_meter("SUM", name=f"Meter {number}", event_name="llm_request", field="tokens")
        connections.close_all()  # no writer inherits one
        processes = multiprocessing.get_context("fork")
        start, end = processes.Barrier(WRITERS + 1), processes.Barrier(WRITERS + 1)
        retries = processes.Value("i", 0)
        writers = [processes.Process(target=write, args=(number, start, end, retries), daemon=True) for number in range(WRITERS)]
        for writer in writers:
            writer.start()

        def measured() -> float:
            start.wait(PATIENCE_SECONDS)
            began = time.perf_counter()
            end.wait(PATIENCE_SECONDS)
            return time.perf_counter() - began

        candidate, baseline = medians_told(measured, measured, rounds=ROUNDS)
        for writer in writers:
            writer.join()
        report(outcome(candidate, baseline, retries.value))


def write(number: int, start: Barrier, end: Barrier, retries: Any) -> None:
    """A writer's rounds: between `start` and `end` first ingest(), then the plain insert. Adds what it had to try again."""
    from flexmeter import ingest

    attempts = 0
    in_transaction = ingest.in_transaction

    def counted(alias: str, work: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            nonlocal attempts
            attempts += 1
            return work()

        return in_transaction(alias, attempt)

    ingest.in_transaction = counted
    chooser = random.Random(number)
    try:
        for round_number in range(ROUNDS + 1):
            first = round_number * BATCHES * BATCH  # the writers' events happen at the same time
            batches = [make_events(CASE, chooser, first + place * BATCH) for place in range(BATCHES)]
            for store in (ingest.ingest, insert):
                start.wait(PATIENCE_SECONDS)
                for batch in batches:
                    store(batch)
                end.wait(PATIENCE_SECONDS)
    except BaseException:
        start.abort()
        end.abort()
        raise
    with retries.get_lock():
        retries.value += attempts - BATCHES * (ROUNDS + 1)


def insert(events: Sequence[Any]) -> None:
    from django.db import connection

    from flexmeter.models import now

    instant = now()
    rows = (
        (
            "default", event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
            event.timestamp, event.accepted_at, instant, None, event.properties_json,
        )
        for event in events
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [list(column) for column in zip(*rows, strict=True)])


def outcome(candidate: float, baseline: float, retries: int) -> Outcome:
    from django.db import connection

    events = WRITERS * BATCHES * BATCH
    check_ledger(events * (ROUNDS + 1), meters=CASE.meters)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM baseline")
        [inserted] = cursor.fetchone()
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        [deadlocks] = cursor.fetchone()
    if inserted != events * (ROUNDS + 1):
        raise RuntimeError(f"{events * (ROUNDS + 1)} events were inserted plainly, {inserted} are there.")
    figures = {"writers": WRITERS, "events": events, "retries": retries, "deadlocks": deadlocks}
    peer = f"{WRITERS} plain deduplicating inserts"
    found = compared("writers", events / candidate, events / baseline, peer=peer, aim=AIM, **figures)
    return replace(
        found,
        told=f"{found.told}; {deadlocks} deadlocks, {retries} retries",
        aim=f"{found.aim}, no deadlock, no retry",
        met=found.met and not deadlocks and not retries,
    )


if __name__ == "__main__":
    main()
