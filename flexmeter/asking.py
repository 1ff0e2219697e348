"""Questions about usage as one writes them in code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, TypedDict

from flexmeter import windows
from flexmeter.aggregation import AggregationType
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidMeter, InvalidQuery
from flexmeter.metering import MeterRule, filters_of
from flexmeter.meters import BUCKETED_TYPES, check_multiplier, find_meter
from flexmeter.models import Meter, now
from flexmeter.properties import number
from flexmeter.queries import Scope, UsageQuery, calendar_in
from flexmeter.recording import customer_id as customer_id_of
from flexmeter.stores.database.transactions import read_alias
from flexmeter.windows import Calendar, WindowSize


class Question(TypedDict, total=False):
    """How much was used? Of a `meter` (an instance or its id), or of an `event_name` and an `aggregation`.

    Counted is what happened in [start, end): aware datetimes, `end` is now if it is not given. `customer` is what
    `record` takes, none means all. `filters` maps properties to the values that count. `window` asks for points as well,
    in the calendar of `timezone` (a name or a tzinfo, by default UTC), with months from `billing_anchor` on (a day of the
    month, or a datetime on it). `field` is the property that is aggregated; `bucket_size`, `group_by` and `multiplier`
    are as with meters, and a meter brings its own.
    """

    meter: Meter | str
    event_name: str
    aggregation: AggregationType | str
    field: str
    multiplier: Decimal | int | str
    bucket_size: WindowSize | str
    group_by: str
    customer: Any
    customer_id: str
    sources: Collection[str]
    filters: Mapping[str, Collection[str]]
    start: datetime
    end: datetime
    window: WindowSize | str
    timezone: tzinfo | str
    billing_anchor: datetime | int
    environment: str


_OF_A_RULE = ("event_name", "aggregation", "field", "multiplier", "bucket_size", "group_by")


def query_of(question: Question, *, using: str | None = None) -> UsageQuery:
    """The question as a value. Raises InvalidQuery for what cannot be asked, and MeterNotFound for an unknown meter."""
    if unknown := sorted(set(question) - set(Question.__annotations__)):
        raise InvalidQuery(f"Nothing can be asked by {unknown[0]!r}", {unknown[0]: "is unknown"})
    start, end = _instant(question, "start"), _instant(question, "end") if question.get("end") else now()
    if end < start:
        raise InvalidQuery("The end lies before the start", {"end": "must not lie before start"})
    meter = _meter(question, using)
    customer = question.get("customer")
    scope = Scope(
        question.get("environment") or (meter.environment if meter else conf.ENVIRONMENT),
        None if customer is None else customer_id_of(customer),
        question.get("customer_id") or None,
        sources=tuple(question.get("sources") or ()),
        filters=filters_of(question.get("filters") or {}),
    )
    return UsageQuery(
        meter.rule() if meter else _rule(question),
        scope,
        start,
        end,
        _size(question, "window"),
        _calendar(question),
        accumulates=meter is not None and meter.reset_usage == Meter.ResetUsage.NEVER,
    )


def _meter(question: Question, using: str | None) -> Meter | None:
    meter = question.get("meter")
    if meter is None:
        return None
    for name in _OF_A_RULE:
        if question.get(name) is not None:
            raise InvalidQuery(f"A meter has a {name} of its own", {name: "must not be given with meter"})
    environment = question.get("environment")
    if isinstance(meter, Meter):
        if environment not in (None, meter.environment):
            raise InvalidQuery("The meter is one of another environment", {"environment": f"is {meter.environment}"})
        return meter
    return find_meter(meter, environment=environment or conf.ENVIRONMENT, using=using or read_alias())


def _rule(question: Question) -> MeterRule:
    event_name = question.get("event_name")
    if not event_name:
        raise InvalidQuery("Usage of what? Name a meter or an event", {"event_name": "is required without meter"})
    given = question.get("aggregation") or AggregationType.COUNT
    try:
        type = AggregationType(given.upper())
    except ValueError:
        raise InvalidQuery("The aggregation type is not supported", {"aggregation": given}) from None
    field = question.get("field") or ""
    if not field and type is not AggregationType.COUNT:
        raise InvalidQuery(f"{type.value} aggregates a property", {"field": f"is required for {type.value}"})
    bucket_size = _size(question, "bucket_size") if type in BUCKETED_TYPES else None
    return MeterRule(
        event_name,
        type,
        field,
        multiplier=_multiplier(question, type),
        bucket_size=bucket_size,
        group_by=question.get("group_by") or "" if bucket_size and type is AggregationType.MAX else "",
        count_missing=conf.COUNT_UNIQUE_MISSING == "count",
    )


def _multiplier(question: Question, type: AggregationType) -> Decimal:
    given = question.get("multiplier")
    if given is None:
        return Decimal(1)
    multiplier = number(given)
    if multiplier is None or type is not AggregationType.SUM_WITH_MULTIPLIER:
        reason = "is no number" if multiplier is None else "can only be used with SUM_WITH_MULTIPLIER"
        raise InvalidQuery(f"The multiplier {reason}", {"multiplier": str(given)})
    try:
        check_multiplier(multiplier)
    except InvalidMeter as error:
        raise InvalidQuery(error.message, error.details) from None
    return multiplier


def _instant(question: Question, name: str) -> datetime:
    value = question.get(name)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidQuery(f"The {name} must be a datetime with a time zone", {name: "must be an aware datetime"})
    return value.astimezone(UTC)


def _size(question: Question, name: str) -> WindowSize | None:
    value = question.get(name)
    try:
        return WindowSize(str(value)) if value else None
    except ValueError:
        allowed = ", ".join(WindowSize)
        raise InvalidQuery(f"{value!r} is no window size", {name: f"must be one of {allowed}"}) from None


def _calendar(question: Question) -> Calendar:
    given = question.get("timezone") or UTC
    zone = windows.zone(given) if isinstance(given, str) else given
    if zone is UTC and isinstance(given, str) and windows.zone_is_unknown(given):
        raise InvalidQuery(f"{given!r} is no time zone", {"timezone": "must be a name of the IANA database"})
    anchor = question.get("billing_anchor", 1)
    day = windows.anchor_day(anchor) if isinstance(anchor, datetime) else anchor
    if not 1 <= day <= 31:
        raise InvalidQuery("The billing anchor is no day of a month", {"billing_anchor": "must lie between 1 and 31"})
    return calendar_in(zone, day)
