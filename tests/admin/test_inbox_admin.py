"""The inbox in the admin: what waits, for how long, and who may have it counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import Client

from flexmeter import draining, inbox
from flexmeter.ingest import ingest
from flexmeter.models import InboxBatch, now

from tests.factories import NOON, make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, rejected, waiting
from tests.requirements import only_on

pytestmark = pytest.mark.django_db

LIST = "/admin/flexmeter/inboxbatch/"


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


@pytest.fixture
def changer():
    user = User.objects.create_user("changer", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_inboxbatch", "change_inboxbatch"]))
    client = Client()
    client.force_login(user)
    return client


def read(client, url, *arguments, **options):
    response = client.get(url, *arguments, **options)
    assert response.status_code == 200
    return response.content.decode()


def said(response):
    return " ".join(str(message) for message in response.context["messages"])


def drain(client):
    return said(client.post(f"{LIST}drain/", follow=True))


def page_of_first():
    return f"{LIST}{InboxBatch.objects.values_list('pk', flat=True).earliest('id')}/change/"


def test_the_list_tells_what_waits_in_each_environment_and_for_how_long(viewer):
    inbox.put([make_event("a"), make_event("b")], environment="default")
    inbox.put([make_event("c")], environment="other")
    InboxBatch.objects.filter(environment="default").update(accepted_at=now() - timedelta(minutes=90, seconds=5), attempts=2)
    InboxBatch.objects.filter(environment="other").update(accepted_at=now() - timedelta(seconds=5))
    response = viewer.get(LIST)
    assert "3 events wait to be counted, the oldest for 1 h 30 min." in response.content.decode()
    assert [(name, backlog.batches, backlog.events) for name, backlog, *_ in response.context["environments"]] == [
        ("default", 1, 2),
        ("other", 1, 1),
    ]
    assert [batch.environment for batch in viewer.get(response.context["environments"][1][-1]).context["cl"].result_list] == [
        "other"
    ]


def test_an_empty_inbox_says_so(viewer):
    assert "Nothing waits to be counted." in read(viewer, LIST)


def test_sums_of_a_long_inbox_stop_at_a_bound_and_say_so(viewer, monkeypatch):
    from flexmeter.admin import inbox as inbox_admin

    monkeypatch.setattr(inbox_admin, "MOST_COUNTED", 2)
    for number in range(3):
        inbox.put([make_event(f"e{number}")], environment="default")
    page = read(viewer, LIST)
    assert "2 or more events wait" in page
    assert "Only the first 2 batches were added up." in page


def test_a_batch_shows_its_events_and_no_more_than_some_of_them(viewer):
    inbox.put([make_event(f"e{number:03}") for number in range(250)], environment="default")
    page = read(viewer, page_of_first())
    assert "e000" in page
    assert "e199" in page
    assert "e200" not in page
    assert "and 50 more" in page


@pytest.mark.parametrize("contents", ["no list", {"event_id": "a"}, 5])
def test_a_batch_that_is_no_list_of_events_is_shown_as_it_is(viewer, contents):
    inbox.put([make_event()], environment="default")
    InboxBatch.objects.update(events=contents)
    page = read(viewer, page_of_first())
    assert "no list of events" in page


@only_on("sqlite", "mariadb")  # PostgreSQL itself refuses what is no JSON
def test_a_batch_whose_text_is_no_json_has_a_page_and_does_not_break_the_list(viewer):
    inbox.put([make_event()], environment="default")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE flexmeter_inboxbatch SET events = '[{<b>'")
    assert "[{&lt;b&gt;" in read(viewer, page_of_first())
    read(viewer, LIST)


@pytest.mark.parametrize("element", [None, 5, [], {}, {"event_id": 5, "event_name": ["x"]}])
def test_elements_that_are_no_events_have_a_line_each(viewer, element):
    inbox.put([make_event()], environment="default")
    InboxBatch.objects.update(events=[element, {"event_id": "good"}])
    page = read(viewer, page_of_first())
    assert "(none)" in page
    assert "good" in page


def test_hostile_names_are_shown_as_text(viewer):
    hostile = "<script>window.hacked = true</script>\u202e{{ x }}"
    inbox.put([make_event(hostile, event_name=hostile, external_customer_id=hostile)], environment=hostile)
    for page in (read(viewer, LIST), read(viewer, page_of_first())):
        assert "<script>window" not in page
        assert "&lt;script&gt;window" in page


def test_a_batch_that_was_counted_meanwhile_leads_back_to_the_list(viewer):
    response = viewer.get(f"{LIST}4711/change/", follow=True)
    assert "does not wait any more" in said(response)


def test_counting_now_counts_and_tells_what_became_of_each_event(changer):
    make_meter()
    ingest([make_event("known"), make_event("changed")])
    later = NOON + timedelta(hours=1)
    inbox.put(
        [make_event("known", accepted_at=later), make_event("changed", accepted_at=later, source="x")], environment="default"
    )
    inbox.put([make_event("new")], environment="default")
    told = drain(changer)
    assert "3 events were taken from the inbox: 1 stored, 1 replaced earlier values, 1 known already." in told
    assert_exact(3)
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.change_message) == ("changer", told)


def test_what_cannot_be_counted_is_told(changer):
    inbox.put([make_event("good"), make_event("bad")], environment="default")
    body = InboxBatch.objects.get().events
    InboxBatch.objects.update(events=[body[0], body[1] | {"event_name": ""}])
    assert "2 events were taken from the inbox: 1 stored, 1 rejected." in drain(changer)
    assert rejected() == [("bad", "required")]


def test_counting_now_ends_in_time_and_says_that_more_wait(changer, monkeypatch, settings):
    from flexmeter.admin import inbox as inbox_admin

    settings.FLEXMETER_DRAIN_EVENTS = 1
    monkeypatch.setattr(inbox_admin, "DRAINED_EVENTS", 1)
    for number in range(3):
        inbox.put([make_event(f"e{number}")], environment="default")
    assert "1 event was taken from the inbox: 1 stored. More wait" in drain(changer)
    assert waiting() == 2


def test_counting_an_empty_inbox_says_that_nothing_waits(changer):
    assert "Nothing waits" in drain(changer)


def test_a_database_that_fails_is_told_and_everything_still_waits(changer, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("statement timeout")

    inbox.put([make_event()], environment="default")
    monkeypatch.setattr(draining, "ingest", fail)
    assert "still waits" in drain(changer)
    assert waiting() == 1


@pytest.mark.parametrize("who", ["outsider", "viewer", "changer", "admin_client"])
def test_everybody_may_do_what_they_may_and_nothing_else(request, who):
    client = request.getfixturevalue(who)
    inbox.put([make_event("a")], environment="default")
    looks, acts = who != "outsider", who in ("changer", "admin_client")
    page = page_of_first()
    look = 200 if looks else 403
    assert client.get(LIST).status_code == look
    assert client.get(page).status_code == look
    assert client.post(page, {"attempts": 9}).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": InboxBatch.objects.get().pk, "post": "yes"})
    assert waiting() == 1
    if looks:
        assert ('id="drain"' in read(client, LIST)) == acts
    assert client.get(f"{LIST}drain/").status_code == (302 if acts else 403)
    assert waiting() == 1, "looking counts nothing"
    assert client.post(f"{LIST}drain/").status_code == (302 if acts else 403)
    assert counted() == (["a"] if acts else [])


def test_queries_do_not_grow_with_batches(viewer, django_assert_num_queries):
    for number in range(30):
        inbox.put([make_event(f"e{number}")], environment=f"environment {number}")
    with django_assert_num_queries(7):
        viewer.get(LIST)
    page = page_of_first()
    with django_assert_num_queries(6):
        viewer.get(page)
