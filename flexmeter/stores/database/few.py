"""A few events into the ledger and its rollups with one message to PostgreSQL, where all that this takes is remembered.

The statements of a message are one transaction, and each sees what was committed before it began. So the second, which
begins with the lock on the meters held, sees whether terms and rules are still those that this process remembers. If they
are not, or if the id of an event is stored already, nothing is written, and the events go the way of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import ClassVar

from django.db import IntegrityError, InterfaceError, OperationalError, connections

from flexmeter.events import UsageEvent
from flexmeter.metering import fold
from flexmeter.stores.database.arrays import mixed_array, text_array
from flexmeter.stores.database.locks import PostgresMeterLock, Terms
from flexmeter.stores.database.native_rollups import PlannedRollups
from flexmeter.stores.database.native_writers import PostgresWriter, given
from flexmeter.stores.database.prepared import run
from flexmeter.stores.database.rules import VERSIONS, remembered_together
from flexmeter.stores.database.series import RememberedSeries
from flexmeter.stores.database.tables import EVENTS, GIVEN, ROLLUPS, SUMS, UNIQUE_VALUES, Table
from flexmeter.stores.database.transactions import close_if_lost, connect_unasked, is_transient, takes_messages

MOST_REMEMBERED = 10_000


class FewWriter:
    """For databases without such a way: remembers nothing, and writes nothing."""

    MOST_EVENTS: ClassVar[int] = 0
    """Of more `write` writes none."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def write(self, environment: str, events: Sequence[UsageEvent], now: datetime) -> bool:
        """Store and count events in a transaction of their own, which may not be inside another one.

        False: they are too many, or not all of them are new, or not all that this takes is known, and nothing was written; or
        the connection was lost, and whether they were is not known.
        """
        return False

    def learn(self, environment: str, terms: Terms) -> None:
        """Remember on what terms events were taken. The transaction that has read them has changed none of them."""


class PostgresFewWriter(FewWriter):
    """The same contract, kept by statements that PostgreSQL takes in one message."""

    MOST_EVENTS = 100
    MOST_ROWS: ClassVar[int] = 1_000
    MOST_VALUES: ClassVar[int] = 50
    """As many rows have a statement of their own; more go in arrays."""
    MOST_CHARACTERS: ClassVar[int] = 100_000
    """Of the properties of several events; beyond, COPY takes less to read."""
    SQL: ClassVar[str] = f"""
        WITH agreed AS (
            SELECT e.name FROM flexmeter_environment e
            WHERE e.name = %s AND e.created_at = %s AND e.pruned_before IS NOT DISTINCT FROM %s::timestamptz AND %s = (
                SELECT {VERSIONS} FROM flexmeter_meter
                WHERE environment = e.name AND event_name = ANY(%s::text[]) AND status <> 'deleted'
            )
        ), stored AS (
            {EVENTS.of("environment", "ingested_at", *GIVEN.columns).insert}
            SELECT agreed.name, %s::timestamptz, event.* FROM agreed, {{events}} AS event {{repeated}}
            RETURNING 1
        ), new AS (
            SELECT FROM stored LIMIT 1
        )
    """  # noqa: S608  # made of constants
    STORED: ClassVar[str] = " SELECT FROM new"

    _terms: ClassVar[dict[tuple[str, str], Terms]] = {}

    def write(self, environment: str, events: Sequence[UsageEvent], now: datetime) -> bool:
        if len(events) > self.MOST_EVENTS:
            return False
        connections[self.alias].ensure_connection()  # a new one makes forget what is remembered
        terms = self._terms.get((self.alias, environment))
        names = sorted({event.event_name for event in events})
        rulebook = remembered_together(environment, names, self.alias)
        if terms is None or rulebook is None or not self._may_pass(environment, events, terms):
            return False
        rules, versions = rulebook
        rollups = PlannedRollups(self.alias, RememberedSeries(self.alias, environment, terms.since))
        try:
            rollups.append(environment, fold(events, rules), rules)
        except KeyError:  # a series that is not remembered
            return False
        number = len(rollups.rows) + len(rollups.uniques)
        if number > self.MOST_ROWS:
            return False
        parameters = [
            *PostgresMeterLock.key(environment), environment, terms.since, terms.retained_from, versions, text_array(names), now,
        ]  # fmt: skip
        if len(events) == 1 and number <= self.MOST_VALUES:  # they are a tenth faster than arrays of one
            statement = _of_values(rollups.only_sums, len(rollups.rows), len(rollups.uniques))
            parameters += chain(given(events[0]), *rollups.rows, *rollups.uniques)
        else:
            statement = _of_arrays(rollups.only_sums, bool(rollups.rows), bool(rollups.uniques))
            values = map(given, sorted(events, key=attrgetter("event_id")))  # as other writers do
            for rows in (values, rollups.rows, rollups.uniques):
                parameters += map(mixed_array, zip(*rows, strict=True))
        connect_unasked(self.alias)
        try:
            with connections[self.alias].cursor() as cursor:
                run(self.alias, cursor, statement, parameters, first=PostgresMeterLock.SHARE)
                cursor.nextset()
                stored = bool(cursor.rowcount)
        except IntegrityError:
            PostgresWriter.expect_repeats(self.alias, environment)
            return False
        except (OperationalError, InterfaceError) as error:
            if is_transient(error) or close_if_lost(self.alias, error):
                return False
            raise
        if stored:
            PostgresWriter.note_new(self.alias, environment)
        return stored

    def _may_pass(self, environment: str, events: Sequence[UsageEvent], terms: Terms) -> bool:
        """Whether nothing that is remembered speaks against these events."""
        floor = terms.retained_from
        if floor is not None and any(event.timestamp < floor for event in events):
            return False
        return len(events) == 1 or (
            len({event.event_id for event in events}) == len(events)
            and sum(len(event.properties_json or "") for event in events) <= self.MOST_CHARACTERS
            and not PostgresWriter.expects_repeats(self.alias, environment)
        )

    def learn(self, environment: str, terms: Terms) -> None:
        if len(self._terms) >= MOST_REMEMBERED:
            self._terms.clear()
        self._terms[self.alias, environment] = terms


@lru_cache
def _of_values(only_sums: bool, rows: int, uniques: int) -> str:
    """For one event; if it is stored already, it is left out."""
    tables = _tables(only_sums, rows, uniques)
    repeated = "ON CONFLICT (environment, event_id) DO NOTHING"
    return _statement(GIVEN.typed_values(1), [(table, table.typed_values(number)) for table, number in tables], repeated)


@lru_cache
def _of_arrays(only_sums: bool, rows: bool, uniques: bool) -> str:
    """For several events; if one of them is stored already, this is an error."""
    return _statement(GIVEN.arrays, [(table, table.arrays) for table, _ in _tables(only_sums, rows, uniques)])


def _tables(only_sums: bool, rows: int, uniques: int) -> list[tuple[Table, int]]:
    """What is written to besides the events, and how many rows."""
    tables = ((SUMS if only_sums else ROLLUPS, rows), (UNIQUE_VALUES, uniques))
    return [(table, number) for table, number in tables if number]


def _statement(events: str, others: Sequence[tuple[Table, str]], repeated: str = "") -> str:
    """Given what the events are read from, and other rows by their table."""
    statement = PostgresFewWriter.SQL.format(events=events, repeated=repeated)
    for place, (table, rows) in enumerate(others):
        statement += f", others_{place} AS ({table.insert_from(f'new, {rows} AS row')})"
    return statement + PostgresFewWriter.STORED


def few_writer(alias: str) -> FewWriter:
    """The writer of few events for the database behind `alias`."""
    return PostgresFewWriter(alias) if takes_messages(alias) else FewWriter(alias)
