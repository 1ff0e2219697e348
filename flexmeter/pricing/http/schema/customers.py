"""Operations on customers, as they are described."""

from __future__ import annotations

from flexmeter.http.schema.dialect import TEXT
from flexmeter.http.schema.examples import ENVIRONMENT, malformed, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter
from flexmeter.pricing.http.schema.conflicts import conflict
from flexmeter.pricing.http.schema.examples import CUSTOMER, CUSTOMER_ID, customer_answer, listed, subscription_answer
from flexmeter.pricing.http.schema.lists import BAD_LIMIT, listing, parameters, searching

TAG = "Customers"
ID = Parameter("id", TEXT, in_path=True)
EXTERNAL_ID = Parameter("external_id", TEXT, "What events call the customer.", in_path=True)


def unknown(**parameters: str) -> dict[str, Example]:
    [id] = parameters.values()
    details = {"customer_id": id, "tenant_id": ENVIRONMENT}
    return {"unknown": missing("An unknown customer", "Customer not found", details, body={}, **parameters)}


BY_ID, BY_EXTERNAL_ID = unknown(id="cust_9"), unknown(external_id="nobody")
UNUSABLE_ID = {"unusable_id": malformed("An id that cannot be one", "id", "holds a NUL character", id="x\x00")}
UNUSABLE_EXTERNAL_ID = {
    "unusable_id": malformed("An id that cannot be one", "external_id", "holds a NUL character", external_id="x\x00")
}
MARS = {"timezone": "Mars/Olympus"}
NO_ZONE = "'Mars/Olympus' is no time zone"
ZONE_FAULT = {"timezone": "must be a name such as Asia/Tokyo"}
RENAMED = {"name": "Example Limited"}

OPERATIONS = (
    Operation(
        method="POST",
        path="/customers",
        id="createCustomer",
        tag=TAG,
        summary="Create a customer",
        description="Events name it by its external_id, before it exists or after.",
        status=201,
        body="CreateCustomerRequest",
        answer="CustomerResponse",
        examples={"customer": Example("A customer", body=CUSTOMER, answer=customer_answer())},
        faults={
            400: {"no_zone": wrong("An unknown time zone", NO_ZONE, ZONE_FAULT, body={**CUSTOMER, **MARS})},
        },
    ),
    listing("/customers", "Customer", TAG, customer_answer(), external_id="customer-01"),
    Operation(
        method="PUT",
        path="/customers",
        id="updateCustomer",
        tag=TAG,
        summary="Change the customer that the query string names",
        description="Members that are left out stay as they are.",
        body="UpdateCustomerRequest",
        answer="CustomerResponse",
        parameters=(
            Parameter("id", TEXT, "The customer, or else external_customer_id."),
            Parameter("external_customer_id", TEXT, "What events call the customer."),
        ),
        examples={
            "renamed": Example(
                "Another name",
                parameters={"external_customer_id": "customer-01"},
                body=RENAMED,
                answer=customer_answer(**RENAMED),
            )
        },
        faults={
            400: {
                "nobody": malformed(
                    "Of no customer", "id", "or external_customer_id is required in the query string", body=RENAMED
                )
            },
            404: unknown(external_customer_id="nobody"),
        },
    ),
    searching("/customers", "Customer", TAG, customer_answer(), external_ids=["customer-01", "customer-02"]),
    Operation(
        method="GET",
        path="/customers/external/{external_id}/subscriptions",
        id="getSubscriptionsForCustomer",
        tag=TAG,
        summary="List a customer's subscriptions",
        description="Newest first unless told otherwise.",
        answer="SubscriptionListResponse",
        parameters=(EXTERNAL_ID, *parameters("Subscription")),
        examples={
            "all": Example(
                "All of them", parameters={"external_id": "customer-01"}, answer=listed(subscription_answer(whole=False))
            )
        },
        faults={
            400: {
                "bad_limit": Example(
                    BAD_LIMIT["bad_limit"].summary,
                    BAD_LIMIT["bad_limit"].answer,
                    parameters={"external_id": "customer-01", "limit": "5000"},
                )
            },
            404: BY_EXTERNAL_ID,
        },
    ),
    *(
        Operation(
            method="GET",
            path=f"/customers/{place}/{{external_id}}",
            id=id,
            tag=TAG,
            summary="Show the customer of an external id",
            description="An archived customer is shown too.",
            answer="CustomerResponse",
            parameters=(EXTERNAL_ID,),
            examples={"customer": Example("A customer", parameters={"external_id": "customer-01"}, answer=customer_answer())},
            faults={400: UNUSABLE_EXTERNAL_ID, 404: BY_EXTERNAL_ID},
        )
        for place, id in (("external", "getCustomerByExternalId"), ("lookup", "lookupCustomer"))
    ),
    Operation(
        method="GET",
        path="/customers/{id}",
        id="getCustomer",
        tag=TAG,
        summary="Show a customer",
        description="An archived customer is shown too.",
        answer="CustomerResponse",
        parameters=(ID,),
        examples={"customer": Example("A customer", parameters={"id": CUSTOMER_ID}, answer=customer_answer())},
        faults={400: UNUSABLE_ID, 404: BY_ID},
    ),
    Operation(
        method="PUT",
        path="/customers/{id}",
        id="updateCustomerById",
        tag=TAG,
        summary="Change a customer",
        description="Members that are left out stay as they are.",
        body="UpdateCustomerRequest",
        answer="CustomerResponse",
        parameters=(ID,),
        examples={
            "renamed": Example("Another name", parameters={"id": CUSTOMER_ID}, body=RENAMED, answer=customer_answer(**RENAMED))
        },
        faults={400: {"no_zone": wrong("An unknown time zone", NO_ZONE, ZONE_FAULT, body=MARS, id=CUSTOMER_ID)}, 404: BY_ID},
    ),
    Operation(
        method="DELETE",
        path="/customers/{id}",
        id="deleteCustomer",
        tag=TAG,
        summary="Archive a customer",
        description="Refused while it has subscriptions that run. Its events and its past stay.",
        status=204,
        answer=None,
        parameters=(ID,),
        examples={},
        faults={
            400: UNUSABLE_ID,
            404: BY_ID,
            409: {
                "subscribed": conflict(
                    "A customer with a subscription",
                    "The customer is in use by 1 subscription; end or cancel these first",
                    {"status": "is needed by 1 subscription"},
                    id=CUSTOMER_ID,
                )
            },
        },
    ),
)
