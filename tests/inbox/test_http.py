"""Events sent over HTTP while a worker is to count them: safe when answered, visible, and bounded in number."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from flexmeter import inbox
from flexmeter.keys import create_key
from flexmeter.models import Event, EventRevision, InboxBatch
from flexmeter.recording import record

from tests.factories import make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, waiting

pytestmark = pytest.mark.django_db(transaction=True)
EVENT = {"event_id": "sent", "event_name": "tokens", "external_customer_id": "acme", "properties": {"n": 1}}


@pytest.fixture(autouse=True)
def by_a_worker(settings, monkeypatch):
    settings.FLEXMETER_INGEST = "celery"
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    monkeypatch.setattr(inbox._Fullness, "seen", {})


@pytest.fixture
def headers():
    return {"X-API-Key": create_key("test", environment="default").secret}


def post(client, path, body, headers):
    return client.post(f"/v1{path}", body, content_type="application/json", headers=headers)


def test_an_event_is_in_the_inbox_when_it_is_acknowledged(client, headers):
    make_meter()
    assert post(client, "/events", EVENT, headers).status_code == 202
    assert post(client, "/events/bulk", {"events": [EVENT, {**EVENT, "event_id": "second"}]}, headers).status_code == 202
    assert (counted(), waiting()) == ([], 2)
    inbox.drain()
    assert_exact(2)


def test_the_lag_is_the_number_of_events_that_wait_in_the_callers_environment(client, headers):
    inbox.put([make_event("a"), make_event("b")], environment="default")
    inbox.put([make_event("c")], environment="other")
    assert client.get("/v1/events/monitoring", headers=headers).json()["consumption_lag"] == 2
    inbox.drain()
    assert client.get("/v1/events/monitoring", headers=headers).json()["consumption_lag"] == 0


@pytest.mark.usefixtures("unpriced")
def test_an_event_that_waits_can_be_looked_up(client, headers):
    make_meter()
    post(client, "/events", EVENT, headers)
    answer = client.get("/v1/events/sent", headers=headers)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["processed_events"]) == ("processing", [])
    assert body["event"]["properties"] == {"n": 1}
    assert body["debug_tracker"]["failure_point"] is None
    stranger = {"X-API-Key": create_key("stranger", environment="other").secret}
    assert client.get("/v1/events/sent", headers=stranger).status_code == 404
    inbox.drain()
    after = client.get("/v1/events/sent", headers=headers).json()
    assert after["status"] == "processed"
    assert {**after["event"], "ingested_at": ""} == {**body["event"], "ingested_at": ""}
    assert body.keys() == after.keys()


def test_a_full_inbox_answers_503_until_there_is_room(client, headers, settings, monkeypatch):
    settings.FLEXMETER_MAX_WAITING_EVENTS = 2
    monkeypatch.setattr(inbox._Fullness, "seconds_valid", 0.0)
    inbox.put([make_event("a"), make_event("b")], environment="default")
    answer = post(client, "/events", EVENT, headers)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert InboxBatch.objects.count() == 1
    inbox.drain()
    assert post(client, "/events", EVENT, headers).status_code == 202


def test_one_environments_full_inbox_is_no_concern_of_another(client, headers, settings):
    settings.FLEXMETER_MAX_WAITING_EVENTS = 1
    inbox.put([make_event("a")], environment="other")
    assert post(client, "/events", EVENT, headers).status_code == 202


@pytest.mark.parametrize("mode", ["inline", "celery"])
def test_with_autocommit_off_the_answer_still_leaves_after_the_commit(client, headers, settings, mode):
    settings.FLEXMETER_INGEST = mode
    transaction.set_autocommit(False)
    try:
        assert post(client, "/events", EVENT, headers).status_code == 202
        transaction.rollback()
        assert (counted(), waiting()) == ((["sent"], 0) if mode == "inline" else ([], 1))
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert connection.get_autocommit()


@pytest.mark.parametrize("mode", ["celery", "inline"])
@pytest.mark.parametrize("number", [1, 30], ids=["one", "many"])
def test_every_event_and_revision_knows_the_key_it_came_with(client, settings, mode, number):
    settings.FLEXMETER_INGEST = mode
    keys = [create_key(name, environment="default") for name in ("first", "second")]
    for value, key in enumerate(keys):
        events = [{**EVENT, "event_id": f"e{place}", "properties": {"n": value}, "sender": "made up"} for place in range(number)]
        assert post(client, "/events/bulk", {"events": events}, {"X-API-Key": key.secret}).status_code == 202
    assert post(client, "/events", {**EVENT, "sender": "made up"}, {"X-API-Key": keys[0].secret}).status_code == 202
    inbox.drain()
    first, second = (key.key.prefix for key in keys)
    assert list(EventRevision.objects.values_list("sender", flat=True)) == [first] * number
    stored = Event.objects.order_by("pk").values_list("event_id", "sender")
    assert dict(stored) == {f"e{place}": second for place in range(number)} | {"sent": first}


def test_what_the_host_records_has_no_sender():
    record("tokens", "acme")
    inbox.drain()
    assert Event.objects.get().sender is None
