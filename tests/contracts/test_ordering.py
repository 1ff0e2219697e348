"""Deliveries may come in any order, split in any way and several times: the ledger and the figures end the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.ingest import ingest
from flexmeter.maintenance.verification import verify
from flexmeter.models import Event
from flexmeter.usage import usage

from tests.contracts import reference
from tests.contracts.reference import Delivery
from tests.contracts.scripts import METERS, Create, World, few_acts, holds, parsed, places
from tests.examples import examples

COLUMNS = ("event_id", "event_name", "external_customer_id", "customer_id", "source", "timestamp", "accepted_at")
SOME = [METERS[0], METERS[1], METERS[5], METERS[6], METERS[12]]


@pytest.fixture
def meters(db):
    world = World("contracts", (None, "UTC"))
    world.play([Create(definition, built=True) for definition in SOME])
    return world.meters


def numbered(element, number):
    return replace(element, properties={**(element.properties or {}), "number": str(number)})


@examples(30)
@given(place=places, elements=st.lists(few_acts, min_size=2, max_size=10), data=st.data())
def test_any_order_and_any_split_end_in_the_same_ledger_and_the_same_figures(meters, place, elements, data):
    with transaction.atomic():
        world = World("contracts", place, meters)
        # Every delivery says something else, so that which one stands can be told.
        world.deliveries = [
            Delivery(numbered(element, number).text(world.base), world.tick()) for number, element in enumerate(elements)
        ]
        order = data.draw(st.permutations(world.deliveries))
        order += data.draw(st.lists(st.sampled_from(world.deliveries), max_size=4))
        while order:
            size = data.draw(st.integers(1, len(order)))
            batch, order = order[:size], order[size:]
            ingest([parsed(delivery) for delivery in batch], environment="contracts")
        rows = world.rows()
        stored = set(Event.objects.in_environment("contracts").values_list(*COLUMNS))
        assert stored == {
            (row.event_id, row.name, row.customer, row.customer_id, row.source, row.at, row.accepted_at) for row in rows
        }
        for query, question in world.totals():
            assert holds(usage(query), reference.usage(rows, question))
        assert list(verify("contracts")) == []
        transaction.set_rollback(True)
