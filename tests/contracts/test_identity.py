"""An event is known by the bytes of its id, on every database."""

import pytest

from flexmeter.ingest import ingest
from flexmeter.models import Event
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage

from tests.factories import NOON, make_event, make_meter

pytestmark = pytest.mark.django_db

ALIKE = [
    "id", "ID", "Id", " id", "id ", "id  ", "ｉｄ", "íd", "i\u0301d", "id\u200b", "ß", "ss", "ı",
    "i", "K", "\u212a", "\U0001f600",
]  # fmt: skip


def test_ids_that_differ_in_a_byte_are_different_events():
    ingest([make_event(name) for name in ALIKE])
    assert set(Event.objects.values_list("event_id", flat=True)) == set(ALIKE)


def test_ids_sort_by_code_point():
    ingest([make_event(name) for name in ALIKE])
    assert list(Event.objects.order_by("event_id").values_list("event_id", flat=True)) == sorted(ALIKE)


def test_customers_that_differ_in_a_byte_are_counted_apart():
    meter = make_meter("COUNT")
    ingest([make_event(f"event-{number}", external_customer_id=name) for number, name in enumerate(ALIKE)])
    for name in ALIKE:
        counted = usage(UsageQuery(meter.rule(), Scope("default", name), NOON.replace(hour=0), NOON.replace(hour=23)))
        assert (counted.value, counted.source) == (1, "rollups"), name


def test_the_longest_id_of_the_widest_characters_is_kept_and_known_again():
    longest = "\U0001f9ee" * 255
    assert ingest([make_event(longest)]).stored == 1
    assert ingest([make_event(longest)]).repeated == 1
    assert Event.objects.get().event_id == longest


def test_one_id_in_two_environments_is_two_events():
    ingest([make_event("same")], environment="one")
    ingest([make_event("same", properties={"n": 2})], environment="two")
    assert {event.environment: event.properties for event in Event.objects.all()}["two"] == {"n": 2}
    assert Event.objects.count() == 2
