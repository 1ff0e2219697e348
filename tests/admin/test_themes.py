"""The admin's pages in a theme that shares nothing with the stock one but the names of its blocks."""

from __future__ import annotations

import pytest

from flexmeter import inbox
from flexmeter.models import InboxBatch

from tests.admin.every_page import every_page
from tests.admin.pages import read
from tests.admin.theme import dress
from tests.factories import make_event
from tests.requirements import only_on

pytestmark = [pytest.mark.django_db, only_on("sqlite")]  # how pages look does not depend on the database

LISTS = ["event", "meter", "rejectedevent", "apikey"]


@pytest.fixture(autouse=True)
def themed(settings):
    dress(settings)


def test_every_page_opens_and_says_what_it_is(admin_client):
    for name, address in every_page().items():
        page = read(admin_client, address)
        assert '<body class="bare' in page.content, name
        own = [attributes for tag, attributes in page.tags if tag == "h1"]
        is_of_the_theme = name.endswith(("_changelist", "_history")) and name != "health_changelist"
        assert len(own) == (0 if is_of_the_theme else 1), name


def test_no_form_stands_within_another(admin_client):
    for address in every_page().values():
        page = read(admin_client, address)  # closes elements in the order they were opened, or fails
        depth = 0
        for part in page.content.split("<"):
            depth += part.startswith("form") - part.startswith("/form>")
            assert depth in (0, 1), address


@pytest.mark.parametrize("model", LISTS)
def test_lists_keep_their_filters(admin_client, model):
    every_page()
    page = read(admin_client, f"/admin/flexmeter/{model}/")
    assert "fm-filters" in [attributes.get("class") for tag, attributes in page.tags if tag == "form"]
    assert page.links["Clear"] == "?"
    wrong = read(admin_client, f"/admin/flexmeter/{model}/", {"environment": "x" * 65})
    assert "Ensure this value has at most 64 characters" in wrong.text


def test_lists_keep_their_tools_and_notes(admin_client):
    every_page()
    events = read(admin_client, "/admin/flexmeter/event/", {"event_id": "e-nowhere"})
    assert events.links["Watch live"] == "/admin/flexmeter/event/live/"
    assert "No event of this id is stored, waits or was rejected" in events.text
    assert read(admin_client, "/admin/flexmeter/meter/").links["Add meter"] == "/admin/flexmeter/meter/add/"


def test_a_list_that_was_not_counted_to_its_end_says_so(admin_client, monkeypatch):
    every_page()
    monkeypatch.setattr("flexmeter.admin.paging.MOST_COUNTED", 1)
    assert "There are more than 1; only the first 1 are listed." in read(admin_client, "/admin/flexmeter/event/").text


def test_what_waits_is_told_and_drained(admin_client, monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    inbox.put([make_event("e-late")], environment="default")
    page = read(admin_client, "/admin/flexmeter/inboxbatch/")
    assert "1 event waits to be counted" in page.text
    [action] = [attributes["action"] for tag, attributes in page.tags if tag == "form" and attributes.get("action")]
    admin_client.post(action)
    assert not InboxBatch.objects.exists()
