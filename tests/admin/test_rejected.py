"""Rejected events in the admin: told why, tried again, put right by hand, or discarded; each only by who may."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client

from flexmeter import inbox, rejections
from flexmeter.events import to_json
from flexmeter.ingest import ingest
from flexmeter.models import Environment, Event, RejectedEvent

from tests.factories import NOON, at, make_event, make_meter
from tests.inbox.ledger import assert_exact, counted, rejected

pytestmark = pytest.mark.django_db

LIST = "/admin/flexmeter/rejectedevent/"


def make_rejected(event_id="bad", *, reason="pruned", environment="default", body=None, **changed):
    event = make_event(event_id, accepted_at=NOON + timedelta(minutes=1, microseconds=7))
    return RejectedEvent.objects.create(
        **{
            "environment": environment,
            "event_id": event_id,
            "body": to_json(event) if body is None else body,
            "reason": reason,
            "detail": "timestamp lies before 2024-04-01T00:00:00Z, the start of what is retained here",
            "traceback": "Traceback (most recent call last):\n  the last line",
            "accepted_at": event.accepted_at,
        }
        | changed
    )


def page_of(row):
    return f"{LIST}{row.pk}/change/"


def read(client, url, *arguments, **options):
    response = client.get(url, *arguments, **options)
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def said(response):
    return " ".join(str(message) for message in response.context["messages"])


def body_of(row, **changed):
    return json.dumps({name: value for name, value in row.body.items() if name != "accepted_at"} | changed)


def client_with(*codenames):
    user = User.objects.create_user("-".join(codenames) or "nobody", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def changer():
    return client_with("view_rejectedevent", "change_rejectedevent")


@pytest.fixture
def discarder():
    return client_with("view_rejectedevent", "delete_rejectedevent")


def test_the_list_tells_what_was_rejected_why_and_how_often(viewer):
    make_rejected("one", attempts=3)
    make_rejected("two", reason="conflict")
    make_rejected("elsewhere", environment="other")
    page = read(viewer, LIST)
    assert "one" in page
    assert "two" in page
    assert "the start of what is retained here" in page
    assert "elsewhere" not in page
    assert "elsewhere" in read(viewer, LIST, {"environment": "other"})


def test_without_an_environment_named_the_list_begins_where_something_was_rejected(viewer):
    make_meter()
    make_rejected("lonely", environment="elsewhere")
    page = read(viewer, LIST)
    assert "lonely" in page
    assert '<option value="elsewhere" selected>' in page


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"reason": "conflict"}, {"two"}),
        ({"event_id": "one"}, {"one"}),
        ({"start": "2024-03-12T00:00"}, {"two"}),
        ({"end": "2024-03-12T00:00"}, {"one"}),
        ({"reason": "nothing"}, set()),
    ],
)
def test_the_list_is_narrowed(viewer, wanted, found):
    make_rejected("one", rejected_at=at("2024-03-11"))
    make_rejected("two", reason="conflict", rejected_at=at("2024-03-12"))
    page = viewer.get(LIST, {"environment": "default", **wanted})
    assert {row.event_id for row in page.context["cl"].result_list} == found


def test_a_range_that_ends_before_it_starts_is_refused_in_words(viewer):
    assert "must lie after the start" in read(viewer, LIST, {"start": "2024-03-12T00:00", "end": "2024-03-11T00:00"})


def test_the_page_tells_everything_of_one(viewer):
    row = make_rejected()
    page = read(viewer, page_of(row))
    for part in ("pruned", "timestamp lies before", "the last line", "external_customer_id", "acme", "default"):
        assert part in page


def test_a_body_of_a_megabyte_is_shown_in_part_and_downloaded_whole(viewer):
    row = make_rejected(body={"event_id": "big", "properties": {"text": "x" * 1_000_000, "price": 0.1}})
    page = read(viewer, page_of(row))
    assert len(page) < 100_000
    assert "only the beginning" in page
    response = viewer.get(f"{LIST}{row.pk}/body/")
    assert response["Content-Disposition"].startswith("attachment")
    assert json.loads(response.content)["properties"] == {"text": "x" * 1_000_000, "price": 0.1}


HOSTILE = "<script>window.hacked = true</script>\u202e{{ request }}\x1b[31m"


def test_hostile_text_is_shown_as_text(viewer, admin_client):
    row = make_rejected(
        HOSTILE, reason="invalid", detail=HOSTILE, traceback=HOSTILE, body={"event_id": HOSTILE, HOSTILE: [HOSTILE]}
    )
    for page in (
        read(viewer, LIST),
        read(viewer, page_of(row)),
        read(admin_client, f"{LIST}{row.pk}/correct/"),
        read(admin_client, f"{LIST}{row.pk}/delete/"),
        admin_client.post(f"{LIST}{row.pk}/retry/", follow=True).content.decode(),
    ):
        assert "<script>window" not in page
        assert "&lt;script&gt;window" in page


@pytest.mark.parametrize("body", ["just text", ["a", "list"], {}, 5, {"event_id": 5, "properties": "none"}])
def test_a_body_that_is_no_event_has_its_pages_too(admin_client, body):
    row = make_rejected("", body=body, reason="type")
    read(admin_client, page_of(row))
    read(admin_client, f"{LIST}{row.pk}/correct/")
    assert "still rejected" in said(admin_client.post(f"{LIST}{row.pk}/retry/", follow=True))


def test_an_event_tried_again_counts_once_its_fault_is_gone(changer):
    make_meter()
    row = make_rejected("bad")
    response = changer.post(f"{LIST}{row.pk}/retry/", follow=True)
    assert "counts now" in said(response)
    assert_exact(1)
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id, entry.action_flag) == (
        "view_rejectedevent-change_rejectedevent",
        str(row.pk),
        CHANGE,
    )
    assert "counts now" in entry.change_message


def test_an_event_that_fails_again_stays_and_says_why(changer):
    Environment.objects.create(name="default", pruned_before=NOON + timedelta(days=1))
    row = make_rejected("bad", reason="error")
    response = changer.post(f"{LIST}{row.pk}/retry/", follow=True)
    assert "still rejected: pruned" in said(response)
    row.refresh_from_db()
    assert (row.reason, row.attempts) == ("pruned", 2)
    assert "still rejected, pruned" in LogEntry.objects.get().change_message


def test_many_are_tried_at_once_and_it_is_told_what_became_of_them(changer):
    make_meter()
    rows = [make_rejected("a"), make_rejected("b"), make_rejected("c", body={"event_name": ""}, reason="required")]
    response = changer.post(LIST, {"action": "retry_selected", "_selected_action": [row.pk for row in rows]}, follow=True)
    assert "2 events count now." in said(response)
    assert "1 event is still rejected" in said(response)
    assert counted() == ["a", "b"]
    assert LogEntry.objects.count() == 3


def test_a_database_that_fails_in_between_is_told_and_nothing_is_lost(changer, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("statement timeout")

    monkeypatch.setattr(rejections, "ingest", fail)
    row = make_rejected()
    assert "did not answer" in said(changer.post(f"{LIST}{row.pk}/retry/", follow=True))
    assert "Not all were tried" in said(changer.post(LIST, {"action": "retry_selected", "_selected_action": row.pk}, follow=True))
    form = changer.post(f"{LIST}{row.pk}/correct/", {"body": body_of(row)})
    assert "did not answer in time" in form.content.decode()
    row.refresh_from_db()
    assert row.attempts == 1


def test_a_corrected_event_counts_as_it_was_accepted_and_who_changed_what_is_recorded(changer):
    make_meter("SUM", field="tokens")
    body = to_json(make_event("bad", accepted_at=NOON + timedelta(minutes=1, microseconds=7))) | {"event_name": "", "source": "x"}
    row = make_rejected("bad", environment="default", reason="required", body=body)
    form = read(changer, f"{LIST}{row.pk}/correct/")
    assert "accepted_at" not in form.partition("<textarea")[2].partition("</textarea>")[0]
    sent = body_of(row, event_name="tokens", properties={"tokens": 12})
    assert "counts now" in said(changer.post(f"{LIST}{row.pk}/correct/", {"body": sent}, follow=True))
    event = Event.objects.get()
    assert (event.environment, event.accepted_at) == ("default", NOON + timedelta(minutes=1, microseconds=7))
    assert (event.event_name, event.source, event.properties) == ("tokens", "x", {"tokens": 12})
    assert_exact(1)
    message = LogEntry.objects.get().change_message
    assert 'event_name: "" -> "tokens"' in message
    assert "source" not in message


def test_numbers_of_a_body_stay_exact_on_their_way_through_the_form(changer):
    text = '{"price": 0.10000000000000000555, "large": 12345678901234567890123456789}'
    body = to_json(make_event("bad")) | {"properties": rejections.properties.loads(text)}
    row = make_rejected("bad", body=body)
    sent = changer.get(f"{LIST}{row.pk}/correct/").context["form"].initial["body"]
    changer.post(f"{LIST}{row.pk}/correct/", {"body": sent.replace("\n", "\r\n")})
    assert rejections.properties.dumps(Event.objects.get().properties) == text.replace(": ", ":").replace(", ", ",")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "This field is required"),
        ("{", "breaks off"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[]", "must be a JSON object"),
        ('{"event_name": "tokens", "external_customer_id": "acme"}', "event_id is required"),
        ('{"event_id": "bad", "external_customer_id": "acme"}', "event_name is required"),
        ('{"event_id": "bad", "event_name": "tokens", "external_customer_id": 5}', "external_customer_id must be a string"),
        (
            '{"event_id": "bad", "event_name": "t", "external_customer_id": "a", "timestamp": "yesterday"}',
            "must be an RFC 3339 timestamp",
        ),
        (
            '{"event_id": "bad", "event_name": "t", "external_customer_id": "a", "accepted_at": "2025-01-01T00:00:00Z"}',
            "cannot be changed",
        ),
    ],
)
def test_a_correction_that_is_no_event_is_refused_in_words_and_kept_in_the_form(changer, body, told):
    row = make_rejected()
    response = changer.post(f"{LIST}{row.pk}/correct/", {"body": body})
    assert response.status_code == 200
    assert told in response.content.decode()
    assert response.context["form"].data["body"] == body
    row.refresh_from_db()
    assert row.attempts == 1
    assert not Event.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_correction_that_cannot_be_counted_changes_nothing(changer, settings):
    settings.FLEXMETER_REPEATED_EVENT = "keep"
    ingest([make_event("bad", properties={"stored": 1})])
    row = make_rejected("bad", reason="conflict")
    response = changer.post(f"{LIST}{row.pk}/correct/", {"body": body_of(row, properties={"other": 2})})
    assert "stored with other values" in response.content.decode()
    assert Event.objects.get().properties == {"stored": 1}
    assert rejected() == [("bad", "conflict")]


def test_a_corrected_event_whose_id_was_stored_later_leaves_the_stored_values(changer):
    ingest([make_event("bad", accepted_at=NOON + timedelta(days=1), properties={"stored": 1})])
    row = make_rejected("bad")
    response = changer.post(f"{LIST}{row.pk}/correct/", {"body": body_of(row, properties={"other": 2})}, follow=True)
    assert "its values stand" in said(response)
    assert Event.objects.get().properties == {"stored": 1}
    assert rejected() == []


def test_a_bug_while_counting_a_correction_is_told_not_raised(changer, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr(rejections, "ingest", fail)
    row = make_rejected()
    assert "ZeroDivisionError" in changer.post(f"{LIST}{row.pk}/correct/", {"body": body_of(row)}).content.decode()


def test_a_body_too_large_for_a_form_is_said_to_be(changer):
    row = make_rejected(body={"event_id": "big", "properties": {"text": "x" * 2_100_000}})
    assert "too large for a form" in said(changer.get(f"{LIST}{row.pk}/correct/", follow=True))


def test_discarding_asks_first_and_is_recorded(discarder):
    row = make_rejected("gone")
    assert "Discard for good" in read(discarder, f"{LIST}{row.pk}/delete/")
    assert rejected() == [("gone", "pruned")]
    assert "was discarded" in said(discarder.post(f"{LIST}{row.pk}/delete/", follow=True))
    assert rejected() == []
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (DELETION, "gone: pruned")


def test_discarding_many_asks_first(discarder):
    rows = [make_rejected(f"e{number}") for number in range(3)]
    chosen = {"action": "discard_selected", "_selected_action": [row.pk for row in rows[:2]]}
    question = discarder.post(LIST, chosen)
    assert "Discard 2 events?" in question.content.decode()
    assert len(rejected()) == 3
    assert "2 events were discarded" in said(discarder.post(LIST, chosen | {"confirmed": "yes"}, follow=True))
    assert rejected() == [("e2", "pruned")]
    assert LogEntry.objects.filter(action_flag=DELETION).count() == 2


@pytest.mark.parametrize("who", ["outsider", "viewer", "changer", "discarder", "admin_client"])
def test_everybody_may_do_what_they_may_and_nothing_else(request, who):
    client = request.getfixturevalue(who)
    row = make_rejected("bad", body={"event_id": "bad"}, reason="required")
    looks, acts, discards = who != "outsider", who in ("changer", "admin_client"), who in ("discarder", "admin_client")
    status = {
        "list": client.get(LIST).status_code,
        "page": client.get(page_of(row)).status_code,
        "body": client.get(f"{LIST}{row.pk}/body/").status_code,
        "history": client.get(f"{LIST}{row.pk}/history/").status_code,
        "form": client.get(f"{LIST}{row.pk}/correct/").status_code,
        "correct": client.post(f"{LIST}{row.pk}/correct/", {"body": "{}"}).status_code,
        "retry": client.post(f"{LIST}{row.pk}/retry/").status_code,
        "edit": client.post(page_of(row), {"reason": "x"}).status_code,
        "add": client.get(f"{LIST}add/").status_code,
        "discarding": client.get(f"{LIST}{row.pk}/delete/").status_code,
    }
    look, act = (200 if looks else 403), (200 if acts else 403)
    assert status == {
        "list": look, "page": look, "body": look, "history": look, "form": act, "correct": act,
        "retry": 302 if acts else 403, "edit": 403, "add": 403, "discarding": 200 if discards else 403,
    }  # fmt: skip
    if looks:
        page = read(client, page_of(row))
        assert ('id="retry"' in page, 'id="correct"' in page, 'id="discard"' in page) == (acts, acts, discards)
        offered = (
            {name for name, _ in client.get(LIST).context["action_form"].fields["action"].choices if name}
            if (client.get(LIST).context["action_form"])
            else set()
        )
        assert offered == ({"retry_selected"} if acts else set()) | ({"discard_selected"} if discards else set())
    for action in ("retry_selected", "discard_selected"):
        RejectedEvent.objects.update(attempts=1)
        client.post(LIST, {"action": action, "_selected_action": row.pk, "confirmed": "yes"})
        row_now = RejectedEvent.objects.filter(pk=row.pk).first()
        assert (row_now is None) == (discards and action == "discard_selected")
        if row_now is not None:
            assert (row_now.attempts == 2) == (acts and action == "retry_selected")


def test_what_is_gone_meanwhile_is_said_to_be(admin_client):
    row = make_rejected()
    row.delete()
    row.pk = 4711
    assert admin_client.get(page_of(row)).status_code == 302
    assert admin_client.get(f"{LIST}4711/delete/").status_code == 302
    for page in ("body", "correct", "retry"):
        assert admin_client.get(f"{LIST}4711/{page}/").status_code == 404
    assert admin_client.get(f"{LIST}no_number/body/").status_code == 404


def test_the_service_refuses_what_is_not_rejected_any_more():
    with pytest.raises(rejections.NotRejected):
        rejections.correct(4711, {})


def test_the_inbox_that_rejects_an_event_leaves_enough_to_put_it_right(changer):
    make_meter()
    broken = to_json(make_event("a")) | {"event_name": "\x00"}
    inbox.put([make_event("b")], environment="default")
    inbox.InboxBatch.objects.update(events=[broken | {"event_name": None}])
    inbox.drain()
    row = RejectedEvent.objects.get()
    changer.post(f"{LIST}{row.pk}/correct/", {"body": body_of(row, event_name="tokens")})
    assert_exact(1)
    assert Event.objects.get().accepted_at == datetime(2024, 3, 10, 12, 1, tzinfo=UTC)


def test_queries_do_not_grow_with_rows(viewer, django_assert_num_queries):
    viewer.get(LIST)
    rows = [make_rejected(f"e{number}") for number in range(3)]
    with django_assert_num_queries(10):
        viewer.get(LIST)
    rows += [make_rejected(f"f{number}") for number in range(20)]
    with django_assert_num_queries(10):
        viewer.get(LIST)
    with django_assert_num_queries(5):
        viewer.get(page_of(rows[0]))
