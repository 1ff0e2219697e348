"""Windows, time zones, anchors and buckets as they appear in `POST /events/usage`."""

from typing import Any

import pytest

from flexmeter.windows import WindowSize

from tests.http.client import Api, instant, make_event, points


def labels(api: Api, *times: str, **query: Any) -> list[str]:
    """Send an event at each time and return the starts of their windows."""
    api.accept(*(make_event(timestamp=time) for time in times))
    return list(points(api.usage(**query)))


def test_every_size_has_its_own_cells(api: Api):
    api.accept(make_event(timestamp="2025-06-05T17:38:41.5Z"))
    starts = {size.value: next(iter(points(api.usage(window_size=size.value)))) for size in WindowSize}
    assert starts == {
        "MINUTE": "2025-06-05T17:38:00Z",
        "15MIN": "2025-06-05T17:30:00Z",
        "30MIN": "2025-06-05T17:30:00Z",
        "HOUR": "2025-06-05T17:00:00Z",
        "3HOUR": "2025-06-05T15:00:00Z",
        "6HOUR": "2025-06-05T12:00:00Z",
        "12HOUR": "2025-06-05T12:00:00Z",
        "DAY": "2025-06-05T00:00:00Z",
        "WEEK": "2025-06-02T00:00:00Z",
        "MONTH": "2025-06-01T00:00:00Z",
    }


@pytest.mark.parametrize("size", [size.value for size in WindowSize])
def test_a_start_belongs_to_the_window_and_an_end_to_the_next(api: Api, size: str):
    times = (
        ["2025-06-01T23:59:59.999999Z", "2025-06-02T00:00:00Z"]
        if size != "MONTH"
        else ["2025-05-31T23:59:59Z", "2025-06-01T00:00:00Z"]
    )
    starts = labels(api, *times, window_size=size)
    assert len(starts) == 2
    assert starts == sorted(starts)
    assert starts[1] == times[1]


def test_the_first_label_may_lie_before_the_start_and_only_events_inside_count(api: Api):
    api.accept(make_event(timestamp="2025-06-02T08:00:00Z"), make_event(timestamp="2025-06-02T10:00:00Z"))
    answer = api.usage(window_size="DAY", start_time="2025-06-02T09:00:00Z", end_time="2025-06-02T12:00:00Z")
    assert points(answer) == {"2025-06-02T00:00:00Z": 1}


def test_a_week_starts_on_monday_or_on_sunday_by_setting(api: Api, settings):
    api.accept(make_event(timestamp="2025-06-08T12:00:00Z"))  # a Sunday
    assert list(points(api.usage(window_size="WEEK"))) == ["2025-06-02T00:00:00Z"]
    settings.FLEXMETER_WEEK_STARTS = "sunday"
    assert list(points(api.usage(window_size="WEEK"))) == ["2025-06-08T00:00:00Z"]


@pytest.mark.parametrize(
    ("size", "timezone", "time", "start"),
    [
        ("DAY", "Asia/Kolkata", "2025-06-02T19:00:00Z", "2025-06-02T18:30:00Z"),
        ("HOUR", "Asia/Kolkata", "2025-06-02T19:00:00Z", "2025-06-02T18:30:00Z"),
        ("30MIN", "Asia/Kathmandu", "2025-06-02T19:00:00Z", "2025-06-02T18:45:00Z"),
        ("15MIN", "Asia/Kathmandu", "2025-06-02T19:14:00Z", "2025-06-02T19:00:00Z"),
        ("MINUTE", "Asia/Kathmandu", "2025-06-02T19:14:59Z", "2025-06-02T19:14:00Z"),
        ("WEEK", "America/New_York", "2025-06-02T03:00:00Z", "2025-05-26T04:00:00Z"),
        ("MONTH", "America/New_York", "2025-06-01T03:00:00Z", "2025-05-01T04:00:00Z"),
        ("MONTH", "Pacific/Kiritimati", "2025-05-31T10:00:00Z", "2025-05-31T10:00:00Z"),
        ("12HOUR", "Australia/Eucla", "2025-06-02T03:30:00Z", "2025-06-02T03:15:00Z"),
        ("DAY", "", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", "Mars/Olympus", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", "+05:30", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", "../../etc/passwd", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", "asia/kolkata", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", "posixrules", "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
        ("DAY", None, "2025-06-02T19:00:00Z", "2025-06-02T00:00:00Z"),
    ],
)
def test_windows_follow_the_clock_of_a_known_zone_and_else_utc(api: Api, size: str, timezone: str | None, time: str, start: str):
    [label] = labels(api, time, window_size=size, timezone=timezone)
    assert instant(label) == instant(start)


def test_the_repeated_hour_in_autumn_is_two_windows(api: Api):
    starts = labels(api, "2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z", window_size="HOUR", timezone="America/New_York")
    assert starts == ["2025-11-02T05:00:00Z", "2025-11-02T06:00:00Z"]


def test_days_of_a_clock_change_are_23_and_25_hours_long(api: Api):
    hours = [f"2025-03-09T{hour:02}:00:00Z" for hour in range(24)] + [f"2025-03-10T{hour:02}:00:00Z" for hour in range(24)]
    api.accept(*(make_event(timestamp=time) for time in hours))
    spring = points(api.usage(window_size="DAY", timezone="America/New_York"))
    assert spring["2025-03-09T05:00:00Z"] == 23
    autumn = [f"2025-11-0{day}T{hour:02}:00:00Z" for day in (2, 3) for hour in range(24)]
    api.accept(*(make_event(timestamp=time) for time in autumn))
    assert points(api.usage(window_size="DAY", timezone="America/New_York"))["2025-11-02T04:00:00Z"] == 25


def test_a_block_with_the_repeated_hour_lasts_four_hours(api: Api):
    api.accept(*(make_event(timestamp=f"2025-11-02T{hour:02}:30:00Z") for hour in range(4, 10)))
    assert points(api.usage(window_size="3HOUR", timezone="America/New_York")) == {
        "2025-11-02T04:00:00Z": 4,
        "2025-11-02T08:00:00Z": 2,
    }


# Anchors


@pytest.mark.parametrize(
    ("anchor", "time", "start"),
    [
        ("2025-01-10T08:30:00Z", "2025-06-10T00:00:00Z", "2025-06-10T00:00:00Z"),
        ("2025-01-10T08:30:00Z", "2025-06-09T23:59:00Z", "2025-05-10T00:00:00Z"),
        ("2020-10-12T00:00:00Z", "2025-10-11T23:59:59Z", "2025-09-12T00:00:00Z"),
        ("2020-10-12T00:00:00Z", "2025-10-12T00:00:00Z", "2025-10-12T00:00:00Z"),
        ("2024-01-31T23:30:00-05:00", "2025-01-31T00:00:00Z", "2025-01-31T00:00:00Z"),
        ("2024-01-31T00:00:00Z", "2025-02-27T23:00:00Z", "2025-01-31T00:00:00Z"),
        ("2024-01-31T00:00:00Z", "2025-02-28T00:00:00Z", "2025-02-28T00:00:00Z"),
        ("2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2024-01-31T00:00:00Z", "2025-03-30T00:00:00Z", "2025-02-28T00:00:00Z"),
        ("2024-01-30T00:00:00Z", "2025-04-30T00:00:00Z", "2025-04-30T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "2025-04-30T00:00:00Z", "2025-04-01T00:00:00Z"),
        (None, "2025-04-30T00:00:00Z", "2025-04-01T00:00:00Z"),
        ("2024-01-15T00:00:00.123456789Z", "2025-04-15T00:00:00Z", "2025-04-15T00:00:00Z"),
    ],
)
def test_months_begin_on_the_day_of_the_anchor(api: Api, anchor: str | None, time: str, start: str):
    assert labels(api, time, window_size="MONTH", billing_anchor=anchor) == [start]


def test_anchored_months_begin_at_local_midnight(api: Api):
    query = {"window_size": "MONTH", "billing_anchor": "2025-01-10T08:30:00Z", "timezone": "Asia/Kolkata"}
    assert labels(api, "2025-06-09T18:29:59Z", "2025-06-09T18:30:00Z", **query) == [
        "2025-05-09T18:30:00Z",
        "2025-06-09T18:30:00Z",
    ]


def test_an_anchor_can_overflow_by_setting(api: Api, settings):
    settings.FLEXMETER_MONTH_ANCHOR = "overflow"
    times = ["2025-03-02T00:00:00Z", "2025-03-03T00:00:00Z", "2025-03-31T00:00:00Z"]
    starts = labels(api, *times, window_size="MONTH", billing_anchor="2025-01-31T00:00:00Z")
    assert starts == ["2025-01-31T00:00:00Z", "2025-03-03T00:00:00Z", "2025-03-31T00:00:00Z"]


@pytest.mark.parametrize("size", [size.value for size in WindowSize if size is not WindowSize.MONTH])
def test_every_other_size_ignores_the_anchor(api: Api, size: str):
    api.accept(make_event())
    anchored = api.usage(window_size=size, billing_anchor="2025-01-17T08:30:00Z")
    assert anchored.body == api.usage(window_size=size).body


# Buckets


@pytest.fixture
def peaks(api: Api) -> Api:
    sizes = {"09:10": (4, "a"), "09:50": (6, "b"), "10:00": (1, "a"), "11:05": (3, "a"), "11:06": (2, None)}
    for time, (size, group) in sizes.items():
        properties = {"size": size} | ({} if group is None else {"group": group})
        api.accept(make_event(timestamp=f"2025-06-02T{time}:00Z", properties=properties))
    return api


def bucketed(api: Api, type: str, **query: Any) -> tuple[Any, list[Any]]:
    answer = api.usage(aggregation_type=type, property_name="size", **{"bucket_size": "HOUR"} | query)
    return answer.body["value"], list(points(answer).values())


def test_a_bucketed_maximum_is_the_sum_of_the_peaks(peaks: Api):
    assert bucketed(peaks, "MAX") == (10, [6, 1, 3])


def test_a_bucketed_sum_has_the_total_of_the_sum(peaks: Api):
    assert bucketed(peaks, "SUM") == (16, [10, 1, 5])


@pytest.mark.parametrize(("type", "value"), [("COUNT", 5), ("AVG", 3.2), ("LATEST", 2), ("COUNT_UNIQUE", 5), ("MIN", 1)])
def test_other_aggregations_ignore_the_bucket(peaks: Api, type: str, value: float):
    assert bucketed(peaks, type) == (value, [])


def test_the_bucket_wins_over_the_window(peaks: Api):
    assert bucketed(peaks, "MAX", window_size="DAY") == bucketed(peaks, "MAX")


def test_buckets_follow_zone_and_anchor_and_take_events_of_the_range_only(peaks: Api):
    assert bucketed(peaks, "MAX", bucket_size="DAY", timezone="Asia/Tokyo") == (6, [6])
    assert bucketed(peaks, "MAX", start_time="2025-06-02T09:20:00Z", end_time="2025-06-02T11:06:00Z") == (10, [6, 1, 3])
    assert bucketed(peaks, "MAX", start_time="2025-06-02T09:55:00Z") == (4, [1, 3])
    anchored = peaks.usage(
        aggregation_type="MAX", property_name="size", bucket_size="MONTH", billing_anchor="2020-01-20T00:00:00Z"
    )
    assert list(points(anchored)) == ["2025-05-20T00:00:00Z"]


@pytest.mark.parametrize("group", [{"group_by": ["properties.group"]}, {"group_by_property": "group"}])
def test_a_grouped_maximum_adds_the_peaks_of_each_group(peaks: Api, group: dict[str, Any]):
    assert bucketed(peaks, "MAX", **group) == (16, [10, 1, 5])


def test_only_the_first_group_counts_and_it_must_look_like_one(peaks: Api):
    assert bucketed(peaks, "MAX", group_by=["properties.group", "properties.size"]) == (16, [10, 1, 5])
    assert bucketed(peaks, "MAX", group_by=["properties.nowhere"], group_by_property="group") == (10, [6, 1, 3])
    for ignored in (["group"], ["source"], ["properties."], [""], []):
        assert bucketed(peaks, "MAX", group_by=ignored) == (10, [6, 1, 3])


def test_groups_without_a_bucket_or_for_a_sum_have_no_effect(peaks: Api):
    assert bucketed(peaks, "SUM", group_by=["properties.group"]) == (16, [10, 1, 5])
    assert peaks.usage(aggregation_type="MAX", property_name="size", group_by=["properties.group"]).body["value"] == 6
