"""One event into the ledger and its rollups with one message to PostgreSQL, where all that this takes is remembered.

The statements of a message are one transaction, and each sees what was committed before it began. So the second, which
begins with the lock on the meters held, sees whether terms and rules are still those that this process remembers. If they
are not, or if the event's id is stored already, it writes nothing, and the event goes the way of all others.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import ClassVar

from django.db import InterfaceError, OperationalError, connections

from flexmeter.events import UsageEvent
from flexmeter.metering import fold
from flexmeter.stores.database.locks import PostgresMeterLock, Terms
from flexmeter.stores.database.prepared import run
from flexmeter.stores.database.rollups import PlannedRollups
from flexmeter.stores.database.rules import VERSIONS, remembered
from flexmeter.stores.database.series import RememberedSeries
from flexmeter.stores.database.transactions import close_if_lost, connect_unasked, is_transient, takes_messages

MOST_REMEMBERED = 10_000


class SingleWriter:
    """For databases without such a way: remembers nothing, and writes nothing."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def write(self, environment: str, event: UsageEvent, now: datetime) -> bool:
        """Store and count an event in a transaction of its own, which may not be inside another one.

        False: it is not new, or not all that this takes is known, and nothing was written; or the connection was lost, and
        whether it was is not known.
        """
        return False

    def learn(self, environment: str, terms: Terms) -> None:
        """Remember on what terms an event was taken. The transaction that has read them has changed none of them."""


class PostgresSingleWriter(SingleWriter):
    """The same contract, kept by statements that PostgreSQL takes in one message."""

    MOST_ROWS: ClassVar[int] = 50
    SQL: ClassVar[str] = f"""
        WITH agreed AS (
            SELECT FROM flexmeter_environment
            WHERE name = %s AND created_at = %s AND pruned_before IS NOT DISTINCT FROM %s::timestamptz AND %s = (
                SELECT {VERSIONS} FROM flexmeter_meter WHERE environment = %s AND event_name = %s AND status <> 'deleted'
            )
        ), stored AS (
            INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source,
                                         timestamp, accepted_at, ingested_at, properties, sender)
            SELECT %s, %s, %s, %s, %s, %s, %s::timestamptz, %s::timestamptz, %s::timestamptz, %s::json, %s FROM agreed
            ON CONFLICT (environment, event_id) DO NOTHING
            RETURNING 1
        )
    """  # noqa: S608  # made of constants
    COUNTED: ClassVar[str] = """
        , counted AS (
            INSERT INTO flexmeter_rollup (part, level, series_id, bucket, count, total, moment, minimum, maximum,
                                          latest, latest_at, latest_accepted_at, latest_event_id)
            SELECT row.* FROM stored, (VALUES {rows}) AS row
        )
    """
    COUNTED_ROW: ClassVar[str] = (
        "(%s::bigint, %s::smallint, %s::bigint, %s::timestamptz, %s::bigint, %s::numeric, %s::numeric, %s::numeric, %s::numeric,"
        " %s::numeric, %s::timestamptz, %s::timestamptz, %s::text)"
    )
    LISTED: ClassVar[str] = """
        , listed AS (
            INSERT INTO flexmeter_uniquevalue (part, series_id, day, value)
            SELECT row.* FROM stored, (VALUES {rows}) AS row
        )
    """
    LISTED_ROW: ClassVar[str] = "(%s::bigint, %s::bigint, %s::timestamptz, %s::uuid)"
    STORED: ClassVar[str] = "SELECT 1 FROM stored"

    _terms: ClassVar[dict[tuple[str, str], Terms]] = {}

    def write(self, environment: str, event: UsageEvent, now: datetime) -> bool:
        connections[self.alias].ensure_connection()  # a new one makes forget what is remembered
        terms = self._terms.get((self.alias, environment))
        rulebook = remembered(environment, event.event_name, self.alias)
        if terms is None or rulebook is None:
            return False
        floor, since = terms
        if floor is not None and event.timestamp < floor:
            return False
        rules, versions = rulebook
        rollups = PlannedRollups(self.alias, RememberedSeries(self.alias, environment, since))
        try:
            rollups.append(environment, fold([event], rules), rules)
        except KeyError:  # a series that is not remembered
            return False
        if len(rollups.rows) + len(rollups.uniques) > self.MOST_ROWS:
            return False
        parameters = [
            *PostgresMeterLock.key(environment), environment, since, floor, versions, environment, event.event_name,
            environment, event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
            event.timestamp, event.accepted_at, now, event.properties_json, event.sender or None,
        ]  # fmt: skip
        for row in (*rollups.rows, *rollups.uniques):
            parameters += row
        connect_unasked(self.alias)
        try:
            with connections[self.alias].cursor() as cursor:
                statement = _statement(len(rollups.rows), len(rollups.uniques))
                run(self.alias, cursor, statement, parameters, first=PostgresMeterLock.SHARE)
                cursor.nextset()
                return cursor.fetchone() is not None
        except (OperationalError, InterfaceError) as error:
            if is_transient(error) or close_if_lost(self.alias, error):
                return False
            raise

    def learn(self, environment: str, terms: Terms) -> None:
        if len(self._terms) >= MOST_REMEMBERED:
            self._terms.clear()
        self._terms[self.alias, environment] = terms


@lru_cache
def _statement(rows: int, uniques: int) -> str:
    parts = PostgresSingleWriter
    statement = parts.SQL
    if rows:
        statement += parts.COUNTED.format(rows=", ".join([parts.COUNTED_ROW] * rows))
    if uniques:
        statement += parts.LISTED.format(rows=", ".join([parts.LISTED_ROW] * uniques))
    return statement + parts.STORED


def single_writer(alias: str) -> SingleWriter:
    """The writer of single events for the database behind `alias`."""
    return PostgresSingleWriter(alias) if takes_messages(alias) else SingleWriter(alias)
