"""Accepted, not yet counted: batches of events that wait in a table of the events' own database.

Putting is one row in the caller's transaction. Draining counts a batch and removes its row in one commit, so nothing
is lost and nothing counts twice, whoever is killed and however often it is tried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, groupby, islice
from typing import Any, ClassVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.models import Count, Min, Sum, TextField
from django.db.models.functions import Cast
from django.utils.module_loading import import_string

from flexmeter import metrics
from flexmeter.batches import INSERT, Row, bodies, rows_of
from flexmeter.conf import conf
from flexmeter.events import UsageEvent, from_json, to_json
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError, InvalidEvent
from flexmeter.ingest import Ingested, ingest
from flexmeter.models import InboxBatch, now
from flexmeter.properties import quoted
from flexmeter.rejections import RETRYABLE, reject, retry
from flexmeter.stores.database.prepared import run
from flexmeter.stores.database.transactions import (
    Superseded,
    binding_cursor,
    close_if_lost,
    connect_unasked,
    in_transaction,
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
FIRST_ROWS = 8
CLAIMED_ROWS = 500
CLAIMED_CHARACTERS = 8_000_000
TRIES = 5
LOOKED_AT_EVENTS = 20_000
FORGOTTEN_AFTER = timedelta(seconds=5)
SECONDS_BETWEEN_LOOKS = 10.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did: batches removed, events counted by outcome, and events moved to the rejected ones.

    `more` tells that it ended at a limit, and others may wait.
    """

    batches: int = 0
    ingested: Ingested = field(default_factory=Ingested)
    rejected: int = 0
    more: bool = False

    def __add__(self, other: Drained) -> Drained:
        return Drained(
            self.batches + other.batches, self.ingested + other.ingested, self.rejected + other.rejected, self.more or other.more
        )

    @property
    def events(self) -> int:
        """All events that wait no more."""
        counted = self.ingested
        return counted.stored + counted.replaced + counted.repeated + counted.rejected + self.rejected


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


@dataclass(slots=True)
class _Claim:
    """Rows that this transaction holds; `more` tells whether others may wait behind them."""

    batches: list[InboxBatch] = field(default_factory=list)
    more: bool = False


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


def drain(*, events: int | None = None, seconds: float | None = None, using: str | None = None) -> Drained:
    """Count what waits, oldest first, until nothing is left that no other drain holds, at least `events` are done, or
    `seconds` have passed: where events keep coming there is always something left.

    Any number of processes may drain at once: each claims rows that no other holds. A batch that fails is halved until
    the event that is to blame stands alone; that one becomes a RejectedEvent, the others count. Raises what the database
    raises when it is out of reach, and EnvironmentBusy; what was not counted then still waits.
    """
    alias = using or write_alias()
    total = Drained()
    started = time.monotonic()
    while True:
        claim = _Claim()

        def count_some(claim: _Claim = claim) -> Drained:
            _claim(claim, alias)
            return _drain_claimed(claim.batches, alias)

        try:
            with metrics.batch_timed():
                some = in_transaction(alias, count_some)
        except EnvironmentBusy:
            raise
        except Exception as error:
            _note_failure([batch.pk for batch in claim.batches], error, alias)
            raise
        total += some
        metrics.ingested(some.ingested.stored, some.ingested.replaced, some.ingested.repeated)
        if not claim.more:
            return total
        if (events is not None and total.events >= events) or (seconds is not None and time.monotonic() - started >= seconds):
            return replace(total, more=True)


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
    return bodies([batch.pk], batch._state.db or write_alias()).get(batch.pk)


def find(event_id: str, *, environment: str, using: str | None = None) -> UsageEvent | None:
    """An event that waits, if it is among the newest LOOKED_AT_EVENTS: of one that is, its newest values."""
    rows = InboxBatch.objects.using(using or write_alias()).filter(environment=environment).order_by("-id")
    newest: list[int] = []
    events = 0
    for pk, count in rows.values_list("pk", "event_count")[:CLAIMED_ROWS]:
        if newest and events + count > LOOKED_AT_EVENTS:
            break
        newest.append(pk)
        events += count
    text = rows.filter(pk__in=newest).annotate(text=Cast("events", TextField()))
    holding = text.filter(text__contains=quoted(event_id)).values_list("pk", flat=True)
    for pk in holding:
        body = bodies([pk], rows.db).get(pk)
        for members in reversed(body if isinstance(body, list) else []):
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


def _claim(claim: _Claim, alias: str) -> None:
    """Lock the oldest rows that no other drain holds, few at first, until there is enough for one transaction.

    A row that failed before comes after all others and alone, so that it holds up none.
    """
    claim.batches, claim.more = [], False
    events = size = 0
    limit = FIRST_ROWS
    for _ in range(2):
        locked, contended = _lock(limit, [batch.pk for batch in claim.batches], alias)
        claim.more = contended or len(locked) == limit
        for row in locked:
            full = events + row.event_count > conf.DRAIN_EVENTS or size + row.size > CLAIMED_CHARACTERS
            if claim.batches and (full or row.attempts):
                claim.more = True
                return
            claim.batches.append(row)
            events, size = events + row.event_count, size + row.size
            if row.attempts:
                claim.more = True
                return
        if len(locked) < limit:
            return
        # The next rows are likely as large as the first: lock about as many as there is room for.
        room = min(conf.DRAIN_EVENTS * limit // max(events, 1), CLAIMED_CHARACTERS * limit // max(size, 1), CLAIMED_ROWS)
        limit = max(room - limit, 1)


def _lock(limit: int, besides: Collection[int], alias: str) -> tuple[list[InboxBatch], bool]:
    """Up to `limit` rows, locked, without their events; and whether others took rows while this waited for them."""
    rows = InboxBatch.objects.using(alias).order_by("attempts", "id").defer("events")
    if besides:
        rows = rows.exclude(pk__in=besides)
    if connections[alias].features.has_select_for_update_skip_locked:
        return list(rows.select_for_update(skip_locked=True)[:limit]), False
    # Reading first, or a lock would wait for rows of transactions that have not even committed.
    visible = list(rows.values_list("pk", flat=True)[:limit])
    if not visible:
        return [], False
    locked = list(rows.filter(pk__in=visible).select_for_update())
    return locked, len(locked) < len(visible)


def _drain_claimed(batches: Sequence[InboxBatch], alias: str) -> Drained:
    if not batches:
        return Drained()
    drained = Drained(batches=len(batches))
    found = bodies([batch.pk for batch in batches], alias)
    ordered = sorted(batches, key=lambda batch: (batch.environment, batch.pk))
    for environment, group in groupby(ordered, key=lambda batch: batch.environment):
        events: list[UsageEvent] = []
        for batch in group:
            readable, rejected = _read(batch, found[batch.pk], alias)
            events += readable
            drained += Drained(rejected=rejected)
        drained += _count_or_halve(environment, events, alias)
    removed, _ = InboxBatch.objects.using(alias).filter(pk__in=[batch.pk for batch in batches]).delete()
    if removed != len(batches):
        raise Superseded  # a database without row locks let another drain have them too
    return drained


def _read(batch: InboxBatch, body: Any, alias: str) -> tuple[list[UsageEvent], int]:
    """The batch's events, and how many of its elements were none and are rejected now."""
    if not isinstance(body, list):
        error = InvalidEvent("", "invalid", "A batch must be a list of events.")
        reject(batch.environment, body, batch.accepted_at, error, using=alias)
        return [], 1
    events = []
    rejected = 0
    for members in body:
        try:
            if not isinstance(members, dict):
                raise InvalidEvent("", "type", "must be an object")
            events.append(from_json(members))
        except (FlexmeterError, ValueError) as error:
            reject(batch.environment, members, batch.accepted_at, error, using=alias)
            rejected += 1
    return events, rejected


def _count_or_halve(environment: str, events: Sequence[UsageEvent], alias: str) -> Drained:
    if not events:
        return Drained()
    try:
        with transaction.atomic(using=alias):
            return Drained(ingested=ingest(events, environment=environment, using=alias))
    except RETRYABLE:
        raise
    except Exception as error:  # noqa: BLE001  # the event to blame is kept with its traceback
        if len(events) == 1:
            logger.warning("Event %s of %s cannot be counted: %s", events[0].event_id, environment, type(error).__name__)
            reject(environment, to_json(events[0]), events[0].accepted_at, error, using=alias)
            return Drained(rejected=1)
    middle = len(events) // 2
    return _count_or_halve(environment, events[:middle], alias) + _count_or_halve(environment, events[middle:], alias)


def _note_failure(pks: Sequence[int], error: Exception, alias: str) -> None:
    """After a failure that left the database in reach: the batches come last from now on, and alone.

    One that has failed TRIES times is cut in two, so that in the end the event to blame stands alone and is rejected.
    """
    connection = connections[alias]
    if not pks or connection.in_atomic_block or connection.connection is None or not connection.is_usable():
        return

    def note() -> None:
        for batch in InboxBatch.objects.using(alias).select_for_update().defer("events").filter(pk__in=pks).order_by("id"):
            if len(pks) > 1 or batch.attempts + 1 < TRIES:
                InboxBatch.objects.using(alias).filter(pk=batch.pk).update(attempts=batch.attempts + 1)
            else:
                _cut_or_reject(batch, error, alias)

    try:
        in_transaction(alias, note)
    except (DatabaseError, InterfaceError, EnvironmentBusy):
        logger.warning("That %d batches could not be counted could not be noted.", len(pks), exc_info=True)


def _cut_or_reject(batch: InboxBatch, error: Exception, alias: str) -> None:
    body = bodies([batch.pk], alias)[batch.pk]
    elements = body if isinstance(body, list) else [body]
    if len(elements) == 1:
        logger.warning("An event of %s cannot be counted: %s", batch.environment, type(error).__name__)
        reject(batch.environment, elements[0], batch.accepted_at, error, using=alias)
    else:
        middle = len(elements) // 2
        for half in (elements[:middle], elements[middle:]):
            InboxBatch.objects.using(alias).create(
                environment=batch.environment,
                events=half,
                event_count=len(half),
                size=batch.size // 2,
                attempts=TRIES - 1,
                accepted_at=batch.accepted_at,
            )
    InboxBatch.objects.using(alias).filter(pk=batch.pk).delete()


def _lag() -> metrics.Lag:
    waiting = backlog()
    return waiting.events, waiting.oldest


metrics.lag_told_by(_lag)
