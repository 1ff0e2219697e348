"""JSON that keeps every digit, and the two readings of a property: as a number and as text."""

from __future__ import annotations

import json
import math
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.properties import EXACT, InvalidJson, digest, dumps, fault, loads, number, plain, rendered, same, text_fault

LARGEST = Decimal(sys.float_info.max)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner))
tokens = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@given(tokens)
def test_a_number_keeps_its_value_to_the_last_digit(token):
    value = loads(token)
    assert Fraction(number(value)) == Fraction(Decimal(token))
    assert Fraction(Decimal(dumps(value))) == Fraction(Decimal(token))
    assert loads(dumps(value)) == value
    assert type(loads(dumps(value))) is type(value)


@given(values)
def test_a_value_reads_as_what_was_written(value):
    assert loads(dumps(value)) == value
    assert same(loads(dumps(value)), value)
    assert dumps(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it breaks off or goes wrong at line 1, column 1"),
        ("{", "it breaks off or goes wrong at line 1, column 2"),
        ("[1] x", "it breaks off or goes wrong at line 1, column 5"),
        ("NaN", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("1e400", "the number 1e400 is too large"),
        ("1" * 5_000 + ".5", f"the number {'1' * 37}... is too large"),
        ("1" * 5_000, "a number has more digits than can be stored"),
        ("1e-1001", "the number 1e-1001 has more digits than can be stored"),
        ("0." + "0" * 1_001 + "1", f"the number {'0.' + '0' * 35}... has more digits than can be stored"),
        ("[" * 100_000, "the text is nested deeper than 100 levels"),
        (b"\xff", "the text is not UTF-8 (byte 0)"),
        (b'{"a": "\xed\xa0\x80"}', "the text is not UTF-8 (byte 7)"),
    ],
)
def test_what_is_no_json_is_refused_with_a_reason(text, reason):
    with pytest.raises(InvalidJson) as caught:
        loads(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "5"), (-5, "-5"), (1.5, "1.5"), (0.1, "0.1"), (Decimal("0.10"), "0.1"), ("12", "12"), ("-1.5", "-1.5"), ("+5", "5"),
        ("1e3", "1000"), ("1E-3", "0.001"), (" 7\t", "7"), ("1.", "1"), (".5", "0.5"), ("007", "7"), ("-0", "0"), (-0.0, "0"),
        (10**300, "1" + "0" * 300), ("9" * 308, "9" * 308), (2**53 + 1, str(2**53 + 1)), (1e22, "1" + "0" * 22),
    ],
)  # fmt: skip
def test_numbers_and_numeric_text_are_numbers(value, expected):
    assert plain(number(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, "", " ", "abc", "1,5", "1 2", "1_000", "１２", "٣", "0x10", "1e", "e5", "--5", "+-5", ".", "-", "NaN",
        "nan", "Infinity", "-inf", "1e400", "-1e400", "1e9999999", "1e-1001", "1" * 400, "1" * 1_001, [], [1], {}, {"n": 1},
        math.nan, math.inf, 10**400, Decimal("NaN"), Decimal("Infinity"), Decimal("1e400"), Decimal("1e-1001"),
    ],
)  # fmt: skip
def test_everything_else_is_no_number(value):
    assert number(value) is None


@given(st.text(alphabet="0123456789+-.eE _x \t\u00a0١NaInf", max_size=12))
def test_numeric_text_is_what_python_reads_too(text):
    value = number(text)
    if value is not None:
        assert value == Decimal(text.strip())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"), (" ", " "), ("", ""), (None, ""), (True, "true"), (False, "false"), (200, "200"), (1.5, "1.5"),
        (2.0, "2"), (-0.0, "0"), (1e6, "1000000"), (1e22, "1" + "0" * 22), (1e-7, "0.0000001"), (Decimal("1.50"), "1.5"),
        (Decimal("1E+3"), "1000"), (10**30, "1" + "0" * 30),
        ([1, "a", None], '[1,"a",null]'), ({"b": 1, "a": {"é": []}}, '{"b":1,"a":{"é":[]}}'),
        ([], "[]"),
    ],
)  # fmt: skip
def test_a_value_is_rendered_as_its_shortest_text(value, expected):
    assert rendered(value) == expected


def test_what_is_rendered_alike_has_one_digest_and_nothing_else():
    alike = [200, "200", 200.0, Decimal("2.00E+2")]
    assert len({digest(rendered(value)) for value in alike}) == 1
    others = ["200.0", " 200", "200 ", "２００", "", "a", "A", "á", "a\u0301"]
    assert len({digest(rendered(value)) for value in [200, *others]}) == len(others) + 1


@given(values)
def test_what_json_can_hold_has_no_fault_unless_it_holds_nul_or_an_enormous_number(value):
    found = fault(value, "properties")
    text = dumps(value)
    assert (found is None) == ("\\u0000" not in text.replace("\\\\", "") and not re_enormous(value))


def re_enormous(value):
    if isinstance(value, dict):
        return any(map(re_enormous, value.values()))
    if isinstance(value, list):
        return any(map(re_enormous, value))
    return isinstance(value, int) and abs(value) > LARGEST


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": math.nan}, ("properties.a", "is not a finite number")),
        ({"a": [0, math.inf]}, ("properties.a[1]", "is not a finite number")),
        ({"a": Decimal("1e309")}, ("properties.a", "is too large a number")),
        ({"a": Decimal("sNaN")}, ("properties.a", "is not a finite number")),
        ({"a": Decimal("1e-1001")}, ("properties.a", "has more digits than can be stored")),
        ({1: "a"}, ("properties", "has a name that is not a string")),
        ({"a": {2: "b"}}, ("properties.a", "has a name that is not a string")),
        ({"a": {"\x00": 1}}, ("properties.a", "has a name that holds a NUL character")),
        ({"a": object}, ("properties.a", "is a type, which JSON cannot hold")),
        ({"a": {1, 2}}, ("properties.a", "is a set, which JSON cannot hold")),
        ({"a": b"x"}, ("properties.a", "is a bytes, which JSON cannot hold")),
    ],
)
def test_a_fault_is_told_with_its_place(value, expected):
    assert fault(value, "properties") == expected


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_values_nest_a_hundred_levels_deep():
    assert fault(nested(100)) is None
    assert fault(nested(101)) is not None


@pytest.mark.parametrize(("text", "found"), [("a\x00", True), ("\ud800", True), ("𝔘", False), ("", False), ("\u200b", False)])
def test_text_that_no_database_can_keep(text, found):
    assert bool(text_fault(text)) == found


def test_sums_of_the_greatest_and_the_smallest_are_exact():
    greatest, smallest = LARGEST, Decimal("1e-1000")
    assert EXACT.subtract(EXACT.add(greatest, smallest), greatest) == smallest
    assert EXACT.multiply(EXACT.add(greatest, smallest), Decimal(10) ** 100) > 0
