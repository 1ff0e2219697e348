import json
from datetime import timedelta
from decimal import Decimal

import pytest

from flexmeter.inbox import put
from flexmeter.ingest import ingest
from flexmeter.keys import create_key
from flexmeter.models import ApiKey, Event, RejectedEvent
from flexmeter.properties import loads

from tests.admin.pages import Page, read
from tests.factories import NOON, at, make_event, make_meter

LIST = "/admin/flexmeter/event/"

pytestmark = pytest.mark.django_db


def open_event(client, event_id: str = "event_1") -> Page:
    return read(client, f"{LIST}{Event.objects.get(event_id=event_id).pk}/change/")


def test_every_meter_of_the_name_says_what_it_made_of_the_event(viewer):
    make_meter(name="Requests")
    make_meter("SUM", name="Tokens", field="n")
    make_meter("SUM", name="Thirds", expression="n / m")
    make_meter("SUM", name="In Europe", field="n", filters=(("region", ("eu", "ch")),))
    make_meter(name="Chats", event_name="chat")
    make_meter(name="Of others", environment="other")
    ingest([make_event(timestamp=at("2024-03-10 14:20"), properties={"n": 3, "region": "us"})])
    page = open_event(viewer)
    assert "2 of 4 meters count it." in page.text
    assert "Counted 1 in bucket 2024-03-10 14:15 to 14:30 UTC." in page.text
    assert "Counted 3 as `n` in bucket 2024-03-10 14:15 to 14:30 UTC." in page.text
    assert "Not counted: the expression n / m has no value for this event." in page.text
    assert 'Not counted: filter `region` is "us", wanted one of "ch", "eu".' in page.text
    assert "Chats" not in page.text
    assert "Of others" not in page.text


def test_times_are_those_of_who_looks(viewer, settings):
    settings.TIME_ZONE = "Asia/Kathmandu"
    make_meter(name="Requests")
    ingest([make_event(timestamp=at("2024-03-10 18:05"), accepted_at=at("2024-03-10 18:06"))])
    page = open_event(viewer)
    assert "2024-03-10 23:50:00 +0545" in page.text
    assert "Counted 1 in bucket 2024-03-10 23:45 to 00:00 +0545." in page.text
    assert "2024-03-10 23:51:00 +0545 1 min later" in page.text
    assert "2024-03-10 23:50:00" in read(viewer, LIST).text
    hour = read(viewer, page.links["Of this name in the same hour"])
    assert 'value="2024-03-10T23:00"' in hour.content
    assert 'value="2024-03-11T00:00"' in hour.content
    assert "1 event" in hour.text


def test_an_hour_that_the_clock_shows_twice_is_meant_rightly(viewer, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    ingest([make_event("summer", timestamp=at("2024-10-27 00:30")), make_event("winter", timestamp=at("2024-10-27 01:30"))])
    for event_id, other in (("summer", "winter"), ("winter", "summer")):
        page = read(viewer, open_event(viewer, event_id).links["Of this name in the same hour"])
        assert event_id in page.text
        assert other not in page.text


def test_lags_tell_how_long_each_step_took(viewer):
    ingest([make_event(accepted_at=NOON - timedelta(seconds=90))])
    page = open_event(viewer)
    assert "Accepted 2024-03-10 11:58:30 UTC 1 min 30 s earlier" in page.text
    assert "d " in page.text.partition("Stored and counted")[2].partition("later")[0]


def test_earlier_values_are_told_with_what_differs(viewer):
    first = make_event(source="a", properties={"n": 1})
    ingest([first])
    ingest([first._replace(source="b", accepted_at=NOON + timedelta(hours=1))])
    ingest([make_event(source="b", properties={"n": 2}, accepted_at=NOON + timedelta(hours=2))])
    told = open_event(viewer).text.partition("Earlier values")[2]
    newest, oldest = told.split("Accepted ")[1:]
    assert newest.startswith("2024-03-10 13:00:00 UTC, replaced 20")
    assert '{ "n": 1 }' in newest
    assert oldest.startswith("2024-03-10 12:01:00 UTC, replaced 20")
    assert "Source a" in oldest
    assert '"n"' not in oldest


def test_a_repeat_without_a_change_is_told(viewer):
    ingest([make_event()])
    ingest([make_event(accepted_at=NOON + timedelta(hours=1))])
    assert "Sent again without a change 2024-03-10 13:00:00 UTC" in open_event(viewer).text


def test_rejected_repeats_are_told(viewer):
    ingest([make_event()])
    RejectedEvent.objects.create(
        environment="default",
        event_id="event_1",
        body={"event_id": "event_1", "n": 7},
        reason="conflict",
        detail="Others stand.",
        accepted_at=NOON,
        traceback="File secret.py",
    )
    page = open_event(viewer)
    told = page.text.partition("Rejected repeats of this id")[2]
    assert "conflict Others stand." in told
    assert '"n": 7' in told
    assert "secret.py" not in page.text


def test_values_that_wait_to_replace_those_stored_are_told(viewer):
    ingest([make_event()])
    put([make_event(properties={"n": 2}, accepted_at=NOON + timedelta(hours=1))], environment="default")
    assert "The same id was accepted again at 2024-03-10 13:00:00 UTC and waits to be counted." in open_event(viewer).text


def test_an_event_that_waits_has_a_page(viewer):
    put([make_event("waiting", properties={"n": 1.50})], environment="default")
    page = read(viewer, f"{LIST}lookup/", {"environment": "default", "event_id": "waiting"})
    assert "It was accepted and waits in the inbox to be counted." in page.text
    assert '"n": 1.5' in page.text
    assert "Stored and counted" not in page.text
    body = viewer.get(page.links["Download the event as JSON"])
    assert loads(body.content)["event_id"] == "waiting"


def test_a_stored_event_is_looked_up_by_its_id(viewer):
    ingest([make_event()])
    response = viewer.get(f"{LIST}lookup/", {"environment": "default", "event_id": "event_1"})
    assert response.status_code == 302
    assert response.url == f"{LIST}{Event.objects.get().pk}/change/"


@pytest.mark.parametrize("query", ["", "environment=default", "environment=default&event_id=a%00b", "environment=%00&event_id=a"])
def test_what_names_no_event_is_not_found(viewer, query):
    assert viewer.get(f"{LIST}lookup/?{query}").status_code == 404
    assert viewer.get(f"{LIST}body/?{query}").status_code == 404


@pytest.mark.parametrize("pk", ["0", "9" * 30, "x", "_00", "1/2"])
def test_an_event_that_is_not_there_leads_to_the_index(viewer, pk):
    assert viewer.get(f"{LIST}{pk}/change/").status_code == 302


def test_the_body_is_downloaded_whole_and_exact(viewer):
    text = '{"n":0.1000000000000000000000000000000001,"z":"é\\u200b","a":1e400}'.replace("1e400", "1e300")
    ingest([make_event(properties=loads(text))])
    response = viewer.get(open_event(viewer).links["Download the event as JSON"])
    assert response["Content-Disposition"] == 'attachment; filename="event.json"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert loads(response.content)["properties"] == loads(text)
    assert b"0.1000000000000000000000000000000001" in response.content
    assert json.loads(response.content)["timestamp"] == "2024-03-10T12:00:00+00:00"


def test_a_megabyte_of_json_is_shown_in_part(viewer):
    ingest([make_event(properties={"first": 1, "text": "x" * 1_000_000, "list": list(range(1_000)), "last": Decimal("0.1")})])
    page = open_event(viewer)
    assert '"first": 1' in page.text
    assert "This is only the beginning" in page.text
    assert len(page.content) < 60_000
    assert len(viewer.get(page.links["Download the event as JSON"]).content) > 1_000_000
    assert len(read(viewer, LIST).content) < 60_000


def test_an_event_page_takes_as_many_queries_whatever_there_is_to_tell(viewer, django_assert_num_queries):
    for n in range(5):
        make_meter(name=f"Meter {n}")
    ingest([make_event()])
    for hours in range(1, 4):
        ingest([make_event(properties={"n": hours}, accepted_at=NOON + timedelta(hours=hours))])
    pk = Event.objects.get().pk
    # Besides who looks: the event, its meters, their prices, what waits, what stood here before, what was rejected.
    with django_assert_num_queries(4 + 6):
        read(viewer, f"{LIST}{pk}/change/")


def test_who_sent_an_event_and_what_stood_there_before_is_told(viewer):
    gateway, worker = (create_key(name, environment="default") for name in ("Gateway <b>", "Worker"))
    for minute, sender in enumerate((gateway.key.prefix, "", worker.key.prefix, "somebody else's")):
        ingest([make_event(accepted_at=NOON + timedelta(minutes=minute), properties={"n": minute}, sender=sender)])
    ApiKey.objects.filter(pk=worker.key.pk).update(revoked_at=NOON)
    page = open_event(viewer)
    told = [
        "Who Sent by somebody else's",
        f"Sent with the API key Worker ({worker.key.prefix})",
        "Recorded by the application itself",
        f"Sent with the API key Gateway <b> ({gateway.key.prefix})",
    ]
    places = [page.text.find(sentence) for sentence in told]
    assert -1 not in places
    assert places == sorted(places)
