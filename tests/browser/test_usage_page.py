"""The usage page and the events behind its bars, as they are used."""

import json

import pytest
from django.contrib.admin.utils import quote

from flexmeter.ingest import ingest
from flexmeter.models import now

from tests.browser.driving import in_every_look
from tests.browser.metered import in_two_looks, recent_events
from tests.factories import make_event, make_meter
from tests.hostile import HOSTILE
from tests.polling import eventually

FETCHED = "const done = arguments[1]; fetch(arguments[0]).then(answer => answer.text()).then(done)"


def usage_of(meter):
    return f"/admin/flexmeter/meter/{quote(meter.pk)}/usage/"


def figures(browser, table):
    return [float(text.replace(",", "")) for text in browser.texts(f"{table} td.fm-figure")]


@in_every_look
def test_usage_is_charted_and_traced_to_its_events(signed_in):
    recent_events()
    meter = make_meter("SUM", name="Tokens used", field="tokens", event_name="llm_request")
    signed_in.open(usage_of(meter))
    signed_in.see("Usage of the range")
    assert len(signed_in.all(".fm-chart-plot a")) == 30
    signed_in.see("acme")
    signed_in.screenshot("usage-page")
    bar = signed_in.all(".fm-chart-plot a")[8]
    told = bar.find_element("css selector", "title").get_attribute("textContent")
    bar.find_element("css selector", ".fm-chart-hit").click()
    signed_in.see("How the figure comes about")
    signed_in.check_layout()
    figure = signed_in.text("dd.fm-total")
    assert f": {figure} (" in told
    *shares, together = figures(signed_in, "#content-main")
    assert sum(shares) == together == float(figure.replace(",", ""))
    signed_in.screenshot("usage-events")
    signed_in.follow("globex")
    signed_in.see("globex", ".fm-facts")
    [event_id, *_] = [text for text in signed_in.texts("td a") if text.startswith("request_")]
    signed_in.follow(event_id)
    signed_in.see("llm_request")


def test_the_form_narrows_and_says_what_is_wrong(signed_in):
    recent_events(3)
    meter = make_meter("COUNT", event_name="llm_request")
    signed_in.open(usage_of(meter))
    signed_in.fill("#id_customer", "acme")
    signed_in.fill("#id_filters", "model = small")
    signed_in.click("input[value=Show]")
    signed_in.see("Usage of the range")
    eventually(lambda: "customer=acme" in signed_in.driver.current_url)
    signed_in.fill("#id_timezone", "Mars/Olympus")
    signed_in.click("input[value=Show]")
    signed_in.see("This is no time zone")
    signed_in.open(usage_of(meter), {"window": "MINUTE"})
    signed_in.see("more than 3,000 windows")
    signed_in.follow("24 hours")
    signed_in.see("Usage of the range")


def test_figures_are_downloaded(signed_in):
    recent_events(3)
    meter = make_meter("COUNT", event_name="llm_request")
    signed_in.open(usage_of(meter))
    links = {link.text: link.get_attribute("href") for link in signed_in.all(".fm-tools a")}
    as_csv = signed_in.driver.execute_async_script(FETCHED, links["Download CSV"]).splitlines()
    assert as_csv[0] == "meter_id,meter,customer,start,end,usage,events"
    as_json = json.loads(signed_in.driver.execute_async_script(FETCHED, links["Download JSON"]))
    assert len(as_json["points"]) == len(as_csv) - 1 > 0


@in_two_looks
def test_hostile_values_are_shown_and_nothing_more(signed_in):
    every = "".join(HOSTILE.values()).strip()[:255]
    ingest(
        [
            make_event(
                text,
                event_name=every,
                external_customer_id=text,
                timestamp=now(),
                accepted_at=now(),
                properties={every: text, "n": n},
            )
            for n, text in enumerate(HOSTILE.values())
        ]
    )
    grouped = make_meter("MAX", name=every, event_name=every, field="n", bucket_size="DAY", group_by=every)
    unique = make_meter("COUNT_UNIQUE", name=every, event_name=every, field=every, filters=((every, tuple(HOSTILE.values())),))
    for meter in (grouped, unique):
        signed_in.open(usage_of(meter))
        signed_in.see("<script>")
        signed_in.driver.get(signed_in.one(".fm-total a").get_attribute("href"))
        signed_in.see("How the figure comes about")
        signed_in.see("U+202E")
        signed_in.check_layout()
        signed_in.screenshot(f"hostile-{meter.aggregation_type}")
        signed_in.open(usage_of(meter).replace("/usage/", "/change/"))
        signed_in.click("input[name=preview]")
        signed_in.see("Preview: nothing is saved yet")
        signed_in.check_layout()
    signed_in.open("/admin/flexmeter/meter/")


@pytest.mark.parametrize(
    ("type", "told"), [("MAX", "The greatest of"), ("COUNT_UNIQUE", "distinct values"), ("WEIGHTED_SUM", "weight")]
)
def test_how_a_figure_comes_about_is_told(signed_in, type, told):
    recent_events(2)
    meter = make_meter(type, event_name="llm_request", field="tokens")
    signed_in.open(usage_of(meter))
    signed_in.driver.get(signed_in.one(".fm-total a").get_attribute("href"))
    signed_in.see(told)
    signed_in.check_layout()
