"""`GET /events/monitoring`: how many events there were, and when."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from tests.http.client import Answer, Api, make_event

DAY = {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-03T00:00:00Z"}


def monitoring(api: Api, **parameters: str) -> Answer:
    answer = api.get("/events/monitoring?" + urlencode(parameters))
    assert answer.status == 200, answer
    return answer


def test_nothing_is_nothing(api: Api):
    for parameters in ({}, DAY, {"window_size": "HOUR"}):
        assert monitoring(api, **parameters).body == {
            "total_count": 0,
            "consumption_lag": 0,
            "post_processing_lag": 0,
            "points": [],
        }


def test_the_default_is_the_last_24_hours(api: Api):
    now = datetime.now(UTC)
    ages = (timedelta(hours=1), timedelta(hours=23, minutes=59), timedelta(hours=24, minutes=1), timedelta(hours=-1))
    for age in ages:
        api.accept(make_event(timestamp=(now - age).isoformat()))
    assert monitoring(api).body["total_count"] == 2
    answer = monitoring(api, window_size="15MIN")
    assert sum(point["event_count"] for point in answer.body["points"]) == answer.body["total_count"] == 2


def test_all_customers_and_names_count_and_repeats_do_not(api: Api):
    api.accept(
        make_event("a"), make_event("b", external_customer_id="globex"), make_event("c", event_name="other"), make_event("a")
    )
    assert monitoring(api, **DAY).body["total_count"] == 3


def test_the_range_is_half_open(api: Api):
    for time in ("2025-06-01T23:59:59.999999Z", "2025-06-02T00:00:00Z", "2025-06-02T23:59:59.999999Z", "2025-06-03T00:00:00Z"):
        api.accept(make_event(timestamp=time))
    assert monitoring(api, **DAY).body["total_count"] == 2
    assert monitoring(api, start_time=DAY["start_time"], end_time=DAY["start_time"]).body["total_count"] == 0


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ("MINUTE", {"2025-06-02T09:10:00Z": 1, "2025-06-02T09:59:00Z": 2, "2025-06-02T11:00:00Z": 1}),
        ("30MIN", {"2025-06-02T09:00:00Z": 1, "2025-06-02T09:30:00Z": 2, "2025-06-02T11:00:00Z": 1}),
        ("HOUR", {"2025-06-02T09:00:00Z": 3, "2025-06-02T11:00:00Z": 1}),
        ("12HOUR", {"2025-06-02T00:00:00Z": 4}),
        ("DAY", {"2025-06-02T00:00:00Z": 4}),
        ("WEEK", {"2025-06-02T00:00:00Z": 4}),
        ("MONTH", {"2025-06-01T00:00:00Z": 4}),
    ],
)
def test_points_are_utc_cells_that_add_up_to_the_total(api: Api, size: str, counts: dict[str, int]):
    for time in ("09:10:59.999999", "09:59:00", "09:59:30", "11:00:00"):
        api.accept(make_event(timestamp=f"2025-06-02T{time}Z"))
    answer = monitoring(api, window_size=size, **DAY).body
    assert {point["timestamp"]: point["event_count"] for point in answer["points"]} == counts
    assert answer["total_count"] == 4


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Africa/Monrovia", "America/New_York"])
def test_points_do_not_follow_the_projects_time_zone(api: Api, zone: str):
    times = ["1950-06-02T09:10:30Z", "2025-06-02T09:10:30Z"]
    for time in times:
        api.accept(make_event(timestamp=time))
    with timezone.override(zone):
        answer = monitoring(api, window_size="MINUTE", start_time="1900-01-01T00:00:00Z", end_time="2030-01-01T00:00:00Z")
    assert [point["timestamp"] for point in answer.body["points"]] == ["1950-06-02T09:10:00Z", "2025-06-02T09:10:00Z"]


@pytest.mark.parametrize("one", ["start_time", "end_time"])
def test_one_bound_alone_is_a_400(api: Api, one: str):
    for query in (urlencode({one: DAY[one]}), urlencode({"start_time": "", "end_time": ""} | {one: DAY[one]})):
        answer = api.get(f"/events/monitoring?{query}")
        assert answer.status == 400
        assert answer.message == "Please provide both start_time and end_time, or leave both empty for default 24 hour window"


@pytest.mark.parametrize(
    "parameters",
    [DAY | {"start_time": "x"}, DAY | {"end_time": "2025-06-03"}, {"start_time": DAY["end_time"], "end_time": DAY["start_time"]}],
)
def test_an_unreadable_time_is_a_400(api: Api, parameters: dict[str, str]):
    answer = api.get("/events/monitoring?" + urlencode(parameters))
    assert answer.status == 400
    assert answer.message.startswith("Please check the query parameters")


@pytest.mark.parametrize("size", ["FORTNIGHT", "hour", "%", "\x00", "x" * 5000])
def test_an_unknown_window_is_a_400(api: Api, size: str):
    answer = api.get("/events/monitoring?" + urlencode({"window_size": size}))
    assert answer.status == 400
    assert "window" in answer.message.lower()


def test_too_many_points_are_a_400(api: Api, settings):
    settings.FLEXMETER_MAX_WINDOWS = 2
    api.accept(*(make_event(timestamp=f"2025-06-02T0{hour}:00:00Z") for hour in range(3)))
    answer = api.get("/events/monitoring?" + urlencode(DAY | {"window_size": "HOUR"}))
    assert (answer.status, "more than 2 windows" in answer.message) == (400, True)
