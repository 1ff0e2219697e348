"""Operations on features and plans, as they are described."""

from __future__ import annotations

from flexmeter.http.schema.dialect import TEXT
from flexmeter.http.schema.examples import ENVIRONMENT, malformed, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter
from flexmeter.pricing.http.schema.conflicts import conflict
from flexmeter.pricing.http.schema.examples import (
    FEATURE,
    FEATURE_ID,
    PLAN,
    PLAN_ID,
    feature_answer,
    plan_answer,
    price_answer,
)
from flexmeter.pricing.http.schema.lists import listing, searching

ID = Parameter("id", TEXT, in_path=True)
FEATURE_GONE = {
    "unknown": missing(
        "An unknown feature", "Feature not found", {"feature_id": "feat_9", "tenant_id": ENVIRONMENT}, body={}, id="feat_9"
    )
}
PLAN_GONE = {
    "unknown": missing("An unknown plan", "Plan not found", {"plan_id": "plan_9", "tenant_id": ENVIRONMENT}, body={}, id="plan_9")
}
UNUSABLE_ID = {"unusable_id": malformed("An id that cannot be one", "id", "holds a NUL character", id="x\x00")}
NO_NAME = {
    "no_name": malformed("Without a name", "name", "is required and must not be empty", body={"lookup_key": "standard"}),
}
BLANK = wrong(
    "A blank name",
    "Request validation failed: name is required and must not be blank",
    {"name": "is required and must not be blank"},
    body={"name": "  "},
)

OPERATIONS = (
    Operation(
        method="POST",
        path="/features",
        id="createFeature",
        tag="Features",
        summary="Create a feature",
        description="Says how the usage of a meter is called, of a meter that is there or of one created along. A meter has one "
        "feature at most.",
        status=201,
        body="CreateFeatureRequest",
        answer="FeatureResponse",
        examples={"feature": Example("A feature of a meter", body=FEATURE, answer=feature_answer())},
        faults={
            400: NO_NAME,
            404: {
                "no_meter": missing(
                    "Of an unknown meter",
                    "Meter not found",
                    {"meter_id": "meter_9", "tenant_id": ENVIRONMENT},
                    body={**FEATURE, "meter_id": "meter_9"},
                )
            },
        },
    ),
    listing("/features", "Feature", "Features", feature_answer(with_meter=False), lookup_key="prompt-tokens"),
    searching("/features", "Feature", "Features", feature_answer(), feature_ids=[FEATURE_ID], expand="meter"),
    Operation(
        method="GET",
        path="/features/{id}",
        id="getFeature",
        tag="Features",
        summary="Show a feature",
        description="With its meter. An archived feature is shown too.",
        answer="FeatureResponse",
        parameters=(ID,),
        examples={"feature": Example("A feature", parameters={"id": FEATURE_ID}, answer=feature_answer())},
        faults={400: UNUSABLE_ID, 404: FEATURE_GONE},
    ),
    Operation(
        method="PUT",
        path="/features/{id}",
        id="updateFeature",
        tag="Features",
        summary="Change a feature",
        description="Members that are left out stay as they are.",
        body="UpdateFeatureRequest",
        answer="FeatureResponse",
        parameters=(ID,),
        examples={
            "renamed": Example(
                "Another name",
                parameters={"id": FEATURE_ID},
                body={"name": "Input tokens"},
                answer=feature_answer(name="Input tokens"),
            )
        },
        faults={400: {"blank": Example(BLANK.summary, BLANK.answer, BLANK.body, {"id": FEATURE_ID})}, 404: FEATURE_GONE},
    ),
    Operation(
        method="DELETE",
        path="/features/{id}",
        id="deleteFeature",
        tag="Features",
        summary="Archive a feature",
        description="It is kept, and can be published again.",
        answer="MessageResponse",
        parameters=(ID,),
        examples={
            "feature": Example("A feature", parameters={"id": FEATURE_ID}, answer={"message": "Feature archived successfully"})
        },
        faults={400: UNUSABLE_ID, 404: FEATURE_GONE},
    ),
    Operation(
        method="POST",
        path="/plans",
        id="createPlan",
        tag="Plans",
        summary="Create a plan",
        description="It needs prices before anybody can subscribe to it.",
        status=201,
        body="CreatePlanRequest",
        answer="PlanResponse",
        examples={"plan": Example("A plan", body=PLAN, answer=plan_answer(prices=[]))},
        faults={400: NO_NAME},
    ),
    listing("/plans", "Plan", "Plans", plan_answer(), lookup_key="standard"),
    searching("/plans", "Plan", "Plans", plan_answer(prices=[price_answer(with_meter=False)]), expand="prices"),
    Operation(
        method="GET",
        path="/plans/{id}",
        id="getPlan",
        tag="Plans",
        summary="Show a plan",
        description="With its published prices.",
        answer="PlanResponse",
        parameters=(ID,),
        examples={
            "plan": Example("A plan", parameters={"id": PLAN_ID}, answer=plan_answer(prices=[price_answer(with_meter=False)]))
        },
        faults={400: UNUSABLE_ID, 404: PLAN_GONE},
    ),
    Operation(
        method="PUT",
        path="/plans/{id}",
        id="updatePlan",
        tag="Plans",
        summary="Change a plan",
        description="Members that are left out stay as they are. What it costs is said by its prices.",
        body="UpdatePlanRequest",
        answer="PlanResponse",
        parameters=(ID,),
        examples={
            "described": Example(
                "Another description",
                parameters={"id": PLAN_ID},
                body={"description": "For most."},
                answer=plan_answer(description="For most.", prices=[price_answer(with_meter=False)]),
            )
        },
        faults={400: {"blank": Example(BLANK.summary, BLANK.answer, BLANK.body, {"id": PLAN_ID})}, 404: PLAN_GONE},
    ),
    Operation(
        method="DELETE",
        path="/plans/{id}",
        id="deletePlan",
        tag="Plans",
        summary="Archive a plan",
        description="Nobody can subscribe to it any more. Refused while subscriptions to it run.",
        answer="MessageResponse",
        parameters=(ID,),
        examples={},
        faults={
            400: UNUSABLE_ID,
            404: PLAN_GONE,
            409: {
                "subscribed": conflict(
                    "A plan that somebody subscribes to",
                    "The plan is in use by 1 subscription; end or cancel these first",
                    {"status": "is needed by 1 subscription"},
                    id=PLAN_ID,
                )
            },
        },
    ),
)
