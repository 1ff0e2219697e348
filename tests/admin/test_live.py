from datetime import timedelta

import pytest
from django.db import connection

from flexmeter.admin import live
from flexmeter.ingest import ingest
from flexmeter.models import Event

from tests.admin.pages import read
from tests.factories import NOON, make_event

LIVE = "/admin/flexmeter/event/live/"
ANSWERS = f"{LIVE}events/"

pytestmark = pytest.mark.django_db


def ids(client, **query: str) -> list[str]:
    response = client.get(ANSWERS, query)
    assert response.status_code == 200
    return ["".join(event["event_id"]) for event in response.json()["events"]]


def test_the_events_that_were_stored_last_come_first_whenever_they_happened(viewer):
    ingest([make_event("b", timestamp=NOON)])
    ingest([make_event("a", timestamp=NOON - timedelta(days=1))])
    ingest([make_event("c")], environment="other")
    assert ids(viewer) == ["a", "b"]
    assert ids(viewer, environment="other") == ["c"]


def test_events_are_filtered_by_name_and_customer(viewer):
    ingest([make_event("a"), make_event("b", event_name="chat"), make_event("c", external_customer_id="globex")])
    assert ids(viewer, name="chat") == ["b"]
    assert ids(viewer, customer="globex") == ["c"]
    assert ids(viewer, name="chat", customer="globex") == []


def test_an_answer_holds_the_newest_events_and_no_more(viewer, monkeypatch):
    monkeypatch.setattr(live, "SENT", 3)
    ingest([make_event(f"event_{n}") for n in range(5)])
    assert ids(viewer) == ["event_4", "event_3", "event_2"]


def test_only_the_newest_rows_are_looked_through(viewer, monkeypatch):
    monkeypatch.setattr(live, "LOOKED_AT", 2)
    ingest([make_event("a", event_name="rare"), make_event("b"), make_event("c")])
    assert ids(viewer, name="rare") == []
    assert ids(viewer) == ["c", "b"]


def test_a_row_that_commits_late_is_in_the_next_answer(viewer):
    """Rows are numbered before they commit; an answer that asked for what came after the last one would miss it."""
    ingest([make_event("a"), make_event("b"), make_event("c")])
    late = Event.objects.get(event_id="b")
    Event.objects.filter(pk=late.pk).delete()
    assert ids(viewer) == ["c", "a"]
    late.save(force_insert=True)
    assert ids(viewer) == ["c", "b", "a"]


def test_an_event_that_was_replaced_says_so_by_its_version(viewer):
    ingest([make_event()])
    [before] = viewer.get(ANSWERS).json()["events"]
    ingest([make_event(source="x", accepted_at=NOON + timedelta(hours=1))])
    [after] = viewer.get(ANSWERS).json()["events"]
    assert before["key"] == after["key"]
    assert before["version"] != after["version"]


def test_nothing_stored_is_no_error(viewer):
    assert ids(viewer) == []
    assert "Running" in read(viewer, LIVE).text


def test_a_filter_that_cannot_be_is_refused_in_words(viewer):
    response = viewer.get(ANSWERS, {"name": "x" * 256})
    assert response.status_code == 400
    assert "at most 255 characters" in response.json()["errors"]["name"][0]
    assert "at most 255 characters" in read(viewer, LIVE, {"name": "x" * 256}).text


def test_an_answer_takes_as_many_queries_whatever_it_holds(viewer, django_assert_num_queries):
    ingest([make_event(f"event_{n}") for n in range(20)])
    # Besides who looks: the environments and the one to begin with, the newest key, the rows.
    with django_assert_num_queries(4 + 2 + 2 + (connection.vendor == "mysql")):  # it steps to a second environment
        ids(viewer)
