"""Usage figures: of an ad-hoc aggregation, of a meter, and of all meters side by side."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from rest_framework.request import Request

from flexmeter import pricebook
from flexmeter.aggregation import ZERO, AggregationType
from flexmeter.conf import conf
from flexmeter.events import format_timestamp
from flexmeter.exceptions import InvalidMeter, InvalidQuery
from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.base import ApiView
from flexmeter.http.bodies import decoded, read_body
from flexmeter.http.errors import ApiError, InvalidPayload
from flexmeter.http.members import Members
from flexmeter.http.shapes import json_number, meter_shape
from flexmeter.measuring import BUCKETED
from flexmeter.metering import MeterRule
from flexmeter.meters import check_multiplier, find_meter
from flexmeter.models import Meter
from flexmeter.pricebook import CostItem, CostPoint, CostQuery
from flexmeter.properties import EXACT, plain
from flexmeter.queries import Scope, UsageQuery, UsageResult
from flexmeter.stores.database.transactions import read_alias
from flexmeter.usage import usage

_PROPERTY_NAME = re.compile(r"[A-Za-z0-9_.]+")


class UsageView(ApiView):
    """Usage by an aggregation that the request defines."""

    def post(self, request: Request) -> Answer:
        body = self.body()
        rule = _ad_hoc_rule(body)
        span = members.time_range(body)
        query = UsageQuery(
            rule,
            _scope(self.environment, body),
            span.start,
            span.end,
            members.window(body, "window_size"),
            members.calendar(body),
        )
        return Answer(_usage_shape(query, usage(query)))


class MeterUsageView(ApiView):
    """Usage by a meter; its own filters and those of the request both apply."""

    def post(self, request: Request) -> Answer:
        body = self.body()
        meter_id = members.text(body, "meter_id", required=True)
        span, window, calendar = members.time_range(body), members.window(body, "window_size"), members.calendar(body)
        members.text(body, "bucket_size")  # the meter's own is used
        scope = _scope(self.environment, body)
        meter = find_meter(meter_id, environment=self.environment, using=read_alias())
        accumulates = meter.reset_usage == Meter.ResetUsage.NEVER
        query = UsageQuery(meter.rule(), scope, span.start, span.end, window, calendar, accumulates)
        return Answer(_usage_shape(query, usage(query)))


class AnalyticsView(ApiView):
    """Usage and what it costs, by line item or meter, and by group."""

    def post(self, request: Request) -> Answer:
        body = self.body()
        span, window = members.time_range(body), members.window(body, "window_size")
        customer = members.text(body, "external_customer_id")
        if not customer and conf.ANALYTICS_REQUIRES_CUSTOMER:
            raise ApiError(400, "validation_error", "External customer ID is required", {"external_customer_id": "is required"})
        group_by = _group_by(body)
        members.boolean(body, "breakdown_bucket")
        query = CostQuery(
            self.environment,
            span.start,
            span.end,
            customer or None,
            members.texts(body, "feature_ids"),
            tuple(members.texts(body, "sources", most=conf.MAX_FILTER_VALUES, limit=members.MAX_TEXT)),
            members.property_filters(body, "property_filters"),
            group_by,
            window,
            frozenset(members.texts(body, "expand")),
            members.boolean(body, "include_children"),
        )
        costs = pricebook.current().costs(query)
        return Answer(
            {
                "total_cost": plain(costs.cost),
                "subtotal": plain(costs.subtotal),
                "total_discount": plain(costs.discount),
                "currency": costs.currency,
                "items": [_item_shape(item, query) for item in costs.items],
                "custom_analytics": [],
            }
        )


class InferenceCostView(ApiView):
    """Cost of single inference requests in nano-USD, each taken by itself."""

    def post(self, request: Request) -> Answer:
        received = read_body(request._request)
        if not received:
            return Answer({"requests": []})
        ids = members.texts(decoded(received), "requestIds")
        if not ids:
            raise InvalidPayload("requestIds", "is required and must name at least one event id")
        costs = pricebook.current().costs_of_ids(ids, environment=self.environment)
        return Answer({"requests": [{"requestId": id, "costNanoUsd": _nano(costs.get(id, ZERO))} for id in ids]})


def _nano(cost: Decimal) -> str:
    return plain(EXACT.scaleb(cost, 9))


def _scope(environment: str, body: Members) -> Scope:
    return Scope(
        environment,
        members.text(body, "external_customer_id") or None,
        members.text(body, "customer_id") or None,
        filters=members.property_filters(body, "filters"),
    )


def _ad_hoc_rule(body: Members) -> MeterRule:
    event_name = members.text(body, "event_name", required=True)
    given = members.text(body, "aggregation_type", required=True)
    try:
        type = AggregationType(given.upper())
    except ValueError:
        raise InvalidQuery("The specified aggregation type is not supported", {"aggregation_type": given}) from None
    field = members.text(body, "property_name")
    multiplier = _multiplier(body, type)
    bucket_size, group = members.window(body, "bucket_size"), _bucket_group(body)
    if not field and type is not AggregationType.COUNT:
        if conf.AGGREGATION_WITHOUT_PROPERTY == "error":
            raise InvalidPayload("property_name", f"is required for {type.value}")
        type = AggregationType.COUNT
    bucketed = bucket_size if type in BUCKETED else None
    return MeterRule(
        event_name,
        type,
        field,
        multiplier=multiplier,
        bucket_size=bucketed,
        group_by=group if bucketed and type is AggregationType.MAX else "",
        count_missing=conf.COUNT_UNIQUE_MISSING == "count",
    )


def _multiplier(body: Members, type: AggregationType) -> Decimal:
    multiplier = members.decimal(body, "multiplier")
    if multiplier is None:
        return Decimal(1)
    if type is not AggregationType.SUM_WITH_MULTIPLIER:
        message = "Multiplier can only be used with SUM_WITH_MULTIPLIER aggregations"
        raise InvalidQuery(message, {"multiplier": str(multiplier)})
    try:
        check_multiplier(multiplier)
    except InvalidMeter as error:
        raise InvalidQuery(error.message, error.details) from None
    return multiplier


def _bucket_group(body: Members) -> str:
    entries, name = members.texts(body, "group_by"), members.text(body, "group_by_property")
    if not entries:
        return name
    return entries[0].removeprefix("properties.") if entries[0].startswith("properties.") else ""


def _group_by(body: Members) -> tuple[str, ...]:
    kept = []
    for entry in members.texts(body, "group_by"):
        if entry in ("feature_id", "meter_id"):
            continue  # there is an item per meter in any case
        if entry != "source":
            name = entry.removeprefix("properties.")
            if name == entry:
                message = (
                    f"group_by entry \"{entry[:100]}\" is not recognized (allowed: 'meter_id', 'source', 'properties.<name>')"
                )
                raise InvalidQuery(message, {"group_by_entry": entry})
            if not _PROPERTY_NAME.fullmatch(name):
                message = f"group_by entry \"{entry[:100]}\" has an invalid property name (allowed: alphanumerics, '_', '.')"
                raise InvalidQuery(message, {"group_by_entry": entry})
        kept.append(entry)
    return tuple(dict.fromkeys(kept))


def _usage_shape(query: UsageQuery, result: UsageResult) -> dict[str, Any]:
    bucketed = query.rule.bucket_size is not None and query.rule.type in BUCKETED
    valued = bucketed or query.accumulates or query.window is None
    return {
        "event_name": result.event_name,
        "type": result.type.value,
        "value": json_number(result.value) if valued else 0,
        "results": [{"window_size": format_timestamp(point.start), "value": json_number(point.value)} for point in result.points],
    }


def _item_shape(item: CostItem, query: CostQuery) -> dict[str, Any]:
    meter, values = item.meter, dict(zip(query.group_by, item.group, strict=False))
    source = values.pop("source", "")
    properties = {entry.removeprefix("properties."): value for entry, value in values.items() if value}
    return {
        "meter_id": meter.pk,
        "feature_id": item.feature_id,
        "price_id": item.price_id,
        "sub_line_item_id": item.line_item_id,
        "subscription_id": item.subscription_id,
        "plan_id": item.plan_id,
        "add_on_id": item.addon_id,
        "name": item.name,
        "event_name": meter.event_name,
        "aggregation_type": meter.aggregation_type,
        "unit": item.unit_singular,
        "unit_plural": item.unit_plural,
        "total_usage": plain(item.usage),
        "total_usage_display": item.displayed_usage,
        "reporting_unit": item.reporting_unit,
        "event_count": item.event_count,
        "subtotal": plain(item.subtotal),
        "total_discount": plain(item.discount),
        "total_cost": plain(item.cost),
        "currency": item.currency,
        "source": source or None,
        "sources": list(item.sources),
        "properties": properties,
        "window_size": item.point_size.value if item.point_size else None,
        "points": [_point_shape(point) for point in item.points],
        "commitment_info": item.commitment,
        "bucket_summaries": None,
        "group": None,
        "meter": meter_shape(meter) if "meter" in query.expand else None,
        **{name: item.expanded.get(name) for name in ("price", "feature", "subscription_line_item", "plan", "addon")},
    }


def _point_shape(point: CostPoint) -> dict[str, Any]:
    return {
        "timestamp": format_timestamp(point.start),
        "usage": plain(point.usage),
        "event_count": point.event_count,
        "subtotal": plain(point.subtotal),
        "discount": plain(point.discount),
        "cost": plain(point.cost),
        "computed_commitment_utilized_amount": plain(point.utilized),
        "computed_overage_amount": plain(point.overage),
        "computed_true_up_amount": plain(point.true_up),
    }
