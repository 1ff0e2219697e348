"""`POST /events/analytics`: items by meter and group, points, sources, filters. No prices are known, so costs are 0."""

from typing import Any

import pytest

from tests.http.client import EVER, Answer, Api, make_event, make_meter

ITEM = {
    "meter_id", "name", "event_name", "aggregation_type", "total_usage", "event_count", "source", "sources", "properties",
    "window_size", "total_cost", "subtotal", "total_discount", "currency", "feature_id", "price_id", "sub_line_item_id",
    "subscription_id", "unit", "unit_plural", "total_usage_display", "add_on_id", "plan_id", "commitment_info", "price", "meter",
    "feature", "subscription_line_item", "plan", "addon", "group", "reporting_unit", "bucket_summaries", "points",
}  # fmt: skip
POINT = {
    "timestamp", "usage", "event_count", "cost", "subtotal", "discount", "computed_commitment_utilized_amount",
    "computed_overage_amount", "computed_true_up_amount",
}  # fmt: skip


def analytics(api: Api, **query: Any) -> list[dict[str, Any]]:
    answer = api.post("/events/analytics", EVER | query)
    assert answer.status == 200, answer
    return answer.body["items"]


def refused(api: Api, **query: Any) -> Answer:
    answer = api.post("/events/analytics", EVER | query)
    assert (answer.status, answer.body["code"]) == (400, "validation_error"), answer
    return answer


@pytest.fixture
def traffic(api: Api) -> Api:
    api.meter(name="Size")
    api.meter("COUNT", name="Calls")
    api.meter("MAX", name="Peak", bucket_size="HOUR", filters=[{"key": "region", "values": ["eu"]}])
    sent = [
        ("2025-06-02T09:10:00Z", "acme", "api", {"size": 4, "region": "eu"}),
        ("2025-06-02T09:50:00Z", "acme", "web", {"size": "6.50", "region": "eu"}),
        ("2025-06-03T11:00:00Z", "acme", "api", {"size": 1, "region": "us"}),
        ("2025-06-03T12:00:00Z", "globex", "", {"size": 10}),
    ]
    for time, customer, source, properties in sent:
        api.accept(make_event(timestamp=time, external_customer_id=customer, source=source, properties=properties))
    return api


def test_an_answer_has_every_member_that_any_client_knows(traffic: Api):
    body = traffic.post("/events/analytics", EVER | {"window_size": "DAY"}).body
    assert {key: body[key] for key in body.keys() - {"items"}} == {
        "total_cost": "0", "subtotal": "0", "total_discount": "0", "currency": "", "custom_analytics": [],
    }  # fmt: skip
    assert all(item.keys() == ITEM for item in body["items"])
    assert all(point.keys() == POINT for item in body["items"] for point in item["points"])


def test_there_is_an_item_per_meter_in_the_order_of_their_names(traffic: Api):
    items = analytics(traffic)
    assert [(item["name"], item["total_usage"], item["event_count"]) for item in items] == [
        ("Calls", "4", 4), ("Peak", "6.5", 2), ("Size", "21.5", 4),
    ]  # fmt: skip
    size = items[-1]
    assert (size["event_name"], size["aggregation_type"]) == ("api_request", "SUM")
    assert (size["points"], size["window_size"], size["sources"], size["properties"], size["source"]) == ([], None, [], {}, None)
    assert (size["total_cost"], size["subtotal"], size["total_discount"]) == ("0", "0", "0")


def test_a_customer_has_its_own_items(traffic: Api):
    assert [item["total_usage"] for item in analytics(traffic, external_customer_id="globex")] == ["1", "10"]
    assert analytics(traffic, external_customer_id="nobody") == []
    assert len(analytics(traffic, external_customer_id="")) == 3


def test_a_customer_can_be_required_by_setting(traffic: Api, settings):
    settings.FLEXMETER_ANALYTICS_REQUIRES_CUSTOMER = True
    assert refused(traffic).message == "External customer ID is required"
    assert analytics(traffic, external_customer_id="acme")


def test_meters_without_events_have_no_item_and_zero_usage_has_one(api: Api):
    api.meter()
    assert analytics(api) == []
    api.accept(make_event(properties={"size": -1}), make_event(properties={"size": 1}))
    assert [item["total_usage"] for item in analytics(api)] == ["0"]


def test_features_are_unknown_so_naming_one_finds_nothing(traffic: Api):
    body = traffic.post("/events/analytics", EVER | {"feature_ids": ["feat_1"]}).body
    assert (body["items"], body["total_cost"]) == ([], "0")
    assert len(analytics(traffic, feature_ids=[])) == 3


def test_grouping_by_source_has_an_item_for_each(traffic: Api):
    sizes = [item for item in analytics(traffic, group_by=["source"]) if item["name"] == "Size"]
    assert [(item["source"], item["total_usage"]) for item in sizes] == [(None, "10"), ("api", "5"), ("web", "6.5")]


def test_grouping_by_a_property_names_it_and_leaves_a_missing_one_out(traffic: Api):
    sizes = [item for item in analytics(traffic, group_by=["properties.region"]) if item["name"] == "Size"]
    assert [(item["properties"], item["total_usage"]) for item in sizes] == [
        ({}, "10"),
        ({"region": "eu"}, "10.5"),
        ({"region": "us"}, "1"),
    ]
    assert all(isinstance(value, str) for item in sizes for value in item["properties"].values())


def test_groups_combine_and_repeat_nothing(traffic: Api):
    group_by = ["properties.region", "source", "feature_id", "meter_id", "source"]
    sizes = [item for item in analytics(traffic, group_by=group_by) if item["name"] == "Size"]
    assert [(item["properties"].get("region"), item["source"], item["total_usage"]) for item in sizes] == [
        (None, None, "10"), ("eu", "api", "4"), ("us", "api", "1"), ("eu", "web", "6.5"),
    ]  # fmt: skip


def test_values_of_groups_are_rendered_text(api: Api):
    api.meter("COUNT")
    api.accept(*(make_event(properties={"p.q": value}) for value in (200, "200", 2.0, True, [1], None, "")))
    items = analytics(api, group_by=["properties.p.q"])
    assert {(item["properties"].get("p.q", ""), item["event_count"]) for item in items} == {
        ("", 2), ("2", 1), ("200", 2), ("[1]", 1), ("true", 1),
    }  # fmt: skip


@pytest.mark.parametrize("entry", ["customer", "", "Source", "external_customer_id", "property.region", "properties", " source"])
def test_an_unknown_grouping_is_refused(api: Api, entry: str):
    answer = refused(api, group_by=["source", entry])
    assert answer.message == f"group_by entry \"{entry}\" is not recognized (allowed: 'meter_id', 'source', 'properties.<name>')"
    assert answer.details == {"group_by_entry": entry}


@pytest.mark.parametrize("name", ["", "a b", "a-b", "é", "a'", "a;", "$", "a\n", "%s", "a/b"])
def test_a_property_to_group_by_has_a_plain_name(api: Api, name: str):
    answer = refused(api, group_by=[f"properties.{name}"])
    assert (
        answer.message == f"group_by entry \"properties.{name}\" has an invalid property name (allowed: alphanumerics, '_', '.')"
    )
    assert answer.details == {"group_by_entry": f"properties.{name}"}


def test_points_appear_only_with_a_window(traffic: Api):
    [size] = [item for item in analytics(traffic, window_size="DAY") if item["name"] == "Size"]
    assert size["window_size"] == "DAY"
    assert [(point["timestamp"], point["usage"], point["event_count"], point["cost"]) for point in size["points"]] == [
        ("2025-06-02T00:00:00Z", "10.5", 2, "0"), ("2025-06-03T00:00:00Z", "11", 2, "0"),
    ]  # fmt: skip


def test_points_of_a_bucketed_meter_have_the_coarser_of_window_and_bucket(api: Api):
    api.meter("MAX", name="max", bucket_size="HOUR")
    api.meter("SUM", name="sum", bucket_size="HOUR")
    for time, size in (("09:10", 4), ("09:20", 6), ("10:00", 5)):
        api.accept(make_event(timestamp=f"2025-06-02T{time}:00Z", properties={"size": size}))
    maximum, total = analytics(api, window_size="DAY")
    assert (maximum["window_size"], maximum["total_usage"]) == ("DAY", "11")
    assert [(point["usage"], point["event_count"]) for point in maximum["points"]] == [("6", 3)]
    assert [(point["usage"], point["event_count"]) for point in total["points"]] == [("15", 3)]
    maximum, total = analytics(api, window_size="15MIN")
    assert (maximum["window_size"], total["window_size"]) == ("HOUR", "HOUR")
    assert [point["usage"] for point in maximum["points"]] == ["6", "5"]


@pytest.mark.parametrize("size", ["FORTNIGHT", "day", "2DAY"])
def test_an_unknown_window_is_refused(api: Api, size: str):
    answer = refused(api, window_size=size)
    assert (answer.message, answer.details["window_size"]) == ("Invalid window size", size)


def test_sources_and_property_filters_narrow_the_events(traffic: Api):
    assert [item["total_usage"] for item in analytics(traffic, sources=["api"])] == ["2", "4", "5"]
    assert [item["total_usage"] for item in analytics(traffic, sources=["API"])] == []
    assert [item["total_usage"] for item in analytics(traffic, sources=["web", ""])] == ["2", "6.5", "16.5"]
    assert [item["total_usage"] for item in analytics(traffic, property_filters={"region": ["us"]})] == ["1", "1"]
    both = analytics(traffic, sources=["api"], property_filters={"region": ["eu"]}, external_customer_id="acme")
    assert [item["total_usage"] for item in both] == ["1", "4", "4"]


def test_expanding_shows_the_meter_and_the_sources(traffic: Api):
    items = analytics(traffic, expand=["meter", "source", "price", "plan", "nonsense"])
    size = items[-1]
    assert size["sources"] == ["", "api", "web"]
    assert size["meter"] == traffic.get(f"/meters/{size['meter_id']}").body
    assert (size["price"], size["plan"]) == (None, None)


@pytest.mark.parametrize(
    ("type", "members", "total"),
    [
        ("AVG", {}, "3.5"), ("MIN", {}, "1"), ("MAX", {}, "6"), ("LATEST", {}, "6"), ("COUNT_UNIQUE", {}, "2"),
        ("SUM_WITH_MULTIPLIER", {"multiplier": "0.1"}, "0.7"),
    ],
)  # fmt: skip
def test_every_aggregation_is_the_same_with_and_without_grouping(api: Api, type: str, members: dict[str, Any], total: str):
    api.meter(type, **members)
    api.accept(make_event(properties={"size": 1}), make_event(timestamp="2025-06-02T10:00:00Z", properties={"size": 6}))
    for query in ({}, {"group_by": ["properties.none"]}, {"window_size": "MONTH"}, {"property_filters": {"none": [""]}}):
        [item] = analytics(api, **query)
        assert item["total_usage"] == total
        assert all(point["usage"] == total for point in item["points"])


def test_a_weighted_sum_is_weighed_by_the_requests_range(api: Api):
    api.meter("WEIGHTED_SUM")
    api.accept(make_event(timestamp="2025-06-06T00:00:00Z", properties={"size": 30}))
    query = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-06-11T00:00:00Z"}
    assert [item["total_usage"] for item in analytics(api, **query)] == ["15"]
    assert [item["total_usage"] for item in analytics(api, group_by=["source"], **query)] == ["15"]


def test_the_range_is_half_open(api: Api):
    api.meter("COUNT")
    api.accept(make_event(timestamp="2025-06-02T00:00:00Z"), make_event(timestamp="2025-06-03T00:00:00Z"))
    query = {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-03T00:00:00Z"}
    assert [item["event_count"] for item in analytics(api, **query)] == [1]


def test_a_meter_defined_after_the_events_sees_them(api: Api):
    api.accept(make_event(properties={"size": 3}))
    assert api.post("/meters", make_meter()).status == 201
    assert [item["total_usage"] for item in analytics(api)] == ["3"]


def test_decimals_are_exact_text(api: Api):
    api.meter()
    api.accept(make_event(properties={"size": "0.1"}), make_event(properties={"size": "123456789012345678901234567890.20"}))
    assert analytics(api)[0]["total_usage"] == "123456789012345678901234567890.3"
    api.accept(make_event(external_customer_id="b", properties={"size": 1e21}))
    assert analytics(api, external_customer_id="b")[0]["total_usage"] == "1000000000000000000000"


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": "source"}, {"group_by": [1]}, {"group_by": {}}, {"sources": "api"}, {"sources": [None]}, {"feature_ids": {}},
        {"expand": "meter"}, {"expand": [[]]}, {"property_filters": []}, {"property_filters": {"a": "b"}},
        {"include_children": "yes"}, {"breakdown_bucket": 1}, {"window_size": 5}, {"external_customer_id": 5}, {"start_time": 5},
        {"end_time": "x"}, {"sources": ["x"] * 1001}, {"property_filters": {"a": ["x"] * 1001}},
    ],
)  # fmt: skip
def test_a_member_of_the_wrong_type_is_refused_by_name(api: Api, query: dict[str, Any]):
    answer = refused(api, **query)
    assert next(iter(query)) in answer.message


def test_flags_for_what_is_not_there_are_accepted(traffic: Api):
    assert len(analytics(traffic, include_children=True, breakdown_bucket=True)) == 3
    assert len(analytics(traffic, include_children=None, group_by=None, sources=None, expand=None, property_filters=None)) == 3


def test_too_many_groups_are_refused(api: Api, settings):
    settings.FLEXMETER_MAX_GROUPS = 3
    api.meter("COUNT")
    api.accept(*(make_event(properties={"n": number}) for number in range(4)))
    assert "more than 3 groups" in refused(api, group_by=["properties.n"]).message
    assert len(analytics(api)) == 1
