"""Every operation of the API, as a call that succeeds where the event "e1" and a meter exist."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.http.client import EVER, Answer, Api, make_event, make_meter


class Operation(NamedTuple):
    name: str
    method: str
    path: str  # with {meter} for the id of a meter
    body: Any
    status: int
    scope: str

    def call(self, api: Api, meter: str = "meter_01", **options: Any) -> Answer:
        body = self.body
        if isinstance(body, dict) and "meter_id" in body:
            body = body | {"meter_id": meter}
        return api.call(self.method, self.path.replace("{meter}", meter), body, **options)


USAGE = EVER | {"event_name": "api_request", "aggregation_type": "COUNT"}
FILTERS = {"filters": [{"key": "region", "values": ["eu"]}]}

OPERATIONS = [
    Operation("ingest", "POST", "/events", make_event("new"), 202, "ingest"),
    Operation("bulk", "POST", "/events/bulk", {"events": [make_event("new")]}, 202, "ingest"),
    Operation("query", "POST", "/events/query", EVER, 200, "read"),
    Operation("list", "GET", "/events", b"", 200, "read"),
    Operation("usage", "POST", "/events/usage", USAGE, 200, "read"),
    Operation("usage by meter", "POST", "/events/usage/meter", EVER | {"meter_id": ""}, 200, "read"),
    Operation("analytics", "POST", "/events/analytics", EVER, 200, "read"),
    Operation("inference", "POST", "/events/huggingface-inference", {"requestIds": ["e1"]}, 200, "read"),
    Operation("inference alias", "POST", "/events/huggingface-billing", {"requestIds": ["e1"]}, 200, "read"),
    Operation("monitoring", "GET", "/events/monitoring", b"", 200, "read"),
    Operation("lookup", "GET", "/events/lookup?id=e1", b"", 200, "read"),
    Operation("event", "GET", "/events/e1", b"", 200, "read"),
    Operation("create meter", "POST", "/meters", make_meter(), 201, "admin"),
    Operation("list meters", "GET", "/meters", b"", 200, "read"),
    Operation("meter", "GET", "/meters/{meter}", b"", 200, "read"),
    Operation("change meter", "PUT", "/meters/{meter}", FILTERS, 200, "admin"),
    Operation("disable meter", "POST", "/meters/{meter}/disable", b"", 200, "admin"),
    Operation("delete meter", "DELETE", "/meters/{meter}", b"", 200, "admin"),
]
BODY_REQUIRED = [operation for operation in OPERATIONS if isinstance(operation.body, dict) and "inference" not in operation.name]
