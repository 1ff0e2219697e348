"""A usage event as a value, and what is refused to become one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.events import format_timestamp, new_id, parse_event, parse_events, parse_timestamp
from flexmeter.exceptions import InvalidEvent
from flexmeter.properties import loads

from tests.factories import make_event

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
LEAST = {"event_name": "tokens", "external_customer_id": "acme"}


def parse(**members):
    return parse_event(LEAST | members, now=NOW)


def refused(**members):
    with pytest.raises(InvalidEvent) as caught:
        parse(**members)
    return caught.value


def test_an_event_needs_a_name_and_a_customer_and_nothing_else():
    event = parse()
    assert (event.event_name, event.external_customer_id, event.source, event.customer_id) == ("tokens", "acme", "", "")
    assert (event.timestamp, event.accepted_at, event.timestamp_given) == (NOW, NOW, False)
    assert (event.properties, event.properties_json) == (None, None)


@pytest.mark.parametrize("field", ["event_name", "external_customer_id"])
@pytest.mark.parametrize("value", [None, "", " ", "\t\n", "\u2003"])
def test_a_blank_name_or_customer_is_refused(field, value):
    error = refused(**{field: value})
    assert (error.field, error.code) == (field, "required")


def test_only_the_name_is_trimmed():
    event = parse(event_name="\t tokens ", external_customer_id=" acme ", source=" api ", event_id=" 1 ", customer_id=" c ")
    assert event[:3] == (" 1 ", "tokens", " acme ")
    assert (event.source, event.customer_id) == (" api ", " c ")


@pytest.mark.parametrize("field", ["event_name", "external_customer_id", "event_id", "customer_id", "source"])
@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, ["acme"]])
def test_text_that_is_no_string_is_refused(field, value):
    error = refused(**{field: value})
    assert (error.field, error.code, str(error)) == (field, "type", f"{field} must be a string")


@pytest.mark.parametrize("field", ["event_name", "external_customer_id", "event_id", "customer_id", "source"])
def test_text_has_at_most_255_characters_of_any_width(field):
    assert parse(**{field: "\U0001f9ee" * 255})
    assert refused(**{field: "x" * 256}).code == "too_long"


@pytest.mark.parametrize("field", ["event_name", "external_customer_id", "event_id", "customer_id", "source"])
@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\udfff"])
def test_text_that_no_database_can_keep_is_refused(field, text):
    error = refused(**{field: text})
    assert (error.field, error.code) == (field, "invalid")


@pytest.mark.parametrize("value", [None, ""])
def test_an_id_that_is_not_given_is_made(value):
    event_id = parse(event_id=value).event_id
    assert len(event_id) == len("event_") + 26
    assert event_id.startswith("event_")
    assert set(event_id[6:]) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_ids_made_later_sort_later():
    first = new_id("event")
    while (second := new_id("event"))[:16] == first[:16]:
        pass  # within the same millisecond
    assert first < second
    assert len({new_id("event") for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("unknown", [{"environment": "other"}, {"accepted_at": "2020-01-01T00:00:00Z"}, {"id": 5}])
def test_members_that_are_not_part_of_the_contract_are_ignored(unknown):
    assert parse(event_id="1", **unknown) == parse(event_id="1")


@pytest.mark.parametrize("raw", [None, [], "text", 5, True])
def test_what_is_no_object_is_refused(raw):
    with pytest.raises(InvalidEvent, match="must be an object"):
        parse_event(raw, now=NOW)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-03-20T15:04:05Z", datetime(2024, 3, 20, 15, 4, 5, tzinfo=UTC)),
        ("2024-03-20T15:04:05.1Z", datetime(2024, 3, 20, 15, 4, 5, 100_000, tzinfo=UTC)),
        ("2024-03-20T15:04:05.123456789+05:30", datetime(2024, 3, 20, 9, 34, 5, 123_456, tzinfo=UTC)),
        ("2024-03-20T15:04:05-23:59", datetime(2024, 3, 21, 15, 3, 5, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("1000-01-01T00:00:00Z", datetime(1000, 1, 1, tzinfo=UTC)),
        ("9999-12-30T23:59:59.999999Z", datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_an_instant_with_microseconds(text, instant):
    event = parse(timestamp=text)
    assert (event.timestamp, event.timestamp.tzinfo, event.timestamp_given) == (instant, UTC, True)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "now", "2024-03-20", "2024-03-20T15:04:05", "2024-03-20 15:04:05Z", "2024-03-20t15:04:05Z",
        "2024-03-20T15:04:05z",
        "2024-03-20T15:04:05.Z", "2024-03-20T15:04:05.1234567890Z", "2024-03-20T15:04:05,5Z", "2024-03-20T15:04Z",
        "20240320T150405Z",
        "2024-03-20T15:04:60Z", "2024-03-20T24:00:00Z", "2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z",
        "2024-03-20T15:04:05+24:00", "2024-03-20T15:04:05+0530", "2024-03-20T15:04:05+05", "٢٠٢٤-03-20T15:04:05Z",
        "2024-03-20T15:04:05Z\n", " 2024-03-20T15:04:05Z", "0000-01-01T00:00:00Z", "0999-12-31T23:59:59Z", "9999-12-31T00:00:00Z",
        "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "12024-03-20T15:04:05Z", "-2024-03-20T15:04:05Z",
    ],
)  # fmt: skip
def test_a_timestamp_that_is_none_is_refused(text):
    error = refused(timestamp=text)
    assert (error.field, error.code) == ("timestamp", "invalid")


@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, 1710946800])
def test_a_timestamp_is_text(value):
    assert refused(timestamp=value).field == "timestamp"


@pytest.mark.parametrize("value", [None, "0001-01-01T00:00:00Z", "0001-01-01T05:30:00+05:30"])
def test_the_zero_time_stands_for_no_timestamp(value):
    event = parse(timestamp=value)
    assert (event.timestamp, event.timestamp_given) == (NOW, False)


def test_code_gives_a_datetime_with_a_time_zone():
    event = parse(timestamp=datetime(2024, 3, 10, 12, tzinfo=timezone(timedelta(hours=5))))
    assert (event.timestamp, event.timestamp.tzinfo) == (datetime(2024, 3, 10, 7, tzinfo=UTC), UTC)
    assert str(refused(timestamp=datetime(2024, 3, 10, 12))) == "timestamp must have a time zone"


@given(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 29), timezones=st.timezones()))
def test_a_written_timestamp_reads_as_the_same_instant(instant):
    text = format_timestamp(instant)
    assert parse_timestamp(text) == instant.astimezone(UTC)  # as such a time in a gap or a fold equals none of another zone
    assert text.endswith("Z")
    assert not text.endswith(("0Z", ".Z")) or "." not in text


@pytest.mark.parametrize("value", [[], "text", 5, True, ["a"]])
def test_properties_are_an_object(value):
    error = refused(properties=value)
    assert (error.field, error.code) == ("properties", "type")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a": "\\u0000"}', "properties.a"),
        ('{"a": {"b": [1, "\\ud800"]}}', "properties.a.b[1]"),
        ('{"\\u0000": 1}', "properties"),
        ('{"\\udc00": 1}', "properties"),
        ('{"a": ' + "9" * 400 + "}", "properties.a"),
        ('{"a": ' + "[" * 120 + "1" + "]" * 120 + "}", "properties.a" + "[0]" * 99),
    ],
)  # fmt: skip
def test_a_property_that_cannot_be_kept_is_refused_by_its_place(text, field):
    error = refused(properties=loads(text))
    assert (error.field, error.code) == (field, "invalid")


def test_properties_are_limited_in_bytes(settings):
    settings.FLEXMETER_MAX_PROPERTIES_BYTES = 65_536
    assert parse(properties={"a": "é" * 32_000})
    assert refused(properties={"a": "é" * 33_000}).code == "too_large"


def test_properties_are_kept_as_they_were_sent():
    text = '{"b":1,"a":[1.5,"x",null,true,{}],"é":12345678901234567890.123456789,"c":1e22}'
    assert loads(parse(properties=loads(text)).properties_json) == loads(text)


def test_of_a_batch_the_first_fault_is_named_by_its_position():
    with pytest.raises(InvalidEvent) as caught:
        parse_events([LEAST, LEAST | {"event_name": 5}, {}], now=NOW)
    assert caught.value.field == "events[1].event_name"
    with pytest.raises(InvalidEvent) as caught:
        parse_events([LEAST, None], now=NOW)
    assert (caught.value.field, str(caught.value)) == ("events[1]", "events[1] must be an object")


def test_within_a_batch_each_element_is_accepted_after_the_one_before():
    events = parse_events([LEAST] * 3, now=NOW)
    assert [event.accepted_at - NOW for event in events] == [timedelta(microseconds=place) for place in range(3)]
    assert [event.timestamp for event in events] == [event.accepted_at for event in events]


@pytest.mark.parametrize(
    "changed",
    [
        {"event_name": "Tokens"}, {"external_customer_id": "Acme"}, {"timestamp": NOW + timedelta(microseconds=1)},
        {"source": "api"}, {"customer_id": "c"},
        {"properties": None}, {"properties": {}}, {"properties": {"n": 2}}, {"properties": {"n": True}},
        {"properties": {"n": "1"}}, {"properties": {"n": 1, "m": None}}, {"properties": {"n": 1.0}},
    ],
)  # fmt: skip
def test_another_value_anywhere_is_another_content(changed):
    event = make_event(properties={"n": 1})
    assert event.same_content(make_event(properties={"n": 1}))
    assert not event.same_content(make_event(**{"properties": {"n": 1}} | changed))


def test_when_it_was_accepted_is_no_part_of_the_content():
    assert make_event().same_content(make_event(accepted_at=NOW + timedelta(days=1)))
