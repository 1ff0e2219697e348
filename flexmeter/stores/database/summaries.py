"""What rollups say of many meters or many customers at once: which had most, and how it went lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.db import connections
from django.db.models import F, Sum

from flexmeter.aggregation import AggregationType
from flexmeter.metering import MeterRule
from flexmeter.models import Rollup, UniqueValue
from flexmeter.slots import began
from flexmeter.stores.database.functions import FIGURES, Figure, Reported
from flexmeter.stores.database.levels import BEGINNING, among, by_bucket, stretches
from flexmeter.stores.database.native_levels import ARRAYS, COLUMNS, columns_of, within


def counts_by_hour(meter_ids: Iterable[str], start: datetime, end: datetime, alias: str) -> Mapping[str, Mapping[datetime, int]]:
    """How many events meters counted in the hours of [start, end), as their rollups have it; in one query for all."""
    rows = Rollup.objects.using(alias).filter(
        among(by_bucket(start, end)),
        series__meter_id__in=list(meter_ids),
        series__environment=F("series__meter__environment"),
        series__generation=F("series__meter__generation"),
    )
    quarters = rows.values("series__meter_id", "slot").order_by().annotate(events=Sum("count"))
    counts: dict[str, Counter[datetime]] = {}
    for meter_id, slot, events in quarters.values_list("series__meter_id", "slot", "events"):
        counts.setdefault(meter_id, Counter())[began(slot, 0).replace(minute=0)] += events
    return counts


def ranks_by_usage(rule: MeterRule) -> bool:
    """Whether the database can order a meter's customers by their usage; of others it knows the number of events."""
    return rule.type in FIGURES and not (rule.type is AggregationType.MAX and rule.bucket_size is not None)


class Ranking:
    """Orders a meter's customers with the ORM alone, so it serves every database Django does."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def customers(self, rule: MeterRule, environment: str, begin: datetime, end: datetime, limit: int) -> list[str]:
        rows: Any
        if rule.type is AggregationType.COUNT_UNIQUE:
            rows = UniqueValue.objects.using(self.alias).filter(day__gte=begin, day__lt=end)
        else:
            rows = Rollup.objects.using(self.alias).filter(among(stretches([begin, end])))
        rows = rows.filter(series__environment=environment, series__meter_id=rule.meter_id, series__generation=rule.generation)
        most: Any = Sum("count")
        if ranks_by_usage(rule):
            most = Figure(Reported(FIGURES[rule.type], rule.multiplier), rule.multiplier)
        ranked = rows.order_by().values("series__external_customer_id").annotate(most=most)
        names = ranked.order_by("-most", "series__external_customer_id").values_list("series__external_customer_id", flat=True)
        return list(names[:limit])


class PostgresRanking(Ranking):
    """The same contract, series by series through their index: planned freely, all rollups there are would be read."""

    ROLLED_UP: ClassVar[str] = f"""
        SELECT s.external_customer_id
        FROM unnest({ARRAYS}) AS stretch ({COLUMNS})
        JOIN flexmeter_series s
          ON s.environment = %(environment)s AND s.meter_id = %(meter)s AND s.generation = %(generation)s
        CROSS JOIN LATERAL (
            SELECT sum(count) AS count, sum(total) AS total, min(minimum) AS minimum, max(maximum) AS maximum
            FROM flexmeter_rollup
            WHERE series_id = s.id AND {{within}}
        ) r
        GROUP BY 1
        HAVING sum(r.count) IS NOT NULL
        ORDER BY greatest({{figure}} * %(multiplier)s::numeric, 0) DESC, 1
        LIMIT %(limit)s
    """  # noqa: S608  # made of constants
    UNIQUE: ClassVar[str] = """
        SELECT s.external_customer_id
        FROM flexmeter_series s
        CROSS JOIN LATERAL (
            SELECT value FROM flexmeter_uniquevalue WHERE series_id = s.id AND day >= %(start)s AND day < %(end)s OFFSET 0
        ) u
        WHERE s.environment = %(environment)s AND s.meter_id = %(meter)s AND s.generation = %(generation)s
        GROUP BY 1
        ORDER BY count(DISTINCT u.value) DESC, 1
        LIMIT %(limit)s
    """
    COLUMNS: ClassVar[dict[AggregationType, str]] = {
        AggregationType.SUM: "sum(r.total)",
        AggregationType.SUM_WITH_MULTIPLIER: "sum(r.total)",
        AggregationType.MAX: "max(r.maximum)",
        AggregationType.MIN: "min(r.minimum)",
    }

    def customers(self, rule: MeterRule, environment: str, begin: datetime, end: datetime, limit: int) -> list[str]:
        by_usage = ranks_by_usage(rule)
        parameters: dict[str, Any] = {
            "environment": environment,
            "meter": rule.meter_id,
            "generation": rule.generation,
            **columns_of(stretches([begin, end])),
            "start": begin,
            "end": end,
            "multiplier": rule.multiplier if by_usage else 1,
            "limit": limit,
        }
        figure = self.COLUMNS.get(rule.type, "sum(r.count)") if by_usage else "sum(r.count)"
        unique = rule.type is AggregationType.COUNT_UNIQUE
        with connections[self.alias].cursor() as cursor:
            cursor.execute(
                self.UNIQUE if unique else self.ROLLED_UP.format(figure=figure, within=within([begin, end])), parameters
            )
            return [name for (name,) in cursor.fetchall()]


RANKINGS: dict[str, type[Ranking]] = {"postgresql": PostgresRanking}


def customers_with_most(
    rule: MeterRule, environment: str, start: datetime | None, end: datetime, *, limit: int, alias: str
) -> list[str]:
    """The first customers of a meter, by usage where it `ranks_by_usage`, otherwise by events, of the rollup buckets that
    begin in [start, end)."""
    ranking = RANKINGS.get(connections[alias].vendor, Ranking)(alias)
    return ranking.customers(rule, environment, BEGINNING if start is None else start, end, limit)
