from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection

from flexmeter.admin import event_search, paging
from flexmeter.admin.event_search import EventSearch
from flexmeter.events import UsageEvent
from flexmeter.inbox import put
from flexmeter.ingest import ingest
from flexmeter.models import Event, RejectedEvent
from flexmeter.stores.database.distinct import environments_of_events, names_of_events

from tests.admin.pages import read
from tests.factories import NOON, make_event, make_meter

LIST = "/admin/flexmeter/event/"

pytestmark = pytest.mark.django_db


def ids(page) -> list[str]:
    """Ids of the events that a list shows, in its order."""
    rows = page.content.partition('id="result_list"')[2]
    return [part.partition('fm-text">')[2].partition("<")[0] for part in rows.split('class="field-identity"')[1:]]


def wait(*events: UsageEvent) -> None:
    """Accept events that nobody counts yet: the bell after the commit does not ring in a test's transaction."""
    put(events, environment="default")


def listed(client, **query: str) -> list[str]:
    return ids(read(client, LIST, query))


def test_the_newest_events_of_one_environment_are_listed_first(viewer):
    ingest([make_event(f"event_{n}", timestamp=NOON + timedelta(minutes=n)) for n in range(3)])
    ingest([make_event("other")], environment="other")
    assert listed(viewer) == ["event_2", "event_1", "event_0"]
    assert listed(viewer, environment="other") == ["other"]
    assert listed(viewer, environment="unknown") == []


def test_the_environment_that_holds_events_is_the_one_to_begin_with(viewer):
    ingest([make_event("elsewhere")], environment="demo")
    assert listed(viewer) == ["elsewhere"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"event_id": "b"}, ["b"]),
        ({"event_id": "B"}, []),
        ({"customer": "globex"}, ["c"]),
        ({"customer": "globe"}, []),
        ({"name": "chat"}, ["d", "c"]),
        ({"name": "chat", "customer": "globex"}, ["c"]),
        ({"source": "gateway"}, ["d"]),
        ({"source": "gateway", "name": "tokens"}, []),
        ({"event_id": "d", "source": "gateway"}, ["d"]),
        ({"event_id": "d", "customer": "globex"}, []),
        ({"start": "2024-03-10T12:02"}, ["d", "c"]),
        ({"end": "2024-03-10T12:02"}, ["b", "a"]),
        ({"start": "2024-03-10T12:01", "end": "2024-03-10T12:02", "event_id": "b"}, ["b"]),
        ({"start": "2024-03-10T14:02:00+02:00", "end": "2024-03-10T12:03:00Z"}, ["c"]),
        ({"status": "metered"}, ["d", "c"]),
        ({"status": "unmetered"}, ["b", "a"]),
        ({"status": "replaced"}, ["a"]),
        ({"status": "repeated"}, ["b"]),
        ({"status": "repeated", "event_id": "a"}, []),
    ],
)  # fmt: skip
def test_filters_compare_exactly_and_together(viewer, query, expected):
    make_meter(event_name="chat")
    events = [
        make_event("a"),
        make_event("b", timestamp=NOON + timedelta(minutes=1)),
        make_event("c", timestamp=NOON + timedelta(minutes=2), event_name="chat", external_customer_id="globex"),
        make_event("d", timestamp=NOON + timedelta(minutes=3), event_name="chat", source="gateway"),
    ]
    ingest(events)
    later = NOON + timedelta(hours=1)
    ingest([events[0]._replace(source="other", accepted_at=later), events[1]._replace(accepted_at=later)])
    assert listed(viewer, **query) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"start": "yesterday"}, "Enter a date and a time"),
        ({"start": "0001-01-01T00:00"}, "Enter a date and a time"),
        ({"end": "9999-12-31T23:59"}, "Enter a date and a time"),
        ({"start": "2024-02-30T00:00"}, "Enter a date and a time"),
        ({"start": "2024-03-10T12:00", "end": "2024-03-10T12:00"}, "The end must lie after the start."),
        ({"status": "lost"}, "is not one of the available choices"),
        ({"event_id": "x" * 256}, "at most 255 characters"),
        ({"name": "a\x00b"}, "This text holds a character that no event can hold."),
    ],
)
def test_a_wrong_filter_is_told_in_words(viewer, query, told):
    ingest([make_event()])
    page = read(viewer, LIST, query)
    assert told in page.text
    assert ids(page) == []


def test_what_is_no_filter_leads_back_to_the_list(viewer):
    assert viewer.get(LIST, {"password": "x"}).status_code == 302


def test_an_event_that_waits_is_found_by_its_id(viewer):
    wait(make_event("waiting"))
    page = read(viewer, LIST, {"event_id": "waiting"})
    assert "It waits in the inbox to be counted" in page.text
    page = read(viewer, page.links["waiting"])
    assert "It was accepted and waits in the inbox to be counted." in page.text


def test_an_event_that_was_rejected_is_found_by_its_id(viewer):
    RejectedEvent.objects.create(
        environment="default", event_id="bad", body={"event_id": "bad"}, reason="pruned", accepted_at=NOON
    )
    page = read(viewer, LIST, {"event_id": "bad"})
    assert "It was accepted and could not be counted" in page.text
    assert "pruned" in read(viewer, page.links["bad"]).text


def test_an_event_of_another_environment_is_found_by_its_id(viewer):
    ingest([make_event("here")])
    ingest([make_event("there")], environment="other")
    page = read(viewer, LIST, {"event_id": "there"})
    assert "An event of this id is stored in environment other" in page.text
    assert "Event there" in read(viewer, viewer.get(page.links["there"]).url).text


def test_an_event_that_the_other_filters_leave_out_is_found_by_its_id(viewer):
    ingest([make_event("here")])
    page = read(viewer, LIST, {"event_id": "here", "customer": "globex"})
    assert "It is stored, and the other filters leave it out" in page.text
    assert "Event here" in read(viewer, viewer.get(page.links["here"]).url).text


def test_the_list_says_how_many_meters_count_events_of_a_name(viewer):
    make_meter(event_name="chat")
    make_meter("SUM", event_name="chat", field="n")
    make_meter(event_name="chat", environment="other")
    ingest([make_event("a", event_name="chat"), make_event("b")])
    assert [cell.partition(">")[2].partition("<")[0] for cell in read(viewer, LIST).content.split("field-meters")[1:]] == [
        "none",
        "2",
    ]


def test_an_event_that_nobody_knows_is_said_to_be_unknown(viewer):
    assert "No event of this id is stored, waits or was rejected" in read(viewer, LIST, {"event_id": "nobody"}).text


def test_what_no_index_finds_is_looked_for_among_the_newest_events_only(viewer, monkeypatch):
    monkeypatch.setattr(event_search, "WALKED", 5)
    monkeypatch.setattr(event_search, "FEW", 3)
    ingest([make_event(f"event_{n:02}", timestamp=NOON + timedelta(minutes=n), source="s" * (n in (2, 8))) for n in range(10)])
    page = read(viewer, LIST, {"source": "s"})
    assert ids(page) == ["event_08"]
    assert "Looked through the newest 5 events, back to 2024-03-10 12:04:00" in page.text
    assert listed(viewer, source="s", end="2024-03-10T12:04") == ["event_02"]
    assert listed(viewer, customer="acme") == [f"event_0{n}" for n in (9, 8, 7, 6, 5)]
    assert listed(viewer, customer="acme", name="tokens") == [f"event_0{n}" for n in range(9, -1, -1)]
    ingest([make_event(f"later_{n}", timestamp=NOON + timedelta(hours=1), external_customer_id="globex") for n in range(6)])
    assert listed(viewer, customer="acme") == [f"event_0{n}" for n in (9, 8, 7, 6, 5)]
    assert listed(viewer, customer="acme", end="2024-03-10T12:03") == ["event_02", "event_01", "event_00"]


def test_a_list_is_counted_to_a_bound_and_says_so(viewer, monkeypatch):
    monkeypatch.setattr(paging, "MOST_COUNTED", 120)
    ingest([make_event(f"event_{n}") for n in range(130)])
    page = read(viewer, LIST)
    assert "There are more than 120; only the first 120 are listed." in page.text
    assert len(ids(read(viewer, LIST, {"p": "3"}))) == 20
    assert viewer.get(LIST, {"p": "4"}).status_code == 302


def test_environments_and_names_are_found_in_order_and_up_to_a_limit():
    for environment in ("b", "a", "é", "A"):
        ingest([make_event(f"{environment}_{name}", event_name=name) for name in ("z", "y", "Y", "é")], environment=environment)
    assert environments_of_events("default", limit=10) == ["A", "a", "b", "é"]
    assert environments_of_events("default", limit=2) == ["A", "a"]
    assert names_of_events("a", "default", limit=10) == ["Y", "y", "z", "é"]
    assert names_of_events("a", "default", limit=1) == ["Y"]
    assert names_of_events("none", "default", limit=1) == []


def test_searching_through_the_form_and_by_a_value_are_one(viewer):
    ingest([make_event("a"), make_event("b", source="x")])
    found = EventSearch("default", source="x").of(Event.objects.order_by("-timestamp", "-event_id"))
    assert [event.event_id for event in found.rows] == listed(viewer, source="x") == ["b"]


SIGNED_IN = 4  # the session, the user, their permissions and their groups'
FILTERS = 4  # environments: named and of events; whether the one of the settings is empty; names to suggest
STEPS_BY_ONE = 3  # more of them where every environment and name is a step of its own
LISTED = 3  # how many there are, up to the bound; the rows; the meters of their names


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ({}, 0),
        ({"event_id": "event_1"}, 1),
        ({"customer": "acme", "name": "tokens"}, 0),
        ({"name": "tokens"}, 1),
        ({"customer": "acme"}, 2),
        ({"source": "gateway"}, 1),
    ],
)
def test_a_list_takes_as_many_queries_whatever_it_holds(viewer, query, more, django_assert_num_queries):
    ingest([make_event(f"event_{n}", source="gateway") for n in range(60)])
    ingest([make_event("other")], environment="other")
    if connection.vendor == "mysql":
        more += STEPS_BY_ONE + (query == {"customer": "acme"})  # that one steps through the names once more
    with django_assert_num_queries(SIGNED_IN + FILTERS + LISTED + more):
        read(viewer, LIST, query)


def test_without_permission_nothing_is_shown(outsider, client):
    ingest([make_event("secret")])
    pk = Event.objects.get().pk
    for path in (
        "",
        f"{pk}/change/",
        "lookup/?environment=default&event_id=secret",
        "body/?environment=default&event_id=secret",
        "live/",
        "live/events/",
    ):
        assert outsider.get(LIST + path).status_code == 403
        assert client.get(LIST + path).status_code == 302


def test_who_may_look_may_do_nothing_else(viewer, admin_client):
    ingest([make_event()])
    pk = Event.objects.get().pk
    for client in (viewer, admin_client):
        assert client.get(f"{LIST}add/").status_code == 403
        assert client.post(f"{LIST}{pk}/change/", {"event_name": "x"}).status_code == 403
        assert client.post(f"{LIST}{pk}/delete/", {"post": "yes"}).status_code == 403
        client.post(LIST, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert viewer.post(f"{LIST}live/events/").status_code == 403
    assert Event.objects.get().event_name == "tokens"
    assert User.objects.count() == 2
