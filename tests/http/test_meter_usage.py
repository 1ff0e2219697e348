"""`POST /events/usage/meter`: a meter's definition, the request's narrowing, and meters that never reset."""

from typing import Any

import pytest

from tests.http.client import EVER, Answer, Api, make_event, points

JUNE = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-07-01T00:00:00Z"}


def usage(api: Api, meter: dict[str, Any], **query: Any) -> Answer:
    answer = api.post("/events/usage/meter", {"meter_id": meter["id"]} | EVER | query)
    assert answer.status == 200, answer
    return answer


def value(api: Api, meter: dict[str, Any], **query: Any) -> Any:
    return usage(api, meter, **query).body["value"]


@pytest.fixture
def traffic(api: Api) -> Api:
    """9 before June, then 4, 6 and 2 in it; the last has another customer."""
    for time, size, region in (("05-20T12", 9, "eu"), ("06-01T00", 4, "eu"), ("06-11T00", "6", "us")):
        api.accept(make_event(timestamp=f"2025-{time}:00:00Z", properties={"size": size, "region": region}))
    other = make_event(timestamp="2025-06-21T00:00:00Z", external_customer_id="globex", customer_id="c1", properties={"size": 2})
    api.accept(other)
    return api


def test_name_type_field_and_figure_come_from_the_meter(traffic: Api):
    meter = traffic.meter("SUM", event_name=" api_request ")
    assert usage(traffic, meter, **JUNE).body == {"event_name": "api_request", "type": "SUM", "value": 12, "results": []}


@pytest.mark.parametrize(
    ("type", "members", "expected"),
    [
        ("COUNT", {}, 3),
        ("SUM", {}, 12),
        ("AVG", {}, 4),
        ("MAX", {}, 6),
        ("MIN", {}, 2),
        ("LATEST", {}, 2),
        ("COUNT_UNIQUE", {"field": "region"}, 2),
        ("SUM_WITH_MULTIPLIER", {"multiplier": "0.5"}, 6),
        ("WEIGHTED_SUM", {}, (4 * 30 + 6 * 20 + 2 * 10) / 30),
        ("MAX", {"bucket_size": "MONTH"}, 6),
        ("MAX", {"bucket_size": "DAY"}, 12),
        ("SUM", {"bucket_size": "WEEK"}, 12),
        ("MAX", {"bucket_size": "MONTH", "group_by": "region"}, 12),
    ],
)
def test_every_aggregation_gives_its_figure(traffic: Api, type: str, members: dict[str, Any], expected: float):
    meter = traffic.meter(type, **members)
    assert value(traffic, meter, **JUNE) == pytest.approx(expected, rel=1e-9)


def test_customers_narrow_the_figure(traffic: Api):
    meter = traffic.meter()
    assert value(traffic, meter, external_customer_id="acme") == 19
    assert value(traffic, meter, external_customer_id="globex") == 2
    assert value(traffic, meter, customer_id="c1") == 2
    assert value(traffic, meter, customer_id="c1", external_customer_id="acme") == 0


def test_filters_of_meter_and_request_both_apply(traffic: Api):
    meter = traffic.meter(filters=[{"key": "region", "values": ["eu", "us"]}])
    assert value(traffic, meter) == 19
    assert value(traffic, meter, filters={"region": ["us"]}) == 6
    assert value(traffic, meter, filters={"size": ["4"]}) == 4
    assert value(traffic, meter, filters={"region": [""]}) == 0


def test_windows_zone_and_anchor_are_those_of_the_request(traffic: Api):
    meter = traffic.meter()
    query = {"window_size": "MONTH", "billing_anchor": "2025-01-21T00:00:00Z", "timezone": "Asia/Kolkata"}
    assert points(usage(traffic, meter, **query)) == {
        "2025-04-20T18:30:00Z": 9,
        "2025-05-20T18:30:00Z": 10,
        "2025-06-20T18:30:00Z": 2,
    }


@pytest.mark.parametrize("bucket_size", ["DAY", "whatever", ""])
def test_the_bucket_of_the_request_is_ignored(traffic: Api, bucket_size: str):
    meter = traffic.meter("MAX", bucket_size="MONTH")
    assert value(traffic, meter, bucket_size=bucket_size) == 15
    assert value(traffic, traffic.meter("MAX"), bucket_size=bucket_size) == 9


def test_an_expression_is_evaluated_for_each_event(traffic: Api):
    meter = traffic.meter("SUM", expression="size * 2 + 1")
    assert value(traffic, meter, **JUNE) == 2 * 12 + 3
    assert value(traffic, traffic.meter("MAX", expression="max(size, 5)"), **JUNE) == 6


@pytest.mark.parametrize("change", ["disable", "delete"])
def test_an_archived_meter_answers_for_what_it_has_counted_and_counts_no_more(traffic: Api, change: str):
    meter = traffic.meter()
    traffic.post(f"/meters/{meter['id']}/disable") if change == "disable" else traffic.delete(f"/meters/{meter['id']}")
    traffic.accept(make_event(properties={"size": 100}))
    assert value(traffic, meter) == 21
    assert value(traffic, meter, filters={"region": ["eu"]}) == 13


@pytest.mark.parametrize("member", ["", None, 5, [], {}])
def test_a_meter_id_is_required(api: Api, member: Any):
    answer = api.post("/events/usage/meter", {"meter_id": member} | EVER)
    assert answer.status == 400
    assert "meter_id" in answer.message


def test_an_unknown_meter_is_a_404(api: Api):
    answer = api.post("/events/usage/meter", {"meter_id": "meter_01"})
    assert (answer.status, answer.body["code"], answer.message) == (404, "not_found", "Meter not found")
    assert answer.details == {"meter_id": "meter_01", "tenant_id": "main"}


# Meters that never reset


@pytest.mark.parametrize(
    ("type", "members", "expected"),
    [
        ("COUNT", {}, 4),
        ("SUM", {}, 21),
        ("AVG", {}, 5.25),
        ("MAX", {}, 9),
        ("MIN", {}, 2),
        ("LATEST", {}, 2),
        ("COUNT_UNIQUE", {"field": "region"}, 2),
        ("SUM_WITH_MULTIPLIER", {"multiplier": 2}, 42),
        ("WEIGHTED_SUM", {}, 9 + (4 * 30 + 6 * 20 + 2 * 10) / 30),
    ],
)
def test_a_meter_that_never_resets_counts_everything_before_the_end(traffic: Api, type: str, members: Any, expected: float):
    meter = traffic.meter(type, reset_usage="NEVER", **members)
    traffic.accept(make_event(timestamp="2025-07-01T00:00:00Z", properties={"size": 1000, "region": "later"}))
    assert value(traffic, meter, **JUNE) == pytest.approx(expected, rel=1e-9)


def test_its_windows_are_those_of_the_period_and_its_value_what_there_was_before(traffic: Api):
    meter = traffic.meter(reset_usage="NEVER")
    answer = usage(traffic, meter, window_size="DAY", **JUNE)
    assert answer.body["value"] == 9
    assert list(points(answer).values()) == [4, 6, 2]


def test_it_accumulates_per_customer_and_within_filters(traffic: Api):
    meter = traffic.meter(reset_usage="NEVER")
    assert value(traffic, meter, external_customer_id="acme", **JUNE) == 19
    assert value(traffic, meter, filters={"region": ["eu"]}, **JUNE) == 13


def test_a_latest_value_from_before_the_period_is_still_in_force(api: Api):
    meter = api.meter("LATEST", reset_usage="NEVER")
    api.accept(make_event(timestamp="2025-01-01T00:00:00Z", properties={"size": 7}))
    assert value(api, meter, **JUNE) == 7
