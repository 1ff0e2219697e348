"""Over a thousand bad requests: each is refused by name, stores nothing, and leaves the next good event counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.aggregation import AggregationType
from flexmeter.models import Event, Meter
from flexmeter.windows import WindowSize

from tests.examples import examples
from tests.http.client import EVER, Answer, Api, make_event, make_meter

BROKEN_TEXTS = ["a\x00b", "\x00", "\ud800", "x\udfffy", "\ud83d", "\udc00\ud800"]
BIG = 10**400
DEEP: Any = json.loads('{"a":' * 101 + "1" + "}" * 101)

WRONG: dict[str, list[Any]] = {
    "identifier": [5, 1.5, True, [], {}, ["x"], "x" * 256, "😀" * 256, *BROKEN_TEXTS],
    "required": [None, "", " ", "\n\u2003", 5, False, [], {}, "x" * 256, *BROKEN_TEXTS],
    "text": [5, 1.5, True, [], {}, "x" * 5000, BIG, *BROKEN_TEXTS],
    "required text": [None, "", 5, 1.5, True, [], {}, "x" * 5000, *BROKEN_TEXTS],
    "time": [
        "", "now", 5, 1.5, True, [], {}, "2024-03-20", "2024-03-20T15:04:05", "2024-03-20 15:04:05Z", "2024-02-30T00:00:00Z",
        "2024-03-20T15:04:05+99:00", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59", "2024-03-20T15:04:05Z; --", "-0001-01-01T00:00:00Z", BIG, "9" * 5000, *BROKEN_TEXTS,
    ],
    "anchor": ["", "now", 5, True, [], {}, "2024-03-20", "2024-13-01T00:00:00Z", "9999-12-31T23:59:59-23:59", *BROKEN_TEXTS],
    "window": ["FORTNIGHT", "day", "DAY ", "%s", "'; --", 5, True, [], {}, "x" * 5000, *BROKEN_TEXTS],
    "integer": ["1", "x", 1.5, 1e-3, True, [], {}, 2**63, -(2**63), BIG, 1e300, *BROKEN_TEXTS],
    "choice": ["", "bogus", "DESC; --", "timestamp,id", "__class__", 5, True, [], {}, *BROKEN_TEXTS],
    "texts": ["x", 5, True, {}, [5], [None], [[]], [{}], ["x", True], *([text] for text in BROKEN_TEXTS), ["x" * 70_000]],
    "group": ["x", 5, {}, [5], ["bogus"], ["properties."], ["properties.a b"], ["properties.%s"],
    *([text] for text in BROKEN_TEXTS)],
    "filters": [
        "x", 5, True, [], [["a", "b"]], {"a": "b"}, {"a": 5}, {"a": [5]}, {"a": [None]}, {"a": {}}, {"a": [["b"]]},
        {"a": ["x"] * 1001},
        {str(number): ["x"] for number in range(1001)}, {"x" * 70_000: ["a"]}, {"a": ["x" * 70_000]},
        *({text: ["x"]} for text in BROKEN_TEXTS), *({"a": ["b", text]} for text in BROKEN_TEXTS),
    ],
    "boolean": ["true", 1, 0, "", [], {}, 1.0],
    "aggregation": ["MEDIAN", "", None, 5, True, [], {}, "SUM'", "count(*)", "x" * 5000, *BROKEN_TEXTS],
    "multiplier": ["x", "NaN", "-Infinity", True, [], {}, 0, -1, "0", "1e400", "1e300", 1e-300, BIG, *BROKEN_TEXTS],
    "properties": [
        "x", 5, True, [], [{}], DEEP, {"a": BIG}, {"a": [-BIG]}, {"a": {"b": [{"c": 10**4000}]}}, {"a": [[DEEP]]},
        *({text: 1} for text in BROKEN_TEXTS), *({"a": text} for text in BROKEN_TEXTS),
        *({"a": [{"b": {"c": ["x", text]}}]} for text in BROKEN_TEXTS), *({"a": [{"b": {text: 1}}]} for text in BROKEN_TEXTS),
        *({"filler" * 50: [text]} for text in BROKEN_TEXTS), {"x": "x" * 1_100_000},
    ],
    "definition": [
        None, "SUM", 5, [], {}, {"type": "MEDIAN"}, {"type": 5}, {"type": None}, {"type": "SUM"}, {"type": "SUM", "field": 5},
        {"type": "SUM", "field": []}, {"type": "SUM", "field": "x" * 256}, {"type": "MAX", "field": "a", "bucket_size": "x"},
        {"type": "MAX", "field": "a", "bucket_size": []}, {"type": "MAX", "field": "a", "group_by": 5},
        {"type": "MAX", "field": "a", "bucket_size": "DAY", "group_by": "x" * 256},
        {"type": "SUM_WITH_MULTIPLIER", "field": "a"}, {"type": "SUM_WITH_MULTIPLIER", "field": "a", "multiplier": "x"},
        {"type": "SUM_WITH_MULTIPLIER", "field": "a", "multiplier": BIG}, {"type": "SUM", "expression": "a +"},
        {"type": "SUM", "expression": 5}, {"type": "SUM", "expression": "a" * 100_000}, {"type": "SUM",
        "expression": "(" * 5000 + "a"},
        {"type": "SUM", "expression": "-" * 5000 + "a"}, {"type": "SUM", "expression": "a" + "+a" * 5000},
        {"type": "SUM", "expression": "a" + "?a:a" * 500}, {"type": "SUM", "expression": "__import__('os').system('true')"},
        *({"type": "SUM", "field": text} for text in BROKEN_TEXTS), *({"type": text} for text in BROKEN_TEXTS),
        *({"type": "SUM", "expression": text} for text in BROKEN_TEXTS),
        *({"type": "MAX", "field": "a", "bucket_size": "DAY", "group_by": text} for text in BROKEN_TEXTS),
    ],
    "meter filters": [
        "x", 5, {}, ["x"], [5], [[]], [{}], [{"key": 5, "values": ["x"]}], [{"key": "a"}], [{"key": "a", "values": []}],
        [{"key": "a", "values": "x"}], [{"key": "a", "values": [5]}], [{"key": "", "values": ["x"]}],
        [{"key": "a", "values": ["x" * 70_000]}], [{"key": "x" * 5000, "values": ["a"]}],
        [{"key": "a", "values": [str(number) for number in range(1001)]}],
        *([{"key": text, "values": ["x"]}] for text in BROKEN_TEXTS), *([{"key": "a",
        "values": [text]}] for text in BROKEN_TEXTS),
    ],
    "reset": [None, "", "RECURRING", "never", 5, True, [], {}, *BROKEN_TEXTS],
}  # fmt: skip
OPTIONAL = {"identifier", "text", "time", "anchor", "window", "integer", "choice", "texts", "group", "filters", "boolean"}

RANGE = {"start_time": "time", "end_time": "time"}
EVENT = {
    "event_name": "required", "external_customer_id": "required", "event_id": "identifier", "customer_id": "identifier",
    "source": "identifier", "timestamp": "time", "properties": "properties",
}  # fmt: skip
SCOPE = {"external_customer_id": "text", "customer_id": "text", "filters": "filters"}
CALENDAR = {"window_size": "window", "billing_anchor": "anchor", "timezone": "text"}

MEMBERS: dict[str, dict[str, str]] = {
    "/events": EVENT,
    "/events/bulk": EVENT,
    "/events/query": RANGE
    | {
        "external_customer_id": "text", "event_name": "text", "event_id": "text", "source": "text", "property_filters": "filters",
        "page_size": "integer", "offset": "integer", "iter_first_key": "text", "iter_last_key": "text", "sort": "choice",
        "order": "choice",
    },
    "/events/usage": RANGE
    | SCOPE
    | CALENDAR
    | {
        "event_name": "required text", "aggregation_type": "aggregation", "property_name": "text", "bucket_size": "window",
        "multiplier": "multiplier", "group_by": "texts", "group_by_property": "text",
    },
    "/events/usage/meter": RANGE | SCOPE | CALENDAR | {"meter_id": "required text", "bucket_size": "text"},
    "/events/analytics": RANGE
    | {
        "external_customer_id": "text", "feature_ids": "texts", "sources": "texts", "group_by": "group", "window_size": "window",
        "expand": "texts", "property_filters": "filters", "include_children": "boolean", "breakdown_bucket": "boolean",
    },
    "/events/huggingface-inference": {"requestIds": "texts"},
    "/meters": {
        "name": "required", "event_name": "required", "aggregation": "definition", "filters": "meter filters",
        "reset_usage": "reset",
    },
    "/meters/{meter}": {"filters": "meter filters"},
}  # fmt: skip
QUERY_TEXTS = ["\x00", "a\x00", "x" * 5000]
PARAMETERS: dict[str, dict[str, list[str]]] = {
    "/events": {
        "start_time": ["x", "\x00", "2024-03-20", "9" * 3000, "2024-03-20T15:04:05 00:00"],
        "end_time": ["x", "\x00", "2024-03-20", "9999-12-31T23:59:59-23:59"],
        "external_customer_id": QUERY_TEXTS, "event_name": QUERY_TEXTS, "event_id": QUERY_TEXTS, "source": QUERY_TEXTS,
        "page_size": ["x", "1.5", "1e3", "0x1", "٣", "9" * 400, "\x00"], "offset": ["x", "1.5", "--1", "9" * 400],
        "sort": ["bogus", "Timestamp", "\x00"], "order": ["bogus", "DESC"], "iter_first_key": ["x", "\x00", "x::y", "::"],
        "iter_last_key": ["x", "1:2", "9" * 30 + "::"], "property_filters": ["x", ":", ";;:x", "a:\x00", "\x00:a"],
    },
    "/events/monitoring": {
        "window_size": ["bogus", "day", "\x00", "x" * 3000], "start_time": ["x", "2024-03-20T00:00:00Z"],
        "end_time": ["x", "2024-03-20T00:00:00Z", "\x00"],
    },
    "/events/lookup": {
        "id": ["", *QUERY_TEXTS[:2]], "start_time": ["x", "\x00"], "end_time": ["x", "now"], "external_customer_id": QUERY_TEXTS,
    },
    "/meters": {
        "limit": ["0", "-1", "1001", "x", "1.0", "\x00", "9" * 400], "offset": ["-1", "x", "9" * 400], "status": ["bogus",
        "\x00"],
        "sort": ["bogus", "id", "\x00"], "order": ["bogus", "ASC"], "event_name": QUERY_TEXTS, "name": QUERY_TEXTS,
        "aggregation_type": QUERY_TEXTS,
    },
}  # fmt: skip


class Case(NamedTuple):
    path: str
    member: str
    wrong: Any


def cases() -> Iterator[Case]:
    for path, members in MEMBERS.items():
        for member, kind in members.items():
            for wrong in WRONG[kind]:
                yield Case(path, member, wrong)


@pytest.fixture
def meter(api: Api) -> str:
    return api.meter(name="Standing", field="size")["id"]


def body_of(case: Case, meter: str) -> dict[str, Any]:
    """A good body but for one member."""
    good: dict[str, dict[str, Any]] = {
        "/events": make_event("bad"),
        "/events/bulk": make_event("bad"),
        "/events/usage": EVER | {"event_name": "api_request", "aggregation_type": "SUM_WITH_MULTIPLIER", "property_name": "size"},
        "/events/usage/meter": EVER | {"meter_id": meter},
        "/meters": make_meter(),
    }
    body = good.get(case.path, {}) | {case.member: case.wrong}
    if case.path == "/events/bulk":
        return {"events": [make_event("good 0"), make_event("good 1"), body, make_event("good 3")]}
    return body


def refuse(api: Api, path: str, body: Any, named: str, method: str = "POST") -> None:
    events, meters = Event.objects.count(), Meter.objects.count()
    answer = api.call(method, path, body)
    shown = (path, str(body)[:200], answer.body)
    assert answer.status == 400 or (named == "meter_id" and answer.status == 404), shown
    assert names(answer, named), shown
    if path == "/events/bulk":
        assert "events[2]" in answer.message, shown
    assert len(str(answer.body)) < 5_000, shown
    assert (Event.objects.count(), Meter.objects.count()) == (events, meters), shown


def names(answer: Answer, member: str) -> bool:
    """Whether message or details say which member is wrong; "Invalid reset usage" does."""
    return member in answer.message.replace(" ", "_") or any(member in key for key in answer.details)


def count_one_more(api: Api) -> None:
    """The next good event counts, once."""
    before = api.usage(aggregation_type="SUM", property_name="size").body["value"]
    api.accept(make_event(properties={"size": 3}))
    assert api.usage(aggregation_type="SUM", property_name="size").body["value"] == before + 3


def test_there_are_over_a_thousand_cases():
    distinct = {(case.path, case.member, repr(case.wrong)) for case in cases()}
    parameters = sum(len(values) for members in PARAMETERS.values() for values in members.values())
    assert len(distinct) > 1000
    assert len(distinct) + parameters + len(UNREADABLE) * len(MEMBERS) > 1500


@pytest.mark.parametrize(("path", "member"), [(path, member) for path, members in MEMBERS.items() for member in members])
def test_a_member_of_a_wrong_kind_is_refused_by_name(api: Api, meter: str, path: str, member: str):
    method = "PUT" if path == "/meters/{meter}" else "POST"
    for wrong in WRONG[MEMBERS[path][member]]:
        body = body_of(Case(path, member, wrong), meter)
        refuse(api, path.replace("{meter}", meter), body, member, method)
    count_one_more(api)


@pytest.mark.parametrize(
    ("path", "member"), [(path, member) for path, members in MEMBERS.items() for member in members if members[member] in OPTIONAL]
)
def test_null_is_as_good_as_absent_for_an_optional_member(api: Api, meter: str, path: str, member: str):
    if path == "/events/huggingface-inference":
        return  # its one member is required
    answer = api.post(path, body_of(Case(path, member, None), meter))
    assert answer.status in (200, 201, 202)


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in PARAMETERS.items() for name in names])
def test_an_unusable_parameter_is_refused_by_name(api: Api, path: str, name: str):
    for value in PARAMETERS[path][name]:
        parameters = {"id": "x"} | {name: value} if path == "/events/lookup" else {name: value}
        answer = api.get(f"{path}?{urlencode(parameters)}")
        assert answer.status == 400, (value, answer.body)
        assert name in answer.message or name in answer.details or name in ("start_time", "end_time"), (value, answer.body)


UNREADABLE = [
    b"", b"\x00", b"{", b"{]", b"[{}]", b"null", b"true", b"1", b'""', b"{}x", b"{'a':1}", b'{"a":1,}', b'{"a":}', b'{"a" 1}',
    b"// {}",
    b"<xml/>", b"a=b&c=d", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a":"\xc3"}', b'{"a":"\xed\xa0\x80"}', b'{"\xff":1}',
    b'{"a":NaN}',
    b'{"a":-Infinity}', b'{"a":1e400}', b'{"a":[{"b":-1e999}]}', b'{"a":1e99999999999999999999}', b'{"a":' + b"1" * 5000 + b"}",
    b'{"a":-0.' + b"0" * 5000 + b"1}", b'{"a":1e-2000}', b"[" * 200_000,
    b'{"a":' * 200_000, b'{"a":' + b"[{" * 60_000, b'{"a":"' + b"x" * 100, b'{"a":"\x01"}', b'{"a":"\\ud8"}', b'{"a":"\\',
    b"\x1f\x8b\x08",
]  # fmt: skip


@pytest.mark.parametrize("path", MEMBERS)
def test_an_unreadable_body_is_refused(api: Api, meter: str, path: str):
    for body in UNREADABLE:
        if not body and "huggingface" in path:
            continue
        answer = api.call("PUT" if "{" in path else "POST", path.replace("{meter}", meter), body)
        assert answer.status == 400, (body[:50], answer.body)
        assert "the body" in answer.message
    assert Event.objects.count() == 0
    count_one_more(api)


BAD_PATHS = ["%00", "a%00b", "%00/", "x" * 70_000, quote("\x00" * 300)]


@pytest.mark.parametrize("path", [*(f"/events/{id}" for id in BAD_PATHS), *(f"/meters/{id}" for id in BAD_PATHS)])
def test_an_unstorable_id_in_a_path_is_refused(api: Api, path: str):
    answer = api.get(path)
    assert answer.status in (400, 404)
    assert len(str(answer.body)) < 5_000


@pytest.mark.parametrize(
    "path", ["/events/%FF", "/events/%ED%A0%80", "/events/%C3", "/meters/%FF", "/nope/%FF", "/events/%u0041", "/events/%"]
)
def test_a_path_that_is_not_utf_8_finds_nothing(api: Api, path: str):
    assert api.get(path).status == 404


# Anything at all

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        "1",
        "-5",
        "1e3",
        "1e400",
        "NaN",
        "\x00",
        "\ud800",
        "event_name",
        "properties",
        "DAY",
        "SUM",
        "2024-03-20T15:04:05Z",
        "%s",
        "$.a",
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**330), 10**330) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
ALL_MEMBERS = sorted({member for members in MEMBERS.values() for member in members} | {"events", "id", "environment"})
ANY_BODY = st.dictionaries(st.sampled_from(ALL_MEMBERS) | ANY_TEXT, ANY_JSON, max_size=6)


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def assert_stored_iff_accepted(api: Api, sent: str, status: int, events_before: int) -> None:
    """What was accepted comes back as it was sent; of what was refused there is nothing."""
    if status != 202:
        assert status == 400
        assert Event.objects.count() == events_before
        return
    properties = exactly(sent).get("properties")
    newest = Event.objects.latest("ingested_at", "id")
    response = api.client.get(f"/v1/events/{quote(newest.event_id, safe='')}", headers=api.headers)
    assert response.status_code == 200
    assert exactly(response.content.decode())["event"]["properties"] == properties


@examples(100)
@given(path=st.sampled_from([path for path in MEMBERS if path != "/meters/{meter}"]), body=ANY_BODY)
def test_any_json_gets_an_answer_below_500(api: Api, path: str, body: Any):
    assert api.post(path, json.dumps(body)).status < 500


@examples(50)
@given(path=st.sampled_from(list(MEMBERS)), body=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_bytes_get_an_answer_below_500(api: Api, path: str, body: bytes):
    assert api.post(path, body).status < 500


@examples(100)
@given(case=st.sampled_from([(path, member) for path, members in MEMBERS.items() for member in members]), wrong=ANY_JSON)
def test_any_value_of_any_member_gets_an_answer_below_500(api: Api, case: tuple[str, str], wrong: Any):
    path, member = case
    answer = api.call(
        "PUT" if "{" in path else "POST", path.replace("{meter}", "x"), json.dumps(body_of(Case(path, member, wrong), "x"))
    )
    assert answer.status < 500
    if answer.status == 400:
        assert names(answer, member) or "the body" in answer.message


@examples(100)
@given(
    changes=st.dictionaries(st.sampled_from(sorted(EVENT)), ANY_JSON, max_size=3),
    properties=st.dictionaries(ANY_TEXT, ANY_JSON, max_size=4),
)
def test_an_event_is_stored_exactly_or_not_at_all(api: Api, changes: dict[str, Any], properties: dict[str, Any]):
    before = Event.objects.count()
    sent = json.dumps({"event_name": "x", "external_customer_id": "c"} | {"properties": properties} | changes)
    assert_stored_iff_accepted(api, sent, api.post("/events", sent).status, before)


@examples(60)
@given(batch=st.lists(st.dictionaries(st.sampled_from(sorted(EVENT)), ANY_TEXT | ANY_JSON, max_size=2), min_size=1, max_size=4))
def test_a_batch_is_stored_whole_or_not_at_all(api: Api, batch: list[dict[str, Any]]):
    Event.objects.all().delete()
    elements = [make_event(f"e{position}") | changes for position, changes in enumerate(batch)]
    status = api.post("/events/bulk", json.dumps({"events": elements})).status
    assert status in (202, 400)
    stored = Event.objects.count()
    assert stored == 0 if status == 400 else 1 <= stored <= len(elements)


# What was accepted once breaks no later question

ABSURD: list[Any] = [
    1e308, -1e308, 1.7976931348623157e308, "1.7976931348623157e308", 5e-324, int(1.7976931348623157e308), -int(1.7e308),
    "9" * 300,
    "1e400", "-1e999999", "NaN", "Infinity", "", " ", "text", None, True, False, [], {}, [1, [2]], {"a": {"b": None}},
    "\u0663", "0x10",
    "1_000", "--1", "1e", "e1", ".", "+", "-", "%s", "'", "\\", "\u2028", "😀", "𝟝", 0.1, -0.0, 2**64, 10**300, "x" * 60_000,
]  # fmt: skip
TIMES = ["1000-01-01T00:00:00Z", "1582-10-10T00:00:00Z", "1883-11-18T12:03:58Z", "1969-12-31T23:59:59.999999Z",
"2025-03-09T02:30:00Z",
         "2025-06-02T09:10:00Z", "9999-12-30T23:59:59.999999Z"]  # fmt: skip
ZONES = [
    "",
    "Asia/Kathmandu",
    "America/New_York",
    "Africa/Monrovia",
    "Pacific/Apia",
    "../../etc/passwd",
    "'; --",
    "Europe/Lisbon\n",
]


@pytest.fixture
def absurd(api: Api) -> Api:
    for aggregation in AggregationType:
        members = {"multiplier": "1e100"} if aggregation is AggregationType.SUM_WITH_MULTIPLIER else {}
        api.meter(aggregation.value, **members)
    api.meter("MAX", bucket_size="MINUTE", group_by="size")
    api.meter("SUM", expression="size * size / (size - size)", name="never")
    api.meter("SUM", expression="pow(size, 3) + 1e300 * size", name="huge")
    events = [
        make_event(f"{index} {time}", timestamp=time, source=str(index % 3), properties={"size": value, "other": index})
        for index, value in enumerate(ABSURD)
        for time in TIMES[index % 3 :: 3]
    ]
    api.accept(*events)
    return api


def finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


@pytest.mark.parametrize("type", [type.value for type in AggregationType])
def test_absurd_values_break_no_figure(absurd: Api, type: str):
    for size in (None, *WindowSize):
        for zone in ZONES:
            if zone and size is not None and size not in (WindowSize.HOUR, WindowSize.DAY, WindowSize.MONTH):
                continue
            window = {} if size is None else {"window_size": size.value}
            body = absurd.usage(aggregation_type=type, property_name="size", timezone=zone, **window).body
            assert finite(body["value"])
            assert all(finite(point["value"]) for point in body["results"])
    bucketed = absurd.usage(aggregation_type=type, property_name="size", bucket_size="WEEK", group_by=["properties.size"]).body
    assert finite(bucketed["value"])


def test_absurd_values_break_no_meter_list_or_lookup(absurd: Api):
    for meter in absurd.get("/meters").body["items"]:
        for query in ({}, {"window_size": "MONTH", "billing_anchor": "2025-01-31T00:00:00Z"}, {"filters": {"size": ["text"]}}):
            answer = absurd.post("/events/usage/meter", EVER | {"meter_id": meter["id"]} | query)
            assert (answer.status, finite(answer.body["value"])) == (200, True)
    for query in ({}, {"window_size": "DAY"}, {"group_by": ["source", "properties.size"]}, {"expand": ["source", "meter"]}):
        answer = absurd.post("/events/analytics", EVER | query)
        assert answer.status == 200
        assert all(Decimal(item["total_usage"]).is_finite() for item in answer.body["items"])
    assert absurd.get("/events/monitoring?" + urlencode(EVER | {"window_size": "DAY"})).status == 200
    events = absurd.query().body["events"]
    assert len(events) == Event.objects.count()
    for event in events:
        answer = absurd.get(f"/events/{quote(event['id'], safe='')}")
        assert answer.status == 200
        assert answer.body["event"] == event


def test_absurd_values_can_be_filtered_by_what_they_look_like(absurd: Api):
    for value in ("", "true", "false", "[]", "{}", "[1,[2]]", "text", "0.1", str(2**64), "9" * 300, "x" * 60_000, "\\", "NaN"):
        assert absurd.query(property_filters={"size": [value]}).body["total_count"] > 0
        assert absurd.usage(filters={"size": [value]}).body["value"] > 0


@examples(40)
@given(data=st.data())
def test_whatever_is_accepted_can_be_asked_about(api: Api, data: st.DataObject):
    properties = data.draw(st.dictionaries(ANY_TEXT, ANY_JSON, min_size=1, max_size=3))
    event = {
        "event_name": "x",
        "external_customer_id": data.draw(ANY_TEXT),
        "source": data.draw(ANY_TEXT),
        "properties": properties,
    }
    if api.post("/events", json.dumps(event)).status != 202:
        return
    name = data.draw(st.sampled_from(sorted(properties)))
    type = data.draw(st.sampled_from(list(AggregationType))).value
    usage = {"event_name": "x", "aggregation_type": type, "property_name": name, "filters": {name: [""]}}
    bodies = [
        ("/events/usage", usage),
        ("/events/usage", usage | {"window_size": "DAY", "filters": {}, "external_customer_id": event["external_customer_id"]}),
        ("/events/usage", usage | {"bucket_size": "DAY", "group_by_property": name}),
        ("/events/query", {"property_filters": {name: ["x"]}, "source": event["source"]}),
        ("/events/analytics", {"external_customer_id": event["external_customer_id"], "sources": [event["source"]]}),
    ]
    for path, body in bodies:
        assert api.post(path, json.dumps(body)).status == 200
