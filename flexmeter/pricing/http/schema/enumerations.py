"""The closed sets of words that pricing's members are taken from."""

from __future__ import annotations

from collections.abc import Sequence

from flexmeter.http.schema.dialect import TEXT, Schema, ref
from flexmeter.pricing.http.base import Resource
from flexmeter.pricing.http.catalog import FEATURES, PLANS
from flexmeter.pricing.http.coupons import ASSOCIATIONS, COUPONS
from flexmeter.pricing.http.customers import CUSTOMERS
from flexmeter.pricing.http.line_items import LINE_ITEMS
from flexmeter.pricing.http.prices import PRICES
from flexmeter.pricing.http.subscriptions import IMMEDIATE, SCHEDULED, SUBSCRIPTIONS
from flexmeter.pricing.models import BillingPeriod, Coupon, Feature, LineItem, Price, Status, Subscription

RESOURCES: dict[str, Resource] = {
    "Customer": CUSTOMERS,
    "Feature": FEATURES,
    "Plan": PLANS,
    "Price": PRICES,
    "Subscription": SUBSCRIPTIONS,
    "LineItem": LINE_ITEMS,
    "Coupon": COUPONS,
    "CouponAssociation": ASSOCIATIONS,
}

_VALUES: dict[str, Sequence[str]] = {
    "PricingStatus": Status.values,
    "NewStatus": (Status.PUBLISHED.value, Status.ARCHIVED.value),
    "BillingPeriod": BillingPeriod.values,
    "FeatureType": Feature.Type.values,
    "PriceType": Price.Type.values,
    "PriceEntityType": Price.EntityType.values,
    "PriceUnitType": ("FIAT",),
    "BillingModel": Price.BillingModel.values,
    "TierMode": Price.TierMode.values,
    "PackageRounding": Price.Round.values,
    "BillingCadence": Price.Cadence.values,
    "InvoiceCadence": Price.InvoiceCadence.values,
    "SubscriptionStatus": Subscription.Status.values,
    "CancellationType": (IMMEDIATE, SCHEDULED),
    "CommitmentType": LineItem.CommitmentKind.values,
    "CouponType": Coupon.Type.values,
    "CouponCadence": Coupon.Cadence.values,
}
_NAMES = {tuple(values): name for name, values in _VALUES.items()}

ENUMERATIONS: dict[str, Schema] = {
    **{name: {**TEXT, "enum": list(values)} for name, values in _VALUES.items()},
    **{
        f"{name}Sort": {**TEXT, "enum": list(resource.sorts), "description": "What the list is sorted by."}
        for name, resource in RESOURCES.items()
    },
}


def one_of(values: Sequence[str]) -> Schema:
    """The component that enumerates exactly these words."""
    return ref(_NAMES[tuple(values)])
