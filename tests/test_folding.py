"""Counting events and taking them out again leaves nothing, whatever their numbers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.aggregation import AggregationType, Partial
from flexmeter.expressions import compile_expression
from flexmeter.metering import MeterRule, fold
from flexmeter.properties import loads

from tests.factories import make_event

numbers = st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-(10**20), max_value=10**20).map(
    lambda number: f"{number:f}"
)


@pytest.mark.parametrize(
    "rule",
    [
        MeterRule("tokens", AggregationType.SUM, "n"),
        MeterRule("tokens", AggregationType.WEIGHTED_SUM, "n"),
        MeterRule("tokens", AggregationType.SUM, expression=compile_expression("n * 2")),
    ],
    ids=["sum", "weighted sum", "expression"],
)
@given(texts=st.lists(numbers, min_size=1, max_size=4))
@example(texts=["18014398509481989.14159265358979324"])
def test_what_is_taken_out_again_leaves_nothing(rule, texts):
    events = [make_event(f"event_{place}", properties=loads(f'{{"n": {text}}}')) for place, text in enumerate(texts)]
    rollups = fold(events, [rule])
    fold(events, [rule], rollups, sign=-1)
    assert [partial for partial in rollups.values() if partial != Partial()] == []
