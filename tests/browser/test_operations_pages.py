"""What an operator opens at night: rejected events, the inbox, keys and health, in a real browser."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from flexmeter import inbox
from flexmeter.events import to_json
from flexmeter.ingest import ingest
from flexmeter.keys import create_key, find_key
from flexmeter.models import Environment, Event, InboxBatch, Meter, RejectedEvent, now

from tests.browser.driving import in_every_look, on_a_phone
from tests.factories import NOON, make_event, make_meter
from tests.inbox.ledger import counted, rejected, waiting
from tests.polling import within_one_hour

REJECTED = "/admin/flexmeter/rejectedevent/"
INBOX = "/admin/flexmeter/inboxbatch/"
KEYS = "/admin/flexmeter/apikey/"
HEALTH = "/admin/flexmeter/health/"
HOSTILE = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>\u202egnp.exe"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/flexmeter/rejections.py", line 61, in once_more
    outcome = ingest([from_json(row.body)], environment=row.environment, using=alias)
flexmeter.exceptions.InvalidEvent: timestamp lies before 2024-03-01T00:00:00Z, the start of what is retained here
"""


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


def make_rejected(event_id, *, reason="pruned", detail="", properties=None, **changed):
    event = make_event(event_id, event_name="chat", source="gateway", properties=properties or {"prompt_tokens": 374})
    return RejectedEvent.objects.create(
        environment="default", event_id=event_id, body=to_json(event) | changed, reason=reason, detail=detail,
        traceback=TRACEBACK, accepted_at=event.accepted_at, rejected_at=NOON + timedelta(minutes=5), attempts=2,
    )  # fmt: skip


@in_every_look
def test_a_rejected_event_is_put_right_by_hand(signed_in):
    make_meter("SUM", name="Prompt tokens", event_name="chat", field="prompt_tokens")
    make_rejected("chat_1", reason="required", detail="event_name is required and must not be empty", event_name="")
    make_rejected("chat_2", detail="timestamp lies before 2024-03-01T00:00:00Z, the start of what is retained here")
    make_rejected(HOSTILE, reason="invalid", detail=HOSTILE, properties={HOSTILE: HOSTILE})
    signed_in.open(REJECTED)
    signed_in.see("the start of what is retained here")
    signed_in.screenshot("rejected-list")
    signed_in.follow("chat_1")
    signed_in.see("event_name is required")
    signed_in.screenshot("rejected-event")
    signed_in.click("#correct")
    signed_in.see("It stays accepted at")
    signed_in.click("#count")
    signed_in.see("event_name is required and must not be empty", "form p.fm-error")
    signed_in.screenshot("rejected-correct")
    body = json.loads(signed_in.one("#id_body").get_attribute("value")) | {"event_name": "chat"}
    signed_in.fill("#id_body", json.dumps(body))
    signed_in.click("#count")
    signed_in.see("counts now", ".messagelist")
    assert counted() == ["chat_1"]
    signed_in.open(f"{REJECTED}{RejectedEvent.objects.get(event_id=HOSTILE).pk}/change/")
    signed_in.see("U+202E")
    signed_in.screenshot("rejected-hostile")


@in_every_look
def test_rejected_events_are_tried_again_and_discarded(signed_in):
    make_rejected("chat_1")
    make_rejected("chat_2", event_name="")
    signed_in.open(REJECTED)
    signed_in.click("#action-toggle")
    signed_in.run("document.querySelector('select[name=action]').value = 'retry_selected'")
    signed_in.click("#changelist-form .actions button")
    signed_in.see("1 event counts now.", ".messagelist")
    signed_in.see("still rejected: required 1", ".messagelist")
    signed_in.follow("chat_2")
    signed_in.click("#discard")
    signed_in.see("cannot be brought back")
    signed_in.screenshot("rejected-discard")
    signed_in.click("#confirm")
    signed_in.see("was discarded", ".messagelist")
    assert rejected() == []


@in_every_look
def test_what_waits_is_seen_and_counted(signed_in):
    make_meter(event_name="chat")
    inbox.put([make_event(f"chat_{n}", event_name="chat") for n in range(3)], environment="default")
    inbox.put([make_event(f"call_{n}", event_name="call") for n in range(40)], environment="production")
    inbox.put([make_event(HOSTILE, event_name=HOSTILE)], environment="production")
    InboxBatch.objects.update(accepted_at=now() - timedelta(minutes=72))
    InboxBatch.objects.filter(event_count=3).update(attempts=2)
    signed_in.open(INBOX)
    signed_in.see("44 events wait to be counted, the oldest for 1 h 12 min.")
    signed_in.screenshot("inbox")
    signed_in.click("#result_list tbody tr:first-child th a")
    signed_in.see("chat_2")
    signed_in.see("could not be counted 2 times")
    signed_in.screenshot("inbox-batch")
    signed_in.open(INBOX)
    signed_in.click("#drain")
    signed_in.see("44 events were taken from the inbox: 44 stored.", ".messagelist")
    signed_in.screenshot("inbox-drained")
    assert not waiting()


@in_every_look
def test_a_key_is_made_shown_once_and_revoked(signed_in):
    create_key("warehouse import", environment="production", scopes=["ingest"])
    create_key("old dashboard", environment="default", scopes=["read"], expires_at=now() - timedelta(days=3))
    create_key(HOSTILE, environment="default")
    signed_in.open(KEYS)
    signed_in.see("warehouse import")
    signed_in.screenshot("keys")
    signed_in.open(KEYS + "add/")
    signed_in.click("#make")
    signed_in.fill("#id_name", " ")
    signed_in.click("#make")
    signed_in.see("must not be blank")
    signed_in.screenshot("key-new")
    signed_in.fill("#id_name", "backend")
    signed_in.click("#make")
    signed_in.see("nobody can look it up later")
    secret = signed_in.text("#secret")
    assert find_key(secret).name == "backend"
    signed_in.screenshot("key-made")
    signed_in.click("#done")
    signed_in.see("backend")
    assert secret not in signed_in.driver.page_source
    signed_in.follow("backend")
    signed_in.click("#revoke")
    signed_in.see("at once and for good")
    signed_in.screenshot("key-revoke")
    signed_in.click("#confirm")
    signed_in.see("opens nothing", "#summary")
    signed_in.screenshot("key-revoked")
    assert find_key(secret) is None


@in_every_look
def test_the_health_page_says_what_is_wrong_and_what_to_do(looking):
    make_meter("SUM", name="Prompt tokens", event_name="chat", field="prompt_tokens")
    make_meter("COUNT", name="Requests", event_name="chat")
    Meter.objects.filter(name="Requests").update(rollups_ready=False, rebuild_done=31_250, rebuild_total=120_000)
    within_one_hour()
    at = now().replace(minute=30)
    events = []
    for hour in range(24):
        for number in range(2 + (hour * 7) % 11 + (6 if 8 < hour < 16 else 0)):
            happened = at - timedelta(hours=hour, minutes=number)
            events.append(make_event(f"chat_{hour}_{number}", event_name="chat", timestamp=happened, accepted_at=happened))
    ingest(events)
    Event.objects.filter(event_id__endswith="_3").update(repeated_at=now())
    for number in range(7):
        make_rejected(f"bad_{number}", reason="pruned" if number < 5 else "conflict")
    RejectedEvent.objects.update(rejected_at=now() - timedelta(hours=1))
    inbox.put([make_event(f"late_{n}") for n in range(12)], environment="default")
    InboxBatch.objects.update(accepted_at=now() - timedelta(minutes=25))
    Environment.objects.get_or_create(name="production")
    looking.open(HEALTH)
    looking.see("Needs attention", "#summary")
    looking.see("12 events wait to be counted", "#wrong")
    looking.see("26 % (31,250 of about 120,000 events)", "#rebuilds")
    assert looking.run("return document.querySelectorAll('#throughput svg rect.fm-chart-bar').length") == 24
    looking.screenshot("health")
    looking.click("#throughput summary")
    assert len(looking.all("#throughput details[open] tbody tr")) == 24
    looking.open(HEALTH, {"environment": "production"})
    looking.see("production", "#figures h2")


@on_a_phone
def test_who_may_only_look_finds_nothing_to_press(looking):
    make_rejected("chat_1")
    inbox.put([make_event()], environment="default")
    create_key("backend", environment="default")
    for page in (REJECTED, INBOX, KEYS, HEALTH):
        looking.open(page)
        assert not looking.all("#content button:not([title])"), page
    looking.open(REJECTED)
    looking.follow("chat_1")
    assert not looking.all("#content .button")
