"""What retention has removed: no smaller number, but an error that says from when on there are answers."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from flexmeter.models import Environment

from tests.http.client import EVER, Api, make_event

FLOOR = "2025-06-01T00:00:00Z"
KEPT = {"start_time": FLOOR, "end_time": "2025-07-01T00:00:00Z"}
USAGE = {"event_name": "api_request", "aggregation_type": "COUNT"}


@pytest.fixture
def pruned(api: Api) -> Api:
    """Everything before June is gone."""
    api.meter("COUNT")
    api.accept(make_event("kept"))
    Environment.objects.update_or_create(name="main", defaults={"pruned_before": datetime(2025, 6, 1, tzinfo=UTC)})
    return api


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("POST", "/events/query", {}),
        ("GET", "/events", {}),
        ("POST", "/events/usage", USAGE | {"filters": {"region": ["eu"]}}),
        ("POST", "/events/analytics", {"group_by": ["source"]}),
        ("GET", "/events/monitoring", {}),
    ],
)
def test_a_question_that_needs_removed_events_is_refused(pruned: Api, method: str, path: str, query: dict[str, Any]):
    for period, status in ((EVER, 400), (KEPT, 200)):
        answer = pruned.get(f"{path}?{urlencode(period)}") if method == "GET" else pruned.post(path, query | period)
        assert answer.status == status
        if status == 400:
            assert answer.body["code"] == "invalid_operation"
            assert answer.details == {"retained_from": FLOOR}
            assert FLOOR in answer.message


def test_an_event_from_before_is_refused_and_named(pruned: Api):
    old = make_event("old", timestamp="2025-05-31T23:59:59Z")
    answer = pruned.post("/events", old)
    assert answer.status == 400
    assert answer.message.startswith("Invalid request payload: timestamp lies before 2025-06-01T00:00:00Z")
    answer = pruned.post("/events/bulk", {"events": [make_event("new"), old]})
    assert answer.status == 400
    assert "events[1].timestamp" in answer.details
    assert pruned.ids(**KEPT) == ["kept"]


def test_another_environment_keeps_all(pruned: Api, stranger: Api):
    stranger.accept(make_event("old", timestamp="2025-05-31T23:59:59Z"))
    assert stranger.ids() == ["old"]
