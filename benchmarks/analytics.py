"""POST /events/analytics: one customer, 30 days by day, twenty meters, on ten million events of PostgreSQL.

Aim: below 100 ms at the median, through the whole of Django, without a network. Run: python -m benchmarks.analytics
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

from benchmarks import large
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, medians, report, set_up

AIM_SECONDS = 0.1
ROUNDS = 15


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        large.fill()
        report(measured())


def measured() -> Outcome:
    from django.db import connection
    from django.test import Client

    from flexmeter.events import format_timestamp
    from flexmeter.keys import create_key

    client = Client(headers={"x-api-key": create_key("bench", environment="default").secret})
    question = {
        "external_customer_id": large.BUSY,
        "start_time": format_timestamp(large.END - timedelta(days=30)),
        "end_time": format_timestamp(large.END),
        "window_size": "DAY",
    }

    def ask() -> dict:  # type: ignore[type-arg]
        answer = client.post("/v1/events/analytics", question, content_type="application/json")
        if answer.status_code != 200:
            raise RuntimeError(f"Analytics answered {answer.status_code}: {answer.content[:500]!r}")
        return json.loads(answer.content)

    queries: list[str] = []

    def count(execute, sql, *arguments):  # type: ignore[no-untyped-def]
        queries.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(count):
        items = ask()["items"]
    if len(items) != 20 or any(len(item["points"]) != 30 for item in items):
        raise RuntimeError(f"20 items of 30 points were expected, not {[len(item['points']) for item in items]}.")
    [taken] = medians(ask, rounds=ROUNDS)
    return Outcome(
        "analytics",
        f"{taken * 1e3:.0f} ms and {len(queries)} queries for 20 meters by day over 30 days, on {large.EVENTS:,} events",
        f"below {AIM_SECONDS * 1e3:.0f} ms",
        taken < AIM_SECONDS,
        {"seconds": taken, "queries": len(queries), "events": large.EVENTS},
    )


if __name__ == "__main__":
    main()
