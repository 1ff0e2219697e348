"""`POST /events` and `POST /events/bulk`: what is taken, what is refused, and what is stored of it."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from flexmeter.models import Event, EventRevision

from tests.http.client import Api, instant, make_event

GENERATED_ID = re.compile(r"event_[0-9A-HJKMNP-TV-Z]{26}")


def test_an_event_is_answered_with_202_its_id_and_strings_only(api: Api):
    answer = api.post("/events", make_event("event123"))
    assert answer.status == 202
    assert answer.body == {"message": "Event accepted for processing", "event_id": "event123"}


def test_an_accepted_event_is_listed_with_every_member_as_sent(api: Api):
    properties = {"request_size": "100", "nested": {"list": [1, 2.5, None, True, "é"]}}
    api.post("/events", make_event("e1", source="api", customer_id="cust_1", properties=properties))
    [event] = api.query().body["events"]
    ingested_at = instant(event.pop("ingested_at"))
    assert abs(ingested_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert event == {
        "id": "e1",
        "external_customer_id": "acme",
        "customer_id": "cust_1",
        "event_name": "api_request",
        "timestamp": "2025-06-02T09:10:00Z",
        "properties": properties,
        "source": "api",
        "environment_id": "main",
    }


def test_members_that_were_not_sent_have_their_defaults(api: Api):
    before = datetime.now(UTC)
    sent = {"event_name": "api_request", "external_customer_id": "acme"}
    event_id = api.post("/events", sent).body["event_id"]
    after = datetime.now(UTC)
    [event] = api.query().body["events"]
    assert GENERATED_ID.fullmatch(event_id)
    assert event["id"] == event_id
    assert before <= instant(event["timestamp"]) <= after
    assert (event["customer_id"], event["source"], event["properties"]) == ("", "", None)


@pytest.mark.parametrize("member", ["event_id", "customer_id", "source", "properties", "timestamp"])
def test_null_is_the_same_as_leaving_a_member_out(api: Api, member: str):
    assert api.post("/events", make_event("e1") | {member: None}).status == 202
    [event] = api.query().body["events"]
    assert event[{"event_id": "id"}.get(member, member)] not in ("None", "null")


def test_an_empty_event_id_counts_as_none_given(api: Api):
    first, second = (api.post("/events", make_event("")).body["event_id"] for _ in range(2))
    assert GENERATED_ID.fullmatch(first)
    assert first < second


def test_generated_ids_ascend_in_the_order_of_a_batch(api: Api):
    api.accept(*(make_event(source=str(position)) for position in range(50)))
    events = sorted(api.query().body["events"], key=lambda event: event["id"])
    assert [event["source"] for event in events] == [str(position) for position in range(50)]


def test_an_event_name_is_trimmed_and_nothing_else_is(api: Api):
    api.accept(
        make_event(" id ", event_name="\t api_request\n", external_customer_id=" acme ", source=" api ", customer_id=" c ")
    )
    [event] = api.query().body["events"]
    assert event["event_name"] == "api_request"
    assert [event[key] for key in ("id", "external_customer_id", "source", "customer_id")] == [" id ", " acme ", " api ", " c "]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2024-03-20T15:04:05Z", "2024-03-20T15:04:05Z"),
        ("2024-03-20T15:04:05.123456789+05:30", "2024-03-20T09:34:05.123456Z"),
        ("2024-03-20T15:04:05.100Z", "2024-03-20T15:04:05.1Z"),
        ("2024-03-20T15:04:05.0000001Z", "2024-03-20T15:04:05Z"),
        ("2024-03-20T23:59:59-00:01", "2024-03-21T00:00:59Z"),
        ("1000-01-01T00:00:00Z", "1000-01-01T00:00:00Z"),
        ("9999-12-30T23:59:59.999999Z", "9999-12-30T23:59:59.999999Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
    ],
)
def test_a_timestamp_is_kept_in_utc(api: Api, sent: str, stored: str):
    assert api.post("/events", make_event("e1", timestamp=sent)).status == 202
    assert api.query().body["events"][0]["timestamp"] == stored


def test_the_zero_time_counts_as_not_given(api: Api):
    before = datetime.now(UTC)
    assert api.post("/events", make_event("e1", timestamp="0001-01-01T00:00:00Z")).status == 202
    assert instant(api.query().body["events"][0]["timestamp"]) >= before


@pytest.mark.parametrize(
    "timestamp",
    [
        "2024-03-20t15:04:05Z", "2024-03-20T15:04:05z", "2024-03-20 15:04:05Z", "2024-03-20T15:04:05", "2024-03-20", "",
        "2024-03-20T15:04Z", "2024-03-20T15:04:05.Z", "2024-03-20T15:04:05.1234567890Z", "2024-03-20T15:04:05,5Z",
        "2024-03-20T15:04:05+0530", "2024-03-20T15:04:05+05", "2024-03-20T15:04:05+24:00", "2024-03-20T15:04:05+05:60",
        "2024-02-30T00:00:00Z", "2024-13-01T00:00:00Z", "2024-03-20T24:00:00Z", "2024-03-20T15:60:00Z",
        "2024-03-20T15:04:60Z", "20240320T150405Z", "+2024-03-20T15:04:05Z", "12024-03-20T15:04:05Z", "1710947045",
        "now", " 2024-03-20T15:04:05Z", "2024-03-20T15:04:05Z\n", "٢٠٢٤-03-20T15:04:05Z", 1710947045, 1.5, True, [], {},
        "0999-12-31T23:59:59Z", "9999-12-31T00:00:00Z", "1000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_any_other_timestamp_is_a_400_that_names_it(api: Api, timestamp: object):
    answer = api.post("/events", make_event("e1", timestamp=timestamp))
    assert answer.status == 400
    assert answer.message.startswith("Invalid request payload: timestamp ")
    assert "timestamp" in answer.details
    assert api.ids() == []


@pytest.mark.parametrize("member", ["event_name", "external_customer_id"])
@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u2003", None, 7, True, [], {}, ["x"], "x" * 256, "a\x00b", "a\ud800"])
def test_a_required_member_must_be_text_that_says_something(api: Api, member: str, value: object):
    answer = api.post("/events", make_event("e1") | {member: value})
    assert (answer.status, answer.body["code"]) == (400, "validation_error")
    assert member in answer.message
    assert member in answer.details
    assert api.ids() == []


@pytest.mark.parametrize("member", ["event_name", "external_customer_id"])
def test_a_required_member_must_be_there(api: Api, member: str):
    event = make_event("e1")
    del event[member]
    answer = api.post("/events", event)
    assert answer.status == 400
    assert member in answer.message


@pytest.mark.parametrize("member", ["event_id", "source", "customer_id"])
@pytest.mark.parametrize("value", [7, 1.5, True, [], {}, "x" * 256, "a\x00b", "\udfff"])
def test_an_optional_text_must_be_storable_text(api: Api, member: str, value: object):
    answer = api.post("/events", make_event("e1") | {member: value})
    assert answer.status == 400
    assert member in answer.message
    assert api.ids() == []


@pytest.mark.parametrize("filler", ["x", "é", "😀", "\u0301"])
def test_identifiers_of_255_characters_are_kept_whole(api: Api, filler: str):
    long = filler * 255
    api.accept(make_event(long, event_name=long, external_customer_id=long, source=long, customer_id=long))
    [event] = api.query(event_id=long, event_name=long, external_customer_id=long, source=long).body["events"]
    assert {event[key] for key in ("id", "event_name", "external_customer_id", "source", "customer_id")} == {long}
    assert api.usage(event_name=long, external_customer_id=long, customer_id=long).body["value"] == 1


@pytest.mark.parametrize("value", [7, "text", True, [], [{}]])
def test_properties_must_be_an_object(api: Api, value: object):
    answer = api.post("/events", make_event("e1", properties=value))
    assert answer.status == 400
    assert "properties must be an object" in answer.message


def test_64_kib_of_properties_are_taken_and_given_back(api: Api):
    properties = {f"key{position}": "v" * 1000 for position in range(66)}
    api.accept(make_event("e1", properties=properties))
    assert api.query().body["events"][0]["properties"] == properties


def test_properties_above_the_limit_are_a_400(api: Api, settings):
    settings.FLEXMETER_MAX_PROPERTIES_BYTES = 65_536
    answer = api.post("/events", make_event("e1", properties={"a": "é" * 40_000}))
    assert answer.status == 400
    assert "properties must not be larger than 65536 bytes" in answer.message
    assert api.ids() == []


EXACT_PROPERTIES = [
    "{}",
    '{"b": 1, "a": 2}',
    '{"": "", " ": " "}',
    '{"n": 9007199254740993, "m": -170141183460469231731687303715884105729}',
    '{"n": 0.1, "m": 1e300, "k": 123456789012345678.123456789, "l": 1.7976931348623157e308}',
    '{"tiny": 5e-324, "tinier": 1e-400}',
    '{"deep": ' + "[" * 32 + "{}" + "]" * 32 + "}",
    '{"$.a": 1, "a.b": 2, "a__gt": 3, "%s": 4, "\'; DROP TABLE flexmeter_event; --": 5, "\\\\": 6, "\\"": 7, "{0}": 8}',
    '{"text": "\\u2028 \\ud83d\\ude00 \\t\\n\\r\\f\\b \\u001f </script> \\u00e9 e\\u0301 \\ufffe \\uffff"}',
    '{"null": null, "true": true, "false": false, "list": [null, [], {}, [[]]]}',
]


@pytest.mark.parametrize("text", EXACT_PROPERTIES)
def test_properties_come_back_exactly_as_they_were_sent(api: Api, text: str):
    sent = f'{{"event_name": "api_request", "external_customer_id": "acme", "event_id": "e1", "properties": {text}}}'
    assert api.post("/events", sent).status == 202
    response = api.client.get("/v1/events/e1", headers=api.headers)
    exact = {"parse_float": str, "parse_int": str, "object_pairs_hook": list}
    event = dict(dict(json.loads(response.content, **exact))["event"])
    assert event["properties"] == json.loads(text, **exact | {"parse_float": lambda number: canonical(number)})


def canonical(number: str) -> str:
    """1e300 may come back as 1e+300, never as another number."""
    return {"1e300": "1e+300", "1.7976931348623157e308": "1.7976931348623157e+308", "1e-400": "1E-400"}.get(number, number)


def test_unknown_members_are_ignored_and_assigned_to_nothing(api: Api):
    hostile = {
        "id": 7, "pk": 7, "environment": "elsewhere", "environment_id": "elsewhere", "tenant_id": "t", "accepted_at": "x",
        "ingested_at": "2000-01-01T00:00:00Z", "status": "failed", "repeated_at": None, "unknown": {"a": [1]},
    }  # fmt: skip
    assert api.post("/events", make_event("e1") | hostile).status == 202
    [event] = api.query().body["events"]
    assert event["environment_id"] == "main"
    assert event["ingested_at"] > "2020"
    assert Event.objects.get().environment == "main"


# Repeats


def test_an_event_sent_twice_counts_once(api: Api):
    answers = [api.post("/events", make_event("e1", properties={"size": 5})) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].body == answers[1].body
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == 5
    assert api.query().body["total_count"] == 1


def test_a_repeat_with_other_content_replaces_every_member(api: Api):
    api.meter()
    api.accept(make_event("e1", properties={"size": 5}, source="a"))
    changed = {
        "event_name": "api_request", "external_customer_id": "globex", "timestamp": "2024-01-01T00:00:00Z",
        "properties": {"size": 7}, "source": "b", "customer_id": "c",
    }  # fmt: skip
    assert api.post("/events", changed | {"event_id": "e1"}).status == 202
    [event] = api.query().body["events"]
    assert {key: event[key] for key in changed} == changed
    assert api.usage(aggregation_type="SUM", property_name="size", external_customer_id="acme").body["value"] == 0
    assert api.usage(aggregation_type="SUM", property_name="size", external_customer_id="globex").body["value"] == 7
    assert EventRevision.objects.count() == 1


def test_within_a_batch_the_last_element_of_an_id_stands(api: Api):
    api.accept(*(make_event("e1", properties={"size": size}) for size in (1, 9, 4)))
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == 4
    assert api.usage().body["value"] == 1


def test_a_repeat_under_another_name_counts_there_only(api: Api):
    api.accept(make_event("e1"), make_event("e1", event_name="other"))
    assert api.usage().body["value"] == 0
    assert api.usage(event_name="other").body["value"] == 1


@pytest.mark.parametrize("one", ["id", "id ", " id", "ID", "ïd", "i\u0308d", "ｉｄ", "id\u200b", "id\n", "İd"])
def test_ids_are_compared_byte_for_byte(api: Api, one: str):
    others = {"id", "id ", " id", "ID", "ïd", "i\u0308d", "ｉｄ", "id\u200b", "id\n", "İd"} - {one}
    api.accept(make_event(one), *(make_event(other) for other in others))
    assert api.query().body["total_count"] == len(others) + 1
    assert api.ids(event_id=one) == [one]


# Batches


def test_a_batch_is_answered_with_202_and_one_sentence(api: Api):
    answer = api.post("/events/bulk", {"events": [make_event("a"), make_event("b")]})
    assert (answer.status, answer.body) == (202, {"message": "Events accepted for processing"})
    assert api.ids() == ["b", "a"]


def test_a_thousand_events_are_taken(api: Api):
    api.accept(*(make_event(f"e{position}", properties={"size": position}) for position in range(1000)))
    assert api.usage().body["value"] == 1000
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == 499_500


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "events is required"),
        ({"events": None}, "events is required"),
        ({"events": []}, "events must hold at least one event"),
        ({"events": {}}, "events must be a list"),
        ({"events": "x"}, "events must be a list"),
        ({"events": 5}, "events must be a list"),
        ({"events": [make_event()] * 1001}, "events must not hold more than 1000 events"),
    ],
)
def test_a_batch_needs_1_to_1000_events(api: Api, body: object, reason: str):
    answer = api.post("/events/bulk", body)
    assert answer.status == 400
    assert reason in answer.message
    assert "events" in answer.details
    assert api.ids() == []


@pytest.mark.parametrize(
    ("element", "where"),
    [
        (None, "events[2]"),
        (7, "events[2]"),
        ("x", "events[2]"),
        ([], "events[2]"),
        ({}, "events[2].event_name"),
        ({"event_name": "x"}, "events[2].external_customer_id"),
        (make_event("e", event_name=""), "events[2].event_name"),
        (make_event("e", external_customer_id=3), "events[2].external_customer_id"),
        (make_event("e", timestamp="yesterday"), "events[2].timestamp"),
        (make_event("e", properties=[]), "events[2].properties"),
        (make_event("e", properties={"a": ["\x00"]}), "events[2].properties.a[0]"),
        (make_event("x" * 256), "events[2].event_id"),
    ],
)
def test_one_bad_element_refuses_the_batch_and_is_named_by_its_position(api: Api, element: object, where: str):
    answer = api.post("/events/bulk", {"events": [make_event("a"), make_event("b"), element, make_event("c")]})
    assert answer.status == 400
    assert answer.message.startswith(f"Invalid request payload: {where} ")
    assert list(answer.details) == [where]
    assert api.ids() == []


def test_a_refused_batch_changes_nothing_that_was_there(api: Api):
    api.meter()
    api.accept(make_event("a", properties={"size": 1}))
    answer = api.post("/events/bulk", {"events": [make_event("a", properties={"size": 100}), {"event_name": ""}]})
    assert answer.status == 400
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == 1
    api.accept(make_event("b", properties={"size": 2}))
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == 3
