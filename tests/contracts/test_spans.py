"""PostgreSQL finds the span of a time where Python's bisection does, whether spans are of one length or not."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.stores.database.levels import BEGINNING
from flexmeter.stores.database.prepared import run_named
from flexmeter.stores.database.spans import spanning

from tests.requirements import only_on

pytestmark = [pytest.mark.django_db, only_on("postgresql")]
MINUTE = timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
minutes = st.integers(1, 60 * 24 * 40)
begins = st.sampled_from([BEGINNING, FIRST]) | st.datetimes(
    datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)
).map(lambda moment: moment.replace(second=0, microsecond=0))


@st.composite
def equal(draw):
    """Spans of one length, the last of which may be shorter, as days have them until now."""
    first, length, count = draw(begins), draw(minutes), draw(st.integers(1, 800))
    edges = [first + place * length * MINUTE for place in range(count)]
    return [*edges, edges[-1] + draw(st.integers(1, length)) * MINUTE]


@st.composite
def unequal(draw):
    first = draw(begins)
    return [first + after * MINUTE for after in [0, *sorted(draw(st.sets(minutes, min_size=1, max_size=30)))]]


def found(edges, instants):
    spans = spanning(tuple(edges))
    with connection.cursor() as cursor:
        wanted = "unnest(%(instants)s::timestamptz[]) WITH ORDINALITY AS one (instant, place)"
        sql = f"SELECT {spans.of('instant')} FROM {wanted} ORDER BY place"
        run_named("default", cursor, sql, spans.parameters | {"instants": instants})
        return [number for (number,) in cursor.fetchall()]


@given(equal() | unequal(), st.data())
@example([FIRST, FIRST + timedelta(days=3)], None)
@example([BEGINNING, FIRST], None)
@example([FIRST, FIRST + timedelta(days=3), FIRST + timedelta(days=4), FIRST + timedelta(days=5)], None)
def test_a_time_lies_in_the_span_that_begins_last_before_it(edges, data):
    length = (edges[-1] - edges[0]) // MINUTE
    drawn = data.draw(st.lists(st.integers(0, length - 1), max_size=20)) if data else []
    instants = [*edges[:-1], *(edge - MINUTE for edge in edges[1:]), *(edges[0] + after * MINUTE for after in drawn)]
    assert found(edges, instants) == [bisect_right(edges, instant) for instant in instants]


def test_spans_of_one_length_are_not_sent_one_by_one():
    assert "edges" not in spanning(tuple(FIRST + hours * timedelta(hours=1) for hours in range(721))).parameters
