"""What single events cost, and how each of them found its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from flexmeter.events import UsageEvent, format_timestamp
from flexmeter.explain import contribution
from flexmeter.http.errors import envelope
from flexmeter.http.shapes import meter_shape
from flexmeter.models import Event, Meter
from flexmeter.pricebook import EventCost, Trace
from flexmeter.pricing.catalog import find_customer
from flexmeter.pricing.cost import ZERO, added, cost, working
from flexmeter.pricing.models import Customer, Feature, LineItem, Price, Status, Subscription
from flexmeter.pricing.participation import Participation, charging_subscriptions, participations
from flexmeter.pricing.shapes import customer_shape, line_item_shape, price_shape

TRACKED = (Subscription.Status.ACTIVE, Subscription.Status.TRIALING)
OPEN_END = "0001-01-01T00:00:00Z"
"""What the tracker shows for a line item without an end."""


def costs_of_ids(event_ids: Sequence[str], environment: str, alias: str) -> dict[str, Decimal]:
    """The cost of each stored event by itself, by all line items that claim it."""
    rows = Event.objects.using(alias).filter(environment=environment, event_id__in=sorted(set(event_ids)))
    events = [row.as_usage_event() for row in rows]
    meters = Meter.objects.using(alias).in_environment(environment).counting({event.event_name for event in events})
    rules = [(meter, meter.rule()) for meter in meters]
    counted = [
        (event, meter, quantity)
        for event in events
        for meter, rule in rules
        if rule.matches(event) and (quantity := contribution(rule, event)) is not None
    ]
    ids = {event.external_customer_id for event, _, _ in counted}
    customers = Customer.objects.using(alias).filter(environment=environment, external_id__in=sorted(ids))
    claims = _claims(environment, counted, customers.exclude(status=Status.DELETED) if ids else (), alias)
    return {
        event_id: added(cost(found.item.price.rate(), max(quantity, ZERO)) for found, quantity in of_event)
        for event_id, of_event in claims.items()
    }


def _claims(
    environment: str, counted: Sequence[tuple[UsageEvent, Meter, Decimal]], customers: Iterable[Customer], alias: str
) -> dict[str, list[tuple[Participation, Decimal]]]:
    """The line items of these customers that charge at the time of each event for a meter that counted it, by event id, with
    the quantity."""
    by_id = {customer.pk: customer for customer in customers}
    subscriptions = charging_subscriptions(environment, list(by_id.values()), alias) if by_id else []
    found = participations(subscriptions, alias, meter_ids={meter.pk for _, meter, _ in counted})
    by_key: dict[tuple[str, str | None], list[Participation]] = {}
    for one in found:
        by_key.setdefault((by_id[one.subscription.customer_id].external_id, one.item.meter_id), []).append(one)
    claims: dict[str, list[tuple[Participation, Decimal]]] = {}
    for event, meter, quantity in counted:
        for one in by_key.get((event.external_customer_id, meter.pk), ()):
            if one.covers(event.timestamp):
                claims.setdefault(event.event_id, []).append((one, quantity))
    return claims


def costs_of_event(event: Event, counted: Iterable[tuple[Meter, Decimal]], alias: str) -> tuple[EventCost, ...]:
    """The cost of one event by every line item that claims it."""
    return _costs(event, list(counted), _customer(event, alias), alias)


def _customer(event: Event, alias: str) -> Customer | None:
    return find_customer(event.external_customer_id, environment=event.environment, using=alias)


def _costs(
    event: Event, counted: Sequence[tuple[Meter, Decimal]], customer: Customer | None, alias: str
) -> tuple[EventCost, ...]:
    if customer is None or not counted:
        return ()
    usage_event = event.as_usage_event()
    claims = _claims(event.environment, [(usage_event, meter, quantity) for meter, quantity in counted], [customer], alias)
    claimed = claims.get(event.event_id, [])
    features = _features(event.environment, {str(one.item.meter_id) for one, _ in claimed}, alias)
    return tuple(_event_cost(one, max(quantity, ZERO), features) for one, quantity in claimed)


def _event_cost(claim: Participation, quantity: Decimal, features: Mapping[str, str]) -> EventCost:
    item, price = claim.item, claim.item.price
    steps = working(price.rate(), quantity)
    return EventCost(
        meter_id=str(item.meter_id),
        quantity=quantity,
        cost=added(step.amount for step in steps),
        currency=price.currency,
        working=tuple(step.sentence for step in steps) or ("Nothing is charged for this quantity.",),
        price_id=price.pk,
        price_name=str(price),
        line_item_id=item.pk,
        subscription_id=claim.subscription.pk,
        customer_id=claim.subscription.customer_id,
        feature_id=features.get(str(item.meter_id), ""),
    )


def _features(environment: str, meter_ids: Iterable[str], alias: str) -> dict[str, str]:
    wanted = sorted(meter_ids)
    rows = Feature.objects.using(alias).filter(environment=environment, meter__in=wanted).exclude(status=Status.DELETED)
    return dict(rows.values_list("meter_id", "id")) if wanted else {}


def trace(event: Event, counted: Sequence[tuple[Meter, Decimal]], alias: str) -> Trace:
    """The costs of an event; where nothing claims it, also the step at which it got stuck."""
    customer = _customer(event, alias)
    costs = _costs(event, counted, customer, alias)
    return Trace(costs, None if costs else _tracker(event, customer, [meter for meter, _ in counted], alias))


def _tracker(event: Event, customer: Customer | None, meters: Sequence[Meter], alias: str) -> dict[str, Any]:
    """The steps of the API's tracker, in their order; the first that fails leaves those behind it unprocessed."""
    steps: dict[str, Any] = {
        "customer_lookup": {"status": "unprocessed", "customer": None, "error": None},
        "meter_matching": {"status": "unprocessed", "matched_meters": [], "error": None},
        "price_lookup": {"status": "unprocessed", "matched_prices": [], "error": None},
        "subscription_line_item_lookup": {"status": "unprocessed", "matched_line_items": [], "error": None},
        "attributed_to_customer": None,
        "failure_point": None,
    }

    def failed(step: str, point: str, reason: str) -> dict[str, Any]:
        steps[step]["status"] = "not_found"
        steps["failure_point"] = {"failure_point_type": point, "error": envelope(404, "not_found", reason)}
        return steps

    if customer is None:
        return failed("customer_lookup", "customer_lookup", "Customer not found")
    steps["customer_lookup"] |= {"status": "found", "customer": customer_shape(customer)}
    if not meters:
        return failed("meter_matching", "meter_lookup", f"No meters found matching event_name: {event.event_name}")
    matched_meters = [{"meter_id": meter.pk, "event_name": meter.event_name, "meter": meter_shape(meter)} for meter in meters]
    steps["meter_matching"] |= {"status": "found", "matched_meters": matched_meters}

    prices = list(
        Price.objects.using(alias)
        .filter(
            environment=event.environment,
            meter__in=[meter.pk for meter in meters],
            type=Price.Type.USAGE,
            status=Status.PUBLISHED,
        )
        .order_by("id")
    )
    if not prices:
        return failed("price_lookup", "price_lookup", "No prices found for matched meters")
    matched_prices = [
        {"price_id": price.pk, "meter_id": price.meter_id, "status": price.status, "price": price_shape(price)}
        for price in prices
    ]
    steps["price_lookup"] |= {"status": "found", "matched_prices": matched_prices}

    subscriptions = charging_subscriptions(event.environment, [customer], alias, TRACKED)
    ids = {price.pk for price in prices}
    found = [one for one in participations(subscriptions, alias) if one.item.price_id in ids]
    steps["subscription_line_item_lookup"]["matched_line_items"] = [_matched(one, event) for one in found]
    step = "subscription_line_item_lookup"
    if not found:
        return failed(step, step, "No subscription line items found for matched prices")
    if not any(one.covers(event.timestamp) for one in found):
        reason = (
            f"Found {len(found)} subscription line item(s) but none are active for event timestamp "
            f"{format_timestamp(event.timestamp)}"
        )
        return failed(step, step, reason)
    steps[step]["status"] = "found"
    return steps


def _matched(claim: Participation, event: Event) -> dict[str, Any]:
    item: LineItem = claim.item
    active = claim.covers(event.timestamp)
    return {
        "sub_line_item_id": item.pk,
        "subscription_id": claim.subscription.pk,
        "price_id": item.price_id,
        "start_date": format_timestamp(claim.start),
        "end_date": OPEN_END if claim.end is None else format_timestamp(claim.end),
        "is_active_for_event": active,
        "timestamp_within_range": active,
        "subscription_line_item": line_item_shape(item),
    }
