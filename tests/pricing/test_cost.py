"""The cost of a quantity, against worked examples, against a walk from unit to unit, and against closed formulas."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.pricing.cost import FlatFee, Package, PackageRounding, Slab, Tier, Volume, added, bucketed_cost, cost, working

ZERO = Decimal(0)
TIERS = (
    Tier(Decimal(100), Decimal("0.10")),
    Tier(Decimal(1000), Decimal("0.05"), Decimal(2)),
    Tier(None, Decimal("0.01")),
)

amounts = st.decimals(min_value=0, max_value=1000, places=6)
quantities = st.decimals(min_value=0, max_value=60, places=2)
large = st.decimals(min_value=0, max_value=10**30, places=15)
bounds = st.lists(st.integers(min_value=1, max_value=50), unique=True, max_size=5).map(sorted)


@st.composite
def tiers(draw: st.DrawFn, open_end: bool | None = None) -> tuple[Tier, ...]:
    ends: list[int | None] = [*draw(bounds)]
    if open_end is True or (open_end is None and draw(st.booleans())):
        ends.append(None)
    made = [Tier(None if end is None else Decimal(end), draw(amounts), draw(amounts)) for end in ends]
    return tuple(draw(st.permutations(made)))


@pytest.mark.parametrize(
    ("rate", "quantity", "expected"),
    [
        (Slab(TIERS), "250", "19.5"),
        (Slab(TIERS), "100", "10"),
        (Slab(TIERS), "100.5", "12.025"),
        (Slab(TIERS), "1000", "57"),
        (Slab(TIERS), "1500", "62"),
        (Volume(TIERS), "250", "14.5"),
        (Volume(TIERS), "100", "10"),
        (Volume(TIERS), "1000", "52"),
        (Volume(TIERS), "1000.01", "10.0001"),
        (Package(Decimal(3), Decimal(50)), "120", "9"),
        (Package(Decimal(3), Decimal(50), PackageRounding.DOWN), "120", "6"),
        (Package(Decimal(3), Decimal(50)), "100", "6"),
        (Package(Decimal(3), Decimal(50), PackageRounding.DOWN), "49.99", "0"),
        (Package(Decimal(3), Decimal(50)), "0.01", "3"),
        (Package(Decimal(3), ZERO), "10", "0"),
        (FlatFee(Decimal("0.0004")), "7", "0.0028"),
        (FlatFee(Decimal("0.1")), "123456789012345678901234567890.5", "12345678901234567890123456789.05"),
        (Slab(()), "5", "0"),
        (Volume(()), "5", "0"),
    ],
)
def test_an_example_costs_what_it_should(rate, quantity: str, expected: str):
    assert cost(rate, Decimal(quantity)) == Decimal(expected)


@pytest.mark.parametrize("rate", [FlatFee(Decimal(1)), Package(Decimal(1), Decimal(5)), Volume(TIERS[1:]), Slab(TIERS[1:])])
@pytest.mark.parametrize("quantity", ["0", "-1"])
def test_nothing_costs_nothing_not_even_a_tiers_flat_amount(rate, quantity: str):
    assert cost(rate, Decimal(quantity)) == 0
    assert working(rate, Decimal(quantity)) == ()


def test_a_fraction_above_a_bound_lies_in_the_next_tier():
    two = (Tier(Decimal(50), Decimal(1)), Tier(None, Decimal(2)))
    assert cost(Volume(two), Decimal("50.25")) == Decimal("100.5")
    assert cost(Slab(two), Decimal("50.25")) == Decimal("50.5")


def test_beyond_the_last_tier_volume_uses_it_and_slab_charges_nothing():
    closed = (Tier(Decimal(10), Decimal(2), Decimal(1)), Tier(Decimal(20), Decimal(1), Decimal(3)))
    assert cost(Volume(closed), Decimal(50)) == 53
    assert cost(Slab(closed), Decimal(50)) == cost(Slab(closed), Decimal(20)) == 34


def test_a_bucketed_cost_begins_anew_in_every_bucket():
    values = [Decimal(120), Decimal(30), ZERO]
    assert bucketed_cost(Package(Decimal(3), Decimal(50)), values) == 12
    assert bucketed_cost(Volume(TIERS[1:]), values) == Decimal("11.5")


def walked(rate: Slab, quantity: Decimal) -> Fraction:
    """Slab tiers, hundredth by hundredth of a unit: each goes to the first tier that still has room."""
    ordered = sorted(rate.tiers, key=lambda tier: (tier.up_to is None, tier.up_to or 0))
    total, touched = Fraction(0), set()
    for hundredth in range(int(quantity * 100)):
        end = Fraction(hundredth + 1, 100)
        position = next((i for i, tier in enumerate(ordered) if tier.up_to is None or end <= Fraction(tier.up_to)), None)
        if position is not None:
            touched.add(position)
            total += Fraction(ordered[position].unit_amount) / 100
    return total + sum(Fraction(ordered[position].flat_amount) for position in touched)


@given(tiers(), quantities)
def test_slab_tiers_agree_with_a_walk_from_unit_to_unit(made: tuple[Tier, ...], quantity: Decimal):
    assert Fraction(cost(Slab(made), quantity)) == walked(Slab(made), quantity)


def tier_of_the_last_unit(made: tuple[Tier, ...], quantity: Decimal) -> Tier | None:
    """Walks up hundredth by hundredth of a unit, into the next tier whenever one is full; stays in the last."""
    left = sorted(made, key=lambda tier: (tier.up_to is None, tier.up_to or 0))
    if not left:
        return None
    for hundredth in range(1, int(quantity * 100) + 1):
        while len(left) > 1 and left[0].up_to is not None and Fraction(hundredth, 100) > Fraction(left[0].up_to):
            left.pop(0)
    return left[0]


@given(tiers(), quantities)
def test_volume_tiers_agree_with_a_walk_to_the_last_unit(made: tuple[Tier, ...], quantity: Decimal):
    tier = tier_of_the_last_unit(made, quantity)
    expected = Fraction(0)
    if tier is not None and quantity:
        expected = Fraction(quantity) * Fraction(tier.unit_amount) + Fraction(tier.flat_amount)
    assert Fraction(cost(Volume(made), quantity)) == expected


@given(st.integers(min_value=1, max_value=40), amounts, quantities, st.sampled_from(PackageRounding))
def test_packages_agree_with_packing_unit_by_unit(size: int, amount: Decimal, quantity: Decimal, rounding: PackageRounding):
    full, in_the_last = 0, 0
    for _ in range(int(quantity * 100)):
        in_the_last += 1
        if in_the_last == size * 100:
            full, in_the_last = full + 1, 0
    paid = full + (1 if in_the_last and rounding is PackageRounding.UP else 0)
    assert Fraction(cost(Package(amount, Decimal(size), rounding), quantity)) == paid * Fraction(amount)


@given(tiers(), st.one_of(quantities, large))
def test_volume_tiers_charge_everything_where_the_quantity_ends(made: tuple[Tier, ...], quantity: Decimal):
    reached = [tier for tier in made if tier.up_to is not None and quantity <= tier.up_to]
    last = [tier for tier in made if tier.up_to is None] or sorted(made, key=lambda tier: tier.up_to)[-1:]
    chosen = min(reached, key=lambda tier: tier.up_to) if reached else (last or [None])[0]
    expected = (
        0 if chosen is None or not quantity else Fraction(quantity) * Fraction(chosen.unit_amount) + Fraction(chosen.flat_amount)
    )
    assert Fraction(cost(Volume(made), quantity)) == expected


@given(st.integers(min_value=1, max_value=10**12), amounts, large, st.sampled_from(PackageRounding))
def test_packages_agree_with_whole_division(size: int, amount: Decimal, quantity: Decimal, rounding: PackageRounding):
    whole = Fraction(quantity) // size
    if rounding is PackageRounding.UP and Fraction(quantity) % size:
        whole += 1
    assert Fraction(cost(Package(amount, Decimal(size), rounding), quantity)) == whole * Fraction(amount)


@given(tiers(open_end=True), large)
def test_slab_tiers_agree_with_the_closed_formula(made: tuple[Tier, ...], quantity: Decimal):
    expected, lower = Fraction(0), Fraction(0)
    for tier in sorted(made, key=lambda tier: (tier.up_to is None, tier.up_to or 0)):
        upper = Fraction(quantity) if tier.up_to is None else min(Fraction(tier.up_to), Fraction(quantity))
        if upper > lower:
            expected += (upper - lower) * Fraction(tier.unit_amount) + Fraction(tier.flat_amount)
            lower = upper
    assert Fraction(cost(Slab(made), quantity)) == expected


@given(amounts, st.lists(large, max_size=8))
def test_flat_costs_of_parts_add_up_to_the_cost_of_the_whole(amount: Decimal, parts: list[Decimal]):
    rate = FlatFee(amount)
    assert bucketed_cost(rate, parts) == cost(rate, added(parts))


@given(tiers(open_end=False), large)
def test_slab_tiers_that_end_charge_at_most_what_they_hold(made: tuple[Tier, ...], quantity: Decimal):
    end = max((tier.up_to for tier in made), default=ZERO)
    assert cost(Slab(made), quantity) == cost(Slab(made), min(quantity, end))


@given(tiers(), st.lists(quantities, max_size=6))
def test_buckets_cost_what_each_costs_by_itself(made: tuple[Tier, ...], parts: list[Decimal]):
    assert Fraction(bucketed_cost(Slab(made), parts)) == sum((walked(Slab(made), part) for part in parts), Fraction(0))


packages = st.builds(Package, amounts, st.integers(min_value=1, max_value=10**6).map(Decimal), st.sampled_from(PackageRounding))


@given(st.one_of(tiers().map(Slab), tiers().map(Volume), amounts.map(FlatFee), packages), large)
def test_the_steps_of_a_working_add_up_to_the_cost(rate, quantity: Decimal):
    assert added(step.amount for step in working(rate, quantity)) == cost(rate, quantity)


def test_a_working_can_be_read():
    assert [step.sentence for step in working(Slab(TIERS), Decimal(250))] == [
        "100 × 0.1 = 10: units up to 100",
        "150 × 0.05 + 2 = 9.5: units above 100 up to 1000",
    ]
    assert [step.sentence for step in working(Package(Decimal(3), Decimal(50)), Decimal(120))] == [
        "3 × 3 = 9: 120 units in packages of 50, rounded up"
    ]
    assert [step.sentence for step in working(Volume(TIERS[:2]), Decimal(2000))] == [
        "2000 × 0.05 + 2 = 102: all units in the last tier, above 100 up to 1000, which 2000 lies beyond"
    ]
    assert [step.sentence for step in working(Slab(TIERS[:1]), Decimal(101))] == [
        "100 × 0.1 = 10: units up to 100",
        "1 × 0 = 0: units beyond the last tier are not charged",
    ]
