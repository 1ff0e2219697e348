"""ingest() in batches of 1,000 on SQLite, against executemany INSERT OR IGNORE of the same rows into an equal table.

A file with the settings of the example project, which wait for the disk; the table has the same indexes, both commit every
batch, and one meter counts. Run: python -m benchmarks.sqlite_ingest
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.ingest import BATCH, CASES, COLUMNS, make_events
from benchmarks.rounds import Outcome, check_ledger, compared, medians_told, report, seconds, set_up

BATCHES = 20
ROUNDS = 7
AIM = 0.5
INSERT = f"INSERT OR IGNORE INTO baseline ({COLUMNS}) VALUES ({', '.join(['%s'] * len(COLUMNS.split(',')))})"  # noqa: S608


def main() -> None:
    with TemporaryDirectory() as directory:
        os.environ |= {"DATABASE_URL": f"sqlite:///{Path(directory) / 'bench.sqlite3'}"}
        set_up()
        report(outcome())


def outcome() -> Outcome:
    from django.db import connection

    from flexmeter.ingest import ingest

    from tests.factories import make_meter

    make_meter("SUM", event_name="llm_request", field="tokens")
    make_equal_table()
    chooser = random.Random(7)
    numbers = count()
    made: list[list[Any]] = []

    def ours() -> float:
        made[:] = [make_events(CASES[0], chooser, next(numbers) * BATCH) for _ in range(BATCHES)]
        return seconds(lambda: [ingest(batch) for batch in made])

    def theirs() -> float:
        return seconds(lambda: [insert(batch) for batch in made])

    candidate, baseline = medians_told(ours, theirs, rounds=ROUNDS)
    events = BATCHES * BATCH
    check_ledger(events * (ROUNDS + 1), meters=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM baseline")
        [inserted] = cursor.fetchone()
    if inserted != events * (ROUNDS + 1):
        raise RuntimeError(f"{events * (ROUNDS + 1)} events were inserted plainly, {inserted} are there.")
    peer = "INSERT OR IGNORE"
    return compared("sqlite_ingest", events / candidate, events / baseline, peer=peer, aim=AIM, events=events)


def make_equal_table() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'flexmeter_event' AND sql IS NOT NULL ORDER BY type DESC")
        for (statement,) in cursor.fetchall():
            cursor.execute(statement.replace("flexmeter_event", "baseline"))


def insert(events: Sequence[Any]) -> None:
    from django.db import connection, transaction

    from flexmeter.models import now

    stored = connection.ops.adapt_datetimefield_value
    with transaction.atomic(), connection.cursor() as cursor:
        instant = stored(now())
        rows = (
            (
                "default", event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
                stored(event.timestamp), stored(event.accepted_at), instant, None, event.properties_json,
            )
            for event in events
        )  # fmt: skip
        cursor.executemany(INSERT, rows)


if __name__ == "__main__":
    main()
