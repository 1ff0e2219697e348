"""What compaction makes of appended rows, and that whole days are answered from the rows of days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.db.models import QuerySet

from flexmeter.annotations import UsageOf
from flexmeter.ingest import ingest
from flexmeter.maintenance import compaction
from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.verification import verify
from flexmeter.models import Rollup
from flexmeter.slots import position
from flexmeter.stores.database.levels import of_levels
from flexmeter.stores.database.summaries import customers_with_most
from flexmeter.usage import usage

from tests.factories import make_event, make_meter

pytestmark = pytest.mark.django_db
MIDNIGHT = datetime(2024, 3, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
APPENDED, BUCKET, WHOLE_DAY = Rollup.Level.APPENDED, Rollup.Level.BUCKET, Rollup.Level.DAY


def send(event_id: str, after: timedelta, n: int, *, accepted: int = 0, customer: str = "acme") -> None:
    event = make_event(
        event_id,
        timestamp=MIDNIGHT + after,
        accepted_at=MIDNIGHT + timedelta(days=9, seconds=accepted),
        properties={"n": n},
        external_customer_id=customer,
    )
    ingest([event])


def rows(column: str = "total") -> list[tuple[int, timedelta, Decimal]]:
    return [(row.level, row.bucket - MIDNIGHT, getattr(row, column)) for row in Rollup.objects.order_by("slot", "pk")]


def of_day(day: datetime) -> QuerySet[Rollup]:
    return Rollup.objects.filter(slot=position(WHOLE_DAY, day).slot)


@pytest.fixture
def sums():
    return make_meter("SUM", field="n")


def test_appended_rows_become_one_for_each_bucket_and_one_for_each_day(sums):
    send("a", HOUR, 1)
    send("b", HOUR, 2)
    send("c", 3 * HOUR, 4)
    send("d", 30 * HOUR, 8)
    assert [level for level, _, _ in rows()] == [APPENDED] * 4
    assert compact() == 4
    buckets = [(BUCKET, HOUR, 3), (BUCKET, 3 * HOUR, 4), (BUCKET, 30 * HOUR, 8)]
    assert rows() == [*buckets, (WHOLE_DAY, 0 * DAY, 7), (WHOLE_DAY, DAY, 8)]
    assert compact() == 0

    send("e", 3 * HOUR, 16)
    assert compact() == 1
    assert rows()[1] == (BUCKET, 3 * HOUR, 20)
    assert rows()[3] == (WHOLE_DAY, 0 * DAY, 23)
    assert list(verify()) == []


def test_a_day_that_an_event_is_counted_anew_in_is_broken_up_until_the_next_compaction():
    make_meter("MAX", field="n")
    send("a", HOUR, 5)
    send("b", 3 * HOUR, 3)
    send("c", 30 * HOUR, 9)
    compact()
    send("a", HOUR, 1, accepted=1)
    assert {(level, bucket): value for level, bucket, value in rows("maximum")} == {
        (APPENDED, HOUR): 1,
        (APPENDED, 3 * HOUR): 3,
        (BUCKET, 30 * HOUR): 9,
        (WHOLE_DAY, DAY): 9,
    }
    compact()
    assert rows("maximum")[-2:] == [(WHOLE_DAY, 0 * DAY, 3), (WHOLE_DAY, DAY, 9)]


@pytest.mark.parametrize("aggregation_type", ["COUNT", "SUM", "MAX", "LATEST"])
def test_what_all_events_have_left_has_no_rows(aggregation_type):
    meter = make_meter(aggregation_type, field="n")
    send("a", HOUR, 5)
    compact()
    send("a", 30 * HOUR, 5, accepted=1)
    compact()
    assert [(level, bucket) for level, bucket, _ in rows()] == [(BUCKET, 30 * HOUR), (WHOLE_DAY, DAY)]
    assert usage(meter=meter, start=MIDNIGHT, end=MIDNIGHT + DAY).event_count == 0
    assert list(verify()) == []


def test_whole_days_are_answered_from_the_rows_of_days(sums):
    """A wrong one shows wherever it is read, and nowhere else."""
    for hours in (1, 30, 54):
        send(f"{hours}", hours * HOUR, 1)
    compact()
    of_day(MIDNIGHT + DAY).update(total=100, count=10)
    end = MIDNIGHT + 3 * DAY

    def total(start, end, **question):
        return usage(meter=sums, start=start, end=end, **question).value

    assert total(MIDNIGHT, end) == 102
    assert total(MIDNIGHT + HOUR, end) == 102
    assert total(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY) == 100
    assert total(MIDNIGHT + DAY + HOUR, end) == 2
    assert [point.value for point in usage(meter=sums, start=MIDNIGHT, end=end, window="DAY").points] == [1, 100, 1]
    assert [point.value for point in usage(meter=sums, start=MIDNIGHT, end=end, window="HOUR").points] == [1, 1, 1]
    berlin = usage(meter=sums, start=MIDNIGHT, end=end, window="DAY", timezone="Europe/Berlin")
    assert [point.value for point in berlin.points] == [1, 1, 1]
    assert [difference.bucket for difference in verify()] == [MIDNIGHT + DAY]

    account = Group.objects.create(name="acme")
    annotated = Group.objects.annotate(usage=UsageOf(sums, MIDNIGHT, end, customer="name"))
    assert annotated.get(pk=account.pk).usage == 102


def test_a_latest_of_whole_days_comes_from_the_rows_of_days():
    meter = make_meter("LATEST", field="n")
    for hours in (1, 30, 54):
        send(f"{hours}", hours * HOUR, hours)
    compact()
    of_day(MIDNIGHT + 2 * DAY).update(latest=7)
    assert usage(meter=meter, start=MIDNIGHT, end=MIDNIGHT + 3 * DAY).value == 7
    assert usage(meter=meter, start=MIDNIGHT, end=MIDNIGHT + 2.5 * DAY).value == 54


def test_customers_are_ranked_by_the_rows_of_days(sums):
    send("a", HOUR, 5)
    send("b", HOUR, 3, customer="globex")
    compact()
    ranking = {"limit": 2, "alias": "default"}
    range_ = (sums.environment, MIDNIGHT, MIDNIGHT + DAY)
    assert customers_with_most(sums.rule(), *range_, **ranking) == ["acme", "globex"]
    Rollup.objects.filter(of_levels(WHOLE_DAY), series__external_customer_id="globex").update(total=100)
    assert customers_with_most(sums.rule(), *range_, **ranking) == ["globex", "acme"]


def test_many_rows_are_merged_in_several_transactions(sums, monkeypatch):
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 3)
    merged = []
    monkeypatch.setattr(compaction, "in_transaction", lambda alias, work: merged.append(count := work()) or count)
    for number in range(10):
        send(f"{number}", HOUR, 1, customer=f"customer_{number // 2}")
    assert compact() == 10
    assert merged == [2, 2, 2, 2, 2]
    assert list(verify()) == []
