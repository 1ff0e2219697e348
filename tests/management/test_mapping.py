"""CSV columns as members of an event."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.exceptions import InvalidEvent
from flexmeter.management.mapping import EXPORTED, FORMULA_STARTS, CsvMapping, TimestampReader, defused, fused, scalar
from flexmeter.properties import number, rendered

BERLIN = ZoneInfo("Europe/Berlin")
NAMED = ["event_name", "external_customer_id"]


def event(mapping, header, *cells):
    return mapping.columns(header, "usage.csv").event(cells)


def test_columns_called_like_members_need_no_mapping():
    read = event(CsvMapping(), [*NAMED, "properties.n", "other"], "tokens", "acme", "5", "x")
    assert read == {"event_name": "tokens", "external_customer_id": "acme", "properties": {"n": 5}}


def test_mapped_columns_constants_and_the_rest_make_an_event():
    mapping = CsvMapping(
        by_column={"external_customer_id": "Account", "properties.bytes": "Size"},
        constants={"event_name": "download", "properties.plan": "free", "source": "import"},
        rest_as_properties=True,
    )
    assert event(mapping, ["Account", "Size", "Region", "source", ""], "acme", "12", "eu", "web", "x") == {
        "event_name": "download",
        "external_customer_id": "acme",
        "source": "import",
        "properties": {"plan": "free", "bytes": 12, "Region": "eu"},
    }


def test_an_empty_cell_is_no_value():
    read = event(CsvMapping(rest_as_properties=True), [*NAMED, "timestamp", "n"], "tokens", "acme", "", "")
    assert read == {"event_name": "tokens", "external_customer_id": "acme", "properties": None}


def test_single_properties_are_added_to_the_object_of_the_properties_column():
    read = event(
        CsvMapping(), [*NAMED, "properties", "properties.n"], "tokens", "acme", '{"n":1,"big":12345678901234567890.5}', "2"
    )
    assert read["properties"] == {"n": 2, "big": Decimal("12345678901234567890.5")}


def test_an_id_column_is_no_event_id_unless_it_is_mapped_or_flexmeter_wrote_the_file():
    assert "event_id" not in event(CsvMapping(), [*NAMED, "id"], "tokens", "acme", "17")
    assert event(CsvMapping({"event_id": "id"}), [*NAMED, "id"], "tokens", "acme", "17")["event_id"] == "17"
    row = ["event_1", "tokens", "acme", "", "2024-03-10T12:00:00Z", "", "", "2024-03-10T12:00:00Z"]
    assert event(CsvMapping(), EXPORTED, *row)["event_id"] == "event_1"


@pytest.mark.parametrize(
    ("mapping", "header", "told"),
    [
        (CsvMapping(), ["name"], "--map event_name=COLUMN"),
        (CsvMapping(constants={"event_name": "tokens"}), ["Account"], "external_customer_id"),
        (CsvMapping({"timestamp": "Time"}), NAMED, "'Time'"),
        (CsvMapping({"timestamp": "Time"}), [*NAMED, "Time", "Time"], "more than one"),
        (CsvMapping(rest_as_properties=True), [*NAMED, "n", "n"], "more than one"),
        (CsvMapping(constants={"event_name": ""}), NAMED[1:], "event_name"),
    ],
)
def test_a_mapping_that_does_not_fit_the_header_is_refused_with_its_columns(mapping, header, told):
    with pytest.raises(CommandError) as error:
        mapping.columns(header, "usage.csv")
    assert told in str(error.value)
    assert repr(header[0]) in str(error.value)


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        (["tokens"], ""),
        (["tokens", "acme", "", "", "extra"], ""),
        (["tokens", "acme", "12 March", ""], "timestamp"),
        (["tokens", "acme", "", "{"], "properties"),
        (["tokens", "acme\udcff", "", ""], ""),
    ],
)
def test_a_row_that_cannot_be_read_says_where(cells, field):
    with pytest.raises(InvalidEvent) as error:
        event(CsvMapping(), [*NAMED, "timestamp", "properties"], *cells)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("reader", "text", "expected"),
    [
        (TimestampReader(zone=UTC), "2023-11-16 18:17:03.9799600", datetime(2023, 11, 16, 18, 17, 3, 979960, UTC)),
        (TimestampReader(zone=UTC), "2023-11-16 18:17:03.1234567", datetime(2023, 11, 16, 18, 17, 3, 123456, UTC)),
        (TimestampReader(zone=UTC), "2023-11-16T18:17", datetime(2023, 11, 16, 18, 17, tzinfo=UTC)),
        (TimestampReader(zone=BERLIN), "2024-07-01", datetime(2024, 6, 30, 22, tzinfo=UTC)),
        (TimestampReader(zone=BERLIN), "2024-07-01 12:00:00+0530", datetime(2024, 7, 1, 6, 30, tzinfo=UTC)),
        (TimestampReader(zone=BERLIN), "2024-07-01 12:00:00 UTC", datetime(2024, 7, 1, 12, tzinfo=UTC)),
        (TimestampReader(), "2024-07-01T12:00:00.5Z", datetime(2024, 7, 1, 12, 0, 0, 500_000, UTC)),
        (TimestampReader(zone=BERLIN), "2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),  # twice: the first
        (TimestampReader("unix"), "1700000000.25", datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)),
        (TimestampReader("unix-ms"), "1700000000250", datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)),
        (TimestampReader("%d/%b/%Y:%H:%M:%S %z"), "17/May/2015:10:05:03 +0200", datetime(2015, 5, 17, 8, 5, 3, tzinfo=UTC)),
        (
            TimestampReader("%d.%m.%Y %H:%M:%S.%f", BERLIN),
            "01.07.2024 12:00:00.1234567",
            datetime(2024, 7, 1, 10, 0, 0, 123456, UTC),
        ),
    ],
)
def test_timestamps_are_read_to_the_microsecond(reader, text, expected):
    assert reader.read(text) == expected
    assert reader.read(text).utcoffset() == expected.utcoffset()


@pytest.mark.parametrize(
    ("reader", "text", "told"),
    [
        (TimestampReader(), "2024-07-01 12:00:00", "--timezone"),
        (TimestampReader(zone=BERLIN), "2024-03-31 02:30:00", "does not exist"),
        (TimestampReader(zone=UTC), "2024-02-30 12:00:00", "no valid point in time"),
        (TimestampReader(zone=UTC), "2024-02-20 12:00.5", "no valid point in time"),
        (TimestampReader(zone=UTC), "20/02/2024", "--timestamp-format"),
        (TimestampReader(zone=UTC), "٢٠٢٤-02-20", "--timestamp-format"),
        (TimestampReader(), "0001-01-01T00:00:00+14:00", "no point in time"),
        (TimestampReader("unix"), "9" * 19, "no point in time"),
        (TimestampReader("unix"), "1e400", "no number"),
        (TimestampReader("unix"), "NaN", "no number"),
        (TimestampReader("%Y"), "12", "does not match"),
    ],
)
def test_what_is_no_timestamp_says_why(reader, text, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        reader.read(text)


@pytest.mark.parametrize("text", ["12", "-3", "0", "0.5", "-0.25", "12345678901234567890", "0.1234567890123456789"])
def test_cells_that_are_numbers_become_numbers(text):
    assert not isinstance(scalar(text), str)


@pytest.mark.parametrize("text", ["007", "1.50", "1e3", "+5", "-0", "-", "--1", "1.2.3", "10-5", "true", "null", "NaN", "", "1 "])
def test_cells_that_would_change_as_numbers_stay_text(text):
    assert scalar(text) == text
    assert isinstance(scalar(text), str)


@given(st.one_of(st.decimals(allow_nan=False, allow_infinity=False).map(str), st.text("0123456789.-+e", max_size=12), st.text()))
def test_a_cell_counts_and_groups_the_same_whether_it_became_a_number_or_not(text):
    assert rendered(scalar(text)) == text
    assert number(scalar(text)) == number(text)


@given(st.text(max_size=5) | st.builds(str.__add__, st.sampled_from([*FORMULA_STARTS, "'", "''"]), st.text(max_size=5)))
def test_no_defused_cell_is_a_formula_and_each_comes_back(cell):
    assert not defused(cell).startswith(FORMULA_STARTS)
    assert fused(defused(cell)) == cell


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("unix", "1700000000.99999999999999999999"),
        ("unix-ms", "1700000000999.99999999999999999999"),
        ("unix", "1700000000.999999"),
    ],
)
def test_digits_beyond_microseconds_are_cut_however_many_there_are(format: str, text: str):
    for precision in (28, 3):
        with localcontext(Context(prec=precision)):
            assert TimestampReader(format).read(text) == datetime(2023, 11, 14, 22, 13, 20, 999_999, tzinfo=UTC)
