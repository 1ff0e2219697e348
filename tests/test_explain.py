from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from flexmeter.explain import Outcome, explain, look_up
from flexmeter.inbox import put
from flexmeter.ingest import ingest
from flexmeter.models import Event

from tests.factories import NOON, make_event, make_meter

pytestmark = pytest.mark.django_db


def told(properties: dict | None, **meter: object) -> str:
    """The sentence of one meter about one event."""
    make_meter(**meter)
    ingest([make_event(properties=properties)])
    [verdict] = explain(Event.objects.get()).verdicts
    return verdict.sentence.removesuffix(" in bucket 2024-03-10 12:00 to 12:15 UTC.")


@pytest.mark.parametrize(
    ("properties", "meter", "sentence"),
    [
        ({}, {"field": "n"}, "Counted 0 (`n` is missing)"),
        ({"n": None}, {"field": "n"}, "Counted 0 (`n` is missing)"),
        ({"n": "x"}, {"field": "n"}, 'Counted 0 (`n` is "x", which is no number)'),
        ({"n": "1.50"}, {"field": "n"}, "Counted 1.5 as `n`"),
        (
            {"n": 2},
            {"field": "n", "aggregation_type": "SUM_WITH_MULTIPLIER", "multiplier": Decimal(3)},
            "Counted 6 as `n` (2 × 3)",
        ),
        ({"n": 2}, {"expression": "n * 2"}, "Counted 4 as n * 2"),
        (None, {"expression": "n / m"}, "Not counted: the expression n / m has no value for this event."),
        ({"n": 2}, {"field": "n", "aggregation_type": "COUNT_UNIQUE"}, 'Counted the value "2" of `n`'),
        (None, {"field": "n", "aggregation_type": "COUNT_UNIQUE"}, "Counted no value (`n` is missing)"),
        ({"kind": "x"}, {"field": "n", "filters": (("kind", ("a",)),)}, 'Not counted: filter `kind` is "x", wanted "a".'),
        (None, {"field": "n", "filters": (("kind", ("a",)),)}, 'Not counted: filter `kind` is missing, wanted "a".'),
        (
            {"kind": "x" * 90},
            {"field": "n", "filters": (("kind", tuple("abcdefgh")),)},
            f'Not counted: filter `kind` is "{"x" * 80}…", wanted one of "a", "b", "c", "d", "e" or 3 others.',
        ),
        ({"{0}": "{n}"}, {"field": "n", "filters": (("{0}", ("{}",)),)}, 'Not counted: filter `{0}` is "{n}", wanted "{}".'),
    ],
)
def test_a_sentence_says_what_was_counted_or_why_not(properties, meter, sentence):
    assert told(properties, **({"aggregation_type": "SUM"} | meter)) == sentence


def test_a_sentence_has_its_times_in_the_zone_that_is_asked_for():
    meter = make_meter()
    ingest([make_event()])
    [verdict] = explain(Event.objects.get()).verdicts
    assert verdict.told_in(ZoneInfo("Asia/Tokyo")) == "Counted 1 in bucket 2024-03-10 21:00 to 21:15 JST."
    meter.archived_at = NOON
    meter.save()
    [verdict] = explain(Event.objects.get()).verdicts
    assert verdict.outcome is Outcome.ARCHIVED
    assert verdict.sentence == "Not counted: the meter has been archived since 2024-03-10 12:00:00 UTC."
    assert "21:00:00 JST" in verdict.told_in(ZoneInfo("Asia/Tokyo"))


def test_a_stored_event_is_found_before_one_that_waits():
    put([make_event(source="waiting", accepted_at=NOON + timedelta(hours=1))], environment="default")
    found = look_up("event_1", environment="default")
    assert found is not None
    assert (found.waits, found.event.source) == (True, "waiting")
    ingest([make_event(source="stored")])
    found = look_up("event_1", environment="default")
    assert found is not None
    assert (found.waits, found.event.source) == (False, "stored")
    assert look_up("event_1", environment="other") is None
