"""Comparing every rollup with the events it stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from flexmeter import upkeep
from flexmeter.aggregation import Measure, Partial
from flexmeter.metering import DAY, MeterRule, fold
from flexmeter.models import Event, Meter, Rollup, Series, UniqueValue, now
from flexmeter.queries import Scope
from flexmeter.schedule import VERIFY
from flexmeter.slots import began, level_of
from flexmeter.stores.database.levels import BEGINNING, all_within, among, by_bucket
from flexmeter.stores.database.locks import meter_lock, retained_from
from flexmeter.stores.database.native_rollups import rollup_writer
from flexmeter.stores.database.reading import events_between
from flexmeter.stores.database.rollup_rows import partial_of
from flexmeter.stores.database.tables import DIMENSION_COLUMNS, MEASURE_COLUMNS
from flexmeter.stores.database.transactions import in_transaction, write_alias
from flexmeter.windows import bucket

CUSTOMERS_AT_ONCE = 50
SPOT_CHECK_EVENTS = 5_000
REMEMBERED = 100

_Key = tuple[UUID, tuple[str, ...], datetime]
"""Group, combination of dimensions' values, and start."""


class Difference(NamedTuple):
    """A bucket of a meter and customer in which rollups and events disagree, or a day that is not the sum of its buckets."""

    meter_id: str
    external_customer_id: str
    bucket: datetime
    counted: str
    stored: str


@dataclass(slots=True)
class Verification:
    """What a verification looked at and found; `skipped` are meters that are being rebuilt."""

    meters: int = 0
    customers: int = 0
    skipped: int = 0
    differences: int = 0


def verify(
    environment: str | None = None, *, result: Verification | None = None, using: str | None = None
) -> Iterator[Difference]:
    """Yield every difference between rollups and raw events, while ingestion goes on.

    A difference seen in passing is looked at again with ingestion held up for an instant, so that work under way is
    never reported. Periods whose events are pruned are left out. `result` is filled in as it goes.
    """
    alias = using or write_alias()
    outcome = result if result is not None else Verification()
    meters = Meter.objects.using(alias).exclude(status=Meter.Status.DELETED).order_by("id")
    if environment is not None:
        meters = meters.in_environment(environment)
    for meter in meters:
        if not meter.rollups_ready:
            outcome.skipped += 1
            continue
        outcome.meters += 1
        for customers in _batches(meter, alias):
            outcome.customers += len(customers)
            for customer in sorted(_suspects(meter, customers, alias)):
                for difference in _confirmed(meter, customer, alias):
                    outcome.differences += 1
                    yield difference


def verify_and_remember(
    environment: str | None = None, *, result: Verification | None = None, using: str | None = None
) -> Iterator[Difference]:
    """Do as `verify`; once it has come to the end, what it found stands in the database for other processes to see."""
    outcome = result if result is not None else Verification()
    started_at = now()
    broken: set[str] = set()
    for difference in verify(environment, result=outcome, using=using):
        broken.add(difference.meter_id)
        yield difference
    found = asdict(outcome) | {"broken": sorted(broken)[:REMEMBERED]}
    upkeep.remember(VERIFY, environment=environment or "", started_at=started_at, result=found, using=using)


def spot_check(*, meters: int = 10, customers: int = 5, using: str | None = None) -> tuple[int, list[Difference]]:
    """Compare the customers that came last in some meters; returns how many pairs were compared, and the differences.

    Customers with more than SPOT_CHECK_EVENTS events are left out: this is for a quick look, `verify` for certainty.
    """
    alias = using or write_alias()
    compared = 0
    differences: list[Difference] = []
    for meter in Meter.objects.using(alias).filter(rollups_ready=True).order_by("-id")[:meters]:
        newest = Series.objects.using(alias).filter(meter_id=meter.pk, generation=meter.generation).order_by("-id")
        for customer in dict.fromkeys(newest.values_list("external_customer_id", flat=True)[:customers]):
            events = Event.objects.using(alias).in_environment(meter.environment).named(meter.event_name).for_customer(customer)
            if events.values("id")[: SPOT_CHECK_EVENTS + 1].count() > SPOT_CHECK_EVENTS:
                continue
            compared += 1
            if _suspects(meter, [customer], alias):
                differences += _confirmed(meter, customer, alias)
    return compared, differences


def _batches(meter: Meter, alias: str) -> Iterator[list[str]]:
    events = Event.objects.using(alias).in_environment(meter.environment).named(meter.event_name)
    series = Series.objects.using(alias).filter(meter_id=meter.pk, generation=meter.generation)
    last = ""
    while True:
        names: set[str] = set()
        for rows in (events, series):
            column = rows.filter(external_customer_id__gt=last).order_by("external_customer_id")
            names.update(column.values_list("external_customer_id", flat=True).distinct()[:CUSTOMERS_AT_ONCE])
        if not names:
            return
        batch = sorted(names)[:CUSTOMERS_AT_ONCE]
        yield batch
        last = batch[-1]


def _suspects(meter: Meter, customers: Collection[str], alias: str) -> set[str]:
    return {difference.external_customer_id for difference in _compare(meter, customers, alias)}


def _confirmed(meter: Meter, customer: str, alias: str) -> list[Difference]:
    def look() -> list[Difference]:
        meter_lock(alias).exclude(meter.environment)
        current = rollup_writer(alias).lock_meter(meter.pk)
        if current is None or current.generation != meter.generation or not current.rollups_ready:
            return []
        return list(_compare(current, [customer], alias))

    return in_transaction(alias, look)


def _compare(meter: Meter, customers: Collection[str], alias: str) -> Iterator[Difference]:
    rule = meter.rule()
    floors = [instant for instant in (retained_from(meter.environment, alias), meter.counted_from) if instant is not None]
    start = max(floors, default=None)
    counted = _from_events(meter, rule, customers, start, alias)
    stored = _from_rollups(meter, rule, customers, start, alias)
    for customer in sorted(customers):
        expected, found = counted.get(customer, {}), stored.get(customer, {})
        if rule.dimensions and not all(combination for _, combination, _ in found):
            expected, found = _together(expected), _together(found)
        for key in sorted(expected.keys() | found.keys()):
            left, right = expected.get(key, Partial()), found.get(key, Partial())
            if left != right:
                yield Difference(meter.pk, customer, key[2], _told(left), _told(right))
    yield from _broken_days(meter, customers, start, alias)


def _from_events(
    meter: Meter, rule: MeterRule, customers: Collection[str], start: datetime | None, alias: str
) -> dict[str, dict[_Key, Partial]]:
    partials: dict[str, dict[_Key, Partial]] = {}
    for customer in customers:
        events = events_between(Scope(meter.environment, customer), [rule.event_name], start, None, alias)
        held = partials.setdefault(customer, {})
        for (series, begin), partial in fold(events, [rule]).items():
            group = UUID(int=series.group)
            if partial.uniques:
                day = held.setdefault((group, series.combination, bucket(begin, DAY)), Partial())
                day.uniques |= partial.uniques
                partial.uniques = set()
            held.setdefault((group, series.combination, begin), Partial()).merge(partial)
    return partials


def _together(partials: dict[_Key, Partial]) -> dict[_Key, Partial]:
    """What all combinations come to, where a customer has more of them than are kept apart."""
    whole: dict[_Key, Partial] = {}
    for (group, _, begin), partial in partials.items():
        whole.setdefault((group, (), begin), Partial()).merge(partial)
    return whole


def _from_rollups(
    meter: Meter, rule: MeterRule, customers: Collection[str], start: datetime | None, alias: str
) -> dict[str, dict[_Key, Partial]]:
    partials: dict[str, dict[_Key, Partial]] = {}
    of_series = _of_series(meter, customers)
    rollups = Rollup.objects.using(alias).filter(among(by_bucket(start or BEGINNING)), **of_series)
    uniques = UniqueValue.objects.using(alias).filter(**of_series)
    if start is not None:
        uniques = uniques.filter(day__gte=start)
    identity = ("series__external_customer_id", "series__group", *(f"series__{column}" for column in DIMENSION_COLUMNS))

    def held(customer: str, group: UUID, *values: str | None, start: datetime) -> Partial:
        combination = tuple([value for value in values if value is not None])
        return partials.setdefault(customer, {}).setdefault((group, combination, start), Partial())

    rows = rollups.values_list("slot", "part", *identity, *MEASURE_COLUMNS).iterator(chunk_size=5_000)
    for slot, part, *columns in rows:
        held(*columns[: len(identity)], start=began(slot, part)).merge(partial_of(columns[len(identity) :]))
    if Measure.UNIQUES in rule.measures:
        for day, value, *columns in uniques.values_list("day", "value", *identity).iterator(chunk_size=5_000):
            held(*columns, start=day).uniques.add(value)
    return partials


def _broken_days(meter: Meter, customers: Collection[str], start: datetime | None, alias: str) -> Iterator[Difference]:
    """Days whose row says something else than the rows of their buckets that it stands for."""
    _, *merged = all_within(start, None)
    rows = Rollup.objects.using(alias).filter(among(merged), **_of_series(meter, customers))
    summed: dict[tuple[str, datetime, int], Partial] = {}
    held: dict[tuple[str, datetime, int], Partial] = {}
    columns = ("series__external_customer_id", "series_id", "slot", "part", *MEASURE_COLUMNS)
    for customer, series_id, slot, part, *values in rows.values_list(*columns).iterator(chunk_size=5_000):
        days = held if level_of(slot) == Rollup.Level.DAY else summed
        days.setdefault((customer, bucket(began(slot, part), DAY), series_id), Partial()).merge(partial_of(values))
    for key in sorted(summed.keys() | held.keys()):
        buckets, day = summed.get(key, Partial()), held.get(key, Partial())
        if buckets != day:
            yield Difference(meter.pk, key[0], key[1], f"{_told(buckets)} in its buckets", f"{_told(day)} of the day")


def _of_series(meter: Meter, customers: Collection[str]) -> dict[str, Any]:
    return {
        "series__environment": meter.environment,
        "series__meter_id": meter.pk,
        "series__generation": meter.generation,
        "series__external_customer_id__in": list(customers),
    }


def _told(partial: Partial) -> str:
    parts = [f"count={partial.count}"]
    for name in ("total", "moment", "minimum", "maximum"):
        value = getattr(partial, name)
        if value:
            parts.append(f"{name}={value}")
    if partial.latest is not None:
        parts.append(f"latest={partial.latest.value} ({partial.latest.event_id})")
    if partial.uniques:
        parts.append(f"uniques={len(partial.uniques)}")
    return " ".join(parts)
