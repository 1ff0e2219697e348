"""Which line items charge a customer: those of its own subscriptions, and of the ones that these inherit from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from flexmeter.models import Meter
from flexmeter.pricing.models import Customer, LineItem, Price, Status, Subscription

CHARGING = (
    Subscription.Status.ACTIVE,
    Subscription.Status.TRIALING,
    Subscription.Status.PAUSED,
    Subscription.Status.CANCELLED,
)
"""What a subscription is while it charges; a cancelled one charges for what was used before."""


@dataclass(frozen=True, slots=True)
class Participation:
    """A line item that charges the holder of a subscription in [start, end). `end` None: for as long as it lasts.

    `subscription` is the holder's own; the line item is one of it, or of the one it inherits from.
    """

    item: LineItem
    meter: Meter
    subscription: Subscription
    start: datetime
    end: datetime | None

    def covers(self, moment: datetime) -> bool:
        return self.start <= moment and (self.end is None or moment < self.end)

    @property
    def inherits(self) -> bool:
        return bool(self.item.subscription_id != self.subscription.pk)


def charging_subscriptions(
    environment: str, customers: Collection[Customer], alias: str, statuses: Sequence[str] = CHARGING
) -> list[Subscription]:
    """Their subscriptions that charge or have charged, the oldest first."""
    chosen = Subscription.objects.using(alias).filter(
        environment=environment, customer__in=[customer.pk for customer in customers], status__in=statuses
    )
    return list(chosen.select_related("plan").order_by("id"))


def inherited_by(
    subscriptions: Iterable[Subscription], alias: str, start: datetime, end: datetime
) -> dict[str, list[Subscription]]:
    """The subscriptions that inherit from these and charge at some time of [start, end), by the id of these."""
    rows = list(subscriptions)
    heirs: dict[str, list[Subscription]] = {}
    if rows:
        chosen = Subscription.objects.using(alias).filter(
            Q(cancelled_at=None) | Q(cancelled_at__gt=start),
            Q(end_date=None) | Q(end_date__gt=start),
            environment=rows[0].environment,
            parent__in=[row.pk for row in rows],
            status__in=CHARGING,
            start_date__lt=end,
        )
        for heir in chosen.select_related("customer"):
            heirs.setdefault(str(heir.parent_id), []).append(heir)
    return heirs


def participations(
    subscriptions: Sequence[Subscription],
    alias: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    meter_ids: Collection[str] | None = None,
) -> list[Participation]:
    """Usage line items of these subscriptions that charge at some time of [start, end), in the order of their ids."""
    if not subscriptions:
        return []
    holders: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        for id in {subscription.pk, subscription.parent_id} - {None}:
            holders.setdefault(str(id), []).append(subscription)
    items = LineItem.objects.using(alias).filter(
        environment=subscriptions[0].environment,
        subscription__in=sorted(holders),
        price__type=Price.Type.USAGE,
        meter__isnull=False,
        status=Status.PUBLISHED,
    )
    if end is not None:
        items = items.filter(start_date__lt=end)
    if start is not None:
        items = items.filter(Q(end_date=None) | Q(end_date__gt=start))
    if meter_ids is not None:
        items = items.filter(meter__in=sorted(meter_ids))
    items = items.exclude(meter__status=Meter.Status.DELETED).select_related("price", "meter", "subscription__plan")
    result = []
    for item in items.order_by("id"):
        meter = item.meter
        if meter is None:
            continue
        for holder in holders[item.subscription_id]:
            one = _participation(item, meter, holder)
            begin = one.start if start is None else max(start, one.start)
            if all(begin < limit for limit in (one.end, end) if limit is not None):
                result.append(one)
    return result


def _participation(item: LineItem, meter: Meter, holder: Subscription) -> Participation:
    owner = item.subscription
    start = item.start_date if owner.pk == holder.pk else max(item.start_date, holder.start_date)
    ends = (item.end_date, owner.end_date, owner.cancelled_at, holder.end_date, holder.cancelled_at)
    return Participation(item, meter, holder, start, min((end for end in ends if end is not None), default=None))
