"""The first events of a customer, read by one statement, are those that reading all of them in order would give."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.ingest import ingest
from flexmeter.stores.database import extents
from flexmeter.stores.database.extents import Extent, ListedEvent

from tests.examples import examples
from tests.factories import NOON, make_event
from tests.requirements import only_on

pytestmark = [pytest.mark.django_db(transaction=True), only_on("postgresql")]
numbers = count()
NAMES = ["a", "b", "c"]
HOUR = timedelta(hours=1)
events = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["acme", "globex"]),
        st.integers(0, 3),  # many at one time
        st.sampled_from([None, {}, {"n": 1, "big": 10**30, "text": "\u00e9\"'\\"}]),
    ),
    max_size=25,
)


def ledger(given):
    """Events in an environment of their own."""
    environment = f"first{next(numbers)}"
    made = [
        make_event(
            f"e{number * 7 % 31}-{number}",
            event_name=name,
            external_customer_id=customer,
            timestamp=NOON + hours * HOUR,
            properties=properties,
            source="api",
            customer_id="c",
        )
        for number, (name, customer, hours, properties) in enumerate(given)
    ]
    ingest(made, environment=environment)
    return environment


@examples(80)
@given(events, st.integers(1, 12), st.integers(0, 11), st.booleans(), st.sampled_from([None, 1, 3]), st.integers(1, 3))
def test_they_are_those_that_come_first(given, number, skipped, newest_first, hours, names):
    extent = Extent(ledger(given), NOON + HOUR, None if hours is None else NOON + hours * HOUR, "", "acme")
    found = extent.first_events(number, min(skipped, number), NAMES[:names], "default", newest_first=newest_first)
    sign = "-" if newest_first else ""
    rows = extent.rows("default").filter(event_name__in=NAMES[:names]).order_by(f"{sign}timestamp", f"{sign}event_id")
    assert found == [ListedEvent(*row) for row in rows.values_list(*ListedEvent._fields)[min(skipped, number) : number]]


def test_what_lies_far_behind_is_left_to_others(monkeypatch):
    extent = Extent(ledger([("a", "acme", 0, None)] * 4), NOON, None, "", "acme")
    monkeypatch.setattr(extents, "MOST_FIRST", 3)
    assert len(extent.first_events(3, 0, ["a"], "default", newest_first=True)) == 3
    assert extent.first_events(4, 3, ["a"], "default", newest_first=True) is None
