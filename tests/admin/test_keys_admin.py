"""API keys in the admin: made with a secret that is shown once, and revoked; none is edited or deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from flexmeter.keys import create_key, find_key, name_fault
from flexmeter.models import ApiKey, now

pytestmark = pytest.mark.django_db

LIST = "/admin/flexmeter/apikey/"
ADD = f"{LIST}add/"
WANTED = {"name": "backend", "environment": "production", "scopes": ["ingest", "read"]}


@pytest.fixture
def maker():
    return client_with("view_apikey", "add_apikey")


@pytest.fixture
def changer():
    return client_with("view_apikey", "change_apikey")


def client_with(*codenames):
    user = User.objects.create_user("-".join(codenames), password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def read(client, url, *arguments, **options):
    response = client.get(url, *arguments, **options)
    assert response.status_code == 200
    return response.content.decode()


def said(response):
    return " ".join(str(message) for message in response.context["messages"])


def page_of(key):
    return f"{LIST}{key.pk}/change/"


def test_a_key_is_made_and_its_secret_opens_the_environment(maker):
    response = maker.post(ADD, WANTED)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    secret = response.context["secret"]
    assert response.content.decode().count(secret) == 1
    key = find_key(secret)
    assert (key.name, key.environment, key.scopes, key.expires_at) == ("backend", "production", ["ingest", "read"], None)


def test_the_secret_is_shown_once_and_kept_nowhere(maker, caplog):
    secret = maker.post(ADD, WANTED).context["secret"]
    key = ApiKey.objects.get()
    for url in (LIST, page_of(key), ADD, f"{LIST}{key.pk}/history/", "/admin/"):
        assert secret not in read(maker, url)
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id) == (ADDITION, key.pk)
    assert secret not in entry.change_message + entry.object_repr
    assert secret not in str([session.get_decoded() for session in Session.objects.all()])
    assert secret not in str(maker.cookies)
    assert secret not in caplog.text
    assert secret not in str(ApiKey.objects.values())
    assert not list(maker.get(LIST).context["messages"])


def test_an_expiry_is_a_time_to_come(maker):
    soon = timezone.localtime(now() + timedelta(days=30)).replace(second=0, microsecond=0)
    maker.post(ADD, WANTED | {"expires_at": f"{soon:%Y-%m-%dT%H:%M}"})
    assert ApiKey.objects.get().expires_at == soon
    assert "in the past" in maker.post(ADD, WANTED | {"expires_at": "2001-01-01T00:00"}).content.decode()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "  "}, "must not be blank"),
        ({"name": "n" * 256}, "at most 255 characters"),
        ({"name": "two\nlines"}, "control characters or line breaks (U+000A)"),
        ({"name": "escape \x1b[31m"}, "(U+001B)"),
        ({"environment": " "}, "must not be blank"),
        ({"environment": "e" * 65}, "at most 64 characters"),
        ({"scopes": []}, "This field is required"),
        ({"scopes": ["everything"]}, "not one of the available choices"),
        ({"expires_at": "soon"}, "Enter a date and a time"),
    ],
)
def test_what_no_key_can_be_is_refused_in_words(maker, changed, told):
    response = maker.post(ADD, WANTED | changed)
    assert response.status_code == 200
    assert told in response.content.decode()
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("backend", None),
        ("Zürich, Größe 3 – “x”", None),
        ("", "blank"),
        ("\t ", "blank"),
        ("n" * 256, "longer than 255"),
        ("a\x00b", "NUL"),
        ("a\udcffb", "surrogate"),
        ("a\u2028b", "U+2028"),
        ("a\x85b", "U+0085"),
    ],
)
def test_a_name_that_no_key_can_have_is_told_why(name, fault):
    told = name_fault(name)
    assert told is None if fault is None else fault in told
    if fault:
        with pytest.raises(ValueError, match=r"the name (must|holds)"):
            create_key(name, environment="default")


def test_the_list_tells_what_each_key_may_where_and_whether_it_still_does(viewer):
    create_key("usable", environment="default", scopes=["ingest"])
    used = create_key("expired", environment="default", expires_at=now() - timedelta(days=1)).key
    ApiKey.objects.filter(pk=used.pk).update(last_used_at=now() - timedelta(days=2))
    create_key("revoked", environment="other")
    ApiKey.objects.filter(name="revoked").update(revoked_at=now())
    page = read(viewer, LIST)
    for key in ApiKey.objects.all():
        assert key.prefix in page
    states = {"usable": "usable", "expired": "expired", "revoked": "revoked"}
    for state, name in states.items():
        found = viewer.get(LIST, {"state": state}).context["cl"].result_list
        assert [key.name for key in found] == [name]
    assert [key.name for key in viewer.get(LIST, {"environment": "other"}).context["cl"].result_list] == ["revoked"]
    assert [key.name for key in viewer.get(LIST, {"key": used.prefix}).context["cl"].result_list] == ["expired"]
    assert [key.name for key in viewer.get(LIST, {"key": "REV"}).context["cl"].result_list] == ["revoked"]


def test_the_page_tells_a_key_and_its_history(viewer, maker):
    maker.post(ADD, WANTED)
    key = ApiKey.objects.get()
    page = read(viewer, page_of(key))
    for part in ("backend", "production", "ingest, read", key.prefix, key.pk, "never"):
        assert part in page
    assert key.secret_hash not in page
    assert "Made for environment production" in read(viewer, f"{LIST}{key.pk}/history/")


def test_hostile_names_are_shown_as_text(admin_client):
    hostile = "<script>window.hacked = true</script>\u202e{{ x }}"
    key = create_key(hostile, environment="default").key
    made = admin_client.post(ADD, WANTED | {"name": hostile}).content.decode()
    for page in (made, *(read(admin_client, url) for url in (LIST, page_of(key), f"{LIST}{key.pk}/revoke/"))):
        assert "<script>window" not in page
        assert "&lt;script&gt;window" in page


def test_revoking_asks_first_takes_effect_at_once_and_is_recorded(changer):
    key, secret = create_key("backend", environment="default")
    assert "Revoke for good" in read(changer, f"{LIST}{key.pk}/revoke/")
    assert find_key(secret) is not None
    assert "is revoked" in said(changer.post(f"{LIST}{key.pk}/revoke/", follow=True))
    assert find_key(secret) is None
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag, entry.object_id) == ("view_apikey-change_apikey", CHANGE, key.pk)
    revoked_at = ApiKey.objects.get().revoked_at
    assert "revoked before" in said(changer.post(f"{LIST}{key.pk}/revoke/", follow=True))
    assert ApiKey.objects.get().revoked_at == revoked_at


def test_revoking_many_asks_first(changer):
    keys = [create_key(f"key {number}", environment="default").key for number in range(3)]
    chosen = {"action": "revoke_selected", "_selected_action": [key.pk for key in keys[:2]]}
    assert "Revoke 2 keys?" in changer.post(LIST, chosen).content.decode()
    assert not ApiKey.objects.exclude(revoked_at=None).exists()
    assert "2 keys are revoked" in said(changer.post(LIST, chosen | {"confirmed": "yes"}, follow=True))
    assert set(ApiKey.objects.exclude(revoked_at=None).values_list("name", flat=True)) == {"key 0", "key 1"}
    assert LogEntry.objects.count() == 2
    assert "revoked already" in said(changer.post(LIST, chosen, follow=True))


@pytest.mark.parametrize("who", ["outsider", "viewer", "maker", "changer", "admin_client"])
def test_everybody_may_do_what_they_may_and_nothing_else(request, who):
    client = request.getfixturevalue(who)
    key = create_key("backend", environment="default").key
    looks, makes, revokes = who != "outsider", who in ("maker", "admin_client"), who in ("changer", "admin_client")
    look = 200 if looks else 403
    assert client.get(LIST).status_code == look
    assert client.get(page_of(key)).status_code == look
    assert client.get(f"{LIST}{key.pk}/history/").status_code == look
    assert client.get(f"{LIST}{key.pk}/revoke/").status_code == (200 if revokes else 403)
    assert client.get(ADD).status_code == (200 if makes else 403)
    assert client.post(ADD, WANTED).status_code == (200 if makes else 403)
    assert ApiKey.objects.count() == (2 if makes else 1)
    # Nobody edits or deletes a key, whatever they may.
    assert client.post(page_of(key), {"name": "changed", "secret_hash": "x"}).status_code == 403
    assert client.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": key.pk, "post": "yes"})
    assert ApiKey.objects.get(pk=key.pk).name == "backend"
    client.post(LIST, {"action": "revoke_selected", "_selected_action": key.pk, "confirmed": "yes"})
    key.refresh_from_db()
    assert (key.revoked_at is not None) == revokes
    ApiKey.objects.update(revoked_at=None)
    assert client.post(f"{LIST}{key.pk}/revoke/").status_code == (302 if revokes else 403)
    key.refresh_from_db()
    assert (key.revoked_at is not None) == revokes
    if looks:
        ApiKey.objects.update(revoked_at=None)
        assert ('id="revoke"' in read(client, page_of(key))) == revokes
        assert (ADD in read(client, LIST)) == makes


def test_unknown_keys_are_not_found(admin_client):
    assert admin_client.get(f"{LIST}nobody/change/").status_code == 302
    assert admin_client.get(f"{LIST}nobody/revoke/").status_code == 404


def test_queries_do_not_grow_with_keys(viewer, django_assert_num_queries):
    keys = [create_key(f"key {number}", environment="default").key for number in range(20)]
    with django_assert_num_queries(8):
        viewer.get(LIST)
    with django_assert_num_queries(5):
        viewer.get(page_of(keys[0]))
