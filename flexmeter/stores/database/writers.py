"""Events into the ledger: insert what is new, replace what was accepted later, leave the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import ClassVar

from django.db import IntegrityError, connections, transaction
from django.db.models import QuerySet

from flexmeter.conf import conf
from flexmeter.events import UsageEvent, to_json
from flexmeter.models import Event, EventRevision, RejectedEvent
from flexmeter.stores.database.arrays import array, text_array
from flexmeter.stores.database.copying import NULL, copy_lines, escaped
from flexmeter.stores.database.reading import EVENT_COLUMNS
from flexmeter.stores.database.transactions import StartOver, Superseded

Meanwhile = Callable[[Sequence[UsageEvent]], object]

STATEMENT_CHARACTERS = 2_000_000
_id = attrgetter("event_id")
_when = attrgetter("timestamp", "event_id")


@dataclass(slots=True)
class Written:
    """What one write changed: events stored for the first time, (old, new) pairs, and counts of the rest."""

    new: list[UsageEvent] = field(default_factory=list)
    replaced: list[tuple[UsageEvent, UsageEvent]] = field(default_factory=list)
    repeated: int = 0
    rejected: int = 0


@dataclass(slots=True)
class _State:
    """An event's stored values while repeats are applied to it, and the values that were replaced on the way."""

    event: UsageEvent
    repeated_at: datetime | None = None
    replaced: list[UsageEvent] = field(default_factory=list)
    repeats: int = 0
    conflicts: list[UsageEvent] = field(default_factory=list)

    def apply(self, repeat: UsageEvent, keep: bool) -> None:
        """Take over a repeat if it was accepted later and says something else."""
        known_until = max(self.event.accepted_at, self.repeated_at or self.event.accepted_at)
        if repeat.accepted_at <= known_until:
            self.repeats += 1
            return
        if not repeat.timestamp_given:
            repeat = repeat._replace(timestamp=self.event.timestamp)
        if repeat.same_content(self.event):
            self.repeats += 1
            self.repeated_at = repeat.accepted_at
        elif keep:
            self.conflicts.append(repeat)
        else:
            self.replaced.append(self.event)
            self.event, self.repeated_at = repeat, None


class Writer:
    """Writes events with the ORM alone, so it serves every database Django does."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def write(
        self,
        environment: str,
        events: Sequence[UsageEvent],
        *,
        now: datetime,
        floor: datetime | None,
        meanwhile: Meanwhile | None = None,
        alone: bool = False,
    ) -> Written:
        """Store a batch inside the caller's transaction.

        Of several elements with one id the one accepted last stands. Stored events below `floor` (the retention
        floor) count as they are. Rows are touched in an order that other writers keep to, so that they do not deadlock.
        While the database is busy, `meanwhile` may be called with what it is storing; if all of that is new, it is all that is.
        A transaction that holds nothing else but this, `alone`, may have to start over: StartOver is then raised.
        """
        written = Written()
        states, later = _settled(events)
        settled = [state.event for state in states.values()] if states else events
        repeated_at = {event_id: state.repeated_at for event_id, state in states.items() if state.repeated_at is not None}
        inserted = self.insert_new(environment, settled, repeated_at, now, meanwhile, alone)
        if len(inserted) == len(settled):
            written.new, known = list(settled), []
        else:
            written.new = [event for event in settled if event.event_id in inserted]
            known = sorted((event for event in settled if event.event_id not in inserted), key=_id)
        changed = [state for event_id, state in states.items() if event_id in inserted]
        if known:
            changed += self._repeat(
                environment, {event.event_id: later.get(event.event_id, (event,)) for event in known}, floor, written
            )
        written.repeated = sum(state.repeats for state in changed)
        written.rejected = sum(len(state.conflicts) for state in changed)
        self._keep_history(environment, changed, now)
        return written

    def _repeat(
        self, environment: str, repeats: Mapping[str, Sequence[UsageEvent]], floor: datetime | None, written: Written
    ) -> list[_State]:
        """Apply repeats, by their ids and in the order of their acceptance, to events that are stored already."""
        keep = conf.REPEATED_EVENT == "keep"
        states: list[_State] = []
        noted: list[tuple[int, datetime]] = []
        for row_id, before, repeated_at in self._locked(environment, list(repeats)):
            state = _State(before, repeated_at)
            for repeat in repeats[before.event_id]:
                if floor is not None and before.timestamp < floor:
                    state.repeats += 1
                else:
                    state.apply(repeat, keep)
            if state.event is not before:
                written.replaced.append((before, state.event))
                self._replace(row_id, state)
            elif state.repeated_at is not None and state.repeated_at != repeated_at:
                noted.append((row_id, state.repeated_at))
            states.append(state)
        self.note_repeats(noted)
        return states

    def insert_new(
        self,
        environment: str,
        events: Sequence[UsageEvent],
        repeated_at: Mapping[str, datetime],
        now: datetime,
        meanwhile: Meanwhile | None = None,
        alone: bool = False,
    ) -> set[str]:
        """Insert those events whose id is not stored and return their ids, which are distinct."""
        events = sorted(events, key=_id)
        for _ in range(8):
            known = self._known(environment, [event.event_id for event in events])
            fresh = [event for event in events if event.event_id not in known]
            if not fresh:
                return set()
            try:
                with transaction.atomic(using=self.alias):
                    for portion in _portions(fresh):
                        rows = [_row(environment, event, repeated_at.get(event.event_id), now) for event in portion]
                        Event.objects.using(self.alias).bulk_create(rows)
            except IntegrityError:
                continue  # another writer committed one of them meanwhile: look again
            return {event.event_id for event in fresh}
        raise Superseded

    def _known(self, environment: str, event_ids: Sequence[str]) -> set[str]:
        known: set[str] = set()
        for start in range(0, len(event_ids), 5_000):
            known.update(self._stored(environment, event_ids[start : start + 5_000]).values_list("event_id", flat=True))
        return known

    def _locked(self, environment: str, event_ids: Sequence[str]) -> list[tuple[int, UsageEvent, datetime | None]]:
        """Row id, values and `repeated_at` of these events, locked."""
        rows: list[tuple[int, UsageEvent, datetime | None]] = []
        for start in range(0, len(event_ids), 5_000):
            chosen = event_ids[start : start + 5_000]
            locked = (
                self._stored(environment, chosen)
                .select_for_update()
                .order_by("event_id")
                .values_list("id", "repeated_at", "sender", *EVENT_COLUMNS)
            )
            for (
                row_id,
                repeated_at,
                sender,
                event_id,
                name,
                customer,
                timestamp,
                accepted_at,
                properties,
                source,
                customer_id,
            ) in locked:
                event = UsageEvent(
                    event_id, name, customer, timestamp, accepted_at, properties, None, source, customer_id, sender=sender or ""
                )
                rows.append((row_id, event, repeated_at))
        if len(rows) != len(event_ids):
            raise Superseded  # one was deleted, or is not visible to this snapshot
        return rows

    def _stored(self, environment: str, event_ids: Sequence[str]) -> QuerySet[Event]:
        return Event.objects.using(self.alias).filter(environment=environment, event_id__in=event_ids)

    def _replace(self, row_id: int, state: _State) -> None:
        event = state.event
        Event.objects.using(self.alias).filter(pk=row_id).update(
            event_name=event.event_name,
            external_customer_id=event.external_customer_id,
            customer_id=event.customer_id,
            source=event.source,
            timestamp=event.timestamp,
            accepted_at=event.accepted_at,
            repeated_at=state.repeated_at,
            properties=event.properties,
            sender=event.sender or None,
        )

    def note_repeats(self, repeats: Sequence[tuple[int, datetime]]) -> None:
        """Store the `repeated_at` of rows, given by their ids."""
        rows = [Event(id=row_id, repeated_at=instant) for row_id, instant in repeats]
        Event.objects.using(self.alias).bulk_update(rows, ["repeated_at"], batch_size=500)

    def _keep_history(self, environment: str, states: Sequence[_State], now: datetime) -> None:
        revisions = [
            EventRevision(
                environment=environment,
                event_id=old.event_id,
                event_name=old.event_name,
                external_customer_id=old.external_customer_id,
                customer_id=old.customer_id,
                source=old.source,
                timestamp=old.timestamp,
                accepted_at=old.accepted_at,
                replaced_at=now,
                properties=old.properties,
                sender=old.sender or None,
            )
            for state in states
            for old in state.replaced
        ]
        if revisions:
            EventRevision.objects.using(self.alias).bulk_create(revisions, batch_size=10)
        conflicts = [
            RejectedEvent(
                environment=environment,
                event_id=event.event_id,
                body=to_json(event),
                reason="conflict",
                detail="An event of this id is stored with other values, and FLEXMETER_REPEATED_EVENT is 'keep'.",
                accepted_at=event.accepted_at,
                rejected_at=now,
            )
            for state in states
            for event in state.conflicts
        ]
        if conflicts:
            RejectedEvent.objects.using(self.alias).bulk_create(conflicts, batch_size=10)


def _settled(events: Sequence[UsageEvent]) -> tuple[dict[str, _State], dict[str, list[UsageEvent]]]:
    """Where ids occur more than once: what each id comes to, and its elements in the order of their acceptance."""
    if len({event.event_id for event in events}) == len(events):
        return {}, {}
    keep = conf.REPEATED_EVENT == "keep"
    states: dict[str, _State] = {}
    later: dict[str, list[UsageEvent]] = {}
    for event in sorted(events, key=lambda event: (event.event_id, event.accepted_at)):
        state = states.get(event.event_id)
        if state is None:
            states[event.event_id] = _State(event)
            later[event.event_id] = [event]
        else:
            state.apply(event, keep)
            later[event.event_id].append(event)
    return states, later


def _portions(events: Iterable[UsageEvent]) -> Iterator[list[UsageEvent]]:
    """Cut into statements of at most 500 rows and about STATEMENT_CHARACTERS: MariaDB takes 16 MiB as shipped."""
    portion: list[UsageEvent] = []
    size = 0
    for event in events:
        length = len(event.properties_json or "")
        if portion and (len(portion) == 500 or size + length > STATEMENT_CHARACTERS):
            yield portion
            portion, size = [], 0
        portion.append(event)
        size += length
    if portion:
        yield portion


def _row(environment: str, event: UsageEvent, repeated_at: datetime | None, now: datetime) -> Event:
    return Event(
        environment=environment,
        event_id=event.event_id,
        event_name=event.event_name,
        external_customer_id=event.external_customer_id,
        customer_id=event.customer_id,
        source=event.source,
        timestamp=event.timestamp,
        accepted_at=event.accepted_at,
        ingested_at=now,
        repeated_at=repeated_at,
        properties=event.properties,
        sender=event.sender or None,
    )


class PostgresWriter(Writer):
    """The same contract with COPY for batches, and one INSERT … ON CONFLICT for few events.

    COPY is tried blindly, for ids are new as a rule. Where they were not, the ids of the next batches are looked up first:
    senders that repeat themselves do so for a while.
    """

    COPY_FROM: ClassVar[int] = 20
    LOOKED_UP_AFTER_REPEAT: ClassVar[int] = 16
    COPY: ClassVar[str] = """
        COPY flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source,
                              timestamp, accepted_at, ingested_at, repeated_at, properties, sender) FROM STDIN
    """
    INSERT: ClassVar[str] = """
        INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source,
                                     timestamp, accepted_at, ingested_at, repeated_at, properties, sender)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                             %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::json[], %s::text[])
        ON CONFLICT (environment, event_id) DO NOTHING
        RETURNING event_id
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

    def insert_new(
        self,
        environment: str,
        events: Sequence[UsageEvent],
        repeated_at: Mapping[str, datetime],
        now: datetime,
        meanwhile: Meanwhile | None = None,
        alone: bool = False,
    ) -> set[str]:
        place = self.alias, environment
        if len(events) < self.COPY_FROM:
            inserted = self._insert(environment, sorted(events, key=_id), repeated_at, now) if events else set()
            if len(inserted) < len(events):
                self.expect_repeats(*place)
            elif look_ups := self._to_be_looked_up.get(place, 0):
                self._to_be_looked_up[place] = look_ups - 1
            return inserted
        look_ups = self._to_be_looked_up.get(place, 0)
        known: set[str] = set()
        if look_ups:
            known = self._known(environment, [event.event_id for event in events])
            self._to_be_looked_up[place] = self.LOOKED_UP_AFTER_REPEAT if known else look_ups - 1
            events = [event for event in events if event.event_id not in known]
        unguarded = alone and not look_ups
        # In the order of time, which is that of most indexes. The same events have the same, so that writers rarely deadlock,
        # and alone they are attempted again.
        events = sorted(events, key=_when if unguarded else _id)
        if len(events) >= self.COPY_FROM:
            try:
                with nullcontext() if unguarded else transaction.atomic(using=self.alias):
                    lines = _lines(escaped(environment), events, repeated_at, f"{now}")
                    copy_lines(self.alias, self.COPY, lines, None if meanwhile is None else partial(meanwhile, events))
                return {event.event_id for event in events}
            except IntegrityError as error:
                self.expect_repeats(*place)
                if unguarded:  # a savepoint would take two round trips of each batch without repeats
                    raise StartOver from error
                if not look_ups:
                    return self.insert_new(environment, events, repeated_at, now, meanwhile)
        return self._insert(environment, events, repeated_at, now) if events else set()

    @classmethod
    def expects_repeats(cls, alias: str, environment: str) -> bool:
        """Whether events have lately come again, so that what takes all of them for new is not worth a try."""
        return bool(cls._to_be_looked_up.get((alias, environment)))

    @classmethod
    def expect_repeats(cls, alias: str, environment: str) -> None:
        """Look up the ids of the next batches first."""
        cls._to_be_looked_up[alias, environment] = cls.LOOKED_UP_AFTER_REPEAT

    def _insert(
        self, environment: str, events: Sequence[UsageEvent], repeated_at: Mapping[str, datetime], now: datetime
    ) -> set[str]:
        rows = (
            (
                environment, event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
                event.timestamp, event.accepted_at, now, repeated_at.get(event.event_id), event.properties_json,
                event.sender or None,
            )
            for event in events
        )  # fmt: skip
        with connections[self.alias].cursor() as cursor:
            cursor.execute(self.INSERT, [list(column) for column in zip(*rows, strict=True)])
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


def _lines(environment: str, events: Iterable[UsageEvent], repeated_at: Mapping[str, datetime], now: str) -> Iterator[str]:
    """Events as lines of PostgresWriter.COPY; texts without anything to escape, nearly all, are taken as they are."""
    last: datetime | None = None
    accepted = ""
    for event in events:
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
            f"{environment}\t{event_id}\t{name}\t{customer}\t{customer_id}\t{source}\t{happened}\t{accepted}\t{now}\t"
            f"{again or NULL}\t{properties}\t{escaped(sender) if sender else NULL}\n"
        )


class SqliteWriter(Writer):
    """The same contract with executemany, tried blindly, for ids are new as a rule."""

    INSERT: ClassVar[str] = """
        INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source,
                                     timestamp, accepted_at, ingested_at, repeated_at, properties, sender)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    """

    def insert_new(
        self,
        environment: str,
        events: Sequence[UsageEvent],
        repeated_at: Mapping[str, datetime],
        now: datetime,
        meanwhile: Meanwhile | None = None,
        alone: bool = False,
    ) -> set[str]:
        connection = connections[self.alias]
        events = sorted(events, key=_id)
        stored = connection.ops.adapt_datetimefield_value
        instant = stored(now)

        def insert(some: Sequence[UsageEvent]) -> None:
            rows = [
                (
                    environment, event.event_id, event.event_name, event.external_customer_id, event.customer_id, event.source,
                    stored(event.timestamp), stored(event.accepted_at), instant, stored(repeated_at.get(event.event_id)),
                    event.properties_json, event.sender or None,
                )
                for event in some
            ]  # fmt: skip
            with transaction.atomic(using=self.alias), connection.cursor() as cursor:
                cursor.executemany(self.INSERT, rows)

        try:
            insert(events)
        except IntegrityError:
            known = self._known(environment, [event.event_id for event in events])
            events = [event for event in events if event.event_id not in known]
            insert(events)
        return {event.event_id for event in events}


WRITERS: dict[str, type[Writer]] = {"postgresql": PostgresWriter, "sqlite": SqliteWriter}


def writer(alias: str) -> Writer:
    """The writer for the database behind `alias`."""
    return WRITERS.get(connections[alias].vendor, Writer)(alias)
