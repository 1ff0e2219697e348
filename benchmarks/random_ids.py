"""ingest() of events with random ids (UUID 4) against events with time-ordered ids, into the same large table.

PostgreSQL, batches of 1,000, one meter. The table holds FLEXMETER_BENCH_EVENTS events (ten million) whose ids are random
too, so that new ones fall everywhere into the index, which is as full as an index that grew that way: 70 %. The first change
of a page after a checkpoint writes all of it to the log: how the first events after one fare is told besides. What the
database itself takes for random ids is told by plain COPY of such rows into the same table, rolled back.
Run: python -m benchmarks.random_ids
"""

from __future__ import annotations

import os
import random
from itertools import count
from typing import Any
from uuid import uuid4

from benchmarks import large
from benchmarks.ingest import BATCH, CASES, copy, make_events
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, check_ledger, compared, medians_told, report, seconds, set_up

BATCHES = 50
ROUNDS = 15
AIM = 0.8
ORDERED = "'event_' || lpad(n::text, 26, '0')"
READ = "SELECT count(*) FROM (SELECT event_id FROM flexmeter_event ORDER BY event_id, environment OFFSET 0) AS read"
IDENTITY = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'flexmeter_event_identity'"


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        fill()
        report(outcome())


def fill() -> None:
    """Fill the events of the large ledger, with random ids and no rollups, and have the index of ids in memory."""
    from django.db import connection

    if ORDERED not in large.STORED:
        raise RuntimeError(f"The large ledger's ids are no longer {ORDERED}.")
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(large.DRAWN, {"begin": large.BEGIN, "end": large.END, "events": large.EVENTS})
        cursor.execute(IDENTITY)
        [identity] = cursor.fetchone()
        cursor.execute("ALTER TABLE flexmeter_event DROP CONSTRAINT flexmeter_event_identity")
        cursor.execute(large.STORED.replace(ORDERED, "gen_random_uuid()::text"), {})
        cursor.execute(f"ALTER TABLE flexmeter_event ADD CONSTRAINT flexmeter_event_identity {identity} WITH (fillfactor = 70)")
        cursor.execute("DROP TABLE drawn")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SET enable_seqscan = off; SET enable_sort = off")
        cursor.execute(READ)
        cursor.execute("RESET enable_seqscan; RESET enable_sort")
        cursor.execute("CHECKPOINT")
        cursor.execute("SET synchronous_commit = on")


def outcome() -> Outcome:
    from flexmeter.ingest import ingest

    from tests.factories import make_meter

    make_meter("SUM", event_name="llm_request", field="tokens")
    chooser = random.Random(7)
    numbers = count()

    def ordered() -> list[list[Any]]:
        return [make_events(CASES[0], chooser, next(numbers) * BATCH) for _ in range(BATCHES)]

    def at_random() -> list[list[Any]]:
        return [[event._replace(event_id=str(uuid4())) for event in batch] for batch in ordered()]

    def ingested(batches: list[list[Any]]) -> float:
        return seconds(lambda: [ingest(batch) for batch in batches])

    def copied(batches: list[list[Any]]) -> float:
        return seconds(lambda: [copy(batch, "flexmeter_event", keep=False) for batch in batches])

    at_first = ingested(ordered()) / ingested(at_random())
    candidate, baseline, *plain = medians_told(
        lambda: ingested(at_random()),
        lambda: ingested(ordered()),
        lambda: copied(at_random()),
        lambda: copied(ordered()),
        rounds=ROUNDS,
    )
    limit = plain[1] / plain[0]
    events = BATCHES * BATCH
    check_ledger(2 * events * (ROUNDS + 2), meters=1, before=large.EVENTS)
    peer = (
        f"(the first {events:,} after a checkpoint: {at_first:.2f} times; plain COPY into the same table: {limit:.2f} times) "
        f"time-ordered ids on {large.EVENTS:,} events"
    )
    rates = events / candidate, events / baseline
    figures = {"ratio_after_checkpoint": at_first, "ratio_of_copy": limit}
    return compared("random_ids", *rates, peer=peer, aim=AIM, events=large.EVENTS, **figures)


if __name__ == "__main__":
    main()
