from datetime import timedelta

import pytest

from flexmeter.ingest import ingest
from flexmeter.models import Event, RejectedEvent

from tests.browser.driving import Look, in_every_look
from tests.factories import NOON, make_event, make_meter
from tests.hostile import HOSTILE

LIST = "/admin/flexmeter/event/"


def explained() -> None:
    """An event that some meters count and others do not, with earlier values and a rejected repeat."""
    make_meter("COUNT", name="Requests", event_name="chat")
    make_meter("SUM", name="Prompt tokens", event_name="chat", field="prompt_tokens")
    make_meter("SUM", name="Tokens in Europe", event_name="chat", field="prompt_tokens", filters=(("region", ("eu", "ch")),))
    properties = {"model": "large", "region": "us", "prompt_tokens": 374, "usage": {"cached": 12, "cost": 0.25}}
    first = make_event("chat_1", event_name="chat", source="gateway", properties={**properties, "prompt_tokens": 300})
    ingest([first])
    later = first.accepted_at + timedelta(minutes=5)
    ingest([make_event("chat_1", event_name="chat", source="gateway", properties=properties, accepted_at=later)])
    ingest([make_event(f"chat_{n}", event_name="chat", timestamp=NOON - timedelta(seconds=7 * n)) for n in range(2, 12)])
    RejectedEvent.objects.create(
        environment="default", event_id="chat_1", body={"event_id": "chat_1"}, reason="conflict", accepted_at=later,
        detail="An event of this id is stored with other values.",
    )  # fmt: skip


@in_every_look
def test_an_event_is_found_by_its_id_and_explained(looking):
    explained()
    looking.open(LIST)
    looking.see("11 events")
    looking.screenshot("event-list")
    looking.fill("#id_event_id", "chat_1")
    looking.click(".fm-apply input")
    looking.see("\n1 event")
    looking.follow("chat_1")
    looking.see("2 of 3 meters count it.", "#summary")
    assert "Counted 374 as `prompt_tokens` in bucket 2024-03-10 12:00 to 12:15 UTC." in looking.text("#meters")
    assert 'Not counted: filter `region` is "us", wanted one of "ch", "eu".' in looking.text("#meters")
    assert '"prompt_tokens": 300' in looking.text("#revisions")
    assert "conflict" in looking.text("#rejected")
    looking.screenshot("event-page")


@pytest.mark.parametrize("browser", [Look(1280), Look(390, dark=True)], indirect=True, ids=str)
def test_hostile_events_break_no_page(looking):
    everything = "".join(HOSTILE.values())
    make_meter("SUM", name=everything[:255], event_name="tokens", field=everything[:255])
    for text in HOSTILE.values():
        event = make_event(text, external_customer_id=text, source=text, customer_id=text, properties=HOSTILE | {text: text})
        ingest([event])
        ingest([event._replace(source="other", accepted_at=NOON + timedelta(hours=1))])
    looking.open(LIST)
    looking.see(f"{len(HOSTILE)} events")
    looking.screenshot("hostile-list")
    for event in Event.objects.all():
        looking.open(f"{LIST}{event.pk}/change/")
        assert looking.text("h1").startswith("Event ")
        assert HOSTILE["script"] in looking.text("#body")
        assert "U+202Egnp.exeU+2066 U+2067abc" in looking.text("#body")
        looking.check_log()
    looking.screenshot("hostile-page")


@pytest.mark.parametrize("browser", [Look(390)], indirect=True, ids=str)
def test_a_megabyte_of_json_breaks_no_page(looking):
    ingest([make_event("large", properties={"word": "x" * 500_000, "list": list(range(60_000))})])
    looking.open(f"{LIST}{Event.objects.get().pk}/change/")
    looking.see("This is only the beginning: download it to see all of it.")
    looking.screenshot("large")


def test_a_wrong_filter_is_told_at_its_field(looking):
    ingest([make_event()])
    looking.open(LIST, {"start": "2024-03-11T00:00", "end": "2024-03-10T00:00"})
    looking.see("The end must lie after the start.", ".fm-wrong")
    looking.see("0 events")
