"""What the ledger's indexes hold, and that lists are read through them."""

from datetime import timedelta

import pytest
from django.db import connection

from flexmeter.ingest import ingest
from flexmeter.models import Event

from tests.factories import NOON, make_event
from tests.requirements import only_on

pytestmark = pytest.mark.django_db


def test_the_index_of_lists_holds_ids_except_on_postgresql():
    with connection.cursor() as cursor:
        columns = connection.introspection.get_constraints(cursor, "flexmeter_event")["flexmeter_event_listing"]["columns"]
    assert columns == ["environment", "timestamp", *([] if connection.vendor == "postgresql" else ["event_id"])]


def test_events_of_one_instant_are_listed_in_the_order_of_their_ids():
    moments = [NOON, NOON + timedelta(seconds=1)]
    names = ["b", "ä", "a", "B", "c"]
    ingest([make_event(f"{name}{second}", timestamp=moment) for second, moment in enumerate(moments) for name in names])
    listed = Event.objects.in_environment("default").order_by("-timestamp", "-event_id").values_list("event_id", flat=True)
    assert list(listed) == ["ä1", "c1", "b1", "a1", "B1", "ä0", "c0", "b0", "a0", "B0"]


@only_on("postgresql")
def test_a_page_is_read_from_the_index_and_only_what_happened_at_once_is_sorted():
    # Events of a thousand instants, of which each has two.
    ingest([make_event(f"event_{number}", timestamp=NOON + timedelta(seconds=number // 2)) for number in range(2_000)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE flexmeter_event")
    plan = Event.objects.in_environment("default").order_by("-timestamp", "-event_id")[:50].explain()
    assert "Incremental Sort" in plan
    assert "Presorted Key" in plan
    assert "Index Scan Backward using flexmeter_event_listing" in plan
