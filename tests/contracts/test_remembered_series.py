"""What is remembered of series never outlives what it was learnt from."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, transaction

from flexmeter.ingest import ingest
from flexmeter.models import Environment, Meter, Rollup, Series
from flexmeter.stores.database import series
from flexmeter.usage import usage

from tests.factories import NOON, make_event, make_meter

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def meter():
    return make_meter()


def counted(meter, customer="acme"):
    return usage(meter=meter, customer=customer, start=NOON - timedelta(days=1), end=NOON + timedelta(days=1)).value


def remembered():
    return {key.external_customer_id for known in series._remembered.values() for key in series.KnownSeries(known)}


def test_ids_are_remembered_once_they_are_committed(meter):
    with transaction.atomic():
        ingest([make_event("e1")])
        assert remembered() == set()
    assert remembered() == {"acme"}
    ingest([make_event("e2")])
    assert (counted(meter), Series.objects.count()) == (2, 1)


def test_a_series_that_was_rolled_back_is_made_again(meter):
    with transaction.atomic():
        ingest([make_event("e1")])
        transaction.set_rollback(True)
    assert remembered() == set()
    ingest([make_event("e2")])
    assert counted(meter) == 1


def test_what_a_savepoint_took_back_is_not_remembered(meter):
    with transaction.atomic():
        try:
            with transaction.atomic():
                ingest([make_event("e1")])
                raise LookupError
        except LookupError:
            pass
        ingest([make_event("e2", external_customer_id="other")])
    assert remembered() == {"other"}
    ingest([make_event("e3")])
    assert (counted(meter), counted(meter, "other")) == (1, 1)


def test_an_emptied_database_is_noticed(meter):
    ingest([make_event("e1")])
    for model in (Rollup, Series, Meter, Environment):
        model.objects.all().delete()
    again = make_meter()
    Meter.objects.filter(pk=again.pk).delete()
    Meter.objects.create(id=meter.pk, event_name="tokens", aggregation_type="COUNT", rollups_ready=True)
    ingest([make_event("e2")])
    assert counted(Meter.objects.get()) == 1
    assert Rollup.objects.get().series_id == Series.objects.get().pk


def test_a_new_connection_remembers_nothing(meter):
    ingest([make_event("e1")])
    assert remembered()
    connections["default"].close()
    connections["default"].ensure_connection()
    assert not remembered()


def test_environments_are_kept_apart(meter):
    other = make_meter(environment="other")
    ingest([make_event("e1")])
    ingest([make_event("e1")], environment="other")
    ingest([make_event("e2")], environment="other")
    assert counted(meter) == 1
    assert counted(other) == 2


def test_not_more_than_so_many_are_remembered(meter, monkeypatch):
    monkeypatch.setattr(series, "MOST_REMEMBERED", 3)
    for number in range(5):
        ingest([make_event(f"e{number}", external_customer_id=f"c{number}")])
    assert remembered() == {"c3", "c4"}
    for number in range(5):
        ingest([make_event(f"again{number}", external_customer_id=f"c{number}")])
    assert [counted(meter, f"c{number}") for number in range(5)] == [2] * 5
