"""The questions to ClickHouse, in this process: FlexPrice's layout of metered usage, and its way of asking.

A row for every meter and event, in a ReplacingMergeTree with a partition for each day, ordered by tenant, environment,
customer, meter, time and id. An event that is sent again makes a second row until its parts are merged; hence every
question has FINAL, and merges within partitions only. Here each partition has been merged into one part, which no
installation that takes in events can count on, so these times are the best there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import large
from benchmarks.sides import END, NAME, START, TOP, Answer, of_windows

DISTINCT_EVENTS: Final = "count(DISTINCT id)"
"""How FlexPrice counts the events behind a figure."""
ROWS: Final = "count()"
"""The same number by way of FINAL, with less work."""
METERS: Final = "CREATE TABLE meter (event_name String, meter_id String, type String) ENGINE = Memory"
KNOWN_METERS: Final = "INSERT INTO meter VALUES {rows}"
USAGE: Final = """
    CREATE TABLE meter_usage (
        id String CODEC(ZSTD(1)),
        tenant_id LowCardinality(String),
        environment_id LowCardinality(String),
        external_customer_id LowCardinality(String),
        meter_id LowCardinality(String),
        timestamp DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
        ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
        qty_total Decimal(18, 8) CODEC(ZSTD(1)),
        unique_hash String DEFAULT '' CODEC(ZSTD(1)),
        source LowCardinality(String) DEFAULT '',
        properties String DEFAULT '' CODEC(ZSTD(3)),
        INDEX idx_ingested_at ingested_at TYPE minmax GRANULARITY 1
    )
    ENGINE = ReplacingMergeTree(ingested_at)
    PARTITION BY toYYYYMMDD(timestamp)
    PRIMARY KEY (tenant_id, environment_id, external_customer_id, meter_id, timestamp)
    ORDER BY (tenant_id, environment_id, external_customer_id, meter_id, timestamp, id)
    SETTINGS index_granularity = 8192
"""
EXPORTED: Final = """
    COPY (
        SELECT event_id, event_name, external_customer_id, source, floor(extract(epoch FROM timestamp))::bigint, properties
        FROM flexmeter_event WHERE environment = 'default' AND timestamp >= %s AND timestamp < %s
    ) TO STDOUT
"""
METERED: Final = """
    INSERT INTO meter_usage
        (id, tenant_id, environment_id, external_customer_id, meter_id, timestamp, qty_total, unique_hash, source, properties)
    SELECT e.id, 'tenant', 'default', e.customer, m.meter_id, toDateTime(e.instant, 'UTC'),
           multiIf(m.type IN ('SUM', 'MAX'), JSONExtractInt(e.properties, 'tokens'), 1),
           if(m.type = 'COUNT_UNIQUE', lower(hex(SHA256(JSONExtractString(e.properties, 'user')))), ''),
           e.source, e.properties
    FROM file('{path}', 'TSV', 'id String, name String, customer String, source String, instant Int64, properties String') e
    JOIN meter m ON m.event_name = e.name
"""
USED: Final = f"""
    FROM meter_usage FINAL
    WHERE tenant_id = 'tenant' AND environment_id = 'default' AND meter_id = '{{meter}}'
    AND timestamp >= toDateTime({int(START.timestamp())}, 'UTC') AND timestamp < toDateTime({int(END.timestamp())}, 'UTC')
"""
OF_CUSTOMER: Final = f"{USED} AND external_customer_id = '{large.BUSY}'"
DAY: Final = "toUnixTimestamp(toStartOfDay(timestamp, 'UTC')) AS start"
HOUR: Final = "toUnixTimestamp(toStartOfHour(timestamp, 'UTC')) AS start"
BY_START: Final = "GROUP BY start ORDER BY start"
SETTINGS: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"
SUM_BY_DAY: Final = f"SELECT {DAY}, sum(qty_total), {{events}} {OF_CUSTOMER} {BY_START}"
UNIQUE: Final = f"count(DISTINCT unique_hash), {{events}} {OF_CUSTOMER} AND unique_hash != ''"
UNIQUE_BY_DAY: Final = f"SELECT {DAY}, {UNIQUE} {BY_START}"
UNIQUE_OVER_MONTH: Final = f"SELECT NULL, {UNIQUE}"
PEAKS: Final = f"FROM (SELECT {HOUR}, max(qty_total) AS peak, {{events}} AS events {OF_CUSTOMER} GROUP BY start)"
MAX_BY_HOUR: Final = f"SELECT start, peak, events, sum(peak) OVER () {PEAKS} ORDER BY start"
TOP_CUSTOMERS: Final = f"""
    SELECT external_customer_id, sum(qty_total) AS used, {{events}} {USED}
    GROUP BY external_customer_id ORDER BY used DESC, external_customer_id LIMIT {TOP}
"""
EVERYONE_BY_DAY: Final = f"SELECT {DAY}, sum(qty_total), {{events}} {USED} {BY_START}"


class Columnar:
    """Asks ClickHouse about the whole ledger."""

    name = "ClickHouse with FINAL"

    def __init__(self, session: Any, meters: dict[str, str], events: str = DISTINCT_EVENTS) -> None:
        self.session = session
        self.meters = meters
        self.events = events

    def counting(self, events: str) -> Columnar:
        """The same table, with another expression for the number of events."""
        return Columnar(self.session, self.meters, events)

    def sum_by_day(self) -> Answer:
        return _windows(self._rows(SUM_BY_DAY, "SUM"))

    def unique_by_day(self) -> Answer:
        return _windows(self._rows(UNIQUE_BY_DAY, "COUNT_UNIQUE"))

    def unique_over_month(self) -> Answer:
        return [(None, Decimal(value), int(events)) for _, value, events in self._rows(UNIQUE_OVER_MONTH, "COUNT_UNIQUE")]

    def max_by_hour(self) -> Answer:
        rows = self._rows(MAX_BY_HOUR, "MAX")
        return of_windows(_windows([row[:3] for row in rows]), Decimal(rows[0][3]))

    def top_customers(self) -> Answer:
        return [(name, Decimal(value), int(events)) for name, value, events in self._rows(TOP_CUSTOMERS, "SUM")]

    def everyone_by_day(self) -> Answer:
        return _windows(self._rows(EVERYONE_BY_DAY, "SUM"))

    def _rows(self, sql: str, type: str) -> list[list[str]]:
        answer = self.session.query(f"{sql.format(meter=self.meters[type], events=self.events)} {SETTINGS}", "TSV")
        return [line.split("\t") for line in str(answer).splitlines()]


def missing() -> str | None:
    """What this side needs and does not find."""
    return None if find_spec("chdb") else "the Python module chdb"


@contextmanager
def filled() -> Iterator[Columnar]:
    """A table of the whole ledger's events, in merged parts."""
    from chdb.session import Session

    from flexmeter.models import Meter

    with TemporaryDirectory() as directory:
        session = Session(str(Path(directory) / "clickhouse"))
        try:
            session.query(METERS)
            session.query(USAGE)
            meters = list(Meter.objects.values_list("event_name", "pk", "aggregation_type"))
            session.query(KNOWN_METERS.format(rows=", ".join(map(str, meters))))
            _insert_events(session, Path(directory) / "events.tsv")
            session.query("OPTIMIZE TABLE meter_usage FINAL")
            yield Columnar(session, {type: pk for name, pk, type in meters if name == NAME})
        finally:
            session.close()


def _insert_events(session: Any, path: Path) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for day in range(large.DAYS):
            start = large.BEGIN + timedelta(days=day)
            with path.open("wb") as file, cursor.cursor.copy(EXPORTED, [start, start + timedelta(days=1)]) as rows:
                file.writelines(rows)
            session.query(METERED.format(path=path))


def _windows(rows: list[list[str]]) -> Answer:
    return [(datetime.fromtimestamp(int(start), UTC), Decimal(value), int(events)) for start, value, events in rows]
