from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_UP, Context, Decimal, Inexact, localcontext
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.expressions import MAX_LENGTH, MAX_NESTING, Expression, ExpressionError, compile_expression


def value(source: str, **properties: Any) -> Decimal | None:
    return compile_expression(source).evaluate(properties)


class TestArithmetic:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("a", "5"),
            ("a + b * 2", "10.0"),
            ("(a + b) * 2", "15.0"),
            ("a - b - 1", "1.5"),
            ("a / 2 / 2", "1.25"),
            ("a / 2 * 2", "5"),
            ("-a + 1", "-4"),
            ("- - a", "5"),
            ("-a * -b", "12.5"),
            ("2 - -a", "7"),
            ("a * 1.5e3", "7500"),
            ("a * 1E-3", "0.005"),
            ("a * .5", "2.5"),
            ("\ta\n+\r\n1 ", "6"),
            ("zero * -1", "0"),
        ],
    )
    def test_it_follows_the_rules_of_school(self, source, expected):
        assert value(source, a=5, b=2.5) == Decimal(expected)

    def test_integers_divide_to_fractions(self):
        assert value("a / 2", a=5) == Decimal("2.5")

    def test_it_is_decimal_and_not_binary(self):
        assert value("a + b", a=0.1, b=0.2) == Decimal("0.3")
        assert value("a * 1", a="12345678901234567890.12345") == Decimal("12345678901234567890.12345")

    def test_it_keeps_34_digits(self):
        assert value("a / 3", a=1) == Decimal("0." + "3" * 34)
        assert value("a / 3", a=2) == Decimal("0." + "6" * 33 + "7")
        assert value("a", a="1" * 40) == Decimal("1" * 34 + "0" * 6)

    def test_the_decimal_context_of_the_caller_changes_nothing(self):
        before = value("pow(a, 0.5) / 3 + round(a)", a=7)
        with localcontext(Context(prec=2, rounding=ROUND_UP, Emax=1, traps=[Inexact])):
            assert value("pow(a, 0.5) / 3 + round(a)", a=7) == before

    def test_zero_has_no_sign_and_no_exponent(self):
        assert str(value("a * -0.00", a=1)) == "0"


class TestFunctions:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("max(a, 7)", "7"),
            ("min(a, 7)", "5"),
            ("max(a, -a) - min(a, -a)", "10"),
            ("abs(-a)", "5"),
            ("ceil(a / 2)", "3"),
            ("ceil(-a / 2)", "-2"),
            ("floor(a / 2)", "2"),
            ("floor(-a / 2)", "-3"),
            ("round(a / 2)", "3"),
            ("round(-a / 2)", "-3"),
            ("round(a / 2.1)", "2"),
            ("sqrt(a + 4)", "3"),
            ("sqrt(a - 5)", "0"),
            ("log(a - 4)", "0"),
            ("pow(a, 3)", "125"),
            ("pow(a, -1)", "0.2"),
            ("pow(1.1 * a, 2)", "30.25"),
            ("pow(-a, 3)", "-125"),
            ("pow(a - 5, 0)", "1"),
            ("pow(a - 1, 0.5)", "2"),
            ("round(a * 1e300)", "5e300"),
            ("max(a, pow(min(a, 2), 3))", "8"),
            ("max (a, 1)", "5"),
        ],
    )
    def test_each_does_what_its_name_says(self, source, expected):
        assert value(source, a=5) == Decimal(expected)

    def test_roots_logarithms_and_powers_are_good_to_34_digits(self):
        assert value("log(a)", a=5) == Decimal("1.609437912434100374600759333226188")
        assert value("sqrt(a)", a=2) == Decimal("1.414213562373095048801688724209698")
        assert value("pow(a, 1.5)", a=2) == Decimal("2.828427124746190097603377448419396")

    def test_the_name_of_a_function_may_name_a_property_too(self):
        assert value("max(max, min)", max=3, min=4) == 4


class TestConditions:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("a > 4 ? 1 : 2", 1),
            ("a >= 5 ? 1 : 2", 1),
            ("a < 5 ? 1 : 2", 2),
            ("a <= 4 ? 1 : 2", 2),
            ("a == 5.0 ? 1 : 2", 1),
            ("a != 5 ? 1 : 2", 2),
            ("!(a != 5) ? 1 : 2", 1),
            ("!!(a != 5) ? 1 : 2", 2),
            ("a > 9 || a < 6 && a > 4 ? 1 : 2", 1),
            ("(a < 9 || a < 6) && a > 5 ? 1 : 2", 2),
            ("true && a > 4 ? 1 : 2", 1),
            ("false || a < 4 ? 1 : 2", 2),
            ("(a > 4) == true ? 1 : 2", 1),
            ("a > 4 == (a > 3) != false ? 1 : 2", 1),
            ("a + 1 > 5 ? a * 2 : 0", 10),
            ("a < 1 ? 1 : a < 2 ? 2 : a < 6 ? 6 : 9", 6),
            ("a > 1 ? a > 9 ? 1 : 2 : 3", 2),
            ("(a > 1 ? a > 9 : true) ? 1 : 2", 2),
            ("1 + (a > 1 ? 1 : 2) * 10", 11),
        ],
    )
    def test_they_choose_between_numbers(self, source, expected):
        assert value(source, a=5) == expected

    def test_what_is_not_chosen_is_not_calculated(self):
        assert value("b > 0 ? a / b : -1", a=1) == -1
        assert value("b > 0 && a / b > 1 ? 1 : 2", a=1) == 2
        assert value("b == 0 || a / b > 1 ? 1 : 2", a=1) == 1


class TestProperties:
    @pytest.mark.parametrize("nothing", [{}, {"a": None}])
    def test_missing_and_null_are_zero(self, nothing):
        assert value("a + 1", **nothing) == 1

    @pytest.mark.parametrize(("given", "expected"), [("12", 12), (" 1e3\n", 1000), ("-1.5", Decimal("-1.5")), ("+5", 5)])
    def test_text_that_holds_a_number_is_that_number(self, given, expected):
        assert value("a", a=given) == expected

    @pytest.mark.parametrize("unfit", ["", "abc", "1,5", "NaN", "Infinity", True, False, [], [1], {}, {"b": 1}, "1e999", "0x10"])
    def test_an_event_with_a_property_that_is_no_number_has_no_value(self, unfit):
        assert value("a", a=unfit) is None
        assert value("b > 0 ? a : 1", a=unfit, b=0) is None

    def test_a_property_that_is_not_named_does_not_matter(self):
        assert value("a", a=1, b="abc") == 1

    def test_only_the_named_top_level_properties_are_read(self):
        assert compile_expression("max(a, _b2) + (true ? C : 0)").names == {"a", "_b2", "C"}
        assert value("__class__ + A", a=1, __class__=2) == 2

    @pytest.mark.parametrize(
        "source",
        [
            "1 / a",
            "1 / (1 / a)",
            "a / a",
            "log(a)",
            "log(a - 1)",
            "sqrt(a - 1)",
            "pow(a, -1)",
            "pow(a - 8, 0.5)",
            "1e308 * (a + 10)",
            "1e308 * (a + 2)",
            "pow(a + 10, 1e300)",
            "pow(a + 10, pow(10, 30))",
            "1e308 * (a + 10) > 1 ? 1 : 2",
            "max(1 / a, 1)",
            "1 / log(a)",
            "pow(a, -1) > 1 ? 1 : 2",
        ],
    )
    def test_no_finite_result_means_no_value(self, source):
        assert value(source) is None

    def test_the_greatest_double_is_the_greatest_value(self):
        assert value("a", a=1.7976931348623157e308) == Decimal("1.7976931348623157e308")
        assert value("a * 1.0000000001", a=1.7976931348623157e308) is None

    def test_what_is_too_small_to_matter_is_zero(self):
        assert value("a * a", a=1e-308) == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("", "is empty"),
            ("  ", "is empty"),
            ("1 + 2", "names no property"),
            ("true ? 1 : 2", "names no property"),
            ("a > 1", "is a condition"),
            ("a +", "ends too early"),
            ("(a", "ends too early"),
            ("max(a", "ends too early"),
            ("a > 1 ? 2", "ends too early"),
            ("a)", r"\) at position 2"),
            ("a b", "b at position 3"),
            ("a 1", "1 at position 3"),
            ("()", r"\) at position 2"),
            ("+a", r"\+ at position 1"),
            ("a ? 1 : 2", r"\? at position 3 needs a condition"),
            ("a > 1 ? 2 : true", r"\? at position 7 chooses"),
            ("a > 1 ? true : 2", r"\? at position 7 chooses"),
            ("a > 0 ? 1 : a > 1 ? false : true", r"\? at position 7 chooses"),
            ("a > 1 ? 1 : a", None),
            ("a && 1", "&& at position 3 needs a condition on both sides"),
            ("a > 1 || a ? 1 : 2", r"\|\| at position 7 needs a condition"),
            ("a < 1 < 2 ? 1 : 2", "< at position 7 compares a number with a condition"),
            ("(a > 1) < true ? 1 : 2", "< at position 9 needs a number"),
            ("a == true ? 1 : 2", "== at position 3 compares"),
            ("true + a", r"\+ at position 6 needs a number"),
            ("a * (a > 1)", r"\* at position 3 needs a number"),
            ("-(a > 1) ? 1 : 2", "- at position 1 needs a number"),
            ("!a ? 1 : 2", "! at position 1 needs a condition"),
            ("max(a)", "max at position 1 takes two numbers"),
            ("max(a, 1, 2)", "max at position 1 takes two numbers"),
            ("abs()", "abs at position 1 takes one number"),
            ("1 + abs(a > 1)", "abs at position 5 takes one number"),
            ("foo(a)", "unknown function foo at position 1; there are abs, ceil"),
            ("a(1)", "unknown function a"),
            ("a % 2", "% is not supported, at position 3"),
            ("a ^ 2", r"use pow\(x, y\)"),
            ("a ** 2", r"\* at position 4"),
            ("a = 1 ? 1 : 2", "use =="),
            ("a & 1", "use &&"),
            ("a | 1", r"use \|\|"),
            ("a.b", "position 2"),
            ("a['b']", r"unexpected character '\[', at position 2"),
            ('a == "x" ? 1 : 2', "text is not supported"),
            ("a; 1", "unexpected character ';', at position 2"),
            ("größe", r"unexpected character '\\xf6', at position 3"),
            ("a\xa0+ 1", r"unexpected character '\\xa0'"),
            ("a\x00", "position 2"),
            ("12abc", "12abc at position 1 is not a number"),
            ("a + 1.2.3", "1.2.3 at position 5 is not a number"),
            ("a + 1.", "1. at position 5 is not a number"),
            ("a + 0x1F", "0x1F at position 5 is not a number"),
            ("a + 1e999", "1e999 at position 5 is too large"),
            ("a + 1e" + "9" * 900, "at position 5 is too large"),
        ],
    )
    def test_they_say_what_is_wrong_and_where(self, source, message):
        if message is None:
            assert compile_expression(source)
            return
        with pytest.raises(ExpressionError, match=message) as caught:
            compile_expression(source)
        assert len(str(caught.value)) < 200

    def test_an_expression_has_a_greatest_length(self):
        longest = "a" + "+a" * ((MAX_LENGTH - 1) // 2)
        assert value(longest, a=1) == len(longest) // 2 + 1
        with pytest.raises(ExpressionError, match=f"at most {MAX_LENGTH} characters"):
            compile_expression(longest + "+a")

    @pytest.mark.parametrize(
        ("opening", "closing"),
        [
            ("(", ")"),
            ("-", ""),
            ("max(1,", ")"),
            ("abs(", ")"),
            ("a>0?", ":1"),
            ("-(", ")"),
            ("1*(1+(", "))"),
            ("(1<", "?1:2)"),
        ],
    )
    def test_nesting_is_bounded(self, opening, closing):
        levels = MAX_NESTING // (3 if "(1+(" in opening else 2)
        assert compile_expression(opening * (levels - 1) + "a" + closing * (levels - 1)).evaluate({"a": 1}) is not None
        with pytest.raises(ExpressionError, match="nested deeper"):
            compile_expression((opening * 200 + "a")[:MAX_LENGTH])

    def test_a_long_row_of_choices_is_not_nesting(self):
        tiers = " : ".join(f"a < {n} ? {n}" for n in range(1, 70)) + " : 99"
        assert value(tiers, a=42) == 43
        assert value(tiers, a=100) == 99
        assert value("||".join(["a>1"] * 190) + "?1:2", a=2) == 1
        assert value("a>1" + "==true" * 150 + "?1:2", a=2) == 1


# Random trees: ("+", left, right) and so on; leaves are property names and small decimals. Everything stays exact within
# 34 digits (the divisors are powers of two and five), so that fractions must give the very same number.

PROPERTIES = {"a": 3, "b": Decimal("-2.5"), "c": "0.75", "d": None, "e": 10}
BINARY = {"||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "+": 4, "-": 4, "*": 5, "/": 5}
COMPARED = ["==", "!=", "<", "<=", ">", ">="]
Tree = Any

leaves = st.sampled_from(sorted(PROPERTIES)) | st.integers(0, 99).map(str) | st.sampled_from(["0.5", "1.25", "2e1", "7.5E-1"])
divisors = st.sampled_from(["2", "4", "5", "8", "0.1", "20"])


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Tree:
    if not depth or not draw(st.integers(0, 4)):
        return draw(leaves)
    inner = trees(depth - 1)
    shapes = [
        st.tuples(st.sampled_from("+-*"), inner, inner),
        st.tuples(st.just("/"), inner, divisors),
        st.tuples(st.sampled_from(["neg", "abs", "ceil", "floor", "round"]), inner),
        st.tuples(st.sampled_from(["max", "min"]), inner, inner),
        st.tuples(st.just("?"), conditions(depth - 1), inner, inner),
    ]
    return draw(draw(st.sampled_from(shapes)))


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> Tree:
    compared = st.tuples(st.sampled_from(COMPARED), trees(depth), trees(depth))
    if not depth:
        return draw(compared | st.sampled_from(["true", "false"]))
    inner = conditions(depth - 1)
    combined = st.tuples(st.sampled_from(["&&", "||", "==", "!="]), inner, inner) | st.tuples(st.just("!"), inner)
    return draw(compared | combined)


def written(tree: Tree, outer: int = 0) -> str:
    """The tree as a source with no more parentheses than it needs."""
    if isinstance(tree, str):
        return tree
    sign, *parts = tree
    if sign == "?":
        condition, chosen, otherwise = parts
        text, own = f"{written(condition, 1)} ? {written(chosen)} : {written(otherwise)}", 0
    elif sign in BINARY:
        own = BINARY[sign]
        text = f"{written(parts[0], own)} {sign} {written(parts[1], own + 1)}"
    elif sign in {"neg", "!"}:
        text, own = ("-" if sign == "neg" else "!") + written(parts[0], 6), 6
    else:
        text, own = f"{sign}({', '.join(written(part) for part in parts)})", 7
    return f"({text})" if own < outer else text


def worked_out(tree: Tree, properties: Mapping[str, Any]) -> Any:
    """The tree's value in fractions."""
    if isinstance(tree, str):
        if tree in {"true", "false"}:
            return tree == "true"
        return Fraction(properties[tree] or 0) if tree in properties else Fraction(tree)
    sign, *parts = tree
    x, *others = (worked_out(part, properties) for part in parts)
    y = others[0] if others else None
    match sign:
        case "+":
            return x + y
        case "-":
            return x - y
        case "*":
            return x * y
        case "/":
            return x / y
        case "neg":
            return -x
        case "abs":
            return abs(x)
        case "ceil":
            return Fraction(math.ceil(x))
        case "floor":
            return Fraction(math.floor(x))
        case "round":
            return Fraction(math.floor(abs(x) + Fraction(1, 2)) * (-1 if x < 0 else 1))
        case "max":
            return max(x, y)
        case "min":
            return min(x, y)
        case "?":
            return others[0] if x else others[1]
        case "&&":
            return x and y
        case "||":
            return x or y
        case "!":
            return not x
        case "==":
            return x == y
        case "!=":
            return x != y
        case "<":
            return x < y
        case "<=":
            return x <= y
        case ">":
            return x > y
        case ">=":
            return x >= y
    raise AssertionError(sign)


def to_34_digits(exact: Fraction) -> Fraction:
    """The nearest number of 34 digits; of two equally near, the even one."""
    if not exact:
        return exact
    scale = Fraction(1)
    while abs(exact) * scale >= 10**34:
        scale /= 10
    while abs(exact) * scale < 10**33:
        scale *= 10
    return round(exact * scale) / scale


@given(trees())
def test_an_expression_is_worth_what_fractions_say(tree):
    source = written(("+", "d", tree))  # d is null: it makes every tree name a property, and adds nothing
    result = compile_expression(source).evaluate(PROPERTIES)
    assert result is not None
    assert Fraction(result) == worked_out(tree, PROPERTIES)


@given(trees(), trees())
def test_a_quotient_is_the_nearest_decimal_of_34_digits(dividend, divisor):
    result = compile_expression(written(("+", "d", ("/", dividend, divisor)))).evaluate(PROPERTIES)
    below = worked_out(divisor, PROPERTIES)
    if not below:
        assert result is None
    else:
        assert result is not None
        assert Fraction(result) == to_34_digits(worked_out(dividend, PROPERTIES) / below)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=10)
    | st.sampled_from(["1e308", "-1e308", "1e-400", "1E+999999999", "9" * 600, 10**400]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
PIECES = [
    "a",
    "b",
    "1",
    "2.5",
    "1e300",
    "true",
    " ",
    *"+-*/<>!?:,().%&|=",
    "&&",
    "||",
    "==",
    "<=",
    "max(",
    "pow(",
    "log(",
    "sqrt(",
    "round(",
]
texts = st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
functions = st.sampled_from(
    ["max({}, {})", "pow({}, {})", "({} / {})", "({} * {})", "log({} - {})", "sqrt({} - {})", "round({} + {})"]
)
nested = st.recursive(
    st.sampled_from(["a", "b", "0.5", "1e300", "-3"]),
    lambda inner: st.tuples(functions, inner, inner).map(lambda parts: parts[0].format(*parts[1:])),
    max_leaves=8,
)


@given(texts)
@example("\ud800")
@example("a" * 2_000)
@example("a + " + "(" * 900)
@example("-" * 999 + "a")
def test_any_text_is_an_expression_or_an_expression_error(source):
    try:
        compiled = compile_expression(source)
    except ExpressionError:
        return
    assert isinstance(compiled, Expression)
    assert compiled.names <= {"a", "b"} or source.isascii()


@given(nested, json_values, json_values)
def test_evaluation_ends_in_a_finite_decimal_or_none(source, a, b):
    result = compile_expression(f"{source} + 0 * a").evaluate({"a": a, "b": b})
    assert result is None or (result.is_finite() and result.copy_abs() <= Decimal("1.7976931348623157e308"))


def test_extreme_numbers_take_no_extreme_effort():
    extremes = [
        "0",
        "1",
        "-1",
        "1e308",
        "-1e308",
        "1e-308",
        "1e-400",
        "0." + "9" * 34,
        "1." + "0" * 32 + "1",
        "0.5",
        "1e17",
        "1e34",
    ]
    for source in ["pow(a, b)", "a * b", "a / b", "log(a) + b", "sqrt(a) - b", "round(a) + ceil(b)", "pow(pow(a, b), b)"]:
        expression = compile_expression(source)
        for a, b in product(extremes, extremes):
            result = expression.evaluate({"a": a, "b": b})
            assert result is None or result.is_finite()


def test_an_expression_is_compiled_once():
    assert compile_expression("a + 41") is compile_expression("a + 41")
    assert compile_expression("a + 41").source == "a + 41"
