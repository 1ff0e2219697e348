"""Filling a meter's rollups from history, chunk by chunk, while ingestion goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count

from flexmeter.conf import conf
from flexmeter.metering import MeterRule
from flexmeter.models import Event, Meter, Rollup, Series, UniqueValue
from flexmeter.querysets import EventQuerySet
from flexmeter.stores.database.levels import all_within, among
from flexmeter.stores.database.locks import meter_lock, retained_from
from flexmeter.stores.database.native_rollups import rollup_writer
from flexmeter.stores.database.rollups import RollupWriter
from flexmeter.stores.database.transactions import in_transaction, write_alias
from flexmeter.windows import next_bucket

CUSTOMERS_AT_ONCE = 200
DELETED_AT_ONCE = 500


class Progress(NamedTuple):
    """How far a rebuild has come; `total` is the number of events there were when it began."""

    meter_id: str
    done: int
    total: int


class _Chunk(NamedTuple):
    """Customers to recount in [start, end); the next chunk begins after `after`."""

    customers: list[str]
    start: datetime | None
    end: datetime | None
    after: dict[str, Any]


def pending(environment: str | None = None, *, using: str | None = None) -> list[Meter]:
    """Meters whose rollups do not cover history yet."""
    meters = Meter.objects.using(using or write_alias()).being_built().order_by("id")
    return list(meters if environment is None else meters.in_environment(environment))


def restart(meter_id: str, *, using: str | None = None) -> None:
    """Drop a meter's rollups, so that the next rebuild counts all retained events anew.

    Until then figures come from raw events. What the rollups say of pruned periods stays, because nothing else does.
    """
    alias = using or write_alias()
    rollups = rollup_writer(alias)
    environment = Meter.objects.using(alias).values_list("environment", flat=True).get(pk=meter_id)

    def drop() -> None:
        meter_lock(alias).exclude(environment)
        meter = rollups.lock_meter(meter_id)
        if meter is None:
            return
        floor = retained_from(environment, alias)
        if floor is None:
            meter.generation += 1
            meter.dimensions_passed_at = None
        else:
            series = Series.objects.using(alias).filter(meter_id=meter_id, generation=meter.generation)
            Rollup.objects.using(alias).filter(among(all_within(floor, None)), series__in=series).delete()
            UniqueValue.objects.using(alias).filter(series__in=series, day__gte=floor).delete()
        meter.rollups_ready, meter.rebuild_after, meter.rebuild_done, meter.rebuild_total = False, None, 0, 0
        meter.save(using=alias)

    in_transaction(alias, drop)


def rebuild(meter_id: str, *, using: str | None = None, report: Callable[[Progress], None] | None = None) -> int:
    """Recount a meter's history and return the number of events read.

    Each chunk is one transaction that notes how far it has come: a rebuild that was killed goes on where it stopped,
    and two at once do no harm. Does nothing for a meter whose rollups are complete.
    """
    alias = using or write_alias()
    rollups = rollup_writer(alias)
    meter = Meter.objects.using(alias).get(pk=meter_id)
    if not meter.rollups_ready and not meter.rebuild_total:
        total = Event.objects.using(alias).in_environment(meter.environment).named(meter.event_name).count()
        Meter.objects.using(alias).filter(pk=meter_id, rebuild_done=0).update(rebuild_total=total)
    events = 0
    while True:
        step = in_transaction(alias, lambda: _step(meter_id, rollups))
        if step is None:
            break
        events += step.done
        if report is not None:
            report(Progress(meter_id, step.total_done, step.total))
    delete_older_generations(meter_id, alias)
    return events


class _Step(NamedTuple):
    done: int
    total_done: int
    total: int


def _step(meter_id: str, rollups: RollupWriter) -> _Step | None:
    meter = rollups.lock_meter(meter_id)
    if meter is None or meter.rollups_ready:
        return None
    rule = meter.rule()
    floor = retained_from(meter.environment, rollups.alias)
    chunk = _next_chunk(meter, rule, floor, rollups.alias)
    if chunk is None:
        meter.rollups_ready, meter.rebuild_after = True, None
        meter.save(using=rollups.alias, update_fields=["rollups_ready", "rebuild_after"])
        return None
    done = rollups.recount(meter.environment, rule, chunk.customers, chunk.start, chunk.end)
    meter.rebuild_after = chunk.after
    meter.rebuild_done += done
    meter.save(using=rollups.alias, update_fields=["rebuild_after", "rebuild_done"])
    return _Step(done, meter.rebuild_done, meter.rebuild_total)


def _next_chunk(meter: Meter, rule: MeterRule, floor: datetime | None, alias: str) -> _Chunk | None:
    """The next chunk after the place the meter's rebuild has come to, if there is one; never below the floor."""
    limit = conf.REBUILD_CHUNK_EVENTS
    events = Event.objects.using(alias).in_environment(meter.environment).named(meter.event_name).between(floor, None)
    place = meter.rebuild_after or {}
    customer: str = place.get("customer", "")
    if "time" in place:
        return _walked(customer, datetime.fromisoformat(place["time"]), events, rule, limit)
    customers: list[str] = []
    total = 0
    for name, count in _following(meter, events, customer, alias):
        if customers and total + count > limit:
            break
        customers.append(name)
        total += count
    if total > limit:  # one customer with more than a chunk's events is walked through time
        return _walked(customers[0], floor, events, rule, limit)
    return _Chunk(customers, floor, None, {"customer": customers[-1]}) if customers else None


def _walked(customer: str, start: datetime | None, events: EventQuerySet[Event], rule: MeterRule, limit: int) -> _Chunk:
    """The chunk of one customer that begins at `start` and holds about `limit` events, cut at a recount span's end."""
    within = events.for_customer(customer).between(start, None).order_by("timestamp")
    stamps = list(within.values_list("timestamp", flat=True)[limit - 1 : limit])
    if not stamps:
        return _Chunk([customer], start, None, {"customer": customer})
    end = next_bucket(stamps[0], rule.recount_grain)
    return _Chunk([customer], start, end, {"customer": customer, "time": end.isoformat()})


def _following(meter: Meter, events: EventQuerySet[Event], customer: str, alias: str) -> list[tuple[str, int]]:
    """The customers after `customer` and their numbers of events.

    One whose only events moved elsewhere meanwhile has none, but rows that took them out before they were counted.
    """
    series = Series.objects.using(alias).filter(environment=meter.environment, meter_id=meter.pk, generation=meter.generation)
    events, series = events.filter(external_customer_id__gt=customer), series.filter(external_customer_id__gt=customer)
    counts = events.values("external_customer_id").annotate(events=Count("id")).order_by("external_customer_id")
    counted = dict(counts.values_list("external_customer_id", "events")[:CUSTOMERS_AT_ONCE])
    named = series.order_by("external_customer_id").values_list("external_customer_id", flat=True).distinct()[:CUSTOMERS_AT_ONCE]
    return [(name, counted.get(name, 0)) for name in sorted(counted.keys() | set(named))[:CUSTOMERS_AT_ONCE]]


def count_past_events(meter: Meter, limit: int, alias: str) -> int:
    """The number of events of the meter's name, counted no further than `limit`."""
    events = Event.objects.using(alias).in_environment(meter.environment).named(meter.event_name)
    count: int = events.values("id")[:limit].count()
    return count


def delete_older_generations(meter_id: str, alias: str) -> None:
    """Delete rollups of earlier versions of a meter's rule, which no question reads any more."""

    def delete_some() -> bool:
        meter = Meter.objects.using(alias).filter(pk=meter_id).first()
        if meter is None:
            return False
        old = Series.objects.using(alias).filter(meter_id=meter_id, generation__lt=meter.generation)
        ids = list(old.values_list("id", flat=True)[:DELETED_AT_ONCE])
        Rollup.objects.using(alias).filter(series_id__in=ids)._raw_delete(alias)
        UniqueValue.objects.using(alias).filter(series_id__in=ids)._raw_delete(alias)
        Series.objects.using(alias).filter(id__in=ids)._raw_delete(alias)
        return bool(ids)

    while in_transaction(alias, delete_some):
        pass
