"""Which database is used, and transactions that are repeated when concurrent work gets in their way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router, transaction
from django.db.backends.utils import CursorWrapper

from flexmeter.exceptions import EnvironmentBusy

T = TypeVar("T")

ATTEMPTS = 30
"""Many, for InnoDB ends most of those who insert the same few ids at once, and picks the victim anew each time."""
LONGEST_PAUSE_SECONDS = 0.32
PATIENCE_SECONDS = 30.0
"""How long a transaction is attempted again; what a database waits for locks within an attempt comes on top."""
GUARD = "SAVEPOINT flexmeter_guard"
PASSED = "RELEASE SAVEPOINT flexmeter_guard"
BACK = f"ROLLBACK TO SAVEPOINT flexmeter_guard;{PASSED}"
_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_TRANSIENT_MYSQL = {1205, 1213, 1020}  # lock wait timeout, deadlock, record changed since last read
_LOST_MYSQL = {(2006,), (2013,), (2055,)}  # gone away, lost during a query, lost for a reason of the system's
_TRANSIENT_SQLITE = {5, 6}  # busy, locked: its lock is not handed out in turn, so that a writer can wait in vain


class Superseded(Exception):
    """Rows this transaction was about to replace were replaced by another; it must start over."""


class StartOver(Superseded):
    """Nobody is in the way, but this transaction went about it in a way that has failed, and knows another."""


def write_alias() -> str:
    """The database alias that events are written to, as the project's routers say."""
    from flexmeter.models import Event

    return router.db_for_write(Event)


def read_alias() -> str:
    """The database alias that questions are answered from, as the project's routers say."""
    from flexmeter.models import Event

    return router.db_for_read(Event)


def in_callers_transaction(alias: str) -> bool:
    """Whether what is written now commits with work of the caller's: in `atomic()`, or with autocommit off."""
    connection = connections[alias]
    return connection.in_atomic_block or not connection.get_autocommit()


def takes_messages(alias: str) -> bool:
    """Whether the database takes several statements with parameters in one message: PostgreSQL, where the driver binds them."""
    connection = connections[alias]
    return connection.vendor == "postgresql" and not connection.features.uses_server_side_binding  # type: ignore[attr-defined]


def binding_cursor(alias: str) -> CursorWrapper:
    """A cursor for large values: PostgreSQL takes them as they are beside the statement, not as literals to be read twice."""
    connection = connections[alias]
    if takes_messages(alias):
        from django.db.backends.postgresql import base

        if factory := getattr(base, "ServerBindingCursor", None):  # which only psycopg 3 has
            connection.ensure_connection()
            with connection.wrap_database_errors:
                return connection._prepare_cursor(factory(connection.connection))  # type: ignore[attr-defined, no-any-return]
    return connection.cursor()


def run_guarded(alias: str, sql: str, parameters: Sequence[Any]) -> None:
    """Execute a statement inside a transaction, which can go on if it fails. Raises what the database raises."""
    with connections[alias].cursor() as cursor:
        if not takes_messages(alias):
            with transaction.atomic(using=alias):
                cursor.execute(sql, parameters)
            return
        try:  # one round trip instead of three
            cursor.execute(f"{GUARD};{sql};{PASSED}", parameters)
        except DatabaseError:
            _go_back(cursor)
            raise


def can_read_apart(alias: str) -> bool:
    """Whether a failure of `read_apart` harms nobody: not with autocommit off outside of `atomic()`, where it is the caller who
    begins and ends transactions."""
    connection = connections[alias]
    return connection.in_atomic_block or connection.get_autocommit()


def read_apart(alias: str, sql: str, parameters: Mapping[str, Any], *, settings: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query, which a transaction around it survives if it fails. Raises what the database raises.

    `settings` are statements that give PostgreSQL settings for a transaction: made for this query alone and undone after it,
    where the database takes them in the same message. Where it is not `can_read_apart`, the query is asked as it is.
    """
    inside = connections[alias].in_atomic_block
    with connections[alias].cursor() as cursor:
        if not (takes_messages(alias) and can_read_apart(alias)):
            with transaction.atomic(using=alias) if inside else nullcontext():
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())
        before = [GUARD, *settings] if inside else settings  # a message of several statements is a transaction by itself
        try:
            cursor.execute(";".join([*before, sql, *([BACK] if inside else [])]), parameters)
        except DatabaseError:
            if inside:
                _go_back(cursor)
            raise
        for _ in before:
            cursor.nextset()
        return list(cursor.fetchall())


def _go_back(cursor: CursorWrapper) -> None:
    with suppress(DatabaseError):  # there is no savepoint to go back to in what was broken before
        cursor.execute(BACK)


def connect_unasked(alias: str) -> None:
    """See to it that there is a connection, and that nobody asks it first whether it still works.

    Which Django does with CONN_HEALTH_CHECKS if another request has used it, and what takes a round trip. It is for who knows
    what to do on a lost one: see `close_if_lost`.
    """
    connection = connections[alias]
    connection.ensure_connection()
    connection.health_check_done = True  # type: ignore[attr-defined]


def close_if_lost(alias: str, error: OperationalError | InterfaceError) -> bool:
    """Whether the connection is lost, which has led to this error outside of any transaction.

    It is closed then, and the next statement gets a new one. Whether the one that failed was committed is not known.
    """
    connection = connections[alias]
    told = isinstance(error, InterfaceError) or error.args[:1] in _LOST_MYSQL
    if not told and connection.connection is not None and connection.is_usable():
        return False
    connection.close()
    return True


def is_transient(error: BaseException) -> bool:
    """Whether repeating the whole transaction may succeed."""
    if isinstance(error, Superseded):
        return True
    if not isinstance(error, OperationalError):
        return False
    if getattr(error.__cause__, "sqlstate", None) in _TRANSIENT_SQLSTATES:
        return True
    if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _TRANSIENT_SQLITE:
        return True
    return bool(error.args) and error.args[0] in _TRANSIENT_MYSQL


def in_transaction(alias: str, work: Callable[[], T]) -> T:
    """Run `work` in a transaction and return what it returns.

    At the outermost level deadlocks and serialization failures are retried a bounded number of times, then
    EnvironmentBusy is raised. Inside a caller's transaction nothing can be retried here: the error goes to the caller.
    """
    nested = connections[alias].in_atomic_block
    started = time.monotonic()
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic(using=alias):
                return work()
        except (OperationalError, Superseded) as error:
            if not is_transient(error) or (nested and not isinstance(error, Superseded)):
                raise
            if attempt + 1 == ATTEMPTS or time.monotonic() - started > PATIENCE_SECONDS:
                raise EnvironmentBusy("Other writers kept getting in the way; nothing was changed. Try again.") from error
            if isinstance(error, StartOver):
                continue
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, LONGEST_PAUSE_SECONDS)))  # noqa: S311  # spreads out the contenders, no secret
    raise AssertionError("unreachable")
