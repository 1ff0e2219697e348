"""From a figure back to its events: which they are, what each contributes, and how the figure comes from them.

Only events can tell, so nothing here reads rollups but the figure itself; PrunedEvents is raised where retention has
removed some.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from flexmeter.aggregation import DIVISION, EPOCH, ZERO, AggregationType, microseconds
from flexmeter.events import UsageEvent, format_timestamp
from flexmeter.exceptions import InvalidQuery
from flexmeter.explain import contribution
from flexmeter.measuring import refuse_pruned
from flexmeter.metering import passes
from flexmeter.properties import EXACT, rendered
from flexmeter.queries import UsageQuery
from flexmeter.stores.database.newest import Place, newest_events
from flexmeter.stores.database.transactions import read_alias
from flexmeter.usage import Tally, cell_size, usage
from flexmeter.windows import floor, following

READ_FOR_A_PAGE = 10_000
"""Events that one page looks at, at most; where few of them are the meter's, a page is shorter and others follow."""
READ_FOR_AN_ACCOUNT = 20_000
"""Events that an account looks at, at most."""

ADDITIVE = frozenset(
    {AggregationType.COUNT, AggregationType.SUM, AggregationType.SUM_WITH_MULTIPLIER, AggregationType.WEIGHTED_SUM}
)
"""Types whose figure is the sum of what the events contribute."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure of the answer to a query: that of the window which begins at `window_start`, or without one that of the
    whole range. A group of a grouped meter is asked for by a filter on the property it groups by."""

    query: UsageQuery
    window_start: datetime | None = None

    def __post_init__(self) -> None:
        size = cell_size(self.query)
        if self.window_start is None:
            return
        if size is None or floor(self.window_start, size, self.query.calendar) != self.window_start:
            raise InvalidQuery(
                f"No window of this answer begins at {format_timestamp(self.window_start)}",
                {"window_start": "must be the start of a window"},
            )

    @property
    def start(self) -> datetime | None:
        """None: everything from the beginning on."""
        if self.window_start is not None:
            return max(self.window_start, self.query.start)
        return None if self.query.accumulates else self.query.start

    @property
    def end(self) -> datetime:
        size = cell_size(self.query)
        if self.window_start is None or size is None:
            return self.query.end
        return min(following(self.window_start, size, self.query.calendar), self.query.end)

    def share(self, event: UsageEvent) -> Share | None:
        """What the event contributes to the bar's figure; None if it is not one of the bar's."""
        rule = self.query.rule
        if not rule.matches(event) or not passes(self.query.scope.filters, event.properties):
            return None
        worth = contribution(rule, event)
        if worth is None:
            return None
        properties = event.properties or {}
        value = rendered(properties.get(rule.field)) if rule.type is AggregationType.COUNT_UNIQUE else ""
        group = rendered(properties.get(rule.group_by)) if rule.group_by else ""
        counts = rule.type is not AggregationType.COUNT_UNIQUE or rule.count_missing or properties.get(rule.field) is not None
        if rule.type is not AggregationType.WEIGHTED_SUM:
            return Share(event, worth, worth, None, value, group, counts)
        weight = self._weight(event)
        return Share(event, worth, DIVISION.multiply(worth, weight), weight, value, group, counts)

    def _weight(self, event: UsageEvent) -> Decimal:
        """The part of the query's whole period during which the event's value was in force."""
        if event.timestamp < self.query.start:
            return Decimal(1)
        length = microseconds(self.query.end) - microseconds(self.query.start)
        left = microseconds(self.query.end) - microseconds(event.timestamp)
        return DIVISION.divide(Decimal(left), Decimal(length)) if length else ZERO


class Share(NamedTuple):
    """What one event contributes to a bar.

    `number` is its own, the multiplier included; `amount` is what the figure is made of: the number times `weight`,
    which only a WEIGHTED_SUM has. `value` is what a COUNT_UNIQUE compares, and `counts` whether it has any.
    """

    event: UsageEvent
    number: Decimal
    amount: Decimal
    weight: Decimal | None
    value: str
    group: str
    counts: bool


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some of a bar's events, the newest first. `after` is where the next page begins; None on the last one."""

    shares: list[Share]
    after: Place | None

    @property
    def amount(self) -> Decimal:
        """The sum of what the page's events contribute."""
        return _sum(share.amount for share in self.shares)


class Peak(NamedTuple):
    """The event that decides the figure of a bucket and group: the greatest, the smallest or the newest.

    `bucket` is None for a meter without buckets.
    """

    bucket: datetime | None
    share: Share


@dataclass(slots=True)
class Account:
    """How the figure comes from the events.

    `complete` is false where there are more than READ_FOR_AN_ACCOUNT events to look at: then it is about the newest of
    them alone. `amount` is the sum of what all contribute, `values` how often each value of a COUNT_UNIQUE occurs.
    `figure` is never negative, though `amount` may be.
    """

    figure: Decimal = ZERO
    events: int = 0
    amount: Decimal = ZERO
    peaks: list[Peak] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def figure_of(bar: Bar, *, using: str | None = None) -> Decimal:
    """The bar's figure, as `usage` gives it."""
    query = bar.query
    if bar.window_start is None:
        return usage(replace(query, window=None), using=using).value
    if query.rule.type is AggregationType.WEIGHTED_SUM:  # which weighs against the whole range
        points = usage(query, using=using).points
        return next((point.value for point in points if point.start == bar.window_start), ZERO)
    narrowed = replace(query, start=bar.start or query.start, end=bar.end, window=None, accumulates=False)
    return usage(narrowed, using=using).value


def page_of(bar: Bar, *, size: int = 100, after: Place | None = None, using: str | None = None) -> EventPage:
    """The bar's next `size` events behind `after`, or fewer where many were looked at in vain."""
    alias = using or read_alias()
    rule, scope = bar.query.rule, bar.query.scope
    refuse_pruned(scope.environment, bar.start, bar.end, alias)
    shares: list[Share] = []
    last, read, more = None, 0, False
    for event in newest_events(scope, [rule.event_name], bar.start, bar.end, alias, limit=READ_FOR_A_PAGE, after=after):
        if len(shares) == size:
            more = True
            break
        read, last = read + 1, Place(event.timestamp, event.event_id)
        share = bar.share(event)
        if share is not None:
            shares.append(share)
    refuse_pruned(scope.environment, bar.start, bar.end, alias)  # some may have gone while they were read
    return EventPage(shares, last if more or read == READ_FOR_A_PAGE else None)


def account_of(bar: Bar, *, using: str | None = None) -> Account:
    """How the bar's figure comes from its events."""
    alias = using or read_alias()
    query, scope = bar.query, bar.query.scope
    refuse_pruned(scope.environment, bar.start, bar.end, alias)
    account, tally = Account(), Tally(_of_one_figure(bar))
    peaks: dict[tuple[datetime | None, str], Peak] = {}
    read = 0
    events = newest_events(scope, [query.rule.event_name], bar.start, bar.end, alias, limit=READ_FOR_AN_ACCOUNT + 1)
    for event in events:
        read += 1
        if read > READ_FOR_AN_ACCOUNT:
            account.complete = False
            break
        share = bar.share(event)
        if share is None:
            continue
        tally.add(event)
        account.events += 1
        account.amount = EXACT.add(account.amount, share.amount)
        if query.rule.type is AggregationType.COUNT_UNIQUE and share.counts:
            account.values[share.value] = account.values.get(share.value, 0) + 1
        elif query.rule.type in _DECIDED:
            _decide(bar, share, peaks)
    refuse_pruned(scope.environment, bar.start, bar.end, alias)  # some may have gone while they were read
    result = tally.result()
    account.figure = result.value
    account.peaks = [peaks[key] for key in sorted(peaks, key=lambda key: (key[0] or EPOCH, key[1]))]
    return account


def _of_one_figure(bar: Bar) -> UsageQuery:
    """The query whose whole answer is the bar's figure, if none but the bar's events are counted."""
    accumulates = bar.query.accumulates and bar.window_start is None
    return replace(bar.query, window=None, accumulates=accumulates)


_DECIDED = frozenset({AggregationType.MAX, AggregationType.MIN, AggregationType.LATEST})


def _decide(bar: Bar, share: Share, peaks: dict[tuple[datetime | None, str], Peak]) -> None:
    rule, event = bar.query.rule, share.event
    size = rule.bucket_size if rule.type is AggregationType.MAX else None
    bucket = None if size is None else floor(event.timestamp, size, bar.query.calendar)
    key = (bucket, share.group if size is not None else "")
    held = peaks.get(key)
    if held is None or _decides(rule.type, share, held.share):
        peaks[key] = Peak(bucket, share)


def _decides(type: AggregationType, share: Share, held: Share) -> bool:
    if type is AggregationType.LATEST:
        return _age(share.event) > _age(held.event)
    return share.number > held.number if type is AggregationType.MAX else share.number < held.number


def _age(event: UsageEvent) -> tuple[datetime, datetime, str]:
    return event.timestamp, event.accepted_at, event.event_id


def _sum(amounts: Iterator[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
