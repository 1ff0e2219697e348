"""Rebuilding a meter's rollups from history, in chunks, with events coming and changing meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flexmeter.ingest import ingest
from flexmeter.maintenance.rebuild import rebuild
from flexmeter.maintenance.verification import verify
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage

from tests.factories import NOON, make_event, make_meter

pytestmark = pytest.mark.django_db
YEAR = (NOON - timedelta(days=180), NOON + timedelta(days=180))


class Killed(Exception):
    """Stands for a process that ends after a chunk."""


@pytest.fixture(autouse=True)
def one_event_a_chunk(settings):
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = 1
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0


def unbuilt_meter(aggregation_type="SUM", **changed):
    meter = make_meter(aggregation_type, **{"field": "n"} | changed)
    assert not meter.rollups_ready
    return meter


def rebuild_one_chunk(meter):
    def kill(progress):
        raise Killed

    with pytest.raises(Killed):
        rebuild(meter.pk, report=kill)


def figure(meter, customer=None):
    meter.refresh_from_db()
    result = usage(UsageQuery(meter.rule(), Scope("default", customer), *YEAR))
    assert result.source.startswith("rollups") == meter.rollups_ready
    return result.value, result.event_count


def changed(event, **values):
    return make_event(
        event.event_id, **{"properties": event.properties, "accepted_at": event.accepted_at + timedelta(hours=1)} | values
    )


@pytest.mark.parametrize("chunks", [0, 1])
@pytest.mark.parametrize(("first", "second"), [("a", "z"), ("z", "a")])
def test_an_event_that_moves_to_another_customer_during_a_rebuild_is_counted_there_alone(first, second, chunks):
    event, other = make_event(external_customer_id=first, properties={"n": 5}), make_event("other", external_customer_id="m")
    ingest([event, other])
    meter = unbuilt_meter()
    for _ in range(chunks):
        rebuild_one_chunk(meter)
    ingest([changed(event, external_customer_id=second)])
    rebuild(meter.pk)
    assert figure(meter, second) == (5, 1)
    assert figure(meter, first) == (0, 0)
    assert figure(meter) == (5, 2)
    assert list(verify()) == []
