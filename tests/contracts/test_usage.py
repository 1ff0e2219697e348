"""Rollup = raw = reference: for any history of the ledger and any question, on the database of this run."""

from __future__ import annotations

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.maintenance.verification import Verification, verify
from flexmeter.usage import usage, usage_from_events

from tests.contracts import reference
from tests.contracts.scripts import World, bounds, every_meter, histories, holdings, holds, places, questions
from tests.examples import examples


@pytest.fixture
def meters(db):
    return every_meter("contracts")


@examples(50)
@given(place=places, history=holdings, asked=st.lists(questions, min_size=15, max_size=30), bound=bounds)
def test_rollups_events_and_the_reference_agree_on_every_question(meters, place, history, asked, bound):
    with transaction.atomic():
        world = World("contracts", place, meters, bound)
        world.play(history)
        rows = world.rows()
        for each in asked:
            query, question = each.of(world)
            expected = reference.usage(rows, question)
            assert_holds(usage_from_events(query), expected)
            assert_holds(usage(query), expected)
        transaction.set_rollback(True)


@examples(75)
@given(place=places, history=histories, chunk=st.sampled_from([1, 3, 50]), bound=bounds)
def test_rollups_stay_true_whatever_happens_to_events_and_meters(db, settings, place, history, chunk, bound):
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = chunk
    with transaction.atomic():
        world = World("contracts", place, dimension_groups=bound)
        world.play(history)
        rows = world.rows()
        verification = Verification()
        assert list(verify("contracts", result=verification)) == []
        assert (verification.meters, verification.skipped) == (len(world.meters), 0)
        for query, question in world.totals():
            answer = usage if question.customer is None else usage_from_events
            assert_holds(answer(query), reference.usage(rows, question))
        transaction.set_rollback(True)


def assert_holds(result, expected):
    assert holds(result, expected), f"{result}\n{expected}"
