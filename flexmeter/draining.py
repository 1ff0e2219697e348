"""Counting what waits in the inbox: rows are claimed, counted and removed in one commit.

A drain that has more to do than one transaction takes reads the rows of the next while the database stores events. It holds
them in the meantime, so that no other drain reads them too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby

from django.db import DatabaseError, InterfaceError, connections, transaction

from flexmeter import metrics
from flexmeter.batches import Reading, bodies
from flexmeter.conf import conf
from flexmeter.events import UsageEvent, to_json
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.ingest import Ingested, ingest
from flexmeter.models import InboxBatch
from flexmeter.rejections import RETRYABLE, reject
from flexmeter.stores.database.native_writers import writer
from flexmeter.stores.database.transactions import Superseded, in_transaction, write_alias

logger = logging.getLogger("flexmeter.inbox")

FIRST_ROWS = 10
"""Two portions of bodies of a thousand events."""
CLAIMED_ROWS = 500
CLAIMED_CHARACTERS = 8_000_000
TRIES = 5


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


@dataclass(slots=True)
class _Claim:
    """Rows that this transaction counts, and those behind them that it holds; `more` tells whether others may wait there."""

    batches: list[InboxBatch] = field(default_factory=list)
    behind: list[InboxBatch] = field(default_factory=list)
    more: bool = False

    @property
    def events(self) -> int:
        return sum(batch.event_count for batch in self.batches)


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
    ahead = _Ahead(alias)
    while True:
        claim = _Claim()

        def count_some(claim: _Claim = claim, done: int = total.events) -> Drained:
            _claim(claim, alias)
            goes_on = claim.more and (events is None or done + claim.events < events)
            return _drain_claimed(claim.batches, ahead.taken(claim.batches, claim.behind if goes_on else []), ahead, alias)

        began = time.perf_counter()
        try:
            some = in_transaction(alias, count_some)
        except EnvironmentBusy:
            raise
        except Exception as error:
            _note_failure([batch.pk for batch in claim.batches], error, alias)
            raise
        metrics.batch_took(time.perf_counter() - began)
        total += some
        metrics.ingested(some.ingested.stored, some.ingested.replaced, some.ingested.repeated)
        if not claim.more:
            return total
        if (events is not None and total.events >= events) or (seconds is not None and time.monotonic() - started >= seconds):
            return replace(total, more=True)


class _Ahead:
    """Readings of rows that the next transaction of a drain will likely claim."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._readings: dict[int, Reading] = {}

    def taken(self, claimed: Sequence[InboxBatch], behind: Sequence[InboxBatch]) -> dict[int, Reading]:
        """The readings of claimed rows by row; of all others only those behind are kept, or begun where that is of use."""
        kept = behind if writer(self.alias).works_beside else []
        wanted = [batch.pk for batch in chain(claimed, kept)]
        found = bodies([pk for pk in wanted if pk not in self._readings], self.alias)
        readings = {pk: self._readings.get(pk) or Reading(found[pk]) for pk in wanted}
        self._readings = {batch.pk: readings[batch.pk] for batch in kept}
        return {batch.pk: readings[batch.pk] for batch in claimed}

    @property
    def steps(self) -> Iterator[None]:
        """Read on."""
        return chain.from_iterable(reading.steps for reading in self._readings.values())


def _claim(claim: _Claim, alias: str) -> None:
    """Lock the oldest rows that no other drain holds, few at first, until there is enough for one transaction.

    A row that failed before comes after all others and alone, so that it holds up none.
    """
    claim.batches, claim.behind, claim.more = [], [], False
    events = size = 0
    limit = FIRST_ROWS
    for _ in range(2):
        locked, contended = _lock(limit, [batch.pk for batch in claim.batches], alias)
        claim.more = contended or len(locked) == limit
        for place, row in enumerate(locked):
            full = events + row.event_count > conf.DRAIN_EVENTS or size + row.size > CLAIMED_CHARACTERS
            if claim.batches and (full or row.attempts):
                claim.behind, claim.more = _portion(locked[place:]), True
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


def _portion(rows: Sequence[InboxBatch]) -> list[InboxBatch]:
    """The first of them, as many as a transaction may count together."""
    portion: list[InboxBatch] = []
    events = size = 0
    for row in rows:
        events, size = events + row.event_count, size + row.size
        if row.attempts or events > conf.DRAIN_EVENTS or size > CLAIMED_CHARACTERS:
            break
        portion.append(row)
    return portion


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


def _drain_claimed(batches: Sequence[InboxBatch], readings: Mapping[int, Reading], ahead: _Ahead, alias: str) -> Drained:
    if not batches:
        return Drained()
    drained = Drained(batches=len(batches))
    ordered = sorted(batches, key=lambda batch: (batch.environment, batch.pk))
    for environment, group in groupby(ordered, key=lambda batch: batch.environment):
        events: list[UsageEvent] = []
        for batch in group:
            reading = readings[batch.pk]
            reading.finish()
            events += reading.events
            for members, error in reading.faults:
                reject(environment, members, batch.accepted_at, error, using=alias)
            drained += Drained(rejected=len(reading.faults))
        drained += _count_or_halve(environment, events, ahead, alias)
    removed, _ = InboxBatch.objects.using(alias).filter(pk__in=[batch.pk for batch in batches]).delete()
    if removed != len(batches):
        raise Superseded  # a database without row locks let another drain have them too
    return drained


def _count_or_halve(environment: str, events: Sequence[UsageEvent], ahead: _Ahead, alias: str) -> Drained:
    if not events:
        return Drained()
    try:
        with transaction.atomic(using=alias):
            return Drained(ingested=ingest(events, environment=environment, using=alias, beside=ahead.steps))
    except RETRYABLE:
        raise
    except Exception as error:  # noqa: BLE001  # the event to blame is kept with its traceback
        if len(events) == 1:
            logger.warning("Event %s of %s cannot be counted: %s", events[0].event_id, environment, type(error).__name__)
            reject(environment, to_json(events[0]), events[0].accepted_at, error, using=alias)
            return Drained(rejected=1)
    middle = len(events) // 2
    halves = events[:middle], events[middle:]
    return sum((_count_or_halve(environment, half, ahead, alias) for half in halves), Drained())


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
    found = bodies([batch.pk], alias)[batch.pk].elements()
    elements = found if isinstance(found, list) else [found]
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
