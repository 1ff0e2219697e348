"""Events into the ledger: insert what is new, replace what was accepted later, leave the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import ClassVar, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from flexmeter.conf import conf
from flexmeter.events import UsageEvent, to_json
from flexmeter.models import Event, EventRevision, RejectedEvent
from flexmeter.stores.database.reading import EVENT_COLUMNS
from flexmeter.stores.database.repeats import State, settled
from flexmeter.stores.database.transactions import Superseded

Meanwhile = Callable[[Sequence[UsageEvent]], object]

STATEMENT_CHARACTERS = 2_000_000
by_id = attrgetter("event_id")


@dataclass(slots=True)
class Written:
    """What one write changed: events stored for the first time, (old, new) pairs, and counts of the rest."""

    new: list[UsageEvent] = field(default_factory=list)
    replaced: list[tuple[UsageEvent, UsageEvent]] = field(default_factory=list)
    repeated: int = 0
    rejected: int = 0


class Batch(NamedTuple):
    """Events to be inserted as far as they are new, whose ids are distinct; `repeated_at` tells of some when they came again.

    `meanwhile`, `beside` and `alone` are as `Writer.write` has them.
    """

    environment: str
    events: Sequence[UsageEvent]
    repeated_at: Mapping[str, datetime]
    now: datetime
    meanwhile: Meanwhile | None = None
    beside: Iterator[object] | None = None
    alone: bool = False

    def of(self, events: Sequence[UsageEvent]) -> Batch:
        """The same of these events."""
        return self._replace(events=events)


class Writer:
    """Writes events with the ORM alone, so it serves every database Django does."""

    works_beside: ClassVar[bool] = False

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
        beside: Iterator[object] | None = None,
        alone: bool = False,
    ) -> Written:
        """Store a batch inside the caller's transaction.

        Of several elements with one id the one accepted last stands. Stored events below `floor` (the retention
        floor) count as they are. Rows are touched in an order that other writers keep to, so that they do not deadlock.
        While the database is busy, `meanwhile` may be called with what it is storing; if all of that is new, it is all that is.
        And a writer that `works_beside` may take steps of `beside`.
        A transaction that holds nothing else but this, `alone`, may have to start over: StartOver is then raised.
        """
        written = Written()
        states, later = settled(events)
        distinct = [state.event for state in states.values()] if states else events
        repeated_at = {event_id: state.repeated_at for event_id, state in states.items() if state.repeated_at is not None}
        inserted = self.insert_new(Batch(environment, distinct, repeated_at, now, meanwhile, beside, alone))
        if len(inserted) == len(distinct):
            written.new, known = list(distinct), []
        else:
            written.new = [event for event in distinct if event.event_id in inserted]
            known = sorted((event for event in distinct if event.event_id not in inserted), key=by_id)
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
    ) -> list[State]:
        """Apply repeats, by their ids and in the order of their acceptance, to events that are stored already."""
        keep = conf.REPEATED_EVENT == "keep"
        states: list[State] = []
        noted: list[tuple[int, datetime]] = []
        for row_id, before, repeated_at in self._locked(environment, list(repeats)):
            state = State(before, repeated_at)
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

    def insert_new(self, batch: Batch) -> set[str]:
        """Insert those events whose id is not stored and return their ids."""
        events = sorted(batch.events, key=by_id)
        for _ in range(8):
            known = self._known(batch.environment, [event.event_id for event in events])
            fresh = [event for event in events if event.event_id not in known]
            if not fresh:
                return set()
            try:
                with transaction.atomic(using=self.alias):
                    for portion in _portions(fresh):
                        Event.objects.using(self.alias).bulk_create([_row(batch, event) for event in portion])
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

    def _replace(self, row_id: int, state: State) -> None:
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

    def _keep_history(self, environment: str, states: Sequence[State], now: datetime) -> None:
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


def _row(batch: Batch, event: UsageEvent) -> Event:
    return Event(
        environment=batch.environment,
        event_id=event.event_id,
        event_name=event.event_name,
        external_customer_id=event.external_customer_id,
        customer_id=event.customer_id,
        source=event.source,
        timestamp=event.timestamp,
        accepted_at=event.accepted_at,
        ingested_at=batch.now,
        repeated_at=batch.repeated_at.get(event.event_id),
        properties=event.properties,
        sender=event.sender or None,
    )
