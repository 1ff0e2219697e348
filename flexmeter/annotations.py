"""A customer's usage beside the host's own columns, in one query."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Case, Exists, OuterRef, Subquery, Value, When
from django.db.models.functions import Coalesce

from flexmeter.aggregation import AggregationType, Measure
from flexmeter.events import format_timestamp
from flexmeter.exceptions import InvalidQuery, MeterNotFound
from flexmeter.measuring import refuse_before
from flexmeter.metering import MeterRule
from flexmeter.models import Meter, Rollup, UniqueValue
from flexmeter.stores.database.functions import FIGURES, CustomerText, Figure, FigureField, Reported
from flexmeter.stores.database.levels import BEGINNING, among, stretches
from flexmeter.stores.database.transactions import read_alias
from flexmeter.windows import bucket


class UsageOf(Figure):
    """Usage of a meter in [start, end) by the customer that a column names, as an annotation.

        Account.objects.annotate(usage=UsageOf(meter, start, end)).filter(usage__gt=F("quota")).order_by("-usage")

    `customer` names a column (or an annotation) whose text is the external customer id; by default the primary key. The
    figure is the same that `usage` gives, and 0 for who used nothing. Rollups answer it, so the range must consist of
    whole buckets: 15 minutes, the minutes of a meter with buckets of a MINUTE, the UTC days of a COUNT_UNIQUE. It takes
    meters of all types but AVG, LATEST, WEIGHTED_SUM, and MAX with buckets. The events must be in the database of the
    queryset.

    The values are exact decimals on PostgreSQL and SQLite, and on MariaDB and MySQL within 45 digits before and 20 after
    the point. SQLite orders and filters by whole numbers up to 2^63 exactly and by others as doubles.

    Raises InvalidQuery for what cannot be annotated, also when the meter's rollups are not ready yet, MeterNotFound, and
    PrunedEvents as `usage` does. Should the meter change before the query runs, the annotation is None.
    """

    def __init__(
        self, meter: Meter | str, start: datetime, end: datetime, *, customer: str = "pk", using: str | None = None
    ) -> None:
        meter_id = meter.pk if isinstance(meter, Meter) else meter
        current = Meter.objects.using(using or read_alias()).exclude(status=Meter.Status.DELETED).filter(pk=meter_id).first()
        if current is None:
            raise MeterNotFound(meter_id)
        rule = current.rule()
        from_start = None if current.reset_usage == Meter.ResetUsage.NEVER else start
        _check(current, rule, start, end)
        refuse_before(current.counted_from, from_start, end)
        multiplier = rule.multiplier if rule.type is AggregationType.SUM_WITH_MULTIPLIER else Decimal(1)
        reported = Reported(FIGURES[rule.type], multiplier)
        rows = _rows(current, rule, from_start, end).filter(series__external_customer_id=CustomerText(OuterRef(customer)))
        figure = Subquery(rows.order_by().values("series__environment").annotate(figure=reported).values("figure"))
        nothing = Value(0, output_field=FigureField())
        unchanged = Meter.objects.filter(pk=current.pk, generation=current.generation, rollups_ready=True)
        super().__init__(
            Case(When(Exists(unchanged), then=Coalesce(figure, nothing)), output_field=FigureField()),
            multiplier,
        )


def _rows(meter: Meter, rule: MeterRule, start: datetime | None, end: datetime) -> Any:
    """What answers for [start, end): rollups, or the unique values of whole days."""
    begin = BEGINNING if start is None else start
    rows: Any
    if Measure.UNIQUES in rule.measures:
        rows = UniqueValue.objects.filter(day__gte=begin, day__lt=end)
    else:
        rows = Rollup.objects.filter(among(stretches([begin, end])))
    return rows.filter(series__environment=meter.environment, series__meter_id=meter.pk, series__generation=meter.generation)


def _check(meter: Meter, rule: MeterRule, start: datetime, end: datetime) -> None:
    if rule.type not in FIGURES or (rule.type is AggregationType.MAX and rule.bucket_size):
        raise InvalidQuery(
            f"{rule.type.value}{' with buckets' if rule.bucket_size else ''} cannot be computed inside a query; ask usage()",
            {"meter": f"has the type {rule.type.value}"},
        )
    if not meter.rollups_ready:
        raise InvalidQuery(
            "The meter's rollups are not ready yet; run flexmeter_rebuild, and until it is done ask usage()",
            {"meter": "is being built"},
        )
    for name, instant in (("start", start), ("end", end)):
        if instant.tzinfo is None:
            raise InvalidQuery(f"The {name} must be a datetime with a time zone", {name: "must be an aware datetime"})
        if bucket(instant, rule.recount_grain) != instant.astimezone(UTC):
            raise InvalidQuery(
                f"The {name} must be the beginning of a bucket, for rollups to answer: a multiple of {rule.recount_grain} in UTC",
                {name: f"is {format_timestamp(instant)}"},
            )
    if end < start:
        raise InvalidQuery("The end lies before the start", {"end": "must not lie before start"})
