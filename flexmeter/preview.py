"""What a meter would count, told before it is saved. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from flexmeter.aggregation import ZERO
from flexmeter.events import UsageEvent
from flexmeter.explain import Outcome, Verdict, verdict
from flexmeter.meters import MeterDefinition, columns_of, find_meter, recounts
from flexmeter.models import Meter, now
from flexmeter.properties import EXACT
from flexmeter.queries import Scope, UsagePoint, UsageQuery
from flexmeter.stores.database.locks import retained_from
from flexmeter.stores.database.newest import newest_events
from flexmeter.stores.database.transactions import read_alias
from flexmeter.usage import Tally
from flexmeter.windows import Calendar, WindowSize, floor

JUDGED_EVENTS = 1_000
"""The newest events of the name, each of which is judged."""
COUNTED_EVENTS = 50_000
"""Events of the last days that are counted at most; beyond them the figures are about the newest part."""
PREVIEWED_DAYS = 30
DIFFERENCES = 20
"""Customers that are listed, at most."""


class Judged(NamedTuple):
    """An event, and what the meter would make of it."""

    event: UsageEvent
    verdict: Verdict


class Difference(NamedTuple):
    """A customer's usage of the previewed period by the meter as it is, and as it would be."""

    external_customer_id: str
    before: Decimal
    after: Decimal

    @property
    def change(self) -> Decimal:
        return EXACT.subtract(self.after, self.before)


@dataclass(frozen=True, slots=True)
class Preview:
    """What the meter would count of [start, end).

    `judged` are the newest events of its name, of any time, and `outcomes` what became of how many. Where more than
    COUNTED_EVENTS events lie in the period, the figures count only the newest, from `counted_since` on. For a change,
    `before` is the meter's usage today, from the same events, `differences` are the customers whose usage differs most
    (of `differing`), `recounted` tells whether history would be counted anew, and `lost_before` from when on alone usage
    would be known afterwards.
    """

    start: datetime
    end: datetime
    judged: list[Judged] = field(default_factory=list)
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    value: Decimal = ZERO
    event_count: int = 0
    points: list[UsagePoint] = field(default_factory=list)
    counted_since: datetime | None = None
    before: Decimal | None = None
    differences: list[Difference] = field(default_factory=list)
    differing: int = 0
    recounted: bool = True
    lost_before: datetime | None = None


def preview(
    definition: MeterDefinition,
    *,
    environment: str,
    replacing: str | None = None,
    calendar: Calendar | None = None,
    until: datetime | None = None,
    using: str | None = None,
) -> Preview:
    """Try a definition on real events: of a new meter, or with `replacing` (an id) of one that is there.

    Counted are the last PREVIEWED_DAYS days, today included, by the day of `calendar`. Raises InvalidMeter and
    MeterNotFound.
    """
    alias, valid, calendar = using or read_alias(), definition.validated(), calendar or Calendar()
    held = None if replacing is None else find_meter(replacing, environment=environment, using=alias)
    tried = Meter(environment=environment, **columns_of(valid))
    if held is not None:
        tried.archived_at = held.archived_at
    retained = retained_from(environment, alias)
    start, end = _period(until or now(), calendar, retained)
    scope, names = Scope(environment), {valid.event_name, valid.event_name if held is None else held.event_name}
    judged = [
        Judged(event, verdict(tried, event))
        for event in newest_events(scope, [valid.event_name], None, None, alias, limit=JUDGED_EVENTS)
    ]
    after = _Count(UsageQuery(tried.rule(), scope, start, end, WindowSize.DAY, calendar))
    before = None if held is None else _Count(UsageQuery(held.rule(), scope, start, end, WindowSize.DAY, calendar))
    read, since, is_part = 0, None, False
    for event in newest_events(scope, names, start, end, alias, limit=COUNTED_EVENTS + 1):
        if read == COUNTED_EVENTS:
            is_part = True
            break
        read, since = read + 1, event.timestamp
        after.add(event)
        if before is not None:
            before.add(event)
    differences = [] if before is None else _differences(before, after)
    return Preview(
        start,
        end,
        judged,
        Counter(each.verdict.outcome for each in judged),
        after.value,
        after.event_count,
        after.whole.points(),
        since if is_part else None,
        None if before is None else before.value,
        differences[:DIFFERENCES],
        len(differences),
        held is None or recounts(held, valid),
        retained,
    )


def _period(end: datetime, calendar: Calendar, retained: datetime | None) -> tuple[datetime, datetime]:
    """The last days up to `end`, without those of which events are gone."""
    noon = floor(end, WindowSize.DAY, calendar) + timedelta(hours=12)  # far from where a day may be an hour longer
    start = floor(noon - timedelta(days=PREVIEWED_DAYS - 1), WindowSize.DAY, calendar)
    return start if retained is None else min(max(start, retained), end), end


@dataclass(slots=True)
class _Count:
    """Usage of a period, of all customers and of each."""

    query: UsageQuery
    customers: dict[str, Tally] = field(default_factory=dict)
    whole: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.whole = Tally(self.query)

    def add(self, event: UsageEvent) -> None:
        if self.whole.add(event):
            self.customers.setdefault(event.external_customer_id, Tally(self.query)).add(event)

    @property
    def value(self) -> Decimal:
        return self.whole.result().value

    @property
    def event_count(self) -> int:
        return self.whole.result().event_count

    def of_customer(self, external_customer_id: str) -> Decimal:
        tally = self.customers.get(external_customer_id)
        return ZERO if tally is None else tally.result().value


def _differences(before: _Count, after: _Count) -> list[Difference]:
    """Customers whose usage differs, those with the greatest difference first."""
    customers = sorted(before.customers.keys() | after.customers.keys())
    found = [Difference(customer, before.of_customer(customer), after.of_customer(customer)) for customer in customers]
    return sorted((each for each in found if each.change), key=lambda each: each.change.copy_abs(), reverse=True)
