"""The questions as SQL over the raw events in PostgreSQL: one statement each, through the index that is there for them."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import large
from benchmarks.sides import END, NAME, START, TOP, WANTED_USERS, Answer, of_windows

EVENTS: Final = """
    FROM flexmeter_event
    WHERE environment = 'default' AND event_name = %(name)s AND timestamp >= %(start)s AND timestamp < %(end)s
"""
OF_CUSTOMER: Final = f"{EVENTS} AND external_customer_id = %(customer)s"
TOKENS: Final = "(properties->>'tokens')::numeric"
DAY: Final = "date_trunc('day', timestamp, 'UTC')"
SUM_BY_DAY: Final = f"SELECT {DAY}, sum({TOKENS}), count(*) {OF_CUSTOMER} GROUP BY 1 ORDER BY 1"
UNIQUE_BY_DAY: Final = f"SELECT {DAY}, count(DISTINCT properties->>'user'), count(*) {OF_CUSTOMER} GROUP BY 1 ORDER BY 1"
UNIQUE_OVER_MONTH: Final = f"SELECT NULL, count(DISTINCT properties->>'user'), count(*) {OF_CUSTOMER}"
MAX_BY_HOUR: Final = f"""
    SELECT date_trunc('hour', timestamp, 'UTC'), max({TOKENS}), count(*), sum(max({TOKENS})) OVER ()
    {OF_CUSTOMER} GROUP BY 1 ORDER BY 1
"""
TOP_CUSTOMERS: Final = f"""
    SELECT external_customer_id, sum({TOKENS}), count(*) {EVENTS}
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(top)s
"""
EVERYONE_BY_DAY: Final = f"SELECT {DAY}, sum({TOKENS}), count(*) {EVENTS} GROUP BY 1 ORDER BY 1"
FILTERED_BY_GROUP: Final = f"""
    SELECT properties->>'model', sum({TOKENS}), count(*) {OF_CUSTOMER} AND properties->>'user' = ANY(%(users)s)
    GROUP BY 1 ORDER BY 1
"""
PARAMETERS: Final = {
    "name": NAME, "start": START, "end": END, "customer": large.BUSY, "top": TOP, "users": WANTED_USERS,
}  # fmt: skip


class RawEvents:
    """Asks the events of the whole ledger."""

    name = "raw events"

    def sum_by_day(self) -> Answer:
        return _answer(SUM_BY_DAY)

    def unique_by_day(self) -> Answer:
        return _answer(UNIQUE_BY_DAY)

    def unique_over_month(self) -> Answer:
        return _answer(UNIQUE_OVER_MONTH)

    def max_by_hour(self) -> Answer:
        rows = _rows(MAX_BY_HOUR)
        return of_windows([row[:3] for row in rows], rows[0][3])

    def top_customers(self) -> Answer:
        return _answer(TOP_CUSTOMERS)

    def everyone_by_day(self) -> Answer:
        return _answer(EVERYONE_BY_DAY)

    def filtered_by_group(self) -> Answer:
        return _answer(FILTERED_BY_GROUP)


def _answer(sql: str) -> Answer:
    return _rows(sql)


def _rows(sql: str) -> list[tuple[Any, ...]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, PARAMETERS)
        return cursor.fetchall()
