"""Operations on meters, as they are described."""

from __future__ import annotations

from flexmeter.http.filters import MeterFilter
from flexmeter.http.meters import SORTS
from flexmeter.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from flexmeter.http.schema.components import DEFAULT_ORDER
from flexmeter.http.schema.dialect import INTEGER, TEXT, ref
from flexmeter.http.schema.examples import METER, METER_ID, malformed, meter_answer, missing, wrong
from flexmeter.http.schema.operations import Example, Operation, Parameter

TAG = "Meters"
SHAPES = {"status": ref("MeterStatus"), "aggregation_type": ref("AggregationType")}
ID = Parameter("meter_id", TEXT, in_path=True)
THE_METER = {"meter_id": METER_ID}

PEAKS = {
    "name": "Peak prompts",
    "event_name": "llm_request",
    "aggregation": {"type": "MAX", "field": "prompt_tokens", "bucket_size": "HOUR", "group_by": "model"},
    "reset_usage": "BILLING_PERIOD",
}
WEIGHTED = {
    "name": "Weighted tokens",
    "event_name": "llm_request",
    "aggregation": {"type": "SUM", "expression": "prompt_tokens + 3 * completion_tokens"},
    "reset_usage": "NEVER",
    "dimensions": ["model"],
}

UNKNOWN = {
    "unknown": missing(
        "An unknown meter",
        "Meter not found",
        {"meter_id": "meter_9999", "tenant_id": "main"},
        body={"filters": [{"key": "region", "values": ["eu"]}]},
        meter_id="meter_9999",
    ),
}
UNUSABLE_ID = {
    "unusable_id": malformed("An id that cannot be one", "meter_id", "holds a NUL character", meter_id="meter\x00"),
}

OPERATIONS = (
    Operation(
        method="POST",
        path="/meters",
        id="createMeter",
        tag=TAG,
        summary="Create a meter",
        description="Says which events count and how they become usage. Past events count too; until a long history is worked "
        "through, answers are right but take longer.",
        status=201,
        body="CreateMeterRequest",
        answer="MeterResponse",
        examples={
            "sum": Example("The sum of a property, for two models", body=METER, answer=meter_answer()),
            "peaks": Example("The largest prompt of each hour and model", body=PEAKS, answer=meter_answer(PEAKS)),
            "expression": Example("Arithmetic over properties, by model", body=WEIGHTED, answer=meter_answer(WEIGHTED)),
        },
        faults={
            400: {
                "nothing_to_sum": wrong(
                    "A sum of nothing",
                    "Please specify a field or expression for this aggregation type",
                    {"aggregation.field": "is required"},
                    body={**METER, "aggregation": {"type": "SUM"}},
                ),
            }
        },
    ),
    Operation(
        method="GET",
        path="/meters",
        id="listMeters",
        tag=TAG,
        summary="List meters",
        description="Newest first unless told otherwise.",
        answer="MeterListResponse",
        parameters=(
            *(
                Parameter(name, SHAPES.get(name, TEXT), filter.extra["help_text"])
                for name, filter in MeterFilter.base_filters.items()
            ),
            Parameter("limit", {**INTEGER, "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "Meters of one page."),
            Parameter("offset", {**INTEGER, "minimum": 0, "default": 0}, "How many meters to pass over."),
            Parameter("sort", {**ref("MeterSort"), "default": SORTS[0]}),
            Parameter("order", {**ref("SortOrder"), "default": DEFAULT_ORDER}),
        ),
        examples={
            "of_a_name": Example(
                "Published meters of an event name",
                parameters={"event_name": "llm_request", "status": "published"},
                answer={"items": [meter_answer()], "pagination": {"total": 1, "limit": 50, "offset": 50}},
            ),
        },
        faults={
            400: {
                "bad_limit": malformed(
                    "A limit that is too large", "limit", f"must be an integer from 1 to {MAX_LIMIT}", limit="5000"
                ),
            }
        },
    ),
    Operation(
        method="GET",
        path="/meters/{meter_id}",
        id="getMeter",
        tag=TAG,
        summary="Show a meter",
        description="An archived meter is shown too.",
        answer="MeterResponse",
        parameters=(ID,),
        examples={"meter": Example("A meter", parameters=THE_METER, answer=meter_answer())},
        faults={400: UNUSABLE_ID, 404: UNKNOWN},
    ),
    Operation(
        method="PUT",
        path="/meters/{meter_id}",
        id="updateMeter",
        tag=TAG,
        summary="Add filters to a meter",
        description="Keys and values are added to those there are; nothing is ever removed. The meter's history is counted anew.",
        body="UpdateMeterRequest",
        answer="MeterResponse",
        parameters=(ID,),
        examples={
            "one_more_filter": Example(
                "One more condition, and one more value",
                parameters=THE_METER,
                body={"filters": [{"key": "region", "values": ["eu"]}, {"key": "model", "values": ["chat-2"]}]},
                answer=meter_answer(
                    filters=[
                        {"key": "model", "values": ["chat-1", "coder-1", "chat-2"]},
                        {"key": "region", "values": ["eu"]},
                    ]
                ),
            ),
        },
        faults={
            400: {
                "no_filters": wrong(
                    "No filters",
                    "At least one filter must be provided",
                    {"filters": "must not be empty"},
                    body={"filters": []},
                    **THE_METER,
                ),
            },
            404: UNKNOWN,
        },
    ),
    Operation(
        method="DELETE",
        path="/meters/{meter_id}",
        id="deleteMeter",
        tag=TAG,
        summary="Archive a meter",
        description="It counts no new events; usage it has counted stays available. The same as disabling it.",
        answer="MessageResponse",
        parameters=(ID,),
        examples={"meter": Example("A meter", parameters=THE_METER, answer={"message": "Meter deleted successfully"})},
        faults={400: UNUSABLE_ID, 404: UNKNOWN},
    ),
    Operation(
        method="POST",
        path="/meters/{meter_id}/disable",
        id="disableMeter",
        tag=TAG,
        summary="Disable a meter",
        description="Archives it: it counts no new events; usage it has counted stays available.",
        answer="MessageResponse",
        parameters=(ID,),
        examples={"meter": Example("A meter", parameters=THE_METER, answer={"message": "Meter disabled successfully"})},
        faults={400: UNUSABLE_ID, 404: UNKNOWN},
    ),
)
