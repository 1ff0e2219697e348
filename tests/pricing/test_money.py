"""Currencies, commitments and coupons as pure rules."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.pricing.commitments import Charge, Commitment, CommitmentType, charge, together
from flexmeter.pricing.cost import FlatFee, Package
from flexmeter.pricing.coupons import PercentageOff, discount
from flexmeter.pricing.currencies import display, quotient, rounded

from tests.factories import at

amounts = st.decimals(min_value=0, max_value=10**6, places=4)


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("0.005", "usd", "0.01"), ("-0.005", "usd", "-0.01"), ("0.0049", "usd", "0.00"), ("2.5", "jpy", "3"),
        ("-2.5", "jpy", "-3"), ("1.0005", "kwd", "1.001"), ("1.00005", "clf", "1.0001"), ("1.5", "krw", "2"),
        ("0.5", "vnd", "1"), ("0.5", "clp", "1"),
        ("12345678901234567890123456789.125", "eur", "12345678901234567890123456789.13"),
    ],
)  # fmt: skip
def test_halves_are_rounded_away_from_zero(amount: str, currency: str, expected: str):
    assert str(rounded(Decimal(amount), currency)) == expected


@given(
    st.decimals(min_value=0, max_value=10**60, places=10),
    st.decimals(min_value="0.0001", max_value=10**12, places=4),
    st.integers(min_value=0, max_value=4),
)
def test_a_quotient_is_the_nearest_with_so_many_places(dividend: Decimal, divisor: Decimal, places: int):
    exact = Fraction(dividend) / Fraction(divisor) * 10**places
    found = quotient(dividend, divisor, places)
    assert found.as_tuple().exponent == -places
    assert Fraction(found) * 10**places == math.floor(exact + Fraction(1, 2))


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [("0.1", "usd", "$0.10"), ("0.0004", "usd", "$0.0004"), ("5", "jpy", "¥5"), ("5", "chf", "CHF 5.00"), ("0", "eur", "€0.00")],
)
def test_an_amount_is_shown_with_its_symbol(amount: str, currency: str, expected: str):
    assert display(Decimal(amount), currency) == expected


def committed(value: str = "100", **changed) -> Commitment:
    return Commitment(CommitmentType.AMOUNT, Decimal(value), **changed)


@pytest.mark.parametrize(
    ("commitment", "used", "expected"),
    [
        (committed(overage_factor=Decimal("1.5")), "140", ("160", "100", "60", "0")),
        (committed(overage_factor=Decimal("1.5")), "100", ("100", "100", "0", "0")),
        (committed(), "30", ("30", "30", "0", "0")),
        (committed(true_up=True), "30", ("100", "30", "0", "70")),
        (committed(true_up=True), "0", ("100", "0", "0", "100")),
    ],
)
def test_a_commitment_charges_what_was_promised_and_what_goes_beyond(commitment, used: str, expected: tuple[str, ...]):
    assert charge(commitment, commitment.amount(FlatFee(Decimal(1))), Decimal(used)) == Charge(*map(Decimal, expected))


def test_a_quantity_is_worth_what_the_price_makes_of_it():
    assert Commitment(CommitmentType.QUANTITY, Decimal(120)).amount(Package(Decimal(3), Decimal(50))) == 9


@given(amounts, amounts, st.booleans())
def test_the_parts_of_a_charge_add_up(promised: Decimal, used: Decimal, true_up: bool):
    made = charge(committed(true_up=true_up, overage_factor=Decimal("1.25")), promised, used)
    assert made.total == made.utilized + made.overage + made.true_up
    assert made.utilized == min(promised, used)


def test_no_charges_come_to_nothing():
    assert together([]) == Charge()
    assert together([Charge(Decimal(2), Decimal(1), Decimal(1)), Charge(Decimal(3), Decimal(3))]) == Charge(
        Decimal(5), Decimal(4), Decimal(1), Decimal(0)
    )


def off(percentage: str) -> PercentageOff:
    return PercentageOff(Decimal(percentage), at("2025-01-01 00:00"))


def test_each_coupon_takes_its_share_of_what_is_left_and_is_rounded():
    assert discount(Decimal("10.05"), [off("10"), off("50")], "usd") == Decimal("1.01") + Decimal("4.52")
    assert discount(Decimal("10.05"), [off("50"), off("10")], "usd") == Decimal("5.03") + Decimal("0.50")
    assert discount(Decimal(999), [off("33.3")], "jpy") == 333
    assert discount(Decimal(5), [], "usd") == 0


@given(amounts, st.lists(st.decimals(min_value=1, max_value=100, places=1), max_size=4))
def test_a_discount_never_exceeds_the_amount(amount: Decimal, percentages: list[Decimal]):
    assert 0 <= discount(amount, [off(str(percentage)) for percentage in percentages], "usd") <= amount
