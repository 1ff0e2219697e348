"""Usage and what it costs: of a customer's line items, or where nobody subscribes, of the meters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flexmeter import windows
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidQuery
from flexmeter.metering import MeterRule
from flexmeter.pricebook import CostItem, CostPoint, CostQuery, Costs, in_order, meters_of, unpriced_items
from flexmeter.pricing.catalog import find_customer
from flexmeter.pricing.commitments import Charge, Commitment, charge, together
from flexmeter.pricing.cost import ZERO, Rate, added, bucketed_cost, cost
from flexmeter.pricing.coupons import PercentageOff, discount
from flexmeter.pricing.currencies import quotient, rounded
from flexmeter.pricing.models import CouponAssociation, Customer, Feature, LineItem, Plan, Price, Status, Subscription
from flexmeter.pricing.participation import Participation, charging_subscriptions, inherited_by, participations
from flexmeter.pricing.shapes import (
    decimal_or_none,
    feature_shape,
    line_item_shape,
    plan_shape,
    price_shape,
    reporting_unit_shape,
)
from flexmeter.properties import plain
from flexmeter.queries import AnalyticsItem, AnalyticsLine, Joined, Scope, calendar_in
from flexmeter.usage import measure
from flexmeter.windows import Calendar, WindowSize


def costs(query: CostQuery, alias: str) -> Costs:
    """Usage in the query's range and what it costs, line item by line item."""
    customer = None
    if query.external_customer_id is not None:
        customer = find_customer(query.external_customer_id, environment=query.environment, using=alias)
    subscriptions = charging_subscriptions(query.environment, [customer], alias) if customer is not None else []
    features = _features(query, alias)
    if customer is None or not subscriptions:
        return Costs(_of_meters(query, customer, features, alias))
    currency = subscriptions[0].currency
    found = participations(
        subscriptions, alias, start=query.start, end=query.end, meter_ids=features.keys() if query.feature_ids else None
    )
    bill = _Bill(query, customer, features, alias)
    items = in_order(bill.items(found, subscriptions), query.group_by)
    return Costs(
        items,
        currency,
        added(item.subtotal for item in items if item.currency == currency),
        added(item.discount for item in items if item.currency == currency),
    )


def _features(query: CostQuery, alias: str) -> dict[str, Feature]:
    """The environment's features, or those asked for, by meter."""
    features = Feature.objects.using(alias).filter(environment=query.environment).exclude(status=Status.DELETED)
    if query.feature_ids:
        features = features.filter(pk__in=sorted(set(query.feature_ids)))
    return {feature.meter_id: feature for feature in features}


def _of_meters(query: CostQuery, customer: Customer | None, features: Mapping[str, Feature], alias: str) -> list[CostItem]:
    meters = meters_of(query.environment, alias)
    if query.feature_ids:
        meters = [meter for meter in meters if meter.pk in features]
    zone = windows.zone(customer.timezone) if customer is not None else UTC
    items = unpriced_items(query, meters, calendar_in(zone), alias)
    return in_order((_described(item, features.get(item.meter.pk), query) for item in items), query.group_by)


def _described(item: CostItem, feature: Feature | None, query: CostQuery) -> CostItem:
    """The item under its feature's name, in its units."""
    if feature is None:
        return item
    return replace(
        item,
        name=feature.name,
        feature_id=feature.pk,
        unit_singular=feature.unit_singular,
        unit_plural=feature.unit_plural,
        displayed_usage=_displayed(item.usage, feature),
        reporting_unit=reporting_unit_shape(feature),
        expanded={**item.expanded, "feature": feature_shape(feature)} if "feature" in query.expand else item.expanded,
    )


def _displayed(usage: Decimal, feature: Feature) -> str:
    rate = feature.reporting_conversion_rate
    return "" if rate is None else plain(quotient(usage, rate, 2))


@dataclass(frozen=True, slots=True)
class _Coupons:
    """Coupons of one line item, in the order in which they apply."""

    coupons: tuple[PercentageOff, ...]
    currency: str

    def at(self, moment: datetime, amount: Decimal) -> Decimal:
        return discount(amount, (coupon for coupon in self.coupons if coupon.covers(moment)), self.currency)

    def within(self, start: datetime, end: datetime, amount: Decimal) -> Decimal:
        return discount(amount, (coupon for coupon in self.coupons if coupon.overlaps(start, end)), self.currency)


@dataclass(frozen=True, slots=True)
class _Bill:
    """Puts together what the line items of one customer come to."""

    query: CostQuery
    customer: Customer
    features: Mapping[str, Feature]
    alias: str

    @property
    def _whole(self) -> bool:
        """Whether the query looks at all there is of a line item's usage, undivided: only then commitments are kept."""
        query = self.query
        return not (query.sources or query.filters or query.group_by)

    def items(self, found: Sequence[Participation], subscriptions: Sequence[Subscription]) -> list[CostItem]:
        query = self.query
        lines = self._lines(found, subscriptions)
        shared = any(line.customers is not None for line in lines)
        scope = Scope(
            query.environment,
            None if shared else query.external_customer_id,
            sources=query.sources,
            filters=query.filters,
        )
        measured = measure(
            lines,
            scope,
            group_by=query.group_by,
            window=query.window,
            with_sources="source" in query.expand,
            using=self.alias,
        )
        coupons = self._coupons(found)
        owners = self._owners(found)
        plans = self._plans(owners)
        items = []
        for one, line, of_line in zip(found, lines, measured, strict=True):
            if not of_line and self._whole and self._commitment(one) is not None:
                of_line = [AnalyticsItem(line.rule, (), ZERO, 0, [], _coarser(query.window, line))]
            for item in of_line:
                owner = owners[one.item.price_id]
                priced = self._priced(one, line, item, coupons[one.item.pk])
                items.append(self._complete(priced, one.item, owner, plans.get(owner.entity_id)))
        return items

    def _lines(self, found: Sequence[Participation], subscriptions: Sequence[Subscription]) -> list[AnalyticsLine]:
        query, zone = self.query, windows.zone(self.customer.timezone)
        heirs = inherited_by(subscriptions, self.alias, query.start, query.end) if query.include_children else {}
        rules: dict[str, MeterRule] = {}
        lines = []
        for one in found:
            rule = rules.get(one.meter.pk)
            if rule is None:
                rule = rules[one.meter.pk] = one.meter.rule()
            anchor = one.item.subscription.billing_anchor.astimezone(zone).day
            start, end = max(query.start, one.start), query.end if one.end is None else min(query.end, one.end)
            line = AnalyticsLine(rule, start, end, calendar_in(zone, anchor))
            if heirs:
                line = _shared(line, self.customer.external_id, heirs.get(one.item.subscription_id, ()))
            lines.append(line)
        return lines

    def _commitment(self, one: Participation) -> Commitment | None:
        """What was committed to; who inherits a subscription has not committed itself."""
        return None if one.inherits else one.item.commitment()

    def _priced(self, one: Participation, line: AnalyticsLine, item: AnalyticsItem, coupons: _Coupons) -> CostItem:
        price = one.item.price
        rate, currency = price.rate(), price.currency
        bucketed = line.rule.bucket_size is not None
        commitment = self._commitment(one) if self._whole else None
        charged: Charge | None = None
        of_windows: Mapping[datetime, Charge] = {}

        def used() -> Decimal:
            return rounded(bucketed_cost(rate, _values(item)), currency) if bucketed else cost(rate, item.total)

        if commitment is not None and commitment.windowed and bucketed:
            of_buckets = _charges_by_bucket(commitment, rate, line, item)
            of_windows = _by_window(of_buckets, item.point_size, line.calendar)
            charged = together(of_buckets.values()).rounded(currency)
        elif commitment is not None:
            charged = charge(commitment, commitment.amount(rate), used()).rounded(currency)
        subtotal = used() if charged is None else charged.total
        points = self._points(rate, line, item, of_windows, coupons)
        if points:
            off = min(subtotal, added(point.discount for point in points))
        else:
            off = coupons.within(self.query.start, self.query.end, subtotal)
        return CostItem(
            one.meter,
            one.meter.name,
            item.group,
            item.total,
            item.event_count,
            points,
            item.point_size,
            item.sources,
            subtotal,
            off,
            currency,
            commitment=None if commitment is None or charged is None else _commitment_shape(one.item, commitment, rate, charged),
        )

    def _points(
        self,
        rate: Rate,
        line: AnalyticsLine,
        item: AnalyticsItem,
        charges: Mapping[datetime, Charge],
        coupons: _Coupons,
    ) -> list[CostPoint]:
        by_window: dict[datetime, list[Decimal]] = {}
        if item.buckets and item.point_size is not None:
            for bucket in item.buckets:
                begin = windows.floor(bucket.start, item.point_size, line.calendar)
                by_window.setdefault(begin, []).append(bucketed_cost(rate, bucket.values))
        points = []
        for start, usage, count in item.points:
            charged = charges.get(start, Charge())
            if not charges:
                charged = Charge(added(by_window[start]) if item.buckets else cost(rate, usage))
            subtotal = charged.total
            points.append(CostPoint(start, usage, count, subtotal, coupons.at(start, subtotal), *charged[1:]))
        return points

    def _complete(self, item: CostItem, line_item: LineItem, owner: Price, plan: Plan | None) -> CostItem:
        """The item with its ids, and with the objects that shall be carried along."""
        kinds = Price.EntityType
        expand, expanded = self.query.expand, dict[str, Any]()
        if "price" in expand:
            expanded["price"] = price_shape(line_item.price)
        if "subscription_line_item" in expand:
            expanded["subscription_line_item"] = line_item_shape(line_item)
        if "plan" in expand and plan is not None:
            expanded["plan"] = plan_shape(plan)
        return _described(
            replace(
                item,
                price_id=line_item.price_id,
                line_item_id=line_item.pk,
                subscription_id=line_item.subscription_id,
                plan_id=owner.entity_id if owner.entity_type == kinds.PLAN else "",
                addon_id=owner.entity_id if owner.entity_type == kinds.ADDON else "",
                expanded=expanded,
            ),
            self.features.get(item.meter.pk),
            self.query,
        )

    def _coupons(self, found: Sequence[Participation]) -> dict[str, _Coupons]:
        """The coupons of each line item: its own first, then its subscription's, each in the order they were applied."""
        ids = {one.item.subscription_id for one in found}
        associations = CouponAssociation.objects.using(self.alias).filter(
            environment=self.query.environment, subscription__in=sorted(ids)
        )
        of_item: dict[str, list[PercentageOff]] = {}
        of_subscription: dict[str, list[PercentageOff]] = {}
        if ids:
            for association in associations.select_related("coupon").order_by("id"):
                if (off := association.percentage()) is not None:
                    if association.line_item_id is not None:
                        of_item.setdefault(association.line_item_id, []).append(off)
                    else:
                        of_subscription.setdefault(association.subscription_id, []).append(off)
        return {
            one.item.pk: _Coupons(
                (*of_item.get(one.item.pk, ()), *of_subscription.get(one.item.subscription_id, ())), one.item.price.currency
            )
            for one in found
        }

    def _owners(self, found: Sequence[Participation]) -> dict[str, Price]:
        """The price whose owner is a price's plan or add-on: of an override its parent."""
        prices = {one.item.price_id: one.item.price for one in found}
        parents = {price.parent_price_id for price in prices.values() if price.parent_price_id}
        known = {}
        if parents:
            rows = Price.objects.using(self.alias).filter(environment=self.query.environment, pk__in=sorted(parents))
            known = {price.pk: price for price in rows}
        return {id: known.get(price.parent_price_id, price) for id, price in prices.items()}

    def _plans(self, owners: Mapping[str, Price]) -> dict[str, Plan]:
        ids = {price.entity_id for price in owners.values() if price.entity_type == Price.EntityType.PLAN}
        if "plan" not in self.query.expand or not ids:
            return {}
        plans = Plan.objects.using(self.alias).filter(environment=self.query.environment, pk__in=sorted(ids))
        return {plan.pk: plan for plan in plans}


def _shared(line: AnalyticsLine, holder: str, heirs: Iterable[Subscription]) -> AnalyticsLine:
    """The line with all who are counted on it: its holder, and each heir while it inherits."""
    of_customer: dict[str, list[tuple[datetime, datetime]]] = {holder: [(line.start, line.end)]}
    for heir in heirs:
        limits = [limit for limit in (heir.end_date, heir.cancelled_at) if limit is not None]
        stretch = max(line.start, heir.start_date), min([line.end, *limits])
        if stretch[0] < stretch[1]:
            of_customer.setdefault(heir.customer.external_id, []).append(stretch)
    of_stretch: dict[tuple[datetime, datetime], set[str]] = {}
    for customer, stretches in of_customer.items():
        for stretch in _apart(stretches):
            of_stretch.setdefault(stretch, set()).add(customer)
    whole = of_stretch.pop((line.start, line.end))
    joined = (Joined(frozenset(customers), start, end) for (start, end), customers in of_stretch.items())
    return replace(line, customers=frozenset(whole), joined=tuple(joined))


def _apart(stretches: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The same times, in stretches that do not overlap."""
    apart: list[tuple[datetime, datetime]] = []
    for start, end in sorted(stretches):
        if apart and start <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(end, apart[-1][1])
        else:
            apart.append((start, end))
    return apart


def _values(item: AnalyticsItem) -> Iterable[Decimal]:
    return (value for bucket in item.buckets for value in bucket.values)


def _coarser(window: WindowSize | None, line: AnalyticsLine) -> WindowSize | None:
    sizes = list(WindowSize)
    bucket = line.rule.bucket_size
    return window if window is None or bucket is None else max(window, bucket, key=sizes.index)


def _charges_by_bucket(commitment: Commitment, rate: Rate, line: AnalyticsLine, item: AnalyticsItem) -> dict[datetime, Charge]:
    """What each bucket is charged; with true-up those without events too. Raises InvalidQuery for too many of them."""
    committed = commitment.amount(rate)
    charges = {bucket.start: charge(commitment, committed, bucketed_cost(rate, bucket.values)) for bucket in item.buckets}
    if commitment.true_up and line.rule.bucket_size is not None:
        size = line.rule.bucket_size
        begins = windows.axis(line.start, line.end, size, line.calendar, limit=conf.MAX_WINDOWS + 1)
        if len(begins) > conf.MAX_WINDOWS:
            raise InvalidQuery(
                f"A commitment would be held against more than {conf.MAX_WINDOWS} windows; ask for a shorter range",
                {"end_time": f"makes more than {conf.MAX_WINDOWS} windows of {size.value}"},
            )
        missed = charge(commitment, committed, ZERO)
        for begin in begins:
            charges.setdefault(begin, missed)
    return charges


def _by_window(charges: Mapping[datetime, Charge], size: WindowSize | None, calendar: Calendar) -> dict[datetime, Charge]:
    if size is None:
        return {}
    of_window: dict[datetime, list[Charge]] = {}
    for begin, charged in charges.items():
        of_window.setdefault(windows.floor(begin, size, calendar), []).append(charged)
    return {begin: together(of_one) for begin, of_one in of_window.items()}


def _commitment_shape(item: LineItem, commitment: Commitment, rate: Rate, charged: Charge) -> dict[str, Any]:
    return {
        "type": commitment.type.value,
        "amount": plain(commitment.amount(rate)),
        "quantity": decimal_or_none(item.commitment_quantity),
        "duration": item.commitment_duration or None,
        "overage_factor": plain(commitment.overage_factor),
        "true_up_enabled": commitment.true_up,
        "is_windowed": commitment.windowed,
        "computed_commitment_utilized_amount": plain(charged.utilized),
        "computed_overage_amount": plain(charged.overage),
        "computed_true_up_amount": plain(charged.true_up),
    }
