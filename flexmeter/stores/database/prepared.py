"""Statements that a session of PostgreSQL keeps parsed once it has seen them often, where they are a transaction by themselves.

Between Django and PostgreSQL there may be a pooler that gives each transaction another session. Where a session turns out
not to know what was prepared, nothing has happened: the statement is sent whole, and so are all others from then on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections
from django.db.backends.utils import CursorWrapper

from flexmeter.stores.database.transactions import takes_messages

SEEN_BEFORE = 3
"""How often a session sends a statement whole: one that lives for a single request shall not prepare anything."""
MOST_STATEMENTS = 200
"""Of which a session is expected to keep a plan."""
NOT_PREPARED, PREPARED_ALREADY = "26000", "42P05"

_NAMED = re.compile(r"%\((\w+)\)s")
_sent: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()
"""How often each session was sent each statement."""
_without: set[str] = set()
"""Aliases behind which sessions do not keep what they prepare."""


def run(alias: str, cursor: CursorWrapper, sql: str, parameters: Sequence[Any], *, first: str = "") -> None:
    """Execute a statement, inside a transaction always whole; `first` is one that the same message begins with.

    Parameters are those of both, in order. Raises what the database raises.
    """
    whole = f"{first};{sql}" if first else sql
    if alias in _without or not _can_prepare(alias) or (known := _known(alias, cursor, sql)) is None:
        cursor.execute(whole, parameters)
        return
    call = f"{first};{known.call}" if first else known.call
    try:
        cursor.execute(call, parameters)
    except DatabaseError as error:
        if _state(error) != NOT_PREPARED:
            raise
        _without.add(alias)
        cursor.execute(whole, parameters)


def run_named(alias: str, cursor: CursorWrapper, sql: str, parameters: Mapping[str, Any]) -> None:
    """The same with parameters that the statement names: `%(name)s`."""
    positional, names = _positional(sql)
    run(alias, cursor, positional, [parameters[name] for name in names])


@lru_cache
def _positional(sql: str) -> tuple[str, list[str]]:
    return _NAMED.sub("%s", sql), _NAMED.findall(sql)


class _Prepared(NamedTuple):
    prepare: str
    call: str


def _can_prepare(alias: str) -> bool:
    connection = connections[alias]
    # What prepares and what calls are, like messages, statements whose parameters only the driver can bind.
    return takes_messages(alias) and not connection.in_atomic_block and connection.get_autocommit()


def _known(alias: str, cursor: CursorWrapper, sql: str) -> _Prepared | None:
    """How to call a statement in this session, which is made to know it; None while it has come too seldom."""
    counts = _sent.setdefault(cursor.connection, {})
    if sql not in counts and len(counts) == MOST_STATEMENTS:
        return None
    count = counts[sql] = counts.get(sql, 0) + 1
    if count <= SEEN_BEFORE:
        return None
    prepared = _prepared(sql)
    if count == SEEN_BEFORE + 1:
        try:
            with connections[alias].wrap_database_errors:
                cursor.cursor.execute(prepared.prepare)  # which is part of how this is sent, and no query of anybody's
        except DatabaseError as error:
            if _state(error) != PREPARED_ALREADY:  # by another client of a pooler, under a name that stands for this text
                raise
    return prepared


@lru_cache
def _prepared(sql: str) -> _Prepared:
    name = f"flexmeter_{hashlib.sha256(sql.encode()).hexdigest()[:16]}"
    begin, *rest = sql.split("%s")
    numbered = begin + "".join(f"${number}{text}" for number, text in enumerate(rest, 1))
    return _Prepared(f"PREPARE {name} AS {numbered}", f"EXECUTE {name} ({', '.join(['%s'] * len(rest))})")


def _state(error: DatabaseError) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
