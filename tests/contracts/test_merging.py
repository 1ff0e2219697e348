"""PostgreSQL merges appended rollup rows to what merging them one by one comes to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

import pytest
from django.db.models.expressions import RawSQL
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.aggregation import AggregationType
from flexmeter.maintenance.compaction import compact
from flexmeter.metering import DAY
from flexmeter.models import Meter, Rollup, Series, UniqueValue
from flexmeter.stores.database.levels import Stretch, among, of_levels
from flexmeter.stores.database.native_rollups import ROLLUP_WRITERS, PostgresRollupWriter
from flexmeter.stores.database.rollups import RollupWriter
from flexmeter.stores.database.tables import MEASURE_COLUMNS
from flexmeter.windows import bucket

from tests.examples import examples
from tests.factories import at, make_meter, make_rollup

pytestmark = [pytest.mark.django_db, pytest.mark.only_on("postgresql")]
MIDNIGHT = at("2024-03-10 00:00")
QUARTER, MINUTE = timedelta(minutes=15), timedelta(minutes=1)
PLACE = RawSQL("ctid", ())
"""Where a row lies."""
TYPES = sorted({type.value for type in AggregationType} - {"SUM_WITH_MULTIPLIER"})  # which keeps what SUM keeps
numbers = count()
figures = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**20), max_value=10**20) | st.just(
    Decimal(0)
)
extremes = st.none() | figures


@st.composite
def rows(draw):
    """A row of one of two series, appended in one of two rounds; most measures may be missing."""
    start = MIDNIGHT + draw(st.integers(0, 250)) * QUARTER + draw(st.sampled_from([0, 0, 1, 14])) * MINUTE
    key = draw(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["a", "B", "é", "_", "b "])))
    happened, accepted, event_id = key or (0, 0, "")
    moment = start + timedelta(seconds=happened)
    latest = {
        "latest": Decimal(f"{happened}.{accepted}{len(event_id)}"),  # one event has one value
        "latest_at": moment,
        "latest_accepted_at": moment + timedelta(seconds=accepted),
        "latest_event_id": event_id,
    }
    return (
        draw(st.booleans()),
        draw(st.integers(0, 1)),
        {
            "bucket": start,
            "count": draw(st.integers(-2, 3)),
            "total": draw(extremes),
            "moment": draw(extremes),
            "minimum": draw(extremes),
            "maximum": draw(extremes),
        }
        | (latest if key else {}),
    )


def make_series(type):
    number = next(numbers)
    meter = make_meter(type, environment=f"e{number}", field="" if type == "COUNT" else "n")
    return [
        Series.objects.create(
            environment=meter.environment, meter=meter, generation=meter.generation, external_customer_id=customer
        )
        for customer in ("acme", "globex")
    ]


def merged(writer, type, rows, monkeypatch):
    """What two rounds of appending and merging leave, and how many rows were merged."""
    series = make_series(type)
    environment = series[0].environment
    counted = []
    with monkeypatch.context() as patch:
        patch.setitem(ROLLUP_WRITERS, "postgresql", writer)
        for second in (False, True):
            Rollup.objects.bulk_create(make_rollup(series[of], **columns) for late, of, columns in rows if late is second)
            UniqueValue.objects.bulk_create(
                UniqueValue(series=series[of], day=bucket(columns["bucket"], DAY), value=UUID(int=abs(columns["count"])))
                for late, of, columns in rows
                if late is second
            )
            counted.append(compact(environment))
    left = Rollup.objects.filter(series__environment=environment)
    found = (
        (row.series.external_customer_id, row.level, row.bucket, *(getattr(row, column) for column in MEASURE_COLUMNS))
        for row in left.select_related("series")
    )
    values = UniqueValue.objects.filter(series__environment=environment)
    return (
        counted,
        sorted((row for row in found if says_something(row)), key=lambda row: row[:3]),
        sorted(map(str, values.values_list("series__external_customer_id", "value"))),
    )


def says_something(row):
    """Whether anything is left of a row; one without is dropped, at the latest when its day is gathered."""
    count, total, moment, *others = row[3:]
    return bool(count or total or moment) or any(value is not None for value in others)


@examples(150)
@given(type=st.sampled_from(TYPES), rows=st.lists(rows(), min_size=1, max_size=12))
def test_merged_by_the_database_or_one_by_one_it_is_the_same(type, rows, monkeypatch):
    one_by_one, by_database = (merged(writer, type, rows, monkeypatch) for writer in (RollupWriter, PostgresRollupWriter))
    assert by_database == one_by_one
    Meter.objects.all().delete()


def test_rows_of_a_series_are_written_side_by_side():
    first, second = make_series("SUM")
    for number in range(6):
        make_rollup((second, first)[number % 2], MIDNIGHT + number * QUARTER, count=1, total=1).save()
    assert compact(first.environment) == 6
    kept = Rollup.objects.filter(of_levels(Rollup.Level.BUCKET)).order_by(PLACE).values_list("series_id", flat=True)
    assert list(kept) == [first.pk] * 3 + [second.pk] * 3


def test_rows_of_a_day_are_gathered_when_the_next_one_begins():
    both = make_series("SUM")
    for number in range(8):
        for series in both:
            make_rollup(series, MIDNIGHT + number * QUARTER, count=1, total=number).save()
        assert compact(both[0].environment) == 2
    scattered = list(bucket_rows(MIDNIGHT))
    assert [of for of, _ in scattered] == [both[0].pk, both[1].pk] * 8
    rows = [
        (both[0], MIDNIGHT + DAY),
        (both[0], MIDNIGHT + QUARTER),
        (both[1], MIDNIGHT + 3 * DAY),
        (both[1], MIDNIGHT + 2 * DAY),
    ]
    for series, start in rows:
        make_rollup(series, start, count=1, total=1).save()
    assert compact(both[0].environment) == 4
    gathered = list(bucket_rows(MIDNIGHT))
    assert [of for of, _ in gathered] == [both[0].pk] * 8 + [both[1].pk] * 8
    assert sorted(gathered) == sorted((of, total + (of == both[0].pk and total == 1)) for of, total in scattered)
    kept = list(Rollup.objects.values_list("pk", flat=True))
    make_rollup(both[0], MIDNIGHT + DAY + QUARTER, count=1, total=1).save()
    assert compact(both[0].environment) == 1
    # The day that has begun already leaves all rows but its own where they are.
    assert len(set(kept) - set(Rollup.objects.values_list("pk", flat=True))) == 1


def bucket_rows(day):
    """Series and total of the rows of a day's buckets, in the order in which they were written."""
    rows = Rollup.objects.filter(among([Stretch(Rollup.Level.BUCKET, day, day + DAY)]))
    return rows.order_by(PLACE).values_list("series_id", "total")
