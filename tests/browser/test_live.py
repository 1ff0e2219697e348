from datetime import timedelta

import pytest

from flexmeter.admin import live
from flexmeter.ingest import ingest
from flexmeter.models import Event

from tests.browser.driving import in_every_look
from tests.factories import NOON, make_event
from tests.hostile import HOSTILE
from tests.polling import eventually

LIVE = "/admin/flexmeter/event/live/"


def shown_ids(browser) -> list[str]:
    return browser.texts('#live-rows [data-part="event_id"]')


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages ask more often than a reader needs."""
    monkeypatch.setattr(live, "MILLISECONDS_BETWEEN_POLLS", 50)


@in_every_look
def test_events_appear_as_they_arrive_until_paused(looking):
    ingest([make_event("event_1")])
    looking.open(LIVE)
    eventually(lambda: shown_ids(looking) == ["event_1"])
    ingest([make_event("event_2")])
    eventually(lambda: shown_ids(looking) == ["event_2", "event_1"])
    looking.screenshot("live")

    looking.click("#live-toggle")
    assert looking.text("#live-state") == "Paused"
    assert looking.text("#live-toggle") == "Resume"
    ingest([make_event("event_3")])
    asked = "return performance.getEntriesByType('resource').filter(each => each.name.includes('/live/events/')).length"
    before = looking.run(asked)
    looking.run("return new Promise(done => setTimeout(done, 300))")
    assert looking.run(asked) - before <= 1  # one may have been under way
    assert shown_ids(looking) == ["event_2", "event_1"]

    looking.click("#live-toggle")
    eventually(lambda: shown_ids(looking) == ["event_3", "event_2", "event_1"])
    assert looking.text("#live-state") == "Running"


def test_a_row_that_commits_late_appears_in_its_place_and_a_replaced_one_as_it_is_now(looking):
    ingest([make_event("a"), make_event("b"), make_event("c")])
    late = Event.objects.get(event_id="b")
    Event.objects.filter(pk=late.pk).delete()
    looking.open(LIVE)
    eventually(lambda: shown_ids(looking) == ["c", "a"])
    late.save(force_insert=True)
    eventually(lambda: shown_ids(looking) == ["c", "b", "a"])
    ingest([make_event("a", external_customer_id="globex", accepted_at=NOON + timedelta(hours=1))])
    eventually(lambda: looking.texts('#live-rows [data-part="customer"]') == ["acme", "acme", "globex"])


def test_the_view_is_filtered_and_leads_to_an_event(looking):
    ingest([make_event("a"), make_event("b", event_name="chat", external_customer_id="globex")])
    looking.open(LIVE)
    looking.fill("#id_name", "chat")
    looking.fill("#id_customer", "globex")
    looking.click(".fm-apply input")
    eventually(lambda: shown_ids(looking) == ["b"])
    looking.follow("b")
    looking.see("Event b", "h1")


def test_a_server_that_fails_is_told_and_asked_again(looking):
    ingest([make_event("a")])
    looking.open(LIVE)
    eventually(lambda: shown_ids(looking) == ["a"])
    looking.run("window.realFetch = fetch; window.fetch = () => Promise.reject(new TypeError('no network'))")
    looking.see("The server does not answer; it is asked again.", "#live-trouble")
    ingest([make_event("b")])
    looking.run("window.fetch = window.realFetch")
    eventually(lambda: shown_ids(looking) == ["b", "a"])
    assert looking.text("#live-trouble") == ""


def test_hostile_events_stay_text(looking):
    ingest([make_event(text, event_name=text.strip(), external_customer_id=text) for text in HOSTILE.values()])
    looking.open(LIVE)
    eventually(lambda: len(shown_ids(looking)) == len(HOSTILE))
    looking.check_layout()
    assert HOSTILE["script"] in shown_ids(looking)
    assert "inU+200BvisU+200DibleU+FEFF" in shown_ids(looking)
