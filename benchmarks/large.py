"""A large ledger for benchmarks: events of 90 days, 100 customers of very different size, five event names, twenty meters.

The database itself makes events and rollups, the latter as compaction leaves them, in minutes where ingestion would take
longer; afterwards figures that flexmeter gives from the rollups are compared with those of the events.
FLEXMETER_BENCH_EVENTS sets how many events.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

EVENTS: Final = int(os.environ.get("FLEXMETER_BENCH_EVENTS", "10000000"))
DAYS: Final = 90
END: Final = datetime(2026, 10, 1, tzinfo=UTC)
BEGIN: Final = END - timedelta(days=DAYS)
NAMES: Final = [f"name_{number}" for number in range(5)]
CUSTOMERS: Final = [f"customer_{number}" for number in range(100)]
USERS: Final = [f"user_{number}" for number in range(200)]
BUSY: Final = "customer_0"
"""The customer with most events."""

DRAWN: Final = """
    CREATE UNLOGGED TABLE drawn AS
    SELECT n, 'name_' || floor(5 * power(random(), 2))::int AS name,
           'customer_' || floor(100 * power(random(), 3))::int AS customer,
           %(begin)s::timestamptz + n * (%(end)s::timestamptz - %(begin)s::timestamptz) / %(events)s AS instant,
           floor(random() * 4000)::int AS tokens, 'user_' || floor(200 * random())::int AS person
    FROM generate_series(0, %(events)s - 1) AS n
"""
STORED: Final = """
    INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source, timestamp,
                                 accepted_at, ingested_at, properties)
    SELECT 'default', 'event_' || lpad(n::text, 26, '0'), name, customer, '', 'api', instant, instant, instant,
           ('{"tokens":' || tokens || ',"user":"' || person || '","model":"model-' || n %% 7 || '","cached":false}')::json
    FROM drawn ORDER BY n
"""
WRITTEN: Final = """
    CASE WHEN b.slot < %(last_day)s THEN b.slot - b.slot %% 96 ELSE b.slot END, s.id, b.slot
"""
"""In which order compaction has written the rows of buckets: a series' day at once, when the next one began."""
SLOT: Final = "%(epoch)s + (floor(extract(epoch FROM {instant}) / 900))::int"
"""The slot of an instant's bucket, given that of the Unix epoch."""
BUCKETS: Final = f"""
    INSERT INTO flexmeter_rollup (part, series_id, slot, count, total, maximum)
    SELECT row_number() OVER (), s.id, b.slot, b.count, CASE m.aggregation_type WHEN 'SUM' THEN b.total END,
           CASE m.aggregation_type WHEN 'MAX' THEN b.maximum END
    FROM (SELECT name, customer, {SLOT.format(instant="instant")} AS slot, count(*) AS count,
                 sum(tokens) AS total, max(tokens) AS maximum FROM drawn GROUP BY 1, 2, 3) AS b
    JOIN flexmeter_meter m ON m.event_name = b.name
    JOIN flexmeter_series s ON s.meter_id = m.id AND s.external_customer_id = b.customer
    ORDER BY {WRITTEN}
"""  # noqa: S608  # made of constants
WHOLE_DAYS: Final = """
    INSERT INTO flexmeter_rollup (part, series_id, slot, count, total, maximum)
    SELECT row_number() OVER (), series_id, slot - slot %% 96 + %(later)s, sum(count), sum(total), max(maximum)
    FROM flexmeter_rollup GROUP BY 2, 3 ORDER BY 3, 2
"""
UNIQUE: Final = """
    INSERT INTO flexmeter_uniquevalue (part, series_id, day, value)
    SELECT row_number() OVER (), s.id, u.day, p.digest
    FROM (SELECT DISTINCT name, customer, date_trunc('day', instant, 'UTC') AS day, person FROM drawn) AS u
    JOIN unnest(%(people)s::text[], %(digests)s::uuid[]) AS p (person, digest) ON p.person = u.person
    JOIN flexmeter_meter m ON m.event_name = u.name AND m.aggregation_type = 'COUNT_UNIQUE'
    JOIN flexmeter_series s ON s.meter_id = m.id AND s.external_customer_id = u.customer
    ORDER BY s.id, u.day
"""


def fill(using: str = "default", events: int = EVENTS) -> None:
    """Fill an empty database behind Django's settings; takes minutes for ten million events."""
    from django.db import connections

    from flexmeter.metering import NO_GROUP, SeriesKey
    from flexmeter.properties import digest
    from flexmeter.stores.database.native_rollups import rollup_writer

    meters = make_meters(using)
    keys = {SeriesKey(meter.pk, meter.generation, customer, NO_GROUP.int) for meter in meters for customer in CUSTOMERS}
    rollup_writer(using).series_ids("default", keys)
    parameters = {"begin": BEGIN, "end": END, "events": events}
    people = {"people": USERS, "digests": [digest(user) for user in USERS]}
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET work_mem = '256MB'")
        cursor.execute(DRAWN, parameters)
        cursor.execute("ANALYZE drawn, flexmeter_series, flexmeter_meter")
        cursor.execute(STORED, {})
        cursor.execute(BUCKETS, slots())
        cursor.execute(WHOLE_DAYS, slots())
        cursor.execute(UNIQUE, people)
        cursor.execute("DROP TABLE drawn")
        cursor.execute("RESET synchronous_commit")
        cursor.execute("RESET work_mem")
        cursor.execute("VACUUM ANALYZE")
    check(meters, using)


def slots() -> dict[str, int]:
    """Of rows of buckets: those of the Unix epoch and of the last day's beginning; and how much later those of days are."""
    from flexmeter.models import Rollup
    from flexmeter.slots import LEVEL_SLOTS, position

    of_buckets = Rollup.Level.BUCKET
    return {
        "epoch": position(of_buckets, datetime(1970, 1, 1, tzinfo=UTC)).slot,
        "last_day": position(of_buckets, END - timedelta(days=1)).slot,
        "later": (Rollup.Level.DAY - of_buckets) * LEVEL_SLOTS,
    }


def make_meters(using: str) -> list:  # type: ignore[type-arg]
    """Four of every event name; the maximum of the first one's is taken by the hour."""
    from tests.factories import make_meter

    return [
        make_meter(
            type,
            name=f"{type} of {name}",
            event_name=name,
            field="user" if type == "COUNT_UNIQUE" else "tokens",
            bucket_size="HOUR" if type == "MAX" and name == NAMES[0] else "",
            using=using,
        )
        for name in NAMES
        for type in ("COUNT", "SUM", "MAX", "COUNT_UNIQUE")
    ]


def check(meters: list, using: str) -> None:  # type: ignore[type-arg]
    """Raise unless rollups and events say the same of a day of the busiest customer, whole and by the hour, and of all
    days of some small ones, whose days have to be what their buckets come to."""
    from flexmeter.asking import query_of
    from flexmeter.maintenance.verification import spot_check
    from flexmeter.usage import usage, usage_from_events

    day = BEGIN + timedelta(days=40)
    for meter in meters[:4]:
        for window in ("DAY",) if meter.aggregation_type == "COUNT_UNIQUE" else ("DAY", "HOUR"):
            query = query_of({"meter": meter, "customer": BUSY, "start": day, "end": day + timedelta(days=1), "window": window})
            rolled_up, counted = usage(query, using=using), usage_from_events(query, using=using)
            if rolled_up.source != "rollups" or rolled_up != replace(counted, source="rollups"):
                raise RuntimeError(f"{meter.name} by {window}: {rolled_up} from rollups, {counted} from events.")
    if differences := spot_check(meters=4, using=using)[1]:
        raise RuntimeError(f"Rollups and events differ: {differences[:5]}")
