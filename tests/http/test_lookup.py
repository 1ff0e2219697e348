"""`GET /events/lookup?id=` and `GET /events/{id}`: any id, and what became of the event."""

from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest

from tests.http.client import Answer, Api, make_event

IDS = [
    "event123", "a/b c", "/a", "a/", "//", "a//b", "..", ".", "a/../b", "100%", "%2F", "%25", "a%20b", "é", "e\u0301", "😀",
    "a\nb", "a\n",
    "\n", "\t", " a", "a ", "+", "a+b", "?", "#", "&", "=", "id=x&id=y", ";", ":", "::", "a::b", "'", '"', "\\", "<script>",
    "\u2028",
    "\ufeff", "lookup\n", "monitoring\n", "x" * 255, "😀" * 255, "usage/meters", "bulk/x", "null", "0",
]  # fmt: skip
FIXED = [
    "bulk",
    "query",
    "usage",
    "usage/meter",
    "analytics",
    "monitoring",
    "huggingface-inference",
    "huggingface-billing",
    "lookup",
]
TRACKER = {
    "customer_lookup": {"customer", "error", "status"},
    "meter_matching": {"matched_meters", "error", "status"},
    "price_lookup": {"matched_prices", "error", "status"},
    "subscription_line_item_lookup": {"matched_line_items", "error", "status"},
}


def lookup(api: Api, **parameters: str) -> Answer:
    return api.get("/events/lookup?" + urlencode(parameters))


@pytest.mark.parametrize("event_id", IDS)
def test_an_event_is_found_by_any_id_in_path_and_query(api: Api, event_id: str):
    api.accept(make_event(event_id, properties={"here": event_id}), make_event("decoy"))
    for path in (
        f"/events/{quote(event_id, safe='')}",
        f"/events/lookup?id={quote_plus(event_id)}",
        f"/events/lookup/?id={quote(event_id)}",
    ):
        answer = api.get(path)
        assert answer.status == 200, path
        assert answer.body["event"]["id"] == event_id
        assert answer.body["event"]["properties"] == {"here": event_id}


@pytest.mark.parametrize("event_id", [event_id for event_id in IDS if not event_id.endswith("/")])
def test_a_trailing_slash_of_the_path_is_none_of_the_id(api: Api, event_id: str):
    api.accept(make_event(event_id))
    assert api.get(f"/events/{quote(event_id, safe='')}/").body["event"]["id"] == event_id


def test_an_id_that_ends_in_a_slash_comes_before_one_that_does_not(api: Api):
    api.accept(make_event("a"), make_event("a/"))
    assert api.get("/events/a").body["event"]["id"] == "a"
    assert api.get("/events/a/").body["event"]["id"] == api.get("/events/a%2F").body["event"]["id"] == "a/"


@pytest.mark.parametrize("event_id", FIXED)
def test_an_id_that_is_a_fixed_path_is_found_by_query_alone(api: Api, event_id: str):
    api.accept(make_event(event_id))
    assert lookup(api, id=event_id).body["event"]["id"] == event_id
    answer = api.get(f"/events/{event_id}")
    assert "event" not in answer.body


@pytest.mark.parametrize("near", ["Event123", "event123 ", " event123", "event12", "event1234", "event123%00", "EVENT123"])
def test_a_different_id_is_unknown(api: Api, near: str):
    api.accept(make_event("event123"))
    for path in (f"/events/{quote(near, safe='%')}", f"/events/lookup?id={quote(near, safe='%')}"):
        answer = api.get(path)
        if "%00" in near:
            assert (answer.status, "NUL" in answer.message) == (400, True)
        else:
            assert (answer.status, answer.body["code"]) == (404, "not_found")
            assert answer.message == "Event not found in events table"


@pytest.mark.parametrize("query", ["", "?id=", "?id", "?external_customer_id=acme", "?ID=x"])
def test_a_lookup_needs_an_id(api: Api, query: str):
    answer = api.get(f"/events/lookup{query}")
    assert (answer.status, answer.message) == (400, "Please provide a valid event ID")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"external_customer_id": "acme"}, 200),
        ({"external_customer_id": "Acme"}, 404),
        ({"external_customer_id": "globex"}, 404),
        ({"external_customer_id": ""}, 200),
        ({"start_time": "2025-06-02T09:10:00Z", "end_time": "2025-06-02T09:10:00Z"}, 200),
        ({"start_time": "2025-06-02T14:40:00+05:30"}, 200),
        ({"start_time": "2025-06-02T09:10:00.000001Z"}, 404),
        ({"end_time": "2025-06-02T09:09:59.999999Z"}, 404),
        ({"start_time": "", "end_time": ""}, 200),
        ({"start_time": "0001-01-01T00:00:00Z"}, 200),
        ({"start_time": "yesterday"}, 400),
        ({"end_time": "2025-06-02"}, 400),
        ({"external_customer_id": "\x00"}, 400),
    ],
)
def test_customer_and_times_narrow_a_lookup(api: Api, parameters: dict[str, str], status: int):
    api.accept(make_event("e1"))
    assert lookup(api, id="e1", **parameters).status == status
    assert api.get("/events/e1?" + urlencode(parameters)).status == status


# What became of it


@pytest.mark.usefixtures("unpriced")
def test_a_counted_event_is_processed_by_every_meter_that_counted_it(api: Api):
    size, calls = api.meter(), api.meter("COUNT")
    api.meter(filters=[{"key": "region", "values": ["us"]}])
    api.meter(event_name="other")
    api.accept(make_event("e1", customer_id="c1", properties={"size": "2.50", "region": "eu"}))
    body = lookup(api, id="e1").body
    assert (body["status"], body["debug_tracker"], body["events"]) == ("processed", None, [body["event"]])
    assert {entry["meter_id"]: entry["qty_total"] for entry in body["processed_events"]} == {size["id"]: "2.5", calls["id"]: "1"}
    for entry in body["processed_events"]:
        assert entry.keys() == {
            "customer_id", "subscription_id", "sub_line_item_id", "price_id", "meter_id", "feature_id", "qty_total",
            "processed_at",
        }  # fmt: skip
        assert (entry["customer_id"], entry["processed_at"]) == ("c1", body["event"]["ingested_at"])


@pytest.mark.usefixtures("unpriced")
@pytest.mark.parametrize("members", [{"event_name": "other"}, {"filters": [{"key": "region", "values": ["us"]}]}])
def test_an_event_that_no_meter_counted_has_failed_at_the_meters(api: Api, members: dict[str, Any]):
    api.meter(**members)
    api.accept(make_event("e1"))
    body = lookup(api, id="e1").body
    assert (body["status"], body["processed_events"]) == ("failed", [])
    tracker = body["debug_tracker"]
    assert {step: set(tracker[step]) for step in TRACKER} == TRACKER
    assert tracker["meter_matching"]["status"] == "not_found"
    assert tracker["price_lookup"]["status"] == tracker["subscription_line_item_lookup"]["status"] == "unprocessed"
    point = tracker["failure_point"]
    assert point["failure_point_type"] == "meter_lookup"
    assert point["error"]["message"] == point["error"]["error"]["message"] == "No meters found matching event_name: api_request"
    assert (point["error"]["code"], point["error"]["http_status_code"]) == ("not_found", 404)


@pytest.mark.usefixtures("unpriced")
def test_an_archived_meter_still_stands_for_what_it_counted(api: Api):
    meter = api.meter()
    api.accept(make_event("before"))
    api.delete(f"/meters/{meter['id']}")
    api.accept(make_event("after"))
    assert [lookup(api, id=event_id).body["status"] for event_id in ("before", "after")] == ["processed", "failed"]
