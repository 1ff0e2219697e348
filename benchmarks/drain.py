"""One Celery worker process draining a full inbox, against plain COPY of the same rows into an equal event table.

PostgreSQL and Redis; the inbox holds batches of 1,000 as POST /events/bulk leaves them, and one meter counts. The clock
runs from before the commit that fills the inbox to the commit that empties it. Run: python -m benchmarks.drain
"""

from __future__ import annotations

import os
import random
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.ingest import BATCH, CASES, copy, make_events
from benchmarks.latency import wait_until_ready
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, check_ledger, compared, medians_told, report, seconds, set_up

from tests.databases import start_redis

BATCHES = 50
ROUNDS = 5
AIM = 0.5
SECONDS_TO_DRAIN = 120.0


def main() -> None:
    with start_postgres() as postgres, start_redis() as redis, TemporaryDirectory() as directory:
        os.environ |= {"DATABASE_URL": postgres.url, "CELERY_BROKER_URL": redis.url, "FLEXMETER_INGEST": "celery"}
        set_up()
        from django.db import connection

        from tests.e2e.processes import celery
        from tests.factories import make_meter

        make_meter("SUM", event_name="llm_request", field="tokens")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE baseline (LIKE flexmeter_event INCLUDING ALL)")
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
        log = Path(directory) / "worker.log"
        with celery(log, "worker", "--concurrency", "1", "--loglevel", "INFO", environment=environment) as worker:
            wait_until_ready(worker)
            report(outcome())


def outcome() -> Outcome:
    chooser = random.Random(7)
    numbers = count()
    made: list[list[Any]] = []

    def ours() -> float:
        made[:] = [make_events(CASES[0], chooser, next(numbers) * BATCH) for _ in range(BATCHES)]
        return drained(made)

    def theirs() -> float:
        return seconds(lambda: [copy(batch) for batch in made])

    candidate, baseline = medians_told(ours, theirs, rounds=ROUNDS)
    events = BATCHES * BATCH
    check_ledger(events * (ROUNDS + 1), meters=1)
    return compared("drain", events / candidate, events / baseline, peer="plain COPY", aim=AIM, events=events)


def drained(batches: list[list[Any]]) -> float:
    """Seconds until a worker has counted them all."""
    from django.db import transaction

    from flexmeter import inbox
    from flexmeter.models import DEFAULT_ENVIRONMENT, InboxBatch

    with transaction.atomic():  # the worker sees them all at once
        for batch in batches:
            inbox.put(batch, environment=DEFAULT_ENVIRONMENT)
        start = time.perf_counter()
    while InboxBatch.objects.exists():
        if time.perf_counter() - start > SECONDS_TO_DRAIN:
            raise RuntimeError(f"{inbox.backlog().events} events still wait after {SECONDS_TO_DRAIN:.0f} seconds.")
        time.sleep(0.02)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
