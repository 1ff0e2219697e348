"""Operations on prices, as they are described."""

from __future__ import annotations

from decimal import Decimal

from flexmeter.http.schema.dialect import TEXT
from flexmeter.http.schema.examples import ENVIRONMENT, malformed, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter
from flexmeter.pricing.http.schema.conflicts import conflict
from flexmeter.pricing.http.schema.examples import JULY, PACKAGE, PLAN_ID, PRICE, PRICE_ID, TIERED, price_answer
from flexmeter.pricing.http.schema.lists import listing, searching

TAG = "Prices"
ID = Parameter("id", TEXT, in_path=True)
UNKNOWN = {
    "unknown": missing(
        "An unknown price", "Price not found", {"price_id": "price_9", "tenant_id": ENVIRONMENT}, body={}, id="price_9"
    )
}
UNUSABLE_ID = {"unusable_id": malformed("An id that cannot be one", "id", "holds a NUL character", id="x\x00")}
TIERED_ANSWER = price_answer(
    amount=Decimal(0), billing_model="TIERED", tier_mode="SLAB", tiers=TIERED["tiers"], lookup_key="prompt-tokens-tiered"
)
PACKAGE_ANSWER = price_answer(
    amount=Decimal("1.50"), billing_model="PACKAGE", divide_by=1_000_000, round="up", lookup_key="prompt-tokens-package"
)
SETTLED = "Usage is charged by this price already: end it and add another, or override it for a subscription"

OPERATIONS = (
    Operation(
        method="POST",
        path="/prices",
        id="createPrice",
        tag=TAG,
        summary="Create a price",
        description="Of a plan's usage or of a fixed fee. FLAT_FEE: every unit costs the amount. PACKAGE: every package does. "
        "TIERED: units cost what their tier says (SLAB), or all of them what the tier says that is reached (VOLUME).",
        status=201,
        body="CreatePriceRequest",
        answer="PriceResponse",
        examples={
            "flat": Example("The same for every unit", body=PRICE, answer=price_answer()),
            "tiered": Example(
                "Less beyond a million",
                body={name: value for name, value in TIERED.items() if name != "amount"},
                answer=TIERED_ANSWER,
            ),
            "package": Example("By the million", body=PACKAGE, answer=PACKAGE_ANSWER),
        },
        faults={
            400: {
                "negative": wrong(
                    "A negative amount",
                    "Request validation failed: amount must not be negative",
                    {"amount": "must not be negative"},
                    body={**PRICE, "amount": "-1"},
                ),
                "no_plan": wrong(
                    "Of an unknown plan",
                    "There is no plan plan_9",
                    {"entity_id": "is no plan here"},
                    body={**PRICE, "entity_id": "plan_9"},
                ),
            }
        },
    ),
    listing("/prices", "Price", TAG, price_answer(with_meter=False), plan_ids=PLAN_ID),
    Operation(
        method="POST",
        path="/prices/bulk",
        id="createPricesBulk",
        tag=TAG,
        summary="Create several prices",
        description="All of them or none.",
        status=201,
        body="CreateBulkPriceRequest",
        answer="BulkPriceResponse",
        examples={"one": Example("A price", body={"items": [PACKAGE]}, answer={"items": [PACKAGE_ANSWER]})},
        faults={
            400: {
                "no_amount": malformed(
                    "One without an amount",
                    "items[0].amount",
                    "is required unless billing_model is TIERED",
                    body={"items": [{name: value for name, value in PRICE.items() if name != "amount"}]},
                )
            }
        },
    ),
    searching("/prices", "Price", TAG, price_answer(), price_ids=[PRICE_ID], expand="meter"),
    Operation(
        method="GET",
        path="/prices/lookup/{lookup_key}",
        id="getPriceByLookupKey",
        tag=TAG,
        summary="Show the price of a lookup key",
        description="Where several have it, the newest that is published.",
        answer="PriceResponse",
        parameters=(Parameter("lookup_key", TEXT, in_path=True),),
        examples={"price": Example("A price", parameters={"lookup_key": "prompt-tokens-usd"}, answer=price_answer())},
        faults={
            400: {
                "unusable_key": malformed("A key that cannot be one", "lookup_key", "holds a NUL character", lookup_key="x\x00")
            },
            404: {
                "unknown": missing(
                    "An unknown key", "Price not found", {"price_id": "none", "tenant_id": ENVIRONMENT}, lookup_key="none"
                )
            },
        },
    ),
    Operation(
        method="GET",
        path="/prices/{id}",
        id="getPrice",
        tag=TAG,
        summary="Show a price",
        description="An archived price is shown too.",
        answer="PriceResponse",
        parameters=(ID,),
        examples={"price": Example("A price", parameters={"id": PRICE_ID}, answer=price_answer())},
        faults={400: UNUSABLE_ID, 404: UNKNOWN},
    ),
    Operation(
        method="PUT",
        path="/prices/{id}",
        id="updatePrice",
        tag=TAG,
        summary="Change a price",
        description="What it charges can be changed until line items have it; what it is called, always.",
        body="UpdatePriceRequest",
        answer="PriceResponse",
        parameters=(ID,),
        examples={
            "renamed": Example(
                "Another name",
                parameters={"id": PRICE_ID},
                body={"display_name": "Input tokens"},
                answer=price_answer(display_name="Input tokens"),
            )
        },
        faults={
            400: {
                "no_status": malformed(
                    "An unknown status", "status", "must be published or archived", body={"status": "gone"}, id=PRICE_ID
                )
            },
            404: UNKNOWN,
            409: {
                "charged": conflict(
                    "Another amount for what is charged already",
                    SETTLED,
                    {"amount": "cannot be changed once line items have the price"},
                    body={"amount": "0.000003"},
                    id=PRICE_ID,
                )
            },
        },
    ),
    Operation(
        method="DELETE",
        path="/prices/{id}",
        id="deletePrice",
        tag=TAG,
        summary="Archive or end a price",
        description="Refused while line items have it, unless `end_date` says until when they do.",
        body="EndPriceRequest",
        body_required=False,
        answer="MessageResponse",
        parameters=(ID,),
        examples={
            "ended": Example(
                "A price that is charged until July",
                parameters={"id": PRICE_ID},
                body={"end_date": JULY},
                answer={"message": "Price ended successfully"},
            )
        },
        faults={
            400: UNUSABLE_ID,
            404: UNKNOWN,
            409: {
                "in_use": conflict(
                    "A price in use",
                    "The price is in use by 1 line item; end or cancel these first",
                    {"status": "is needed by 1 line item"},
                    id=PRICE_ID,
                )
            },
        },
    ),
)
