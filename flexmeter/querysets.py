"""Query sets that speak the domain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Self, TypeVar

from django.db import models

Row = TypeVar("Row", bound=models.Model)


class EventQuerySet(models.QuerySet[Row]):
    def in_environment(self, environment: str) -> Self:
        return self.filter(environment=environment)

    def for_customer(self, external_customer_id: str) -> Self:
        return self.filter(external_customer_id=external_customer_id)

    def named(self, event_name: str) -> Self:
        return self.filter(event_name=event_name)

    def between(self, start: datetime | None, end: datetime | None) -> Self:
        """Events in the half-open interval [start, end); None leaves an end open."""
        events = self if start is None else self.filter(timestamp__gte=start)
        return events if end is None else events.filter(timestamp__lt=end)


class MeterQuerySet(models.QuerySet[Row]):
    def in_environment(self, environment: str) -> Self:
        return self.filter(environment=environment)

    def published(self) -> Self:
        return self.filter(status="published")

    def counting(self, event_names: Iterable[str]) -> Self:
        """Meters that may count events of these names; archived ones count what was accepted before."""
        return self.filter(event_name__in=event_names).exclude(status="deleted")

    def being_built(self) -> Self:
        """Meters whose rollups do not cover history yet."""
        return self.filter(rollups_ready=False).exclude(status="deleted")


class ApiKeyQuerySet(models.QuerySet[Row]):
    def usable_at(self, now: datetime) -> Self:
        return self.filter(revoked_at=None).exclude(expires_at__lte=now)
