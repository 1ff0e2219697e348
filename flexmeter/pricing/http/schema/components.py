"""The shapes of pricing's requests and answers, by the names they have in the schema.

What a request may hold follows from the tables that the views read it with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Model

from flexmeter.http.schema.components import ANYTHING, DECIMAL
from flexmeter.http.schema.dialect import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    answer,
    described,
    list_of,
    map_of,
    nullable,
    ref,
    request,
)
from flexmeter.pricing.http import catalog, coupons, customers, line_items, prices, reading, subscriptions
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.http.schema import examples
from flexmeter.pricing.http.schema.enumerations import ENUMERATIONS, RESOURCES, one_of
from flexmeter.pricing.http.schema.lists import SEARCHES
from flexmeter.pricing.models import (
    Coupon,
    CouponAssociation,
    Customer,
    Feature,
    LineItem,
    Plan,
    Price,
    Subscription,
)

AMOUNT: Schema = {"anyOf": [DECIMAL, NUMBER], "description": "A decimal, best as text."}
ABSENT = described(nullable(ANYTHING), "Always null here.")
METADATA = map_of(TEXT)
READ: Mapping[Any, Schema] = {
    reading.text: TEXT,
    reading.description: TEXT,
    reading.currency: described(TEXT, "A code of ISO 4217, such as usd."),
    reading.decimal: AMOUNT,
    reading.instant: TIME,
    reading.boolean: BOOLEAN,
    reading.count: {**INTEGER, "minimum": 1, "maximum": reading.MAX_COUNT},
    reading.package: {**INTEGER, "minimum": 1},
    reading.metadata: METADATA,
    reading.status: ref("NewStatus"),
    reading.subscription_status: ref("SubscriptionStatus"),
    reading.tiers: list_of(ref("PriceTier")),
}

_PARTS: dict[str, Schema] = {
    "PriceTier": request(
        {
            "up_to": nullable(described(INTEGER, "The last unit of the tier; null: without end.")),
            "unit_amount": AMOUNT,
            "flat_amount": {"anyOf": [DECIMAL, NUMBER, {"type": "null"}]},
        },
        required=["unit_amount"],
        description="Part of a quantity that has a price of its own.",
    ),
    "Pagination": answer(
        {
            "total": described(INTEGER, "How many there are on all pages together."),
            "limit": INTEGER,
            "offset": described(INTEGER, "Offset of the next page."),
        }
    ),
}
TRANSFORM = request(
    {"divide_by": READ[reading.package], "round": ref("PackageRounding")},
    required=["divide_by"],
    description="For PACKAGE: how many units are in a package, and what happens to one begun.",
)


def choices(model: type[Model], column: str) -> Schema | None:
    """The enumeration of a column that has one."""
    found = getattr(model._meta.get_field(column), "choices", None)
    return one_of([value for value, _ in found]) if found else None


def members_of(columns: Columns, model: type[Model]) -> dict[str, Schema]:
    """What a body may hold, as its reader reads it."""
    return {
        name: (choices(model, column) if read is reading.text else None) or READ[read] for name, (column, read) in columns.items()
    }


_PRICE_RATE: dict[str, Schema] = {
    **members_of(prices.RATE_COLUMNS, Price),
    "transform_quantity": TRANSFORM,
}
_PRICE: dict[str, Schema] = {
    **members_of(prices.FIXED_COLUMNS, Price),
    "meter_id": described(TEXT, "What is charged for; required unless type is FIXED."),
    **_PRICE_RATE,
    **members_of(prices.TOLD_COLUMNS, Price),
    "price_unit_type": ref("PriceUnitType"),
}
_ITEM: dict[str, Schema] = {
    **members_of(line_items.ITEM_COLUMNS, LineItem),
    "price_id": TEXT,
    "start_date": described(TIME, "By default when both the subscription and the price begin."),
    "end_date": TIME,
}
_OVERRIDE = {"price_id": described(TEXT, "The price of the plan."), "quantity": AMOUNT, **_PRICE_RATE}
_REPORTING = request(
    members_of(catalog.REPORTING_COLUMNS, Feature), description="A larger unit to show usage in, and how many units it is."
)
_PRICE_REQUIRED = ("entity_id", "type", "currency", "billing_model")

_REQUESTS: dict[str, Schema] = {
    "CreateCustomerRequest": request(
        {**members_of(customers.COLUMNS, Customer), "parent_customer_id": TEXT}, required=["external_id"]
    ),
    "UpdateCustomerRequest": request({**members_of(customers.COLUMNS, Customer), "parent_customer_id": TEXT}),
    "CreateFeatureRequest": request(
        {
            **members_of(catalog.FEATURE_COLUMNS, Feature),
            "reporting_unit": _REPORTING,
            "meter_id": described(TEXT, "The meter that counts it, or else meter."),
            "meter": described(ref("CreateMeterRequest"), "A meter to be created along, instead of meter_id."),
        },
        required=["name"],
    ),
    "UpdateFeatureRequest": request({**members_of(catalog.FEATURE_COLUMNS, Feature), "reporting_unit": _REPORTING}),
    "CreatePlanRequest": request(members_of(catalog.PLAN_COLUMNS, Plan), required=["name"]),
    "UpdatePlanRequest": request(members_of(catalog.PLAN_COLUMNS, Plan)),
    "CreatePriceRequest": request(_PRICE, required=_PRICE_REQUIRED),
    "CreateBulkPriceRequest": request(
        {"items": list_of(ref("CreatePriceRequest"), minItems=1, maxItems=prices.MOST_AT_ONCE)}, required=["items"]
    ),
    "UpdatePriceRequest": request(
        {**_PRICE_RATE, **members_of(prices.TOLD_COLUMNS, Price)},
        description="What a price charges can be changed until line items have it.",
    ),
    "EndPriceRequest": request({"end_date": described(TIME, "Until when it is charged. Without it, the price is archived.")}),
    "CreateSubscriptionRequest": request(
        {
            "customer_id": described(TEXT, "The customer, or else external_customer_id."),
            "external_customer_id": described(TEXT, "What events call the customer."),
            "plan_id": TEXT,
            "currency": described(TEXT, "Which prices of the plan apply; may be left out where it has one currency only."),
            "start_date": described(TIME, "By default now."),
            **members_of(subscriptions.COLUMNS, Subscription),
            "line_item_commitments": described(
                map_of(request(members_of(subscriptions.COMMITTED, LineItem))), "By the price, what was committed to."
            ),
            "override_line_items": described(
                list_of(request(_OVERRIDE, required=["price_id"])), "Prices of the plan that cost something else here."
            ),
            "line_items": described(list_of(ref("CreateLineItemRequest")), "Prices beside those of the plan."),
            "coupons": described(list_of(TEXT), "Ids of coupons on everything."),
            "line_item_coupons": described(map_of(list_of(TEXT)), "By the price, ids of coupons on it."),
        },
        required=["plan_id"],
    ),
    "UpdateSubscriptionRequest": request(members_of(subscriptions.COLUMNS, Subscription)),
    "CancelSubscriptionRequest": request(
        {
            "cancellation_type": ref("CancellationType"),
            "cancel_at": described(TIME, "For scheduled_date: from when on nothing is charged."),
            "reason": TEXT,
        }
    ),
    "CreateLineItemRequest": request(_ITEM, required=["price_id"]),
    "UpdateLineItemRequest": request(
        {
            **members_of(line_items.ITEM_COLUMNS, LineItem),
            **_PRICE_RATE,
            "effective_from": described(TIME, "From when on another price applies. By default from the item's start."),
        }
    ),
    "EndLineItemRequest": request({"effective_from": described(TIME, "From when on nothing is charged by it. By default now.")}),
    "CreateCouponRequest": request(members_of(coupons.COLUMNS, Coupon), required=["name", "type", "cadence"]),
    "UpdateCouponRequest": request(members_of(coupons.TOLD_COLUMNS, Coupon)),
    "CreateCouponAssociationRequest": request(
        {
            "coupon_id": TEXT,
            "subscription_id": TEXT,
            "subscription_line_item_id": described(TEXT, "One line item of it, instead of all."),
            "start_date": described(TIME, "By default when the subscription begins."),
            "end_date": TIME,
        },
        required=["coupon_id", "subscription_id"],
    ),
    "UpdateCouponAssociationRequest": request({"end_date": TIME}),
}

_NAMED: dict[str, Schema] = {
    "tenant_id": described(TEXT, "The environment."),
    "environment_id": described(TEXT, "The environment."),
    "created_by": described(TEXT, "Id of the key that created it, or empty."),
    "updated_by": described(TEXT, "Id of the key that changed it last, or empty."),
    "created_at": TIME,
    "updated_at": TIME,
    "start_date": TIME,
    "metadata": METADATA,
    "status": ref("PricingStatus"),
    "billing_period": ref("BillingPeriod"),
    "billing_period_count": INTEGER,
}


def shaped(sample: Mapping[str, Any], model: type[Model], description: str, **known: Schema) -> Schema:
    """The shape of an answer like the sample: what is null in it and not known otherwise is always null."""
    columns = {field.name for field in model._meta.concrete_fields}

    def schema_of(name: str) -> Schema:
        if name in known:
            return known[name]
        if name in _NAMED and sample[name] is not None:
            return _NAMED[name]
        if sample[name] is None:
            return ABSENT
        return (choices(model, name) if name in columns else None) or TEXT

    return answer({name: schema_of(name) for name in sample}, description)


def list_response(name: str) -> Schema:
    return answer({"items": list_of(ref(name)), "pagination": ref("Pagination")})


def _answers() -> dict[str, Schema]:
    text, time, decimal = nullable(TEXT), nullable(TIME), nullable(DECIMAL)
    meter = described(nullable(ref("MeterResponse")), "The meter, where it was asked for.")
    customer = shaped(examples.customer_answer(), Customer, "Somebody who is charged.", timezone=text, parent_customer_id=text)
    item = {
        "entity_type": nullable(TEXT), "meter_id": text, "meter_display_name": text, "plan_display_name": text, "end_date": time,
        "quantity": DECIMAL, "commitment_type": text, "commitment_amount": decimal, "commitment_quantity": decimal,
        "commitment_overage_factor": decimal, "commitment_true_up_enabled": BOOLEAN, "commitment_windowed": BOOLEAN,
        "commitment_duration": nullable(ref("BillingPeriod")), "price": ref("PriceOfLineItem"),
    }  # fmt: skip
    amounts: dict[str, Schema] = {
        "amount": DECIMAL, "parent_price_id": text, "meter_id": text, "tier_mode": text, "start_date": time, "end_date": time,
        "tiers": nullable(list_of(ref("PriceTier"))), "transform_quantity": nullable(TRANSFORM),
    }  # fmt: skip
    coupon = {"percentage_off": decimal, "amount_off": decimal, "currency": text}
    return {
        "CustomerResponse": customer,
        "FeatureResponse": shaped(
            examples.feature_answer(),
            Feature,
            "How a meter's usage is called and counted towards customers.",
            reporting_unit=nullable(answer({"unit_singular": TEXT, "unit_plural": TEXT, "conversion_rate": DECIMAL})),
            meter=meter,
        ),
        "PlanResponse": shaped(
            examples.plan_answer(),
            Plan,
            "A set of prices that customers subscribe to.",
            prices=described(nullable(list_of(ref("PriceResponse"))), "Its prices, where they were asked for."),
        ),
        "PlanOfSubscription": shaped(examples.subscription_answer()["plan"], Plan, "The plan subscribed to."),
        "PriceResponse": shaped(examples.price_answer(), Price, "What usage costs.", meter=meter, **amounts),
        "PriceOfLineItem": shaped(examples.price_answer(with_meter=False), Price, "What usage costs.", **amounts),
        "SubscriptionResponse": shaped(
            examples.subscription_answer(coupons=True),
            Subscription,
            "A customer's use of a plan.",
            plan_id=text,
            parent_subscription_id=text,
            end_date=time,
            cancelled_at=time,
            subscription_status=ref("SubscriptionStatus"),
            customer=nullable(ref("CustomerOfSubscription")),
            plan=nullable(ref("PlanOfSubscription")),
            line_items=nullable(list_of(ref("LineItemResponse"))),
            coupon_associations=nullable(list_of(ref("CouponAssociationResponse"))),
        ),
        "CustomerOfSubscription": shaped(
            examples.subscription_answer()["customer"], Customer, "Who subscribed.", timezone=text, parent_customer_id=text
        ),
        "LineItemResponse": shaped(examples.item_answer(), LineItem, "A price that applies to a subscription.", **item),
        "CancelSubscriptionResponse": answer(
            {
                "subscription_id": TEXT,
                "status": ref("SubscriptionStatus"),
                "cancellation_type": ref("CancellationType"),
                "effective_date": described(TIME, "From then on nothing is charged."),
                "processed_at": TIME,
                "reason": text,
                "message": TEXT,
                "proration_details": described(list_of(ANYTHING), "Always empty here."),
                "proration_invoice": ABSENT,
                "total_credit_amount": DECIMAL,
            }
        ),
        "BulkPriceResponse": answer({"items": list_of(ref("PriceResponse"))}),
        "CouponResponse": shaped(examples.coupon_answer(), Coupon, "A reduction.", **coupon),
        "CouponAssociationResponse": shaped(
            examples.association_answer(),
            CouponAssociation,
            "A coupon that applies to a subscription or to one line item.",
            coupon=nullable(ref("CouponResponse")),
            subscription_line_item_id=text,
            end_date=time,
        ),
    }


def components() -> dict[str, Schema]:
    """All shapes by name."""
    lists = {f"{name}ListResponse": list_response(f"{name}Response") for name in RESOURCES}
    return {**ENUMERATIONS, **_PARTS, **_REQUESTS, **SEARCHES, **_answers(), **lists}
