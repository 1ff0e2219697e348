"""Operations on subscriptions and their line items, as they are described."""

from __future__ import annotations

from decimal import Decimal

from flexmeter.events import format_timestamp
from flexmeter.http.schema.dialect import TEXT
from flexmeter.http.schema.examples import ENVIRONMENT, INGESTED_AT, malformed, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter
from flexmeter.pricing.http.schema.examples import (
    ITEM_ID,
    JULY,
    PRICE_ID,
    SUBSCRIPTION,
    SUBSCRIPTION_ID,
    at,
    item_answer,
    listed,
    subscription_answer,
)
from flexmeter.pricing.http.schema.lists import BAD_LIMIT, listing, parameters, searching

TAG = "Subscriptions"
ID = Parameter("id", TEXT, in_path=True)
THE_SUBSCRIPTION, THE_ITEM = {"id": SUBSCRIPTION_ID}, {"id": ITEM_ID}
JULY_SHOWN = format_timestamp(at(JULY))


def unknown(kind: str, id: str) -> dict[str, Example]:
    details = {f"{kind}_id": id, "tenant_id": ENVIRONMENT}
    words = kind.replace("_", " ")
    return {"unknown": missing(f"An unknown {words}", f"{words.capitalize()} not found", details, body={"price_id": "x"}, id=id)}


NO_SUBSCRIPTION, NO_ITEM = unknown("subscription", "subs_9"), unknown("line_item", "subs_line_9")
UNUSABLE_ID = {"unusable_id": malformed("An id that cannot be one", "id", "holds a NUL character", id="x\x00")}
COMMITTED = {"commitment_type": "amount", "commitment_amount": "100", "commitment_true_up_enabled": True}
COMMITTED_ANSWER = item_answer(commitment_type="amount", commitment_amount=Decimal(100), commitment_true_up_enabled=True)

OPERATIONS = (
    Operation(
        method="POST",
        path="/subscriptions",
        id="createSubscription",
        tag=TAG,
        summary="Subscribe a customer to a plan",
        description="Every published price of the plan in the currency becomes a line item. What was committed to, prices that "
        "differ, further prices and coupons can be said along.",
        status=201,
        body="CreateSubscriptionRequest",
        answer="SubscriptionResponse",
        examples={"subscription": Example("A subscription", body=SUBSCRIPTION, answer=subscription_answer())},
        faults={
            400: {
                "no_currency": wrong(
                    "In a currency without prices",
                    "The plan has no prices in eur",
                    {"currency": "must be one of usd"},
                    body={**SUBSCRIPTION, "currency": "eur"},
                )
            },
            404: {
                "no_plan": missing(
                    "To an unknown plan",
                    "Plan not found",
                    {"plan_id": "plan_9", "tenant_id": ENVIRONMENT},
                    body={**SUBSCRIPTION, "plan_id": "plan_9"},
                )
            },
        },
    ),
    listing("/subscriptions", "Subscription", TAG, subscription_answer(whole=False), external_customer_id="customer-01"),
    searching(
        "/subscriptions",
        "Subscription",
        TAG,
        subscription_answer(coupons=True),
        subscription_ids=[SUBSCRIPTION_ID],
        expand="customer,plan,line_items,coupon_associations",
    ),
    searching("/subscriptions/lineitems", "LineItem", TAG, item_answer(), subscription_ids=[SUBSCRIPTION_ID]),
    Operation(
        method="GET",
        path="/subscriptions/lineitems/{id}",
        id="getSubscriptionLineItem",
        tag=TAG,
        summary="Show a line item",
        description="With its price.",
        answer="LineItemResponse",
        parameters=(ID,),
        examples={"item": Example("A line item", parameters=THE_ITEM, answer=item_answer())},
        faults={400: UNUSABLE_ID, 404: NO_ITEM},
    ),
    Operation(
        method="PUT",
        path="/subscriptions/lineitems/{id}",
        id="updateSubscriptionLineItem",
        tag=TAG,
        summary="Change a line item",
        description="What was committed to is changed in place. With members of a price, the line item ends at `effective_from` "
        "and another one goes on with a price of the subscription's own, which is the answer.",
        body="UpdateLineItemRequest",
        answer="LineItemResponse",
        parameters=(ID,),
        examples={"committed": Example("A commitment", parameters=THE_ITEM, body=COMMITTED, answer=COMMITTED_ANSWER)},
        faults={
            400: {
                "nothing_committed": wrong(
                    "A commitment to nothing",
                    "A commitment is greater than zero",
                    {"commitment_amount": "must be greater than 0"},
                    body={"commitment_type": "amount"},
                    id=ITEM_ID,
                )
            },
            404: NO_ITEM,
        },
    ),
    Operation(
        method="DELETE",
        path="/subscriptions/lineitems/{id}",
        id="deleteSubscriptionLineItem",
        tag=TAG,
        summary="End a line item",
        description="What was used before stays charged.",
        body="EndLineItemRequest",
        body_required=False,
        answer="LineItemResponse",
        parameters=(ID,),
        examples={
            "ended": Example(
                "From July on", parameters=THE_ITEM, body={"effective_from": JULY}, answer=item_answer(end_date=at(JULY))
            )
        },
        faults={400: UNUSABLE_ID, 404: NO_ITEM},
    ),
    Operation(
        method="POST",
        path="/subscriptions/{id}/cancel",
        id="cancelSubscription",
        tag=TAG,
        summary="Cancel a subscription",
        description="At once, or with `scheduled_date` at `cancel_at`. What was used before stays charged.",
        body="CancelSubscriptionRequest",
        body_required=False,
        answer="CancelSubscriptionResponse",
        parameters=(ID,),
        examples={
            "scheduled": Example(
                "From July on",
                parameters=THE_SUBSCRIPTION,
                body={"cancellation_type": "scheduled_date", "cancel_at": JULY},
                answer={
                    "subscription_id": SUBSCRIPTION_ID,
                    "status": "cancelled",
                    "cancellation_type": "scheduled_date",
                    "effective_date": JULY_SHOWN,
                    "processed_at": INGESTED_AT,
                    "reason": None,
                    "message": "Subscription cancelled successfully",
                    "proration_details": [],
                    "proration_invoice": None,
                    "total_credit_amount": "0",
                },
            )
        },
        faults={
            400: {
                "no_date": malformed(
                    "Without a date",
                    "cancel_at",
                    "is required for scheduled_date",
                    body={"cancellation_type": "scheduled_date"},
                    id=SUBSCRIPTION_ID,
                )
            },
            404: NO_SUBSCRIPTION,
        },
    ),
    Operation(
        method="GET",
        path="/subscriptions/{id}/lineitems",
        id="listSubscriptionLineItems",
        tag=TAG,
        summary="List a subscription's line items",
        description="Those that have ended too.",
        answer="LineItemListResponse",
        parameters=(ID, *parameters("LineItem")),
        examples={"all": Example("All of them", parameters=THE_SUBSCRIPTION, answer=listed(item_answer()))},
        faults={
            400: {
                "bad_limit": Example(
                    BAD_LIMIT["bad_limit"].summary,
                    BAD_LIMIT["bad_limit"].answer,
                    parameters={**THE_SUBSCRIPTION, "limit": "5000"},
                )
            },
            404: NO_SUBSCRIPTION,
        },
    ),
    Operation(
        method="POST",
        path="/subscriptions/{id}/lineitems",
        id="createSubscriptionLineItem",
        tag=TAG,
        summary="Add a line item",
        description="A further price that applies to the subscription.",
        status=201,
        body="CreateLineItemRequest",
        answer="LineItemResponse",
        parameters=(ID,),
        examples={
            "further": Example(
                "Until July",
                parameters=THE_SUBSCRIPTION,
                body={"price_id": PRICE_ID, "end_date": JULY},
                answer=item_answer(end_date=at(JULY)),
            )
        },
        faults={
            400: {
                "no_price": malformed(
                    "Without a price", "price_id", "is required and must not be empty", body={}, id=SUBSCRIPTION_ID
                )
            },
            404: NO_SUBSCRIPTION,
        },
    ),
    Operation(
        method="GET",
        path="/subscriptions/{id}",
        id="getSubscription",
        tag=TAG,
        summary="Show a subscription",
        description="With its customer, plan, line items and coupons.",
        answer="SubscriptionResponse",
        parameters=(ID,),
        examples={
            "subscription": Example("A subscription", parameters=THE_SUBSCRIPTION, answer=subscription_answer(coupons=True))
        },
        faults={400: UNUSABLE_ID, 404: NO_SUBSCRIPTION},
    ),
    Operation(
        method="PUT",
        path="/subscriptions/{id}",
        id="updateSubscription",
        tag=TAG,
        summary="Change a subscription",
        description="Members that are left out stay as they are.",
        body="UpdateSubscriptionRequest",
        answer="SubscriptionResponse",
        parameters=(ID,),
        examples={
            "paused": Example(
                "Paused",
                parameters=THE_SUBSCRIPTION,
                body={"subscription_status": "paused"},
                answer=subscription_answer(coupons=True, status="paused"),
            )
        },
        faults={
            400: {
                "cancelled": malformed(
                    "Cancelled in passing",
                    "subscription_status",
                    "becomes cancelled by a call of its own, with /cancel",
                    body={"subscription_status": "cancelled"},
                    id=SUBSCRIPTION_ID,
                )
            },
            404: NO_SUBSCRIPTION,
        },
    ),
)
