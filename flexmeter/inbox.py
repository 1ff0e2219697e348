"""Accepted, not yet counted: batches of events that wait in a table of the events' own database.

Putting is one row in the caller's transaction. Draining counts a batch and removes its row in one commit, so nothing
is lost and nothing counts twice, whoever is killed and however often it is tried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any, ClassVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.models import Count, Min, Sum, TextField
from django.db.models.functions import Cast
from django.utils.module_loading import import_string

from flexmeter import metrics
from flexmeter.batches import INSERT, Row, bodies, rows_of
from flexmeter.conf import conf
from flexmeter.draining import Drained, drain
from flexmeter.events import UsageEvent, from_json
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError
from flexmeter.models import InboxBatch, now
from flexmeter.properties import quoted
from flexmeter.rejections import retry
from flexmeter.stores.database.prepared import run
from flexmeter.stores.database.transactions import (
    binding_cursor,
    close_if_lost,
    connect_unasked,
    run_guarded,
    write_alias,
)

__all__ = [
    "Backlog", "Drained", "Survey", "backlog", "contents", "drain", "find", "is_full", "look_after", "put", "retry", "ring",
    "survey",
]  # fmt: skip

logger = logging.getLogger("flexmeter.inbox")

LITERAL_CHARACTERS = 10_000
"""Of a row that is part of the statement's own text; a larger one is sent beside it, where the database can do that."""
LOOKED_AT_ROWS, LOOKED_AT_EVENTS = 500, 20_000
FORGOTTEN_AFTER = timedelta(seconds=5)
SECONDS_BETWEEN_LOOKS = 10.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: batches, events, and when the oldest was accepted (None: nothing waits)."""

    batches: int
    events: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What waits by environment, as far as the oldest batches were looked at; `is_capped` tells that there are more."""

    environments: dict[str, Backlog]
    is_capped: bool

    @property
    def total(self) -> Backlog:
        parts = self.environments.values()
        oldest = min((part.oldest for part in parts if part.oldest is not None), default=None)
        return Backlog(sum(part.batches for part in parts), sum(part.events for part in parts), oldest)


def put(events: Sequence[UsageEvent], *, environment: str, using: str | None = None) -> None:
    """Keep accepted events until they are drained, in the caller's transaction or else in its own.

    After the commit the doorbell rings once; if that is lost, `flexmeter_drain` or the next bell finds
    the rows.
    """
    alias = using or write_alias()
    rows = rows_of(events, environment)
    first = list(islice(rows, 2))
    connection = connections[alias]
    is_small = len(first) == 1 and first[0].size <= LITERAL_CHARACTERS
    if len(first) == 1 and not connection.in_atomic_block and connection.get_autocommit():
        _insert_alone(first[0], alias)
        metrics.accepted(len(events))
        _ring_or_tell(alias)
    elif is_small and connection.in_atomic_block:
        run_guarded(alias, INSERT, first[0].parameters(alias))
        _tell_after_commit(len(events), alias)
    elif first:
        # With autocommit off there is no block to be kept whole, and on SQLite a savepoint there would commit.
        with transaction.atomic(using=alias, savepoint=connection.in_atomic_block):
            for row in chain(first, rows):
                _insert(row, alias)
            _tell_after_commit(len(events), alias)


def _insert_alone(row: Row, alias: str) -> None:
    """One statement is a transaction by itself, and a round trip instead of three. Of events in two rows each counts once."""
    connect_unasked(alias)
    try:
        _insert(row, alias)
    except (OperationalError, InterfaceError) as error:
        if not close_if_lost(alias, error):
            raise
        _insert(row, alias)


def _insert(row: Row, alias: str) -> None:
    if row.size > LITERAL_CHARACTERS:
        with binding_cursor(alias) as cursor:
            cursor.execute(INSERT, row.parameters(alias))
    else:
        with connections[alias].cursor() as cursor:
            run(alias, cursor, INSERT, row.parameters(alias))


def _tell_after_commit(events: int, alias: str) -> None:
    transaction.on_commit(lambda: metrics.accepted(events), using=alias, robust=True)
    transaction.on_commit(lambda: ring(alias), using=alias, robust=True)


def _ring_or_tell(alias: str) -> None:
    """Ring; what goes wrong then does not undo what is committed, so it is logged, as `on_commit` does it."""
    try:
        ring(alias)
    except Exception:
        logger.exception("The inbox could not be drained now; what waits is found by the next drain.")


def ring(alias: str) -> None:
    """Have the inbox drained: by a worker, or in this process at once, which then counts no more than one portion."""
    if conf.INGEST == "celery":
        import_string("flexmeter.tasks.ring")()
    else:
        drain(events=conf.DRAIN_EVENTS, using=alias)


def backlog(environment: str | None = None, *, using: str | None = None) -> Backlog:
    """What waits, in one environment or in all."""
    rows = InboxBatch.objects.using(using or write_alias())
    if environment is not None:
        rows = rows.filter(environment=environment)
    sums = rows.aggregate(batches=Count("id"), events=Sum("event_count"), oldest=Min("accepted_at"))
    return Backlog(sums["batches"], sums["events"] or 0, sums["oldest"])


def survey(*, batches: int, using: str | None = None) -> Survey:
    """What waits in every environment, looking at so many batches at most: those that came first."""
    rows = InboxBatch.objects.using(using or write_alias()).order_by("id")
    found: dict[str, Backlog] = {}
    looked_at = 0
    for environment, events, accepted_at in rows.values_list("environment", "event_count", "accepted_at")[: batches + 1]:
        looked_at += 1
        if looked_at > batches:
            break
        known = found.get(environment, Backlog(0, 0, accepted_at))
        oldest = accepted_at if known.oldest is None else min(known.oldest, accepted_at)
        found[environment] = Backlog(known.batches + 1, known.events + events, oldest)
    return Survey(dict(sorted(found.items())), looked_at > batches)


def contents(batch: InboxBatch) -> Any:
    """A batch's events, a list of what `from_json` takes; what stands there instead where somebody has changed it."""
    body = bodies([batch.pk], batch._state.db or write_alias()).get(batch.pk)
    return None if body is None else body.elements()


def find(event_id: str, *, environment: str, using: str | None = None) -> UsageEvent | None:
    """An event that waits, if it is among the newest LOOKED_AT_EVENTS: of one that is, its newest values."""
    rows = InboxBatch.objects.using(using or write_alias()).filter(environment=environment).order_by("-id")
    newest: list[int] = []
    events = 0
    for pk, count in rows.values_list("pk", "event_count")[:LOOKED_AT_ROWS]:
        if newest and events + count > LOOKED_AT_EVENTS:
            break
        newest.append(pk)
        events += count
    text = rows.filter(pk__in=newest).annotate(text=Cast("events", TextField()))
    holding = text.filter(text__contains=quoted(event_id)).values_list("pk", flat=True)
    for body in (body for pk in holding for body in bodies([pk], rows.db).values()):
        elements = body.elements()
        for members in reversed(elements if isinstance(elements, list) else []):
            if isinstance(members, dict) and members.get("event_id") == event_id:
                with suppress(FlexmeterError, ValueError):
                    return from_json(members)
    return None


class _Fullness:
    """What the last look at each environment's backlog said, and when that was."""

    seconds_valid = 1.0
    seen: ClassVar[dict[str, tuple[float, bool]]] = {}


def is_full(environment: str) -> bool:
    """Whether FLEXMETER_MAX_WAITING_EVENTS wait in an environment, as of a second ago at most."""
    if conf.MAX_WAITING_EVENTS is None:
        return False
    looked_at, full = _Fullness.seen.get(environment, (float("-inf"), False))
    if time.monotonic() - looked_at > _Fullness.seconds_valid:
        full = backlog(environment).events >= conf.MAX_WAITING_EVENTS
        _Fullness.seen[environment] = (time.monotonic(), full)
    return full


class _Watch:
    """When this process last looked for rows that nobody drains."""

    looked_at = float("-inf")


def look_after(*, using: str | None = None) -> None:
    """Count what a process left waiting that was killed between its commit and its drain; for inline ingestion.

    Called wherever events come in and figures are asked for, so that nobody gets an answer that lacks them. Looks once in
    SECONDS_BETWEEN_LOOKS at most. Never raises for the database's sake.
    """
    if conf.INGEST == "celery" or time.monotonic() - _Watch.looked_at < SECONDS_BETWEEN_LOOKS:
        return
    alias = using or write_alias()
    if connections[alias].in_atomic_block or not connections[alias].get_autocommit():
        return
    _Watch.looked_at = time.monotonic()
    try:
        if InboxBatch.objects.using(alias).filter(accepted_at__lt=now() - FORGOTTEN_AFTER).exists():
            drain(events=conf.DRAIN_EVENTS, using=alias)
    except (DatabaseError, InterfaceError, EnvironmentBusy) as error:
        logger.warning("What waits in the inbox could not be counted (%s); it is tried again.", type(error).__name__)


def _lag() -> metrics.Lag:
    waiting = backlog()
    return waiting.events, waiting.oldest


metrics.lag_told_by(_lag)
