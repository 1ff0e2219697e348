"""Removing old events while what they amounted to stays answerable."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from flexmeter.conf import conf
from flexmeter.exceptions import PruneRefused
from flexmeter.metering import DAY
from flexmeter.models import Environment, Event, EventRevision, Meter
from flexmeter.stores.database.locks import meter_lock, retained_from
from flexmeter.stores.database.transactions import in_transaction, write_alias
from flexmeter.windows import bucket

LONGEST_PAUSE_SECONDS = 1.0


def prune(before: datetime, *, environment: str, using: str | None = None, report: Callable[[int], None] | None = None) -> int:
    """Delete an environment's events from before `before`, cut to the start of its UTC day; returns how many.

    From the moment it begins, that instant is the environment's retention floor: events older than it are refused
    (a repeat of a pruned event could no longer be told from a new one), usage before it comes from rollups, and
    questions that rollups cannot answer raise PrunedEvents. Deletes in bounded batches, each in its own transaction, and
    pauses after each for as long as it took, while ingestion goes on; a prune that was killed goes on with the next call.

    Raises PruneRefused while a meter's rollups do not cover history yet, or for a floor in the future.
    """
    alias = using or write_alias()
    wanted = bucket(before.astimezone(UTC), DAY)
    if wanted > datetime.now(UTC):
        raise PruneRefused(f"{before.isoformat()} lies in the future; nothing was pruned.")

    def raise_floor() -> datetime:
        meter_lock(alias).exclude(environment)
        held = retained_from(environment, alias)
        if held is not None and held >= wanted:
            return held
        building = Meter.objects.using(alias).in_environment(environment).being_built()
        names = ", ".join(sorted(meter.pk for meter in building))
        if names:
            raise PruneRefused(f"Rollups of {names} do not cover history yet. Run flexmeter_rebuild first; nothing was pruned.")
        Environment.objects.using(alias).filter(name=environment).update(pruned_before=wanted)
        return wanted

    floor = in_transaction(alias, raise_floor)

    def delete_some(reached: datetime | None) -> tuple[int, datetime | None]:
        """How many events were deleted, and when the last of them happened: none is left before it."""
        doomed = Event.objects.using(alias).in_environment(environment).between(reached, floor).order_by("timestamp")
        rows = list(doomed.values_list("id", "event_id", "timestamp")[: conf.PRUNE_BATCH_EVENTS])
        revisions = EventRevision.objects.using(alias).filter(environment=environment)
        revisions.filter(event_id__in=[event_id for _, event_id, _ in rows]).delete()
        Event.objects.using(alias).filter(id__in=[row_id for row_id, _, _ in rows]).delete()
        return len(rows), rows[-1][2] if rows else None

    pruned = 0
    reached: datetime | None = None  # from here on, or entries of what is deleted already would be read again and again
    while True:
        began = time.monotonic()
        deleted, reached = in_transaction(alias, partial(delete_some, reached))
        if not deleted:
            return pruned
        pruned += deleted
        if report is not None:
            report(pruned)
        time.sleep(min(time.monotonic() - began, LONGEST_PAUSE_SECONDS))  # half of the time is ingestion's
