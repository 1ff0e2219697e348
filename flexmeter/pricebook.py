"""What usage costs, as flexmeter asks for it: the seam behind which `flexmeter.pricing` stands, if it is installed.

flexmeter itself knows no prices. An app that does registers a PriceBook with `use`; until then usage costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from django.urls import URLPattern, URLResolver

from flexmeter.aggregation import ZERO
from flexmeter.metering import Filters
from flexmeter.models import Event, Meter
from flexmeter.properties import EXACT
from flexmeter.queries import AnalyticsItem, AnalyticsQuery, Scope, calendar_in
from flexmeter.stores.database.transactions import read_alias
from flexmeter.usage import analytics
from flexmeter.windows import Calendar, WindowSize


@dataclass(frozen=True, slots=True)
class CostQuery:
    """What a customer, or everybody, used and owes for in [start, end): one item per meter or line item, and group.

    `group_by` holds "source" or "properties.<name>". `expand` names objects that items shall carry along: "price", "meter",
    "feature", "subscription_line_item", "plan", "addon", and "source" for the distinct sources.
    """

    environment: str
    start: datetime
    end: datetime
    external_customer_id: str | None = None
    feature_ids: Collection[str] = ()
    sources: tuple[str, ...] = ()
    filters: Filters = ()
    group_by: tuple[str, ...] = ()
    window: WindowSize | None = None
    expand: frozenset[str] = frozenset()
    include_children: bool = False


class CostPoint(NamedTuple):
    """Usage of one window, and what it costs; what a commitment contributed to that stands in the last three."""

    start: datetime
    usage: Decimal
    event_count: int
    subtotal: Decimal = ZERO
    discount: Decimal = ZERO
    utilized: Decimal = ZERO
    overage: Decimal = ZERO
    true_up: Decimal = ZERO

    @property
    def cost(self) -> Decimal:
        return EXACT.subtract(self.subtotal, self.discount)


@dataclass(frozen=True, slots=True)
class CostItem:
    """Usage of a meter in one group, and what it costs; `group` follows the query's `group_by`. "" stands for "none".

    `reporting_unit`, `commitment` and `expanded` hold objects in the form in which the API shows them.
    """

    meter: Meter
    name: str
    group: tuple[str, ...]
    usage: Decimal
    event_count: int
    points: Sequence[CostPoint] = ()
    point_size: WindowSize | None = None
    sources: tuple[str, ...] = ()
    subtotal: Decimal = ZERO
    discount: Decimal = ZERO
    currency: str = ""
    feature_id: str = ""
    price_id: str = ""
    line_item_id: str = ""
    subscription_id: str = ""
    plan_id: str = ""
    addon_id: str = ""
    unit_singular: str = ""
    unit_plural: str = ""
    displayed_usage: str = ""
    reporting_unit: Mapping[str, Any] | None = None
    commitment: Mapping[str, Any] | None = None
    expanded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> Decimal:
        return EXACT.subtract(self.subtotal, self.discount)


@dataclass(frozen=True, slots=True)
class Costs:
    """Items in the order of their names, and the sums of those in `currency`."""

    items: Sequence[CostItem]
    currency: str = ""
    subtotal: Decimal = ZERO
    discount: Decimal = ZERO

    @property
    def cost(self) -> Decimal:
        return EXACT.subtract(self.subtotal, self.discount)


@dataclass(frozen=True, slots=True)
class EventCost:
    """What one event costs by one line item, taken by itself: `working` tells how, line by line."""

    meter_id: str
    quantity: Decimal
    cost: Decimal
    currency: str
    working: tuple[str, ...]
    price_id: str
    price_name: str
    line_item_id: str
    subscription_id: str
    customer_id: str
    feature_id: str = ""


class Trace(NamedTuple):
    """The costs of an event; where no line item claims it, `tracker` tells in the form of the API where it got stuck."""

    costs: tuple[EventCost, ...]
    tracker: Mapping[str, Any] | None


class PriceBook(Protocol):
    """Who owes how much for usage."""

    def costs(self, query: CostQuery, *, using: str | None = None) -> Costs:
        """Usage with its costs. Raises InvalidQuery and PrunedEvents as `usage.analytics` does."""

    def costs_of_ids(self, event_ids: Sequence[str], *, environment: str, using: str | None = None) -> Mapping[str, Decimal]:
        """The cost of each stored event taken by itself, at its time, by all line items that claim it; others are absent."""

    def costs_of_event(
        self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None
    ) -> tuple[EventCost, ...]:
        """The cost of an event by every line item that claims it; `counted` are the meters that counted it, with the quantity."""

    def trace(self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None) -> Trace | None:
        """How the event found its price or where it got stuck; None where nothing is priced at all."""

    def urlpatterns(self) -> Sequence[URLPattern | URLResolver]:
        """Further routes of the API."""


class Unpriced:
    """The price book of a project that has none."""

    def costs(self, query: CostQuery, *, using: str | None = None) -> Costs:
        alias = using or read_alias()
        meters = [] if query.feature_ids else meters_of(query.environment, alias)
        return Costs(unpriced_items(query, meters, calendar_in(UTC), alias))

    def costs_of_ids(self, event_ids: Sequence[str], *, environment: str, using: str | None = None) -> Mapping[str, Decimal]:
        return {}

    def costs_of_event(
        self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None
    ) -> tuple[EventCost, ...]:
        return ()

    def trace(self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None) -> Trace | None:
        return None

    def urlpatterns(self) -> Sequence[URLPattern | URLResolver]:
        return []


def meters_of(environment: str, alias: str) -> list[Meter]:
    """The meters of an environment; archived ones too, for what they have counted."""
    meters = Meter.objects.using(alias).in_environment(environment).exclude(status=Meter.Status.DELETED)
    return list(meters.order_by("id"))


def unpriced_items(query: CostQuery, meters: Sequence[Meter], calendar: Calendar, alias: str) -> list[CostItem]:
    """Usage without costs: an item for every meter and group that has events."""
    by_id = {meter.pk: meter for meter in meters}
    scope = Scope(query.environment, query.external_customer_id, sources=query.sources, filters=query.filters)
    asked = AnalyticsQuery(
        scope,
        tuple(meter.rule() for meter in meters),
        query.start,
        query.end,
        query.group_by,
        query.window,
        calendar,
        with_sources="source" in query.expand,
    )
    items = [_unpriced(by_id[item.rule.meter_id], item) for item in analytics(asked, using=alias)]
    return in_order(items, query.group_by)


def in_order(items: Iterable[CostItem], group_by: Sequence[str]) -> list[CostItem]:
    """Items by name; those of one name by source, properties, line item and meter."""
    source = group_by.index("source") if "source" in group_by else None

    def key(item: CostItem) -> tuple[Any, ...]:
        properties = tuple(value for position, value in enumerate(item.group) if position != source)
        return item.name, "" if source is None else item.group[source], properties, item.line_item_id, item.meter.pk

    return sorted(items, key=key)


def _unpriced(meter: Meter, item: AnalyticsItem) -> CostItem:
    points = [CostPoint(point.start, point.value, point.event_count) for point in item.points]
    return CostItem(meter, meter.name, item.group, item.total, item.event_count, points, item.point_size, item.sources)


_book: PriceBook = Unpriced()


def use(book: PriceBook) -> None:
    """Ask this price book from now on."""
    global _book  # there is one per process, registered when apps are loaded
    _book = book


def current() -> PriceBook:
    """The price book that was registered, or one without prices."""
    return _book
