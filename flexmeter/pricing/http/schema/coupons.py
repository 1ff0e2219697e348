"""Operations on coupons, as they are described."""

from __future__ import annotations

from flexmeter.http.schema.dialect import TEXT
from flexmeter.http.schema.examples import ENVIRONMENT, malformed, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter
from flexmeter.pricing.http.schema.conflicts import conflict
from flexmeter.pricing.http.schema.examples import (
    ASSOCIATION,
    ASSOCIATION_ID,
    COUPON,
    COUPON_ID,
    JULY,
    SUBSCRIPTION_ID,
    association_answer,
    at,
    coupon_answer,
)
from flexmeter.pricing.http.schema.lists import listing, searching

TAG = "Coupons"
ID = Parameter("id", TEXT, in_path=True)


def unknown(kind: str, member: str, **parameters: str) -> dict[str, Example]:
    [id] = parameters.values()
    details = {member: id, "tenant_id": ENVIRONMENT}
    return {"unknown": missing(f"An unknown {kind}", f"{kind.capitalize()} not found", details, body={}, **parameters)}


NO_COUPON = unknown("coupon", "coupon_id", id="coupon_9")
NO_ASSOCIATION = unknown("applied coupon", "applied_coupon_id", id="coupon_assoc_9")
UNUSABLE_ID = {"unusable_id": malformed("An id that cannot be one", "id", "holds a NUL character", id="x\x00")}
THE_COUPON, THE_ASSOCIATION = {"id": COUPON_ID}, {"id": ASSOCIATION_ID}

OPERATIONS = (
    Operation(
        method="POST",
        path="/coupons",
        id="createCoupon",
        tag=TAG,
        summary="Create a coupon",
        description="Percentages that are `repeated` or `forever` reduce what usage is shown to cost.",
        status=201,
        body="CreateCouponRequest",
        answer="CouponResponse",
        examples={"tenth": Example("A tenth off", body=COUPON, answer=coupon_answer())},
        faults={
            400: {
                "too_much": wrong(
                    "More than all of it",
                    "The percentage must lie between 0 and 100",
                    {"percentage_off": "must be above 0, at most 100"},
                    body={**COUPON, "percentage_off": "120"},
                )
            }
        },
    ),
    listing("/coupons", "Coupon", TAG, coupon_answer(), coupon_ids=COUPON_ID),
    searching("/coupons", "Coupon", TAG, coupon_answer(), coupon_ids=[COUPON_ID]),
    listing(
        "/coupons/associations",
        "CouponAssociation",
        TAG,
        association_answer(with_coupon=False),
        subscription_ids=SUBSCRIPTION_ID,
    ),
    Operation(
        method="POST",
        path="/coupons/associations",
        id="createCouponAssociation",
        tag=TAG,
        summary="Apply a coupon",
        description="To a subscription, or to one line item of it.",
        status=201,
        body="CreateCouponAssociationRequest",
        answer="CouponAssociationResponse",
        examples={"applied": Example("To a subscription", body=ASSOCIATION, answer=association_answer())},
        faults={
            400: {
                "no_subscription": malformed(
                    "To nothing", "subscription_id", "is required and must not be empty", body={"coupon_id": COUPON_ID}
                )
            },
            404: {
                "no_coupon": missing(
                    "An unknown coupon",
                    "Coupon not found",
                    {"coupon_id": "coupon_9", "tenant_id": ENVIRONMENT},
                    body={**ASSOCIATION, "coupon_id": "coupon_9"},
                )
            },
        },
    ),
    Operation(
        method="GET",
        path="/coupons/associations/{id}",
        id="getCouponAssociation",
        tag=TAG,
        summary="Show an applied coupon",
        description="With the coupon.",
        answer="CouponAssociationResponse",
        parameters=(ID,),
        examples={"applied": Example("An applied coupon", parameters=THE_ASSOCIATION, answer=association_answer())},
        faults={400: UNUSABLE_ID, 404: NO_ASSOCIATION},
    ),
    Operation(
        method="PUT",
        path="/coupons/associations/{id}",
        id="updateCouponAssociation",
        tag=TAG,
        summary="End an applied coupon",
        description="What it has taken off before stays.",
        body="UpdateCouponAssociationRequest",
        answer="CouponAssociationResponse",
        parameters=(ID,),
        examples={
            "ended": Example(
                "From July on", parameters=THE_ASSOCIATION, body={"end_date": JULY}, answer=association_answer(end_date=at(JULY))
            )
        },
        faults={
            400: {
                "too_early": wrong(
                    "Before it began",
                    "The end lies before the start",
                    {"end_date": "must not lie before start_date"},
                    body={"end_date": "2025-05-01T00:00:00Z"},
                    id=ASSOCIATION_ID,
                )
            },
            404: NO_ASSOCIATION,
        },
    ),
    Operation(
        method="GET",
        path="/coupons/{id}",
        id="getCoupon",
        tag=TAG,
        summary="Show a coupon",
        description="An archived coupon is shown too.",
        answer="CouponResponse",
        parameters=(ID,),
        examples={"coupon": Example("A coupon", parameters=THE_COUPON, answer=coupon_answer())},
        faults={400: UNUSABLE_ID, 404: NO_COUPON},
    ),
    Operation(
        method="PUT",
        path="/coupons/{id}",
        id="updateCoupon",
        tag=TAG,
        summary="Change a coupon",
        description="What it is called; what it takes off stays.",
        body="UpdateCouponRequest",
        answer="CouponResponse",
        parameters=(ID,),
        examples={
            "renamed": Example(
                "Another name", parameters=THE_COUPON, body={"name": "Early birds"}, answer=coupon_answer(name="Early birds")
            )
        },
        faults={
            400: {
                "blank": wrong(
                    "A blank name",
                    "Request validation failed: name is required and must not be blank",
                    {"name": "is required and must not be blank"},
                    body={"name": " "},
                    id=COUPON_ID,
                )
            },
            404: NO_COUPON,
        },
    ),
    Operation(
        method="DELETE",
        path="/coupons/{id}",
        id="deleteCoupon",
        tag=TAG,
        summary="Archive a coupon",
        description="It cannot be applied any more. Refused while it reduces what somebody is charged.",
        answer="MessageResponse",
        parameters=(ID,),
        examples={},
        faults={
            400: UNUSABLE_ID,
            404: NO_COUPON,
            409: {
                "applied": conflict(
                    "A coupon in use",
                    "The coupon is in use by 1 subscription; end or cancel these first",
                    {"status": "is needed by 1 subscription"},
                    id=COUPON_ID,
                )
            },
        },
    ),
)
