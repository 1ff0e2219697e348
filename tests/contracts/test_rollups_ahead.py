"""Rollup rows that are made while events are stored are those that would be made afterwards."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmeter import metering
from flexmeter.aggregation import Partial
from flexmeter.ingest import Ingested, ingest
from flexmeter.maintenance.verification import verify
from flexmeter.metering import fold, fold_alike, rollups_of
from flexmeter.models import Environment, Rollup, UniqueValue
from flexmeter.slots import began
from flexmeter.stores.database.few import PostgresFewWriter
from flexmeter.stores.database.native_rollups import PostgresRollupWriter, rollup_writer
from flexmeter.stores.database.rollup_rows import partial_of
from flexmeter.stores.database.series import RememberedSeries
from flexmeter.stores.database.tables import MEASURE_COLUMNS
from flexmeter.windows import WindowSize

from tests.examples import examples
from tests.factories import NOON, make_event, make_meter

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.only_on("postgresql")]
KINDS = {
    "count": {"aggregation_type": "COUNT"},
    "sum": {"aggregation_type": "SUM", "field": "n"},
    "sum again": {"aggregation_type": "SUM", "field": "n"},
    "weighted": {"aggregation_type": "WEIGHTED_SUM", "field": "n"},
    "max by minute": {"aggregation_type": "MAX", "field": "n", "bucket_size": WindowSize.MINUTE},
    "max by group": {"aggregation_type": "MAX", "field": "n", "bucket_size": WindowSize.HOUR, "group_by": "w"},
    "latest": {"aggregation_type": "LATEST", "field": "n"},
    "distinct": {"aggregation_type": "COUNT_UNIQUE", "field": "w"},
    "apart": {"aggregation_type": "SUM", "field": "n", "dimensions": ("w",)},
}
LEFT = {"distinct", "apart"}
numbers = count()
events = st.lists(
    st.builds(
        lambda customer, minutes, value, word: make_event(
            f"e{next(numbers)}",
            external_customer_id=customer,
            timestamp=NOON + timedelta(minutes=minutes),
            properties=None if value is None else {"n": value, "w": word},
        ),
        st.sampled_from(["acme", "globex", "tab\there", "back\\slash"]),
        st.integers(-20, 20),
        st.none() | st.integers(-5, 10**20) | st.decimals(-5, 5, places=3).map(str),
        st.sampled_from(["a", "b\t", "\\N"]),
    ),
    min_size=1,
    max_size=12,
)


def make_rules(environment, kinds):
    return {kind: make_meter(name=kind, environment=environment, **KINDS[kind]).rule() for kind in kinds}


def writer(environment):
    since = Environment.objects.get(name=environment).created_at
    return rollup_writer("default", RememberedSeries("default", environment, since))


def taken_out():
    """What the rollups hold, by series and bucket, which measures they keep, and the values that are listed."""
    rollups: dict[object, Partial] = {}
    kept = set()
    for row in Rollup.objects.all():
        measures = [getattr(row, column) for column in MEASURE_COLUMNS]
        assert row.level == Rollup.Level.APPENDED
        rollups.setdefault((row.series_id, row.bucket), Partial()).merge(partial_of(measures))
        kept.add((row.series_id, *(measure is None for measure in measures)))
    listed = set(UniqueValue.objects.values_list("series", "day", "value"))
    Rollup.objects.all().delete()
    UniqueValue.objects.all().delete()
    return rollups, kept, listed


@examples(60)
@given(st.sets(st.sampled_from(sorted(KINDS)), min_size=1), events, events, st.sampled_from([2, 5_000]))
def test_they_come_to_what_is_made_afterwards(kinds, before, batch, at_once):
    environment = f"ahead{next(numbers)}"
    rules = list(make_rules(environment, kinds).values())
    ingest(before, environment=environment)  # some series are remembered now, others are not
    taken_out()
    rollups = writer(environment)
    with patch.object(metering, "EVENTS_AT_ONCE", at_once):
        lines, left = rollups.lines_of(list(fold_alike(batch, rules)))
    rollups.append_lines(lines)
    rollups.append(environment, rollups_of(left), rules)
    ahead = taken_out()
    rollups.append(environment, fold(batch, rules), rules)
    assert taken_out() == ahead


@examples(60)
@given(st.sets(st.sampled_from(sorted(KINDS)), min_size=1), events, events)
def test_few_come_with_one_message_to_what_they_come_to_without(kinds, before, batch):
    found = []
    for most in (PostgresFewWriter.MOST_EVENTS, 0):
        environment = f"few{next(numbers)}"
        rules = make_rules(environment, kinds)
        with patch.object(PostgresFewWriter, "MOST_EVENTS", most):
            ingest([event._replace(event_id=f"{event.event_id} before") for event in batch], environment=environment)
            for events in (before, batch):
                assert ingest(events, environment=environment) == Ingested(stored=len(events))
        assert list(verify(environment=environment)) == []
        found.append({kind: rows_of(rule) for kind, rule in rules.items()})
    assert found[0] == found[1]


def rows_of(rule):
    """Rollup rows and listed values of a meter, without the numbers of rows and series."""
    place = ("series__external_customer_id", "series__group", "series__combination")
    found = Rollup.objects.filter(series__meter=rule.meter_id).values_list("slot", "part", *place, *MEASURE_COLUMNS)
    rows = [(began(slot, part), *others) for slot, part, *others in found]
    listed = UniqueValue.objects.filter(series__meter=rule.meter_id).values_list(*place, "day", "value")
    return Counter(rows), Counter(listed)


def test_what_is_remembered_is_all_made_ahead_but_lists_and_combinations():
    rules = make_rules("default", KINDS)
    batch = [make_event(f"e{number}", properties={"n": number, "w": "a"}) for number in range(30)]
    assert rollups_left(batch, rules) == set(rules)
    ingest(batch)
    assert rollups_left(batch, rules) == LEFT


def rollups_left(batch, rules):
    _, left = writer("default").lines_of(list(fold_alike(batch, list(rules.values()))))
    names = {rule.meter_id: kind for kind, rule in rules.items()}
    return {names[rule.meter_id] for part in left for rule in part.rules}


@pytest.mark.parametrize(("repeated", "is_copied"), [(0, True), (5, True), (15, False)], ids=["none", "few", "many"])
def test_a_batch_with_events_that_are_stored_already_counts_the_others(monkeypatch, copied, repeated, is_copied):
    make_rules("default", KINDS)
    appended = []
    append = PostgresRollupWriter.append_lines
    monkeypatch.setattr(
        PostgresRollupWriter, "append_lines", lambda self, lines: appended.extend(lines.lines) or append(self, lines)
    )
    ingest([make_event(f"e{number}", properties={"n": number, "w": "a"}) for number in range(30)])
    assert appended == []
    first = 30 - repeated
    batch = [make_event(f"e{number}", properties={"n": number, "w": "a"}) for number in range(first, first + 30)]
    assert ingest(batch) == Ingested(stored=30 - repeated, repeated=repeated)
    assert bool(appended) == is_copied
    assert list(verify(environment="default")) == []
