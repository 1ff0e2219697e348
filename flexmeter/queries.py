"""Questions about usage and their answers, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import NamedTuple

from flexmeter.aggregation import AggregationType
from flexmeter.conf import conf
from flexmeter.metering import Filters, MeterRule
from flexmeter.windows import Calendar, WindowSize


def calendar_in(zone: tzinfo, anchor_day: int = 1) -> Calendar:
    """A calendar that follows the project's settings."""
    return Calendar(
        zone=zone,
        week_start=6 if conf.WEEK_STARTS == "sunday" else 0,
        anchor_day=anchor_day,
        anchor_overflows=conf.MONTH_ANCHOR == "overflow",
    )


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events a question is about, besides the rule's own conditions and the time range.

    None means "any" for the customer; an empty tuple means "any" for `sources` and `filters`.
    """

    environment: str
    external_customer_id: str | None = None
    customer_id: str | None = None
    sources: tuple[str, ...] = ()
    filters: Filters = ()

    @property
    def narrowed(self) -> bool:
        """Whether the scope looks at more of an event than its customer."""
        return bool(self.filters) or self.beyond_rollups

    @property
    def beyond_rollups(self) -> bool:
        """Whether it looks at what no rollup knows; filters are known to those of meters with their properties as dimensions."""
        return bool(self.customer_id or self.sources)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """How much of a rule's usage there was in [start, end).

    With `window` the answer has a point for every calendar window that holds events; the rule's own `bucket_size`
    takes precedence over it. `accumulates` counts everything before `start` too (meters that never reset).
    """

    rule: MeterRule
    scope: Scope
    start: datetime
    end: datetime
    window: WindowSize | None = None
    calendar: Calendar = field(default_factory=Calendar)
    accumulates: bool = False


class UsagePoint(NamedTuple):
    """Usage of one window; `start` is the start of the calendar window, which may lie before the query's."""

    start: datetime
    value: Decimal
    event_count: int


@dataclass(frozen=True, slots=True)
class UsageResult:
    """`value` is the figure of the whole range (exact, never negative); `points` ascend and leave empty windows out.

    For a windowed query of an accumulating meter `value` is what there was before `start`. `source` says where the
    figure came from: "rollups", "events", or "rollups and events".
    """

    type: AggregationType
    event_name: str
    value: Decimal
    event_count: int
    points: list[UsagePoint] = field(default_factory=list)
    source: str = "events"


@dataclass(frozen=True, slots=True)
class AnalyticsQuery:
    """Usage of several meters in [start, end), one item per meter and combination of group values.

    `group_by` holds "source" or "properties.<name>". `with_sources` lists the distinct sources of each item.
    """

    scope: Scope
    rules: tuple[MeterRule, ...]
    start: datetime
    end: datetime
    group_by: tuple[str, ...] = ()
    window: WindowSize | None = None
    calendar: Calendar = field(default_factory=Calendar)
    with_sources: bool = False


class Joined(NamedTuple):
    """Customers that are counted along in [start, end)."""

    customers: frozenset[str]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class AnalyticsLine:
    """One rule's part of an answer: its usage in [start, end), in windows of this calendar.

    Of the scope's customers it counts those in `customers`, together, or all; besides them those in `joined`, each of whom
    is among them or in `joined` only once, for their own part of [start, end).
    """

    rule: MeterRule
    start: datetime
    end: datetime
    calendar: Calendar = field(default_factory=Calendar)
    customers: frozenset[str] | None = None
    joined: tuple[Joined, ...] = ()


class UsageBucket(NamedTuple):
    """One bucket of a bucketed rule: its figure, or for a grouped rule one for each group; none is negative."""

    start: datetime
    values: tuple[Decimal, ...]
    event_count: int


@dataclass(frozen=True, slots=True)
class AnalyticsItem:
    """Usage of one meter in one group; `group` follows the query's `group_by`. Only bucketed rules have `buckets`."""

    rule: MeterRule
    group: tuple[str, ...]
    total: Decimal
    event_count: int
    points: list[UsagePoint] = field(default_factory=list)
    point_size: WindowSize | None = None
    sources: tuple[str, ...] = ()
    buckets: list[UsageBucket] = field(default_factory=list)
