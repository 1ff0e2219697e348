"""The lock on an environment's meters.

Ingestion shares it, so ingestions never wait for each other. Whoever changes which meters there are, or moves the
retention floor, takes it exclusively for an instant: from then on every ingestion sees the change, and every one
before it has committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple
from zlib import crc32

from django.db import connections

from flexmeter.models import Environment
from flexmeter.stores.database.instants import as_instant
from flexmeter.stores.database.prepared import run
from flexmeter.stores.database.transactions import takes_messages

TERMS: Final = "SELECT pruned_before, created_at FROM flexmeter_environment WHERE name = %s"


class Terms(NamedTuple):
    """On what terms an environment takes events: not before `retained_from`, and since when there is its row."""

    retained_from: datetime | None
    since: datetime


def retained_from(environment: str, alias: str) -> datetime | None:
    """The retention floor of an environment: events before it are gone or going. None: all are kept."""
    with connections[alias].cursor() as cursor:
        run(alias, cursor, TERMS, [environment])
        found = cursor.fetchone()
    return as_instant(found[0], alias) if found and found[0] is not None else None


class MeterLock:
    """For databases that let one transaction write at a time, such as SQLite: that is lock enough."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def share(self, environment: str) -> Terms:
        """Keep the meters as they are until the transaction ends."""
        return self._terms(environment)

    def exclude(self, environment: str) -> None:
        """Wait for all who share the lock, and keep new ones waiting until the transaction ends."""
        self._ensure(environment)

    def _terms(self, environment: str) -> Terms:
        rows = Environment.objects.using(self.alias).filter(name=environment).values_list("pruned_before", "created_at")
        row = next(iter(rows), None)
        if row is None:
            made, _ = Environment.objects.using(self.alias).get_or_create(name=environment)
            row = made.pruned_before, made.created_at
        return Terms(*row)

    def _ensure(self, environment: str) -> None:
        Environment.objects.using(self.alias).get_or_create(name=environment)


class PostgresMeterLock(MeterLock):
    """Advisory transaction locks: nothing is written, and names that share a key only wait a little longer."""

    SPACE: ClassVar[int] = 0x666C7872
    SHARE: ClassVar[str] = "SELECT FROM pg_advisory_xact_lock_shared(%s, %s)"
    EXCLUDE: ClassVar[str] = "SELECT pg_advisory_xact_lock(%s, %s)"

    def share(self, environment: str) -> Terms:
        terms, _ = self.share_and_ask(environment)
        return terms

    def share_and_ask(self, environment: str, sql: str = "", parameters: Sequence[Any] = ()) -> tuple[Terms, list[Any]]:
        """The same, and what a statement answers with the lock held, as each statement sees what is committed."""
        statements: list[tuple[str, Sequence[Any]]] = [(self.SHARE, self.key(environment)), (TERMS, [environment])]
        if sql:
            statements.append((sql, parameters))
        answers: list[list[Any]] = []
        with connections[self.alias].cursor() as cursor:
            if takes_messages(self.alias):
                cursor.execute(";".join(sql for sql, _ in statements), [value for _, values in statements for value in values])
                for _ in statements:
                    answers.append(cursor.fetchall())
                    cursor.nextset()
            else:
                for statement in statements:
                    cursor.execute(*statement)
                    answers.append(cursor.fetchall())
        _, terms, *rest = answers
        return Terms(*terms[0]) if terms else self._terms(environment), rest[0] if rest else []

    def exclude(self, environment: str) -> None:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(self.EXCLUDE, self.key(environment))
        self._ensure(environment)

    @classmethod
    def key(cls, environment: str) -> tuple[int, int]:
        """The two numbers that SHARE and EXCLUDE take."""
        return cls.SPACE, crc32(environment.encode("utf-8")) - 2**31


class MySqlMeterLock(MeterLock):
    """Row locks on the environment's row, for MariaDB and MySQL."""

    SHARE: ClassVar[str] = "SELECT pruned_before FROM flexmeter_environment WHERE name = %s LOCK IN SHARE MODE"
    EXCLUDE: ClassVar[str] = "SELECT pruned_before FROM flexmeter_environment WHERE name = %s FOR UPDATE"

    def share(self, environment: str) -> Terms:
        if not self._lock(self.SHARE, environment):
            self._ensure(environment)
            self._lock(self.SHARE, environment)
        return self._terms(environment)

    def exclude(self, environment: str) -> None:
        self._ensure(environment)
        self._lock(self.EXCLUDE, environment)

    def _lock(self, sql: str, environment: str) -> bool:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(sql, [environment])
            return cursor.fetchone() is not None


LOCKS: dict[str, type[MeterLock]] = {"postgresql": PostgresMeterLock, "mysql": MySqlMeterLock}


def meter_lock(alias: str) -> MeterLock:
    """The lock for the database behind `alias`."""
    return LOCKS.get(connections[alias].vendor, MeterLock)(alias)
