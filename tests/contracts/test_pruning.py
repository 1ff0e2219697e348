"""Once events are pruned a figure is what it was before, or it is refused; it is never smaller."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.exceptions import InvalidEvent, PrunedEvents
from flexmeter.ingest import ingest
from flexmeter.maintenance.retention import prune
from flexmeter.maintenance.verification import verify
from flexmeter.models import Event
from flexmeter.usage import usage, usage_from_events

from tests.contracts import reference
from tests.contracts.reference import Delivery
from tests.contracts.scripts import (
    MANY_IDS,
    Change,
    World,
    acts,
    every_meter,
    holdings,
    holds,
    offsets,
    parsed,
    places,
    questions,
)
from tests.examples import examples

later_acts = acts([f"later_{number}" for number in range(5)] + MANY_IDS[:5], offsets)


@pytest.fixture
def meters(db):
    return every_meter("contracts")


@examples(15)
@given(
    place=places,
    history=holdings,
    floor=st.timedeltas(timedelta(days=-3), timedelta(days=3)),
    later=st.lists(later_acts, max_size=5),
    change=st.sampled_from([None, "compact", "restart", "filter"]),
    asked=st.lists(questions, min_size=15, max_size=20),
)
def test_a_figure_stays_what_it_was_or_is_refused(meters, settings, place, history, floor, later, change, asked):
    settings.FLEXMETER_PRUNE_BATCH_EVENTS = 3
    with transaction.atomic():
        world = World("contracts", place, meters)
        world.play(history)
        prune(world.base + floor, environment="contracts")
        cut = (world.base + floor).replace(hour=0, minute=0, second=0, microsecond=0)
        kept = [row for row in world.rows() if row.at >= cut]
        assert set(Event.objects.values_list("event_id", flat=True)) == {row.event_id for row in kept}

        gone = {row.event_id for row in world.rows()} - {row.event_id for row in kept}
        for element in later:
            delivery = Delivery(element.text(world.base), world.tick())
            if element.event_id in gone:
                continue  # its first delivery is forgotten: it would be a new event
            if world.base + element.offset < cut:
                with pytest.raises(InvalidEvent):
                    ingest([parsed(delivery)], environment="contracts")
            else:
                world.deliver([delivery])
        if change:
            world.change(Change(change, 1, {"u": ["1"]}))
        assert list(verify("contracts")) == []

        rows = world.rows()
        for each in asked:
            query, question = each.of(world)
            for answer in (usage, usage_from_events):
                refusal, result = None, None
                try:
                    result = answer(query)
                except PrunedEvents as error:
                    refusal = error
                if refusal is None:
                    assert holds(result, reference.usage(rows, question)), (result, question)
                else:
                    assert question.start < cut or question.never_resets
                    assert refusal.details == {"retained_from": written(cut)}
        transaction.set_rollback(True)


def written(instant):
    return instant.isoformat().replace("+00:00", "Z")
