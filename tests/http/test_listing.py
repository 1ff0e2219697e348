"""`POST /events/query` and `GET /events`: filters, order, and pages that hold each event exactly once."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.http.client import EVER, Answer, Api, make_event

LISTED = {"events", "has_more", "iter_first_key", "iter_last_key", "total_count", "offset"}
SAME_INSTANT = "2025-06-02T09:10:00.123456Z"


# Filters and ranges


def test_an_empty_query_lists_the_last_seven_days(api: Api):
    recent = api.post("/events", {"event_name": "x", "external_customer_id": "c"}).body["event_id"]
    api.accept(make_event("old"))
    answer = api.post("/events/query", {})
    assert answer.status == 200
    assert set(answer.body) == LISTED
    assert [event["id"] for event in answer.body["events"]] == [recent]


def test_nothing_found_is_an_empty_page(api: Api):
    assert api.query(external_customer_id="nobody").body == {
        "events": [], "has_more": False, "iter_first_key": None, "iter_last_key": None, "total_count": 0, "offset": 1000,
    }  # fmt: skip


def test_queries_do_not_grow_with_events(api: Api, django_assert_num_queries):
    api.accept(make_event("e1"))
    api.query()  # whose key is remembered from now on
    with CaptureQueriesContext(connection) as asked:
        api.query()
    queries = len(asked)
    api.accept(*(make_event(f"e{number}") for number in range(2, 12)))
    with django_assert_num_queries(queries):
        assert len(api.query().body["events"]) == 11


def test_events_have_every_member_that_any_client_knows(api: Api):
    api.accept(make_event("e1"))
    assert set(api.query().body["events"][0]) == {
        "id", "external_customer_id", "customer_id", "event_name", "timestamp", "properties", "source", "environment_id",
        "ingested_at",
    }  # fmt: skip


@pytest.fixture
def four(api: Api) -> Api:
    api.accept(
        make_event("e1", source="a", properties={"region": "eu"}),
        make_event("e2", external_customer_id="globex", properties={"region": "us"}),
        make_event("e3", event_name="storage", source="a"),
        make_event("e4", source="A", properties={"region": "eu", "tier": 2}),
    )
    return api


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["e4", "e3", "e2", "e1"]),
        ({"external_customer_id": "globex"}, ["e2"]),
        ({"external_customer_id": "Globex"}, []),
        ({"event_name": "storage"}, ["e3"]),
        ({"event_name": " storage"}, []),
        ({"event_id": "e3"}, ["e3"]),
        ({"source": "a"}, ["e3", "e1"]),
        ({"source": "A"}, ["e4"]),
        ({"source": "a", "event_name": "api_request"}, ["e1"]),
        ({"property_filters": {"region": ["eu"]}}, ["e4", "e1"]),
        ({"property_filters": {"region": ["eu", "us"]}}, ["e4", "e2", "e1"]),
        ({"property_filters": {"region": ["eu"], "tier": ["2"]}}, ["e4"]),
        ({"property_filters": {"region": []}}, ["e4", "e3", "e2", "e1"]),
        ({"property_filters": {"region": None}}, ["e4", "e3", "e2", "e1"]),
        ({"property_filters": {"region": [""]}}, ["e3"]),
        ({"property_filters": {"region": ["eu"]}, "source": "a"}, ["e1"]),
        ({"property_filters": {}}, ["e4", "e3", "e2", "e1"]),
        ({"external_customer_id": "", "event_name": "", "event_id": "", "source": ""}, ["e4", "e3", "e2", "e1"]),
        ({"external_customer_id": None, "sort": None, "order": None, "page_size": None}, ["e4", "e3", "e2", "e1"]),
        ({"order": "asc"}, ["e1", "e2", "e3", "e4"]),
        ({"sort": "event_name"}, ["e3", "e4", "e2", "e1"]),
        ({"sort": "event_name", "order": "asc"}, ["e1", "e2", "e4", "e3"]),
        ({"sort": "event_name", "property_filters": {"region": ["eu"]}}, ["e4", "e1"]),
    ],
)
def test_conditions_are_exact_and_all_of_them_hold(four: Api, query: dict[str, Any], found: list[str]):
    answer = four.query(**query)
    assert [event["id"] for event in answer.body["events"]] == found
    assert answer.body["total_count"] == len(found)


def test_both_ends_of_the_range_are_inclusive(api: Api):
    times = ["2025-06-01T23:59:59.999999Z", "2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z", "2025-06-03T00:00:00.000001Z"]
    api.accept(*(make_event(str(position), timestamp=time) for position, time in enumerate(times)))
    assert api.ids(start_time="2025-06-02T00:00:00Z", end_time="2025-06-03T00:00:00Z") == ["2", "1"]
    assert api.ids(start_time=times[1], end_time=times[1]) == ["1"]
    assert api.ids(start_time="2025-06-02T05:30:00+05:30", end_time="2025-06-02T00:00:00Z") == ["1"]


def test_an_end_without_a_start_means_the_seven_days_before_it(api: Api):
    for day in ("01", "02", "08", "09"):
        api.accept(make_event(day, timestamp=f"2025-06-{day}T12:00:00Z"))
    body = {"end_time": "2025-06-09T00:00:00Z"}
    assert [event["id"] for event in api.post("/events/query", body).body["events"]] == ["08", "02"]


def test_a_start_without_an_end_means_until_now(api: Api):
    api.accept(make_event("past"), make_event("future", timestamp="9000-01-01T00:00:00Z"))
    body = {"start_time": "2025-01-01T00:00:00Z"}
    assert [event["id"] for event in api.post("/events/query", body).body["events"]] == ["past"]


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00Z", None])
def test_a_zero_time_or_null_means_no_bound_given(api: Api, zero: str | None):
    api.accept(make_event("e1"))
    assert api.post("/events/query", {"start_time": zero, "end_time": zero}).body["events"] == []


@pytest.mark.parametrize("path", ["/events/query", "/events/usage", "/events/usage/meter", "/events/analytics"])
def test_an_end_before_the_start_is_a_400(api: Api, path: str):
    meter = api.meter()
    query = {"event_name": "x", "aggregation_type": "COUNT", "meter_id": meter["id"]}
    answer = api.post(path, query | {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-01T23:59:59.999999Z"})
    assert answer.status == 400
    assert answer.message.startswith("Please check the request payload")
    assert "end_time" in answer.details


# Sort and order


@pytest.mark.parametrize("sort", ["", "bogus", "Timestamp", "TIMESTAMP", "id", "-timestamp", "timestamp,id", "event_name; --"])
def test_an_unknown_sort_is_a_400_that_lists_the_known_ones(api: Api, sort: str):
    answer = api.post("/events/query", {"sort": sort})
    assert (answer.status, answer.body["code"]) == (400, "validation_error")
    assert answer.message == "Request validation failed due to invalid sort field"
    assert answer.details == {"sort": sort, "allowed_values": ["timestamp", "event_name"]}


@pytest.mark.parametrize("order", ["", "bogus", "DESC", "Asc", "ascending"])
def test_an_unknown_order_is_a_400_that_lists_the_known_ones(api: Api, order: str):
    answer = api.post("/events/query", {"order": order})
    assert (answer.status, answer.body["code"]) == (400, "validation_error")
    assert answer.message == "Request validation failed due to invalid order by value"
    assert answer.details == {"order": order, "allowed_values": ["asc", "desc"]}


def test_names_are_sorted_by_code_point(api: Api):
    names = ["Z", "a", "B", "ä", "b", "É", "a b", "a_b", "😀", "ａ", "z"]
    api.accept(*(make_event(f"e{position}", event_name=name) for position, name in enumerate(names)))
    listed = [event["event_name"] for event in api.query(sort="event_name", order="asc").body["events"]]
    assert listed == sorted(names)


# Pages


def tangled(api: Api) -> set[str]:
    """Events of few instants and names, with ids that make trouble in cursors."""
    ids = ["a", "A", "a ", "::", "1::2", "1710028800000000000::x", "é", "e\u0301", "😀", "id\n", "/", "%", " ", "ａ", "a::", "'"]
    ids += [f"n{number}" for number in range(11)]
    events = []
    for position, event_id in enumerate(ids):
        timestamp = [SAME_INSTANT, SAME_INSTANT, "2025-06-02T09:10:00.123455Z", "1901-01-01T00:00:00.5Z"][position % 4]
        properties = {"kept": position % 3 > 0}
        events.append(make_event(event_id, timestamp=timestamp, event_name=f"name{position % 3}", properties=properties))
    api.accept(*events)
    return set(ids)


def by_cursor(api: Api, **query: Any) -> Iterator[Answer]:
    answer = api.query(**query)
    yield answer
    while answer.body["has_more"]:
        answer = api.query(**query | {"iter_last_key": answer.body["iter_last_key"]})
        yield answer
    assert len(answer.body["events"]) <= query["page_size"]


def by_offset(api: Api, **query: Any) -> Iterator[Answer]:
    answer = api.query(**query)
    yield answer
    while answer.body["has_more"]:
        answer = api.query(**query | {"offset": answer.body["offset"]})
        yield answer


@pytest.mark.parametrize("walk", [by_cursor, by_offset])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["timestamp", "event_name"])
@pytest.mark.parametrize("page_size", [1, 2, 7, 27, 100])
@pytest.mark.parametrize("filters", [{}, {"kept": ["true"]}])
def test_walking_all_pages_yields_each_event_exactly_once(api: Api, walk, order: str, sort: str, page_size: int, filters: Any):
    expected = tangled(api)
    if filters:
        expected = {event["id"] for event in api.query().body["events"] if event["properties"]["kept"]}
    pages = list(walk(api, sort=sort, order=order, page_size=page_size, property_filters=filters))
    walked = [event for page in pages for event in page.body["events"]]
    assert sorted(event["id"] for event in walked) == sorted(expected)
    assert {page.body["total_count"] for page in pages} == {len(expected)}
    keys = [(event[sort], event["id"]) for event in walked]
    assert keys == sorted(keys, reverse=order == "desc")
    assert all(len(page.body["events"]) == page_size for page in pages[:-1])


@pytest.mark.parametrize("walk", [by_cursor, by_offset])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("page_size", [1, 2, 7, 27])
@pytest.mark.parametrize("name", [None, "name1"])
def test_walking_the_pages_of_a_customer_yields_each_event_exactly_once(api: Api, walk, order: str, page_size: int, name: Any):
    expected = tangled(api)
    if name:
        expected = {event["id"] for event in api.query().body["events"] if event["event_name"] == name}
    others = [make_event(f"other{place}", external_customer_id="globex", event_name=f"name{place % 5}") for place in range(9)]
    api.accept(*others)
    pages = list(walk(api, order=order, page_size=page_size, external_customer_id="acme", event_name=name))
    walked = [event for page in pages for event in page.body["events"]]
    assert sorted(event["id"] for event in walked) == sorted(expected)
    assert {page.body["total_count"] for page in pages} == {len(expected)}
    keys = [(event["timestamp"], event["id"]) for event in walked]
    assert keys == sorted(keys, reverse=order == "desc")
    place = len(keys) // 2
    of = {"order": order, "external_customer_id": "acme", "event_name": name}
    key = api.query(**of, page_size=1, offset=place).body["iter_first_key"]
    before = [event_id for _, event_id in keys[:place]]
    assert api.ids(**of, page_size=page_size, iter_first_key=key) == before[:page_size]


def test_a_customer_is_found_among_more_names_than_are_told_apart(api: Api, monkeypatch):
    monkeypatch.setattr("flexmeter.stores.database.extents.MOST_NAMES", 2)
    expected = tangled(api)
    for walk in (by_cursor, by_offset):
        walked = [event["id"] for page in walk(api, page_size=7, external_customer_id="acme") for event in page.body["events"]]
        assert sorted(walked) == sorted(expected)


def test_a_key_beyond_the_range_leads_nowhere_else(api: Api):
    tangled(api)
    day = {"external_customer_id": "acme", "start_time": "2000-01-01T00:00:00Z", "end_time": SAME_INSTANT, "page_size": 1}
    newest = api.ids(**day)
    assert api.ids(**day, iter_last_key="4102444800000000000::x") == newest
    oldest = api.ids(**day, order="asc")
    assert api.ids(**day, order="asc", iter_last_key="0::x") == oldest


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["timestamp", "event_name"])
def test_a_first_key_asks_for_what_comes_before_it(api: Api, order: str, sort: str):
    tangled(api)
    ids = api.ids(sort=sort, order=order)
    middle = api.query(sort=sort, order=order, page_size=1, offset=10).body["iter_first_key"]
    assert api.ids(sort=sort, order=order, iter_first_key=middle) == ids[:10]
    assert api.ids(sort=sort, order=order, iter_last_key=middle) == ids[11:]
    both = api.query(sort=sort, order=order, iter_first_key=middle, iter_last_key=middle)
    assert [event["id"] for event in both.body["events"]] == ids[:10]


def test_polling_with_the_first_key_finds_what_is_newer(api: Api):
    api.accept(make_event("old"))
    first = api.query().body["iter_first_key"]
    assert api.ids(iter_first_key=first) == []
    api.accept(make_event("new", timestamp="2025-06-02T09:10:00.000001Z"), make_event("older", timestamp="2025-06-01T00:00:00Z"))
    assert api.ids(iter_first_key=first) == ["new"]


def test_a_key_is_the_time_in_nanoseconds_and_the_id(api: Api):
    api.accept(make_event("event_01", timestamp="2024-03-10T00:00:00.123Z"))
    body = api.query().body
    assert body["iter_first_key"] == body["iter_last_key"] == "1710028800123000000::event_01"


def test_a_key_between_two_storable_instants_is_where_it_says(api: Api):
    api.accept(make_event("a", timestamp="2024-03-10T00:00:00.123Z"), make_event("b", timestamp="2024-03-10T00:00:00.123001Z"))
    assert api.ids(iter_last_key="1710028800123000500::zzz") == ["a"]
    assert api.ids(iter_first_key="1710028800123000500::zzz") == ["b"]
    assert api.ids(iter_last_key="1710028800123000500::", order="asc") == ["b"]


def test_a_key_need_not_belong_to_an_event(api: Api):
    api.accept(make_event("a"), make_event("b", timestamp="1999-01-01T00:00:00Z"))
    assert api.ids(iter_last_key="946684800000000000::") == ["b"]
    assert api.ids(iter_last_key="-1::") == []


def test_cursor_pages_ignore_the_offset_and_do_not_name_one(api: Api):
    tangled(api)
    last = api.query(page_size=5).body["iter_last_key"]
    page = api.query(page_size=5, iter_last_key=last, offset=20)
    assert page.body["offset"] is None
    assert page.body["iter_last_key"] is not None
    assert [event["id"] for event in page.body["events"]] == api.ids()[5:10]


def test_the_last_cursor_page_names_no_key_to_go_on_from(api: Api):
    api.accept(make_event("a"), make_event("b"))
    last = api.query(page_size=1).body["iter_last_key"]
    page = api.query(page_size=1, iter_last_key=last).body
    assert (page["has_more"], page["iter_last_key"]) == (False, None)
    assert page["iter_first_key"].endswith("::a")


@pytest.mark.parametrize("key", ["iter_first_key", "iter_last_key"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("event123", "Invalid cursor key format"),
        ("1710028800123000000:event", "Invalid cursor key format"),
        ("::event", "Invalid timestamp while parsing cursor"),
        ("x::event", "Invalid timestamp while parsing cursor"),
        ("1.5::event", "Invalid timestamp while parsing cursor"),
        ("٣::event", "Invalid timestamp while parsing cursor"),
        ("--1::event", "Invalid timestamp while parsing cursor"),
        ("1e3::event", "Invalid timestamp while parsing cursor"),
        ("999999999999999999999::event", "Invalid timestamp while parsing cursor"),
        ("9" * 4000 + "::event", "Invalid timestamp while parsing cursor"),
    ],
)
def test_an_unreadable_cursor_is_a_400(api: Api, key: str, value: str, message: str):
    answer = api.post("/events/query", {key: value})
    assert (answer.status, answer.message) == (400, message)
    assert list(answer.details) == [key]


@pytest.mark.parametrize("size", [0, -1, -(2**62), None])
def test_a_page_size_that_says_nothing_is_50(api: Api, size: int | None):
    api.accept(*(make_event(f"e{number}") for number in range(51)))
    page = api.post("/events/query", EVER | {"page_size": size}).body
    assert (len(page["events"]), page["has_more"], page["offset"]) == (50, True, 50)


def test_a_page_size_is_capped_at_the_maximum(api: Api):
    api.accept(*(make_event(f"e{number}") for number in range(1000)))
    api.accept(make_event("one more"))
    page = api.query(page_size=2**62).body
    assert (len(page["events"]), page["has_more"], page["offset"]) == (1000, True, 1000)


def test_offsets_below_0_are_0_and_beyond_the_end_find_nothing(api: Api):
    api.accept(make_event("a"), make_event("b"))
    assert api.ids(offset=-5) == ["b", "a"]
    assert api.ids(offset=1) == ["a"]
    page = api.query(offset=2**62, page_size=5).body
    assert (page["events"], page["total_count"], page["has_more"]) == ([], 2, False)


# GET /events


def listed(api: Api, **parameters: str) -> Answer:
    answer = api.get("/events?" + urlencode(EVER | parameters))
    assert answer.status == 200, answer
    return answer


def test_a_list_by_query_string_is_the_same_list(four: Api):
    assert listed(four).body == four.query(page_size=50).body
    assert listed(four, order="asc", sort="event_name").body == four.query(page_size=50, order="asc", sort="event_name").body


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"source": "a"}, ["e3", "e1"]),
        ({"event_id": "e2", "external_customer_id": "globex"}, ["e2"]),
        ({"event_name": " api_request"}, []),
        ({"event_name": ""}, ["e4", "e3", "e2", "e1"]),
        ({"property_filters": "region:eu,us"}, ["e4", "e2", "e1"]),
        ({"property_filters": "region:eu;tier:2"}, ["e4"]),
        ({"property_filters": "region:"}, ["e3"]),
        ({"property_filters": "region:eu;region:us;"}, ["e4", "e2", "e1"]),
        ({"page_size": "2"}, ["e4", "e3"]),
        ({"page_size": "2", "offset": "3"}, ["e1"]),
        ({"page_size": "51"}, ["e4", "e3", "e2", "e1"]),
        ({"page_size": "0"}, ["e4", "e3", "e2", "e1"]),
        ({"page_size": ""}, ["e4", "e3", "e2", "e1"]),
        ({"count_total": "true", "unknown": "x"}, ["e4", "e3", "e2", "e1"]),
    ],
)
def test_query_parameters_filter_as_members_do(four: Api, parameters: dict[str, str], found: list[str]):
    assert [event["id"] for event in listed(four, **parameters).body["events"]] == found


def test_a_list_by_query_string_has_at_most_50_events_and_cursors_lead_on(api: Api):
    api.accept(*(make_event(f"e{number:02}") for number in range(60)))
    page = listed(api, page_size="1000").body
    assert len(page["events"]) == 50
    rest = listed(api, iter_last_key=page["iter_last_key"]).body
    assert [event["id"] for event in rest["events"]] == [f"e{number:02}" for number in range(9, -1, -1)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", "x"), ("page_size", "1.5"), ("page_size", "1_0"), ("page_size", "٣"), ("page_size", "9" * 5000),
        ("offset", "x"), ("offset", " 1"), ("sort", ""), ("sort", "id"), ("order", "x"), ("start_time", "x"),
        ("end_time", "2024-01-01"), ("property_filters", "x"), ("property_filters", ":x"), ("event_name", "a\x00"),
        ("iter_last_key", "x"), ("event_id", "x" * 5000), ("source", "\x00"),
    ],
)  # fmt: skip
def test_an_unusable_query_parameter_is_a_400_that_names_it(api: Api, name: str, value: str):
    answer = api.get("/events?" + urlencode({name: value}))
    assert answer.status == 400
    assert name in answer.details or name in answer.message


@pytest.mark.parametrize("query", ["event_id=%FF", "source=%ED%A0%80", "%C3=x", "start_time=%80"])
def test_a_query_string_that_is_not_utf_8_is_a_400(api: Api, query: str):
    answer = api.get("/events?" + query)
    assert answer.status == 400
    assert "UTF-8" in answer.message


def test_the_charset_of_a_request_without_a_body_changes_nothing(api: Api):
    api.accept(make_event("é"))
    for charset in ("utf-16", "rot13", "idna", "latin-1", "unknown"):
        answer = api.get("/events/lookup?id=" + quote("é"), content_type=f"application/json; charset={charset}")
        assert answer.status == 200


def test_a_stored_event_in_the_far_past_or_future_can_be_listed(api: Api):
    api.accept(make_event("first", timestamp="1000-01-01T00:00:00Z"), make_event("last", timestamp="9999-12-30T23:59:59.999999Z"))
    assert api.ids(start_time="0001-01-01T00:00:01Z", end_time="9999-12-31T23:59:59.999999Z") == ["last", "first"]
    newest, oldest = api.query().body["iter_first_key"], api.query().body["iter_last_key"]
    assert api.ids(iter_last_key=newest) == ["first"]
    assert api.ids(iter_first_key=oldest) == ["last"]
    assert api.ids(iter_first_key=newest) == api.ids(iter_last_key=oldest) == []
