"""`/meters`: what may be defined, how it is shown, listed, narrowed and archived."""

import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from flexmeter.aggregation import AggregationType
from flexmeter.models import ApiKey, Meter
from flexmeter.windows import WindowSize

from tests.http.client import EVER, Answer, Api, instant, make_event, make_meter

METER_ID = re.compile(r"meter_[0-9A-HJKMNP-TV-Z]{26}")
FAILED = "Request validation failed"


def refused(api: Api, body: Any) -> Answer:
    answer = api.post("/meters", body)
    assert (answer.status, answer.body["code"]) == (400, "validation_error"), answer
    assert Meter.objects.count() == 0
    return answer


def changed(**members: Any) -> dict[str, Any]:
    return make_meter() | members


def aggregated(type: str, **members: Any) -> dict[str, Any]:
    return make_meter() | {"aggregation": {"type": type} | members}


def test_a_new_meter_is_answered_with_201_and_every_member(api: Api):
    body = {
        "name": "Request size",
        "event_name": " api_request ",
        "aggregation": {"type": "SUM", "field": "request_size"},
        "filters": [{"key": "region", "values": ["eu", "us", "eu"]}],
        "reset_usage": "BILLING_PERIOD",
    }
    answer = api.post("/meters", body)
    assert answer.status == 201
    meter = dict(answer.body)
    assert METER_ID.fullmatch(meter.pop("id"))
    assert instant(meter.pop("created_at")).utcoffset() is not None
    assert instant(meter.pop("updated_at")).utcoffset() is not None
    key = ApiKey.objects.get().id
    assert meter == {
        "name": "Request size",
        "tenant_id": "main",
        "environment_id": "main",
        "event_name": "api_request",
        "aggregation": {
            "type": "SUM", "field": "request_size", "expression": None, "multiplier": None, "bucket_size": None, "group_by": None,
        },
        "filters": [{"key": "region", "values": ["eu", "us"]}],
        "reset_usage": "BILLING_PERIOD",
        "dimensions": [],
        "dimensions_passed_at": None,
        "status": "published",
        "created_by": key,
        "updated_by": key,
    }  # fmt: skip


@pytest.mark.parametrize("type", list(AggregationType))
def test_every_aggregation_can_be_metered(api: Api, type: AggregationType):
    members = {"multiplier": 2} if type is AggregationType.SUM_WITH_MULTIPLIER else {}
    assert api.meter(type.value, **members)["aggregation"]["type"] == type.value


@pytest.mark.parametrize("size", [size.value for size in WindowSize])
def test_maximum_and_sum_can_have_buckets_of_every_size(api: Api, size: str):
    assert api.meter("MAX", bucket_size=size, group_by="region")["aggregation"]["bucket_size"] == size
    assert api.meter("SUM", bucket_size=size)["aggregation"]["bucket_size"] == size


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (2, "2"),
        (2.50, "2.5"),
        ("0.10", "0.1"),
        ("1e3", "1000"),
        (1e-7, "0.0000001"),
        ("+5", "5"),
        ("123456789.123456789", "123456789.123456789"),
    ],
)
def test_a_multiplier_is_shown_as_a_plain_decimal(api: Api, sent: Any, shown: str):
    assert api.meter("SUM_WITH_MULTIPLIER", multiplier=sent)["aggregation"]["multiplier"] == shown


def test_what_does_not_belong_to_the_aggregation_is_ignored_or_null(api: Api):
    assert api.meter("SUM", multiplier=-3)["aggregation"]["multiplier"] is None
    assert api.meter("COUNT", field="size")["aggregation"]["field"] == "size"
    assert api.meter("COUNT", field=None, bucket_size=None, group_by="", expression=None)["aggregation"]["field"] is None
    unknown = {"id": "meter_mine", "status": "deleted", "environment_id": "elsewhere", "tenant_id": "x", "generation": 9}
    meter = api.meter(**unknown)
    assert meter["id"] != "meter_mine"
    assert (meter["status"], meter["environment_id"]) == ("published", "main")


@pytest.mark.parametrize("member", ["name", "event_name", "aggregation", "reset_usage"])
@pytest.mark.parametrize("value", [None, "", 7, True, [], ...])
def test_required_members_must_be_there_and_of_their_type(api: Api, member: str, value: Any):
    body = make_meter()
    if value is ...:
        del body[member]
    else:
        body[member] = value
    answer = refused(api, body)
    assert answer.message.startswith("Please check the request payload")
    assert member in answer.message
    assert member in answer.details


MULTIPLIED = {"field": "size", "multiplier": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (changed(name="  "), f"{FAILED}: name is required and must not be blank"),
        (changed(event_name="\t"), f"{FAILED}: event_name is required and must not be blank"),
        (changed(name="x" * 256), f"{FAILED}: name must not be longer than 255 characters"),
        (changed(event_name="x" * 256), f"{FAILED}: event_name must not be longer than 255 characters"),
        (aggregated("SUM", field="x" * 256), f"{FAILED}: aggregation.field must not be longer than 255 characters"),
        (aggregated("MEDIAN", field="size"), "Please provide a valid aggregation type"),
        (aggregated("sum", field="size"), "Please provide a valid aggregation type"),
        (aggregated("SUM"), "Please specify a field or expression for this aggregation type"),
        (aggregated("COUNT_UNIQUE", field=""), "Please specify a field or expression for this aggregation type"),
        (aggregated("LATEST", field=None), "Please specify a field or expression for this aggregation type"),
        (aggregated("COUNT", expression="size"), "Use SUM, AVG, MAX or LATEST when providing an expression"),
        (aggregated("WEIGHTED_SUM", expression="size"), "Use SUM, AVG, MAX or LATEST when providing an expression"),
        (aggregated("SUM", expression="size", field="size"), "Provide either field or expression, not both"),
        (aggregated("SUM_WITH_MULTIPLIER", field="size"), "Please provide a multiplier value"),
        (aggregated("SUM_WITH_MULTIPLIER", field="size", multiplier=None), "Please provide a multiplier value"),
        (aggregated("SUM_WITH_MULTIPLIER", field="size", multiplier=0), "Multiplier must be greater than zero"),
        (aggregated("SUM_WITH_MULTIPLIER", field="size", multiplier="-1"), "Multiplier must be greater than zero"),
        (aggregated("AVG", field="size", bucket_size="DAY"), "BucketSize is only valid for MAX or SUM aggregation type"),
        (aggregated("COUNT", bucket_size="DAY"), "BucketSize is only valid for MAX or SUM aggregation type"),
        (aggregated("MAX", field="size", bucket_size="2HOUR"), "Please provide a valid window size for bucket_size"),
        (aggregated("SUM", field="size", bucket_size="day"), "Please provide a valid window size for bucket_size"),
        (
            aggregated("MAX", field="size", group_by="region"),
            "GroupBy is only valid for MAX aggregation type with a bucket_size configured",
        ),
        (
            aggregated("SUM", field="size", bucket_size="DAY", group_by="region"),
            "GroupBy is only valid for MAX aggregation type with a bucket_size configured",
        ),
        (changed(filters=[{"values": ["eu"]}]), "Please provide a key for each filter"),
        (changed(filters=[{"key": "", "values": ["eu"]}]), "Please provide a key for each filter"),
        (changed(filters=[{"key": "region"}]), "Please provide at least one value for each filter"),
        (changed(filters=[{"key": "region", "values": []}]), "Please provide at least one value for each filter"),
        (changed(filters=[{"key": "region", "values": None}]), "Please provide at least one value for each filter"),
        (changed(reset_usage="RECURRING"), "Invalid reset usage"),
        (changed(reset_usage="never"), "Invalid reset usage"),
    ],
)
def test_a_broken_rule_has_its_message(api: Api, body: dict[str, Any], message: str):
    answer = refused(api, body)
    assert answer.message == message
    assert answer.details


def test_an_unknown_reset_names_the_known_ones(api: Api):
    answer = refused(api, changed(reset_usage="RECURRING"))
    assert answer.details == {"allowed_values": ["BILLING_PERIOD", "NEVER"], "provided_value": "RECURRING"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (changed(aggregation="SUM"), "aggregation"),
        (changed(aggregation={}), "aggregation.type"),
        (aggregated("SUM", field=5), "aggregation.field"),
        (aggregated("SUM", expression=[]), "aggregation.expression"),
        (aggregated("SUM", field="size", bucket_size=5), "aggregation.bucket_size"),
        (aggregated("SUM", field="size", multiplier="many"), "aggregation.multiplier"),
        (aggregated("SUM", field="a\x00"), "aggregation.field"),
        (changed(name="a\x00"), "name"),
        (changed(event_name="\ud800"), "event_name"),
        (changed(filters={}), "filters"),
        (changed(filters=["region"]), "filters[0]"),
        (changed(filters=[{"key": "a", "values": ["x"]}, {"key": 5, "values": ["x"]}]), "filters[1].key"),
        (changed(filters=[{"key": "region", "values": "eu"}]), "filters[0].values"),
        (changed(filters=[{"key": "region", "values": ["eu", 5]}]), "filters[0].values[1]"),
        (changed(filters=[{"key": "region", "values": ["eu\x00"]}]), "filters[0].values[0]"),
        (changed(filters=[{"key": "a", "values": [str(number) for number in range(1001)]}]), "filters"),
    ],
)
def test_a_member_of_the_wrong_form_is_named_by_its_path(api: Api, body: dict[str, Any], where: str):
    answer = refused(api, body)
    assert where in answer.details


@pytest.mark.parametrize(
    "expression", ["size +", "size % 2", "1 + 2", "nosuch(size)", "'text'", "size; 1", "__import__('os')", "(" * 200]
)
def test_an_expression_must_compile_and_use_a_property(api: Api, expression: str):
    answer = refused(api, aggregated("SUM", expression=expression))
    assert "aggregation.expression" in answer.details


def test_an_expression_is_shown_as_it_was_given(api: Api):
    aggregation = api.meter("SUM", expression=" size * 2 ")["aggregation"]
    assert aggregation["expression"].strip() == "size * 2"
    assert aggregation["field"] is None


# One meter


def test_a_meter_can_be_fetched(api: Api):
    meter = api.meter()
    for path in (f"/meters/{meter['id']}", f"/meters/{meter['id']}/"):
        answer = api.get(path)
        assert (answer.status, answer.body) == (200, meter)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/meters/{}", b""),
        ("PUT", "/meters/{}", {"filters": [{"key": "a", "values": ["b"]}]}),
        ("DELETE", "/meters/{}", b""),
        ("POST", "/meters/{}/disable", b""),
    ],
)
@pytest.mark.parametrize("meter_id", ["meter_01", "nope", "é", "%25", "' OR 1=1 --", "METER", "x" * 2000])
def test_an_unknown_meter_is_a_404(api: Api, method: str, path: str, body: Any, meter_id: str):
    answer = api.call(method, path.format(quote(meter_id)), body)
    assert (answer.status, answer.body["code"], answer.message) == (404, "not_found", "Meter not found")
    assert answer.details["tenant_id"] == "main"


# Filters


def put(api: Api, meter: dict[str, Any], *filters: tuple[str, list[str]], **others: Any) -> dict[str, Any]:
    body = {"filters": [{"key": key, "values": values} for key, values in filters]} | others
    answer = api.put(f"/meters/{meter['id']}", body)
    assert answer.status == 200, answer
    return answer.body


def test_filters_are_merged_and_nothing_is_ever_removed(api: Api):
    meter = api.meter(filters=[{"key": "region", "values": ["eu"]}])
    put(api, meter, ("region", ["us", "eu"]), ("tier", ["1"]), ("tier", ["2", "1"]))
    changed = put(api, meter, ("tier", ["3"]))
    assert changed["filters"] == [{"key": "region", "values": ["eu", "us"]}, {"key": "tier", "values": ["1", "2", "3"]}]
    assert api.get(f"/meters/{meter['id']}").body == changed
    assert changed["updated_at"] > meter["updated_at"]


def test_a_new_filter_narrows_what_was_counted_before(api: Api):
    meter = api.meter()
    api.accept(make_event(properties={"size": 1, "region": "eu"}), make_event(properties={"size": 2, "region": "us"}))
    put(api, meter, ("region", ["us"]))
    answer = api.post("/events/usage/meter", {"meter_id": meter["id"]} | EVER)
    assert answer.body["value"] == 2


def test_other_members_of_a_change_are_ignored(api: Api):
    meter = api.meter()
    changed = put(api, meter, ("a", ["b"]), name="Renamed", event_name="other", aggregation={"type": "COUNT"}, status="deleted")
    assert {key: changed[key] for key in ("name", "event_name", "aggregation", "status")} == {
        key: meter[key] for key in ("name", "event_name", "aggregation", "status")
    }


@pytest.mark.parametrize("body", [{}, {"filters": []}, {"filters": None}])
def test_a_change_needs_a_filter(api: Api, body: dict[str, Any]):
    answer = api.put(f"/meters/{api.meter()['id']}", body)
    assert (answer.status, answer.message) == (400, "At least one filter must be provided")


@pytest.mark.parametrize(
    "filters", ["x", {}, ["x"], [{"key": "", "values": ["x"]}], [{"key": "a", "values": []}], [{"key": "a\x00", "values": ["x"]}]]
)
def test_an_unusable_filter_changes_nothing(api: Api, filters: Any):
    meter = api.meter()
    assert api.put(f"/meters/{meter['id']}", {"filters": filters}).status == 400
    assert api.get(f"/meters/{meter['id']}").body == meter


# Archiving


@pytest.mark.parametrize(
    ("method", "suffix", "message"),
    [("POST", "/disable", "Meter disabled successfully"), ("DELETE", "", "Meter deleted successfully")],
)
def test_disabling_and_deleting_archive_a_meter(api: Api, method: str, suffix: str, message: str):
    meter = api.meter()
    for _ in range(2):
        answer = api.call(method, f"/meters/{meter['id']}{suffix}")
        assert (answer.status, answer.body) == (200, {"message": message})
    assert api.get(f"/meters/{meter['id']}").body["status"] == "archived"
    assert [meter["status"] for meter in api.get("/meters").body["items"]] == ["archived"]


# Lists


def listed(api: Api, **parameters: str) -> Any:
    answer = api.get("/meters?" + urlencode(parameters))
    assert answer.status == 200, answer
    return answer.body


@pytest.fixture
def three(api: Api) -> Api:
    api.meter(name="b", event_name="x")
    api.meter("COUNT", name="a", event_name="y")
    archived = api.meter(name="c", event_name="x")
    api.delete(f"/meters/{archived['id']}")
    return api


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({}, "cab"),
        ({"status": "published"}, "ab"),
        ({"status": "archived"}, "c"),
        ({"status": "deleted"}, ""),
        ({"status": ""}, "cab"),
        ({"event_name": "x"}, "cb"),
        ({"event_name": "X"}, ""),
        ({"event_name": "x", "status": "published"}, "b"),
        ({"name": "a"}, "a"),
        ({"aggregation_type": "COUNT"}, "a"),
        ({"sort": "name", "order": "asc"}, "abc"),
        ({"sort": "name"}, "cba"),
        ({"sort": "event_name", "order": "asc"}, "bca"),
        ({"order": "asc"}, "bac"),
        ({"limit": "2"}, "ca"),
        ({"limit": "2", "offset": "2"}, "b"),
        ({"offset": "5"}, ""),
        ({"unknown": "x"}, "cab"),
    ],
)
def test_a_list_is_filtered_sorted_and_paged(three: Api, parameters: dict[str, str], names: str):
    assert "".join(meter["name"] for meter in listed(three, **parameters)["items"]) == names


def test_a_list_names_the_total_the_limit_and_the_next_offset(three: Api):
    assert listed(three)["pagination"] == {"total": 3, "limit": 50, "offset": 50}
    assert listed(three, limit="1", offset="1", event_name="x")["pagination"] == {"total": 2, "limit": 1, "offset": 2}


def test_listed_meters_have_the_shape_of_single_ones(api: Api):
    assert listed(api)["items"] == []
    meter = api.meter()
    assert listed(api)["items"] == [meter]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"), ("limit", "1001"), ("limit", "-1"), ("limit", "x"), ("limit", "1.5"), ("limit", "9" * 50), ("offset",
        "-1"),
        ("offset", "x"), ("offset", "9" * 50), ("status", "bogus"), ("sort", "generation"), ("sort", "name; --"), ("order", "up"),
        ("event_name", "a\x00"), ("name", "\x00"),
    ],
)  # fmt: skip
def test_an_unusable_parameter_is_a_400_that_names_it(api: Api, name: str, value: str):
    answer = api.get("/meters?" + urlencode({name: value}))
    assert answer.status == 400
    assert name in answer.message


def test_a_meter_takes_no_other_methods(api: Api):
    meter = api.meter()
    for method, path in (
        ("PATCH", f"/meters/{meter['id']}"),
        ("POST", f"/meters/{meter['id']}"),
        ("GET", f"/meters/{meter['id']}/disable"),
    ):
        assert api.call(method, path).status == 405


def test_dimensions_are_shown_and_can_be_exchanged(api: Api):
    meter = api.post("/meters", changed(dimensions=["region", "model"])).body
    assert meter["dimensions"] == ["region", "model"]
    path = f"/meters/{meter['id']}"
    assert api.put(path, {"dimensions": ["region", 7]}).status == 400
    answer = api.put(path, {"dimensions": ["a", "b", "a"]})
    assert (answer.status, answer.body["details"]) == (400, {"dimensions[2]": "is there twice"})
    assert api.put(path, {"dimensions": ["zone"], "filters": [{"key": "kind", "values": ["a"]}]}).body["dimensions"] == ["zone"]
    assert api.put(path, {"filters": [{"key": "kind", "values": ["b"]}]}).body["dimensions"] == ["zone"]
    shown = api.put(path, {"dimensions": []}).body
    assert (shown["dimensions"], shown["filters"]) == ([], [{"key": "kind", "values": ["a", "b"]}])


@pytest.mark.parametrize("dimensions", ["region", [1], [["a"]], ["a"] * 2, ["a", "b", "c", "d"], [""], ["x" * 256], {"a": "b"}])
def test_what_can_be_no_dimensions_is_refused(api: Api, dimensions: Any):
    refused(api, changed(dimensions=dimensions))


def test_usage_by_a_dimension_is_the_same_as_without(api: Api):
    plain, apart = (api.post("/meters", changed(name=name, dimensions=of)).body for name, of in (("a", []), ("b", ["region"])))
    regions = ["eu", "us", "eu", None, "ap", "eu"]
    for number, region in enumerate(regions):
        api.post("/events", make_event(event_id=f"event_{number}", properties={"size": number, "region": region}))
    for filters in ({}, {"region": ["eu"]}, {"region": ["eu", ""]}, {"region": ["nowhere"]}, {"region": ["eu"], "size": ["2"]}):
        answers = [
            api.post("/events/usage/meter", EVER | {"meter_id": meter["id"], "filters": filters}) for meter in (plain, apart)
        ]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].body == answers[1].body
