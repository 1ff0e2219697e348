"""The questions as one asks flexmeter."""

from __future__ import annotations

from decimal import Decimal

from benchmarks import large
from benchmarks.sides import DAYS, END, NAME, START, TOP, WANTED_USERS, Answer, of_windows
from benchmarks.sides.ledgers import Chosen


class Ours:
    """Asks the ledger behind an alias."""

    name = "flexmeter"

    def __init__(self, alias: str) -> None:
        from flexmeter.models import Meter

        self.alias = alias
        self.meters = {meter.aggregation_type: meter for meter in Meter.objects.using(alias).filter(event_name=NAME)}

    def sum_by_day(self) -> Answer:
        return self._points("SUM", customer=large.BUSY, window="DAY")

    def unique_by_day(self) -> Answer:
        return self._points("COUNT_UNIQUE", customer=large.BUSY, window="DAY")

    def unique_over_month(self) -> Answer:
        from flexmeter.usage import usage

        Chosen.alias = self.alias
        result = usage(meter=self.meters["COUNT_UNIQUE"], customer=large.BUSY, start=START, end=END)
        return [(None, result.value, result.event_count)]

    def max_by_hour(self) -> Answer:
        from flexmeter.usage import usage

        Chosen.alias = self.alias
        result = usage(meter=self.meters["MAX"], customer=large.BUSY, start=START, end=END)
        return of_windows([tuple(point) for point in result.points], result.value)

    def top_customers(self) -> Answer:
        """As the admin's page of a meter lists them."""
        from flexmeter.queries import AnalyticsLine, Scope
        from flexmeter.stores.database.summaries import customers_with_most
        from flexmeter.usage import measure

        Chosen.alias = self.alias
        rule = self.meters["SUM"].rule()
        names = customers_with_most(rule, "default", START, END, limit=TOP, alias=self.alias)
        lines = [AnalyticsLine(rule, START, END, customers=frozenset({name})) for name in names]
        answers = measure(lines, Scope("default"))
        return [(name, item.total, item.event_count) for name, [item] in zip(names, answers, strict=True)]

    def everyone_by_day(self) -> Answer:
        return self._points("SUM", window="DAY")

    def filtered_by_group(self) -> Answer:
        """What rollups do not keep apart, hence from raw events."""
        from flexmeter.metering import filters_of
        from flexmeter.queries import AnalyticsQuery, Scope
        from flexmeter.usage import analytics

        Chosen.alias = self.alias
        scope = Scope("default", large.BUSY, filters=filters_of({"user": WANTED_USERS}))
        rules = (self.meters["SUM"].rule(),)
        items = analytics(AnalyticsQuery(scope, rules, START, END, group_by=("properties.model",)))
        return [(item.group[0], item.total, item.event_count) for item in items]

    def _points(self, type: str, **question: str) -> Answer:
        from flexmeter.usage import usage

        Chosen.alias = self.alias
        result = usage(meter=self.meters[type], start=START, end=END, **question)
        if result.source != "rollups" or len(result.points) != DAYS:
            raise RuntimeError(f"{DAYS} days from rollups were expected, not {len(result.points)} from {result.source}.")
        return [(start, Decimal(value), events) for start, value, events in result.points]
