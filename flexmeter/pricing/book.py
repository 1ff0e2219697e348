"""The price book that flexmeter asks once this app is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from django.urls import URLPattern, URLResolver

from flexmeter.models import Event, Meter
from flexmeter.pricebook import CostQuery, Costs, EventCost, Trace
from flexmeter.pricing import events
from flexmeter.pricing.analytics import costs
from flexmeter.stores.database.transactions import read_alias


class Prices:
    """Answers from the customers, subscriptions and prices in the database."""

    def costs(self, query: CostQuery, *, using: str | None = None) -> Costs:
        return costs(query, using or read_alias())

    def costs_of_ids(self, event_ids: Sequence[str], *, environment: str, using: str | None = None) -> Mapping[str, Decimal]:
        return events.costs_of_ids(event_ids, environment, using or read_alias())

    def costs_of_event(
        self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None
    ) -> tuple[EventCost, ...]:
        return events.costs_of_event(event, counted, using or read_alias())

    def trace(self, event: Event, counted: Iterable[tuple[Meter, Decimal]], *, using: str | None = None) -> Trace | None:
        return events.trace(event, tuple(counted), using or read_alias())

    def urlpatterns(self) -> Sequence[URLPattern | URLResolver]:
        from flexmeter.pricing.http.urls import urlpatterns  # once all apps are loaded

        return urlpatterns
