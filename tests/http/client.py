"""The API as one caller sees it; every answer is held against what all answers must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from django.test import Client

PREFIX = "/v1"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def message(self) -> str:
        return self.body["message"]

    @property
    def details(self) -> dict[str, Any]:
        return self.body.get("details", {})


class Api:
    """Calls with one key (or none). A body that is not text is sent as JSON."""

    def __init__(self, secret: str | None) -> None:
        self.headers = {} if secret is None else {"x-api-key": secret}
        # Views answer for their own errors: whatever gets past them fails the test.
        self.client = Client()

    def call(self, method: str, path: str, body: Any = b"", *, content_type: str = "application/json", **headers: str) -> Answer:
        """`path` is as it stands on the wire: escaped, with its query string."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.generic(method, PREFIX + path, body, content_type=content_type, headers=self.headers | named)
        return checked(Answer(response.status_code, read(response.content), response.headers), method)

    def post(self, path: str, body: Any = b"", **options: Any) -> Answer:
        return self.call("POST", path, body, **options)

    def get(self, path: str, **options: Any) -> Answer:
        return self.call("GET", path, **options)

    def put(self, path: str, body: Any, **options: Any) -> Answer:
        return self.call("PUT", path, body, **options)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def accept(self, *events: dict[str, Any]) -> None:
        """Send events in one batch, which must be taken."""
        answer = self.post("/events/bulk", {"events": events})
        assert answer.status == 202, answer

    def ids(self, **query: Any) -> list[str]:
        """Ids of the events that a query over all time lists, in its order."""
        return [event["id"] for event in self.query(**query).body["events"]]

    def query(self, **query: Any) -> Answer:
        answer = self.post("/events/query", EVER | {"page_size": 1000} | query)
        assert answer.status == 200, answer
        return answer

    def usage(self, **query: Any) -> Answer:
        """Usage of the default event name over all time, COUNT unless told otherwise."""
        defaults = {"event_name": "api_request", "aggregation_type": "COUNT"}
        answer = self.post("/events/usage", defaults | EVER | query)
        assert answer.status == 200, answer
        return answer

    def meter(self, type: str = "SUM", **members: Any) -> dict[str, Any]:
        answer = self.post("/meters", make_meter(type, **members))
        assert answer.status == 201, answer
        return answer.body


EVER = {"start_time": "1000-01-01T00:00:00Z", "end_time": "9999-12-31T00:00:00Z"}


def make_event(event_id: str | None = None, **changed: Any) -> dict[str, Any]:
    event = {"event_name": "api_request", "external_customer_id": "acme", "timestamp": "2025-06-02T09:10:00Z"}
    return event | ({} if event_id is None else {"event_id": event_id}) | changed


def make_meter(type: str = "SUM", **changed: Any) -> dict[str, Any]:
    """The body of `POST /meters`; members of `aggregation` can be given beside the others."""
    inner = {key: changed.pop(key) for key in AGGREGATION_MEMBERS & changed.keys()}
    field = {} if type == "COUNT" or "expression" in inner else {"field": "size"}
    aggregation = {"type": type} | field | inner
    return {"name": "Size", "event_name": "api_request", "aggregation": aggregation, "reset_usage": "BILLING_PERIOD"} | changed


AGGREGATION_MEMBERS = {"field", "expression", "multiplier", "bucket_size", "group_by"}


def points(answer: Answer) -> dict[str, Any]:
    """Value by start of the window."""
    return {point["window_size"]: point["value"] for point in answer.body["results"]}


def read(content: bytes) -> Any:
    return json.loads(content.decode("utf-8"), parse_constant=refuse_constant) if content else None


def refuse_constant(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


def checked(answer: Answer, method: str) -> Answer:
    if answer.body is not None:
        assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert answer.headers["X-Request-ID"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    if answer.status >= 400 and method != "HEAD":
        assert_envelope(answer)
    return answer


def assert_envelope(answer: Answer) -> None:
    body = answer.body
    assert set(body) - {"details"} == {"code", "message", "http_status_code", "success", "error"}, body
    assert body["success"] is False
    assert body["http_status_code"] == answer.status
    assert body["code"]
    assert isinstance(body["message"], str)
    assert body["message"]
    assert body["error"]["message"] == body["message"]
    assert isinstance(body["error"]["internal_error"], str)
    assert body["error"].get("details") == body.get("details")
    assert body.get("details") != {}
    assert all(word not in str(body) for word in ("Traceback", "SELECT", "site-packages", ".py"))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
