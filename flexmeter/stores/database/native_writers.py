"""The writers of events that PostgreSQL and SQLite have in place of the ORM's, whose contract they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, ClassVar

from django.db import IntegrityError, connections, transaction
from django.db.models import QuerySet

from flexmeter.events import UsageEvent
from flexmeter.models import Event
from flexmeter.stores.database.arrays import array, text_array
from flexmeter.stores.database.copying import NULL, copy_lines, escaped
from flexmeter.stores.database.tables import EVENTS
from flexmeter.stores.database.transactions import StartOver
from flexmeter.stores.database.writers import Batch, Writer, by_id

_by_time = attrgetter("timestamp", "event_id")


class PostgresWriter(Writer):
    """The same contract with COPY for batches, and one INSERT … ON CONFLICT for few events.

    COPY is tried blindly, for ids are new as a rule. Where they were not, the ids of the next batches are looked up first:
    senders that repeat themselves do so for a while.
    """

    works_beside = True
    COPY_FROM: ClassVar[int] = 20
    LINES_OF_A_STEP: ClassVar[int] = 200
    LOOKED_UP_AFTER_REPEAT: ClassVar[int] = 16
    INSERT: ClassVar[str] = f"""
        {EVENTS.insert_arrays} ON CONFLICT (environment, event_id) DO NOTHING RETURNING event_id
    """
    # The first identity at or after each wanted one, since only the index of identities has that order: asked for equality,
    # the planner may scan an environment for each id as long as the table has no statistics. Ids that grow with time mostly
    # lie beyond the last one there is.
    KNOWN: ClassVar[str] = """
        SELECT stored.event_id, stored.id
        FROM unnest(%s::text[]) AS wanted (event_id)
        JOIN (
            SELECT event_id FROM flexmeter_event ORDER BY event_id DESC, environment DESC LIMIT 1
        ) last ON wanted.event_id <= last.event_id
        CROSS JOIN LATERAL (
            SELECT event.environment, event.event_id, event.id FROM flexmeter_event event
            WHERE (event.event_id, event.environment) >= (wanted.event_id, %s)
            ORDER BY event.event_id, event.environment LIMIT 1
        ) stored
        WHERE stored.environment = %s AND stored.event_id = wanted.event_id
    """
    REPEATED: ClassVar[str] = """
        UPDATE flexmeter_event AS event SET repeated_at = repeat.instant
        FROM unnest(%s::bigint[], %s::timestamptz[]) AS repeat (id, instant) WHERE event.id = repeat.id
    """

    _to_be_looked_up: ClassVar[dict[tuple[str, str], int]] = {}

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._found: dict[str, int] = {}

    def insert_new(self, batch: Batch) -> set[str]:
        place = self.alias, batch.environment
        if len(batch.events) < self.COPY_FROM:
            inserted = self._insert(batch.of(sorted(batch.events, key=by_id)))
            if len(inserted) < len(batch.events):
                self.expect_repeats(*place)
            else:
                self.note_new(*place)
            return inserted
        look_ups = self._to_be_looked_up.get(place, 0)
        fresh = batch.events
        if look_ups:
            known = self._known(batch.environment, [event.event_id for event in fresh])
            self._to_be_looked_up[place] = self.LOOKED_UP_AFTER_REPEAT if known else look_ups - 1
            fresh = [event for event in fresh if event.event_id not in known]
        unguarded = batch.alone and not look_ups
        # In the order of time, which is that of most indexes. The same events have the same, so that writers rarely deadlock,
        # and alone they are attempted again.
        fresh = sorted(fresh, key=_by_time if unguarded else by_id)
        if len(fresh) >= self.COPY_FROM:
            meanwhile = None if batch.meanwhile is None else partial(batch.meanwhile, fresh)
            try:
                lines = _lines(batch.of(fresh))
                with nullcontext() if unguarded else transaction.atomic(using=self.alias):
                    copy_lines(self.alias, EVENTS.copy, self._with_steps(lines, batch.beside), meanwhile)
                return {event.event_id for event in fresh}
            except IntegrityError as error:
                self.expect_repeats(*place)
                if unguarded:  # a savepoint would take two round trips of each batch without repeats
                    raise StartOver from error
                if not look_ups:
                    return self.insert_new(batch.of(fresh)._replace(alone=False))
        return self._insert(batch.of(fresh))

    def _with_steps(self, lines: Iterator[str], beside: Iterator[object] | None) -> Iterator[str]:
        """The lines. For each few hundred a step is taken, while the database, which takes longer, stores those before."""
        if beside is None:
            yield from lines
            return
        while some := list(islice(lines, self.LINES_OF_A_STEP)):
            yield from some
            next(beside, None)

    @classmethod
    def expects_repeats(cls, alias: str, environment: str) -> bool:
        """Whether events have lately come again, so that what takes all of them for new is not worth a try."""
        return bool(cls._to_be_looked_up.get((alias, environment)))

    @classmethod
    def expect_repeats(cls, alias: str, environment: str) -> None:
        """Look up the ids of the next batches first."""
        cls._to_be_looked_up[alias, environment] = cls.LOOKED_UP_AFTER_REPEAT

    @classmethod
    def note_new(cls, alias: str, environment: str) -> None:
        """Events have come none of which was there: expect repeats less long."""
        if look_ups := cls._to_be_looked_up.get((alias, environment)):
            cls._to_be_looked_up[alias, environment] = look_ups - 1

    def _insert(self, batch: Batch) -> set[str]:
        if not batch.events:
            return set()
        with connections[self.alias].cursor() as cursor:
            cursor.execute(self.INSERT, [list(column) for column in zip(*_rows(batch), strict=True)])
            return {event_id for (event_id,) in cursor.fetchall()}

    def _known(self, environment: str, event_ids: Sequence[str]) -> set[str]:
        return set(self._row_ids(environment, event_ids))

    def _stored(self, environment: str, event_ids: Sequence[str]) -> QuerySet[Event]:
        return Event.objects.using(self.alias).filter(id__in=self._row_ids(environment, event_ids).values())

    def _row_ids(self, environment: str, event_ids: Sequence[str]) -> dict[str, int]:
        found = self._found
        if sought := [event_id for event_id in event_ids if event_id not in found]:
            with connections[self.alias].cursor() as cursor:
                cursor.execute(self.KNOWN, [text_array(sought), environment, environment])
                found.update(cursor.fetchall())
        return {event_id: found[event_id] for event_id in event_ids if event_id in found}

    def note_repeats(self, repeats: Sequence[tuple[int, datetime]]) -> None:
        if repeats:
            with connections[self.alias].cursor() as cursor:
                cursor.execute(self.REPEATED, [array(column) for column in zip(*repeats, strict=True)])


def given(event: UsageEvent, stored: Callable[[datetime | None], Any] = lambda instant: instant) -> tuple[Any, ...]:
    """An event as values for GIVEN, instants as they are `stored`."""
    return (
        event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
        stored(event.timestamp), stored(event.accepted_at), event.properties_json, event.sender or None,
    )  # fmt: skip


def _rows(batch: Batch, stored: Callable[[datetime | None], Any] = lambda instant: instant) -> Iterator[tuple[Any, ...]]:
    """Events as values for EVENTS."""
    first, again = (batch.environment, stored(batch.now)), batch.repeated_at
    return ((*first, *given(event, stored), stored(again.get(event.event_id))) for event in batch.events)


def _lines(batch: Batch) -> Iterator[str]:
    """Events as lines for EVENTS; texts without anything to escape, nearly all, are taken as they are."""
    first, repeated_at = f"{escaped(batch.environment)}\t{batch.now}", batch.repeated_at
    last: datetime | None = None
    accepted = ""
    for event in batch.events:
        event_id, name, customer, timestamp, accepted_at, _, properties, source, customer_id, _, sender = event
        texts = f"{event_id}{name}{customer}{customer_id}{source}"
        if not texts.isprintable() or "\\" in texts:
            event_id, name, customer, customer_id, source = map(escaped, (event_id, name, customer, customer_id, source))
        if properties is None:
            properties = NULL
        elif "\\" in properties or not properties.isprintable():
            properties = escaped(properties)
        if accepted_at is not last:  # many are accepted at once
            last, accepted = accepted_at, str(accepted_at)
        happened = accepted if timestamp is last else str(timestamp)
        again = repeated_at.get(event.event_id) if repeated_at else None
        yield (
            f"{first}\t{event_id}\t{name}\t{customer}\t{customer_id}\t{source}\t{happened}\t{accepted}\t{properties}\t"
            f"{escaped(sender) if sender else NULL}\t{again or NULL}\n"
        )


class SqliteWriter(Writer):
    """The same contract with executemany, tried blindly, for ids are new as a rule."""

    INSERT: ClassVar[str] = f"{EVENTS.insert} {EVENTS.values}"

    def insert_new(self, batch: Batch) -> set[str]:
        connection = connections[self.alias]
        stored = connection.ops.adapt_datetimefield_value

        def insert(some: Sequence[UsageEvent]) -> None:
            with transaction.atomic(using=self.alias), connection.cursor() as cursor:
                cursor.executemany(self.INSERT, list(_rows(batch.of(some), stored)))

        events = sorted(batch.events, key=by_id)
        try:
            insert(events)
        except IntegrityError:
            known = self._known(batch.environment, [event.event_id for event in events])
            events = [event for event in events if event.event_id not in known]
            insert(events)
        return {event.event_id for event in events}


WRITERS: dict[str, type[Writer]] = {"postgresql": PostgresWriter, "sqlite": SqliteWriter}


def writer(alias: str) -> Writer:
    """The writer for the database behind `alias`."""
    return WRITERS.get(connections[alias].vendor, Writer)(alias)
