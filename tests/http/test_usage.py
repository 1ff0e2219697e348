"""`POST /events/usage`: every aggregation, numeric readings, property filters, and what is refused."""

from typing import Any

import pytest

from flexmeter.aggregation import AggregationType

from tests.http.client import EVER, Answer, Api, make_event, points

DAY = {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-03T00:00:00Z"}
NAMED = {"event_name": "api_request", "aggregation_type": "COUNT"}


def refused(api: Api, **query: Any) -> Answer:
    answer = api.post("/events/usage", NAMED | EVER | query)
    assert (answer.status, answer.body["code"]) == (400, "validation_error"), answer
    return answer


def figure(api: Api, type: str, **query: Any) -> Any:
    return api.usage(aggregation_type=type, **{"property_name": "size"} | query).body["value"]


def sizes(api: Api, *values: Any, **changed: Any) -> None:
    """One event per value, a minute apart; `...` stands for an event without the property."""
    api.accept(
        *(
            make_event(timestamp=f"2025-06-02T09:{minute:02}:00Z", properties={} if value is ... else {"size": value}, **changed)
            for minute, value in enumerate(values)
        )
    )


@pytest.fixture
def storage(api: Api) -> dict[str, Any]:
    for time, size in (("09:10", 4), ("09:50", "6"), ("11:05", 1.5)):
        event = make_event(event_name="storage.read", timestamp=f"2025-06-02T{time}:00Z", properties={"mb": size})
        api.accept(event)
    return {"event_name": "storage.read", "property_name": "mb", "external_customer_id": "acme"} | DAY


def test_a_sum_is_one_number(api: Api, storage: dict[str, Any]):
    answer = api.usage(aggregation_type="SUM", **storage)
    assert answer.body == {"event_name": "storage.read", "type": "SUM", "value": 11.5, "results": []}


def test_windows_without_events_are_left_out(api: Api, storage: dict[str, Any]):
    answer = api.usage(aggregation_type="SUM", window_size="HOUR", **storage)
    assert answer.body["results"] == [
        {"window_size": "2025-06-02T09:00:00Z", "value": 10},
        {"window_size": "2025-06-02T11:00:00Z", "value": 1.5},
    ]
    assert answer.body["value"] in (0, None)


def test_a_bucketed_maximum_adds_up_the_peaks(api: Api, storage: dict[str, Any]):
    answer = api.usage(aggregation_type="MAX", bucket_size="HOUR", **storage)
    assert answer.body["value"] == 7.5
    assert list(points(answer).values()) == [6, 1.5]


def test_a_weighted_sum_weighs_by_the_time_in_force(api: Api):
    api.accept(make_event(timestamp="2025-06-06T00:00:00Z", properties={"size": 30}))
    period = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-06-11T00:00:00Z"}
    assert figure(api, "WEIGHTED_SUM", **period) == 15


def test_windows_of_a_weighted_sum_add_up_to_its_total(api: Api):
    for day in (2, 3, 9):
        api.accept(make_event(timestamp=f"2025-06-{day:02}T06:00:00Z", properties={"size": day}))
    query = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-06-11T00:00:00Z"}
    windows = api.usage(aggregation_type="WEIGHTED_SUM", property_name="size", window_size="DAY", **query)
    assert sum(points(windows).values()) == pytest.approx(figure(api, "WEIGHTED_SUM", **query), rel=1e-9)


def test_an_empty_period_weighs_nothing(api: Api):
    api.accept(make_event(properties={"size": 30}))
    same = {"start_time": "2025-06-02T09:10:00Z", "end_time": "2025-06-02T09:10:00Z"}
    assert figure(api, "WEIGHTED_SUM", **same) == 0


@pytest.mark.parametrize(
    ("type", "value"),
    [("COUNT", 6), ("SUM", 12.5), ("AVG", 12.5 / 6), ("MAX", 9), ("MIN", 0), ("LATEST", 0), ("COUNT_UNIQUE", 4)],
)
def test_a_missing_property_counts_as_0_and_stays_in_the_average(api: Api, type: str, value: float):
    sizes(api, 9, "9", 2.5, -8, ..., "text")
    assert figure(api, type) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("type", [type.value for type in AggregationType])
def test_nothing_found_is_0(api: Api, type: str):
    answer = api.usage(aggregation_type=type, property_name="size")
    assert answer.body == {"event_name": "api_request", "type": type, "value": 0, "results": []}
    assert api.usage(aggregation_type=type, property_name="size", window_size="DAY").body["results"] == []


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (12, 12), (1.5, 1.5), ("12", 12), ("+5", 5), ("1e3", 1000), (" 7 ", 7), (".5", 0.5), ("5.", 5), ("-0", 0),
        (9007199254740993, 9007199254740993), ("123456789012345678901234567890", 123456789012345678901234567890),
        (2**64 + 1, 2**64 + 1), ("0.1", 0.1), (..., 0), (None, 0), ("", 0), ("text", 0), (True, 0), (False, 0), ([1], 0),
        ({"a": 1}, 0), ("NaN", 0), ("Infinity", 0), ("-inf", 0), ("1,000", 0), ("0x10", 0), ("1_000", 0), ("٣", 0), ("1e400", 0),
        ("1e999999999", 0), ("--1", 0), ("1 2", 0), ("9" * 5000, 0),
    ],
)  # fmt: skip
def test_a_property_is_read_as_a_number_where_it_is_one(api: Api, sent: Any, value: Any):
    sizes(api, sent, 100)
    assert figure(api, "SUM") == value + 100
    assert figure(api, "AVG") == pytest.approx((value + 100) / 2, rel=1e-9)
    assert figure(api, "COUNT") == 2


def test_decimals_add_up_without_binary_dust(api: Api):
    sizes(api, 0.1, "0.2", 0.7)
    assert figure(api, "SUM") == 1


def test_figures_are_never_negative_but_negative_values_count(api: Api):
    sizes(api, 9, -4)
    assert figure(api, "SUM") == 5
    sizes(api, -100, external_customer_id="globex")
    assert figure(api, "SUM") == 0
    assert {type: figure(api, type, external_customer_id="globex") for type in ("SUM", "AVG", "MAX", "LATEST")} == {
        "SUM": 0, "AVG": 0, "MAX": 0, "LATEST": 0,
    }  # fmt: skip


def test_windows_that_add_up_to_nothing_are_present_with_0(api: Api):
    api.accept(make_event(properties={"size": -5}), make_event(timestamp="2025-06-03T00:00:00Z", properties={"size": 5}))
    answer = api.usage(aggregation_type="SUM", property_name="size", window_size="DAY")
    assert points(answer) == {"2025-06-02T00:00:00Z": 0, "2025-06-03T00:00:00Z": 5}


def test_the_total_of_buckets_is_clamped_once(api: Api):
    api.accept(make_event(properties={"size": -5}), make_event(timestamp="2025-06-03T00:00:00Z", properties={"size": 9}))
    answer = api.usage(aggregation_type="SUM", property_name="size", bucket_size="DAY")
    assert answer.body["value"] == 4
    assert list(points(answer).values()) == [0, 9]


def test_unique_values_are_compared_as_text(api: Api):
    sizes(api, 200, "200", 1.0, 1, "1", "a", "A", "", ..., None, True, "true", [1], "[1]")
    assert figure(api, "COUNT_UNIQUE") == len({"200", "1", "a", "A", "", "true", "[1]"})


def test_missing_values_count_as_one_where_the_setting_says_so(api: Api, settings):
    settings.FLEXMETER_COUNT_UNIQUE_MISSING = "count"
    sizes(api, "a", ..., None)
    assert figure(api, "COUNT_UNIQUE") == 2


def test_of_equal_timestamps_the_latest_is_what_was_accepted_last(api: Api):
    api.accept(make_event("z", properties={"size": 1}), make_event("a", properties={"size": 2}))
    assert figure(api, "LATEST") == 2
    api.accept(
        make_event("m", properties={"size": 3}), make_event("old", timestamp="2025-01-01T00:00:00Z", properties={"size": 9})
    )
    assert figure(api, "LATEST") == 3


def test_a_multiplier_multiplies_the_sum(api: Api):
    sizes(api, 3, 4)
    assert figure(api, "SUM_WITH_MULTIPLIER") == 7
    for multiplier, value in ((0.1, 0.7), ("2.5", 17.5), (10**30, 7 * 10**30), ("1e-3", 0.007)):
        assert figure(api, "SUM_WITH_MULTIPLIER", multiplier=multiplier) == value


@pytest.mark.parametrize("type", ["sum", "Sum", "count_unique"])
def test_the_aggregation_is_read_in_any_case(api: Api, type: str):
    sizes(api, 3)
    assert api.usage(aggregation_type=type, property_name="size").body["type"] == type.upper()


@pytest.mark.parametrize("type", ["SUM", "AVG", "MAX", "LATEST", "COUNT_UNIQUE", "SUM_WITH_MULTIPLIER", "WEIGHTED_SUM"])
@pytest.mark.parametrize("name", [{}, {"property_name": ""}, {"property_name": None}])
def test_without_a_property_the_answer_is_a_count_and_says_so(api: Api, type: str, name: dict[str, Any]):
    sizes(api, 3, 4)
    body = api.usage(aggregation_type=type, **name).body
    assert (body["type"], body["value"]) == ("COUNT", 2)


def test_without_a_property_the_strict_setting_answers_400(api: Api, settings):
    settings.FLEXMETER_AGGREGATION_WITHOUT_PROPERTY = "error"
    assert "property_name is required for SUM" in refused(api, aggregation_type="SUM").message


def test_customers_are_matched_exactly_by_either_id(api: Api):
    api.accept(
        make_event(customer_id="c1"), make_event(customer_id="c2"), make_event(external_customer_id="globex", customer_id="c1")
    )
    assert figure(api, "COUNT", customer_id="c1") == 2
    assert figure(api, "COUNT", customer_id="c1", external_customer_id="acme") == 1
    assert figure(api, "COUNT", external_customer_id="Acme") == 0
    assert figure(api, "COUNT", customer_id="C1") == 0
    assert figure(api, "COUNT", external_customer_id="") == 3


def test_the_range_is_half_open(api: Api):
    for time in ("2025-06-01T23:59:59.999999Z", "2025-06-02T00:00:00Z", "2025-06-02T23:59:59.999999Z", "2025-06-03T00:00:00Z"):
        api.accept(make_event(timestamp=time))
    assert figure(api, "COUNT", **DAY) == 2
    assert figure(api, "COUNT", start_time=DAY["start_time"], end_time=DAY["start_time"]) == 0
    assert figure(api, "COUNT", start_time=DAY["start_time"], end_time="2025-06-02T00:00:00.000001Z") == 1


def test_the_default_range_is_the_last_seven_days(api: Api):
    api.post("/events", {"event_name": "api_request", "external_customer_id": "acme"})
    api.accept(make_event())
    assert api.post("/events/usage", NAMED).body["value"] == 1


# Refusals


@pytest.mark.parametrize("member", ["event_name", "aggregation_type"])
@pytest.mark.parametrize("value", [None, "", 7, [], {}, True])
def test_name_and_aggregation_are_required_text(api: Api, member: str, value: Any):
    answer = refused(api, **{member: value})
    assert answer.message.startswith("Please check the request payload")
    assert member in answer.details


@pytest.mark.parametrize("type", ["MEDIAN", "COUNT ", "count unique", "SUM;", "SÜM", "*", "%s"])
def test_an_unknown_aggregation_is_refused(api: Api, type: str):
    answer = refused(api, aggregation_type=type, property_name="size")
    assert answer.message == "The specified aggregation type is not supported"


@pytest.mark.parametrize("type", ["SUM", "COUNT", "MAX", "WEIGHTED_SUM"])
def test_a_multiplier_belongs_to_one_aggregation(api: Api, type: str):
    answer = refused(api, aggregation_type=type, property_name="size", multiplier=2)
    assert answer.message == "Multiplier can only be used with SUM_WITH_MULTIPLIER aggregations"


@pytest.mark.parametrize("multiplier", [0, -1, "0", "-0.5", 0.0])
def test_a_multiplier_is_greater_than_zero(api: Api, multiplier: Any):
    answer = refused(api, aggregation_type="SUM_WITH_MULTIPLIER", property_name="size", multiplier=multiplier)
    assert answer.message == "Multiplier must be greater than zero"


@pytest.mark.parametrize("multiplier", ["x", "NaN", "1e400", True, [], {}, "1e300", "1e-300", "9" * 300])
def test_a_multiplier_is_a_number_of_a_reasonable_size(api: Api, multiplier: Any):
    answer = refused(api, aggregation_type="SUM_WITH_MULTIPLIER", property_name="size", multiplier=multiplier)
    assert "multiplier" in answer.message.lower()


@pytest.mark.parametrize("member", ["window_size", "bucket_size"])
@pytest.mark.parametrize("size", ["FORTNIGHT", "hour", "2HOUR", " DAY", "1DAY", "YEAR", "15min"])
def test_an_unknown_window_or_bucket_is_refused(api: Api, member: str, size: str):
    answer = refused(api, **{member: size})
    assert answer.message == "Invalid window size"
    assert answer.details[member] == size


@pytest.mark.parametrize(
    "query",
    [
        {"filters": []}, {"filters": "x"}, {"filters": {"a": "x"}}, {"filters": {"a": [1]}}, {"filters": {"a": [None]}},
        {"filters": {"a": {}}}, {"filters": {"a": True}}, {"property_name": 5}, {"external_customer_id": []},
        {"customer_id": {}}, {"start_time": 5}, {"start_time": ""}, {"end_time": "today"}, {"window_size": 5},
        {"bucket_size": ["DAY"]}, {"billing_anchor": 12}, {"billing_anchor": ""}, {"billing_anchor": "2025-01-10"},
        {"timezone": 5}, {"group_by": "properties.x"}, {"group_by": [5]}, {"group_by_property": []}, {"multiplier": []},
    ],
)  # fmt: skip
def test_a_member_of_the_wrong_type_is_refused_by_name(api: Api, query: dict[str, Any]):
    answer = refused(api, **query)
    assert next(iter(query)) in answer.message


def test_an_answer_of_too_many_windows_is_refused(api: Api, settings):
    settings.FLEXMETER_MAX_WINDOWS = 3
    api.accept(*(make_event(timestamp=f"2025-06-0{day}T00:00:00Z") for day in range(1, 6)))
    answer = refused(api, window_size="DAY")
    assert "more than 3 windows" in answer.message
    assert len(api.usage(window_size="WEEK").body["results"]) == 2


# Property filters


@pytest.fixture
def filtered(api: Api) -> Api:
    properties: dict[str, Any] = {
        "eu": {"region": "eu", "status": 200}, "us": {"region": "us", "status": "200"}, "EU": {"region": "EU", "status": 1.50},
        "true": {"region": True, "status": 2.0}, "null": {"region": None, "status": 1000000}, "none": {},
        "list": {"region": [1, {"a": "b c"}], "status": 1e21}, "empty": {"region": "", "status": 0.0000001}, "unset": None,
    }  # fmt: skip
    api.accept(*(make_event(event_id, properties=held) for event_id, held in properties.items()))
    return api


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"region": ["eu"]}, {"eu"}),
        ({"region": ["eu", "us", "nowhere"]}, {"eu", "us"}),
        ({"region": ["eu"], "status": ["200"]}, {"eu"}),
        ({"status": ["200"]}, {"eu", "us"}),
        ({"status": ["1.5"]}, {"EU"}),
        ({"status": ["1.50"]}, set()),
        ({"status": ["2"]}, {"true"}),
        ({"status": ["2.0"]}, set()),
        ({"status": ["1000000"]}, {"null"}),
        ({"status": ["1e+06"]}, set()),
        ({"status": ["1000000000000000000000"]}, {"list"}),
        ({"status": ["0.0000001"]}, {"empty"}),
        ({"region": ["true"]}, {"true"}),
        ({"region": ["True"]}, set()),
        ({"region": [""]}, {"null", "none", "empty", "unset"}),
        ({"region": ['[1,{"a":"b c"}]']}, {"list"}),
        ({"region": []}, {"eu", "us", "EU", "true", "null", "none", "list", "empty", "unset"}),
        ({"Region": ["eu"]}, set()),
    ],
)
def test_filters_compare_the_property_as_text(filtered: Api, filters: dict[str, list[str]], found: set[str]):
    assert set(filtered.ids(property_filters=filters)) == found
    assert figure(filtered, "COUNT", filters=filters) == len(found)


HOSTILE_NAMES = [
    "a.b", "$.a", "$", "a__gt", "a__in", "%s", "%(a)s", "{0}", "{a}", "'; DROP TABLE flexmeter_event; --", '"', "\\", "a'b",
    "a\"b",
    "[0]", "a[0]", "*", "--", "/*", " ", "", "é", "😀", "__class__", "properties", "event_id", "?", ":a", "$1", "\n", "\t", "`",
    "key,x",
    "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_property_name_is_one_literal_key(api: Api, name: str):
    api.accept(
        make_event("hit", properties={name: 5, "other": 1}),
        make_event("miss", properties={"a": {"b": 5}, "b": 5, "0": 5, name + "x": 5, "x" + name: 5}),
    )
    api.accept(make_event("text", properties={name: name}))
    if len(name) <= 4096:
        assert figure(api, "SUM", property_name=name) == (5 if name else 3)
        assert figure(api, "COUNT_UNIQUE", property_name=name) == (2 if name else 3)
        meter = api.meter(field=name[:255] or "x")
        assert api.get(f"/meters/{meter['id']}").body["aggregation"]["field"] == (name[:255] or "x")
    assert api.ids(property_filters={name: ["5"]}) == ["hit"]
    assert api.ids(property_filters={name: [name]}) == (["text"] if name else ["text", "miss"])
    assert figure(api, "COUNT", filters={name: ["5"]}) == 1
