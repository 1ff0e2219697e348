"""Meters in a browser: listed, tried, saved, changed, archived, recounted and deleted."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote

from flexmeter.maintenance.rebuild import restart
from flexmeter.models import Meter

from tests.browser.driving import in_every_look
from tests.browser.metered import in_two_looks, recent_events
from tests.factories import make_meter
from tests.polling import eventually

LIST = "/admin/flexmeter/meter/"


def choose(browser, selector, value):
    browser.one(f"{selector} option[value='{value}']").click()


@in_every_look
def test_a_meter_is_tried_and_then_saved(signed_in):
    recent_events()
    make_meter("COUNT", name="Requests", event_name="llm_request")
    make_meter("MAX", name="Most at once", event_name="llm_request", field="tokens", bucket_size="HOUR")
    signed_in.open(LIST)
    signed_in.see("Requests")
    assert len(signed_in.all("svg.fm-spark")) == 2
    signed_in.screenshot("meter-list")
    signed_in.open(LIST + "add/")
    signed_in.fill("#id_name", "Tokens of large models")
    signed_in.fill("#id_event_name", "llm_request")
    choose(signed_in, "#id_aggregation_type", "SUM")
    signed_in.fill("#id_field", "tokens")
    signed_in.fill("#id_filters", "model = large")
    signed_in.click("input[name=preview]")
    signed_in.see("Preview: nothing is saved yet")
    signed_in.see('filter `model` is "small", wanted "large"')
    signed_in.check_layout()
    signed_in.screenshot("meter-preview")
    assert Meter.objects.count() == 2
    signed_in.click("input[name=save]")
    signed_in.see("was saved", "body")
    meter = Meter.objects.get(name="Tokens of large models")
    assert (meter.filters, meter.created_by, meter.rollups_ready) == ([{"key": "model", "values": ["large"]}], "root", True)
    signed_in.screenshot("meter-saved")


def test_a_wrong_definition_is_told_in_words(signed_in):
    signed_in.open(LIST + "add/")
    signed_in.fill("#id_name", "x")
    signed_in.fill("#id_event_name", "y")
    choose(signed_in, "#id_aggregation_type", "SUM")
    signed_in.click("input[name=preview]")
    signed_in.see("This aggregation needs a property or an expression.")
    assert not signed_in.all("input[name=save]")


@in_two_looks
def test_a_change_is_compared_before_it_is_saved(signed_in):
    recent_events()
    meter = make_meter("COUNT", name="Requests", event_name="llm_request")
    signed_in.open(f"{LIST}{quote(meter.pk)}/change/")
    signed_in.fill("#id_filters", "model = large")
    signed_in.click("input[name=preview]")
    signed_in.see("Customers whose usage differs most")
    signed_in.check_layout()
    signed_in.screenshot("meter-change")
    signed_in.click("input[name=save]")
    signed_in.see("was saved", "body")
    meter.refresh_from_db()
    assert meter.filters == [{"key": "model", "values": ["large"]}]
    signed_in.open(f"{LIST}{quote(meter.pk)}/history/")
    signed_in.see("Changed Only events with.")


@in_two_looks
def test_history_is_counted_while_the_page_is_open(signed_in, settings):
    recent_events()
    meter = make_meter("COUNT", name="Requests", event_name="llm_request")
    restart(meter.pk)
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = 20
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flexmeter.admin.meters.SECONDS_OF_A_REQUEST", 0.0)
        signed_in.open(f"{LIST}{quote(meter.pk)}/rebuild/")
        signed_in.see("Not begun yet")
        signed_in.click("input[name=begin]")
        signed_in.see("This page counts on by itself")
        signed_in.screenshot("meter-rebuild")
        eventually(lambda: Meter.objects.get(pk=meter.pk).rollups_ready)
        signed_in.see("All events are counted")


def test_a_meter_is_archived_unarchived_and_deleted(signed_in):
    meter = make_meter("COUNT", name="Requests")
    page = f"{LIST}{quote(meter.pk)}/change/"
    for verb, status in (("Archive", "archived"), ("Unarchive", "published"), ("Delete", "deleted")):
        signed_in.open(page)
        signed_in.follow(verb)
        signed_in.see(f"{verb} Requests?")
        signed_in.click("#content-main input[type=submit]")
        eventually(lambda status=status: Meter.objects.get(pk=meter.pk).status == status)
    signed_in.see("was deleted", "body")
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["Archived.", "Unarchived.", "Deleted."]


@in_two_looks
def test_who_may_only_look_finds_nothing_to_press(looking):
    recent_events(3)
    meter = make_meter("SUM", name="Tokens", event_name="llm_request", field="tokens", filters=(("model", ("large",)),))
    looking.open(f"{LIST}{quote(meter.pk)}/change/")
    looking.see("SUM: a property added up")
    assert not looking.all("#content form, #content input")
    assert looking.texts(".fm-tools a") == ["Usage", "History"]
    looking.screenshot("meter-view")
