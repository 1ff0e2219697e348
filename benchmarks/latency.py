"""From accepted to counted: PostgreSQL, Redis and a Celery worker, with events coming in at a steady rate.

An event is accepted when record() has returned, and counted when the worker's transaction has committed; PostgreSQL keeps
that instant (track_commit_timestamp). 500 events a second come one by one, 2,000 in calls of ten. Aim: 99 of 100 counted
within 100 ms. Run: python -m benchmarks.latency
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, percentile, report, set_up

from tests.databases import start_redis

SECONDS = 20
WARM_UP_SECONDS = 5
AIM_SECONDS = 0.1
THREADS = 4
RATES = ((500, 1), (2_000, 10))


def main() -> None:
    with start_postgres() as postgres, start_redis() as redis, TemporaryDirectory() as directory:
        with postgres.connect() as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        postgres.stop()
        postgres.start()
        os.environ |= {"DATABASE_URL": postgres.url, "CELERY_BROKER_URL": redis.url, "FLEXMETER_INGEST": "celery"}
        set_up()
        from tests.e2e.processes import worker
        from tests.factories import make_meter

        for number in range(5):
            make_meter("SUM", name=f"Meter {number}", field="tokens")
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
        with worker(Path(directory), environment, beat=False) as celery:
            wait_until_ready(celery)
            feed(RATES[0][0], 1, WARM_UP_SECONDS, "warm")
            report(*(measured(rate, size) for rate, size in RATES))


def wait_until_ready(celery) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 60
    while "ready." not in celery.said():
        if time.monotonic() > end:
            raise RuntimeError(f"The worker did not start:\n{celery.said()[-2000:]}")
        time.sleep(0.1)


def feed(rate: int, size: int, lasting: float, prefix: str) -> tuple[dict[str, float], float]:
    """Record `rate` events a second in calls of `size`, from several threads: when each was accepted, and the rate kept."""
    calls = int(lasting * rate / size)
    began = time.monotonic()

    def send(thread: int) -> dict[str, float]:
        from django.db import connection

        accepted: dict[str, float] = {}
        for call in range(thread, calls, THREADS):
            if (early := began + call * size / rate - time.monotonic()) > 0:
                time.sleep(early)
            accepted |= dict.fromkeys(record_call(call, size, prefix), time.time())
        connection.close()
        return accepted

    with ThreadPoolExecutor(THREADS) as threads:
        accepted = {event_id: instant for part in threads.map(send, range(THREADS)) for event_id, instant in part.items()}
    return accepted, len(accepted) / (time.monotonic() - began)


def record_call(call: int, size: int, prefix: str) -> list[str]:
    from flexmeter.recording import record_many

    return record_many(
        {
            "event_id": f"{prefix}-{call}-{place}",
            "event_name": "tokens",
            "external_customer_id": f"customer {call % 100}",
            "properties": {"tokens": call % 1_000},
        }
        for place in range(size)
    )


def measured(rate: int, size: int) -> Outcome:
    from django.db import connection

    from flexmeter import inbox

    accepted, kept = feed(rate, size, SECONDS, f"at{rate}")
    end = time.monotonic() + 60
    while inbox.backlog().events and time.monotonic() < end:
        time.sleep(0.05)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT event_id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM flexmeter_event WHERE event_id LIKE %s",
            [f"at{rate}-%"],
        )
        counted = {event_id: float(instant) for event_id, instant in cursor.fetchall()}
    if counted.keys() != accepted.keys():
        raise RuntimeError(f"{len(accepted)} events were accepted, {len(counted)} counted.")
    waited = [max(counted[event_id] - accepted[event_id], 0.0) for event_id in accepted]
    middle, slow = statistics.median(waited), percentile(waited, 0.99)
    return Outcome(
        f"latency at {rate:,} events/s",
        f"half of {len(waited):,} events were counted within {middle * 1e3:.0f} ms of being accepted, 99 of 100 within "
        f"{slow * 1e3:.0f} ms, all within {max(waited) * 1e3:.0f} ms ({kept:,.0f} events/s came in)",
        f"99 of 100 within {AIM_SECONDS * 1e3:.0f} ms at {rate:,} events/s",
        slow < AIM_SECONDS and kept > 0.95 * rate,
        {"rate": rate, "events": len(waited), "p50_seconds": middle, "p99_seconds": slow, "kept_rate": kept},
    )


if __name__ == "__main__":
    main()
