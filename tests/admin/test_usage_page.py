"""The usage page: the same figures as usage(), narrowed, downloaded, and traced to events."""

import csv
import io
import json
import re
from datetime import timedelta
from decimal import Context, Decimal, Rounded, localcontext
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.admin.filter_lines import lines_of
from flexmeter.admin.usage import _shortened, figure
from flexmeter.admin.usage_files import safe_cell
from flexmeter.ingest import ingest
from flexmeter.maintenance.rebuild import restart
from flexmeter.maintenance.retention import prune
from flexmeter.meters import add_filters, archive_meter, delete_meter
from flexmeter.properties import plain
from flexmeter.usage import usage
from flexmeter.windows import WindowSize

from tests.factories import at, make_event, make_meter
from tests.hostile import HOSTILE

pytestmark = pytest.mark.django_db
START, END = at("2024-03-01 00:00"), at("2024-03-11 00:00")
RANGE = {"start": "2024-03-01T00:00", "end": "2024-03-11T00:00", "window": "DAY", "timezone": "UTC"}


@pytest.fixture
def recorded(db):
    ingest(
        [
            make_event(
                f"event_{n}",
                external_customer_id=["acme", "globex", "initech"][n % 3],
                timestamp=START + timedelta(hours=11 * n, minutes=20),
                properties={"n": f"{n}.5", "kind": "ab"[n % 2], "host": f"h{n % 2}"},
            )
            for n in range(20)
        ]
    )


def address(meter, name, **query):
    return f"/admin/flexmeter/meter/{quote(meter.pk)}/{name}/", {**RANGE, **query}


def get(client, meter, name="usage", **query):
    response = client.get(*address(meter, name, **query))
    return response, response.content.decode()


def bars(page):
    """Address and title of each bar of the chart."""
    found = re.findall(r'<a href="([^"]*)"[^>]*><title>([^<]*)</title>', page)
    return [(unescape(url), unescape(title)) for url, title in found]


@pytest.mark.parametrize("window", list(WindowSize))
@pytest.mark.parametrize(("zone", "filters"), [("UTC", ""), ("Asia/Kathmandu", "kind = a")])
def test_bars_are_the_figures_of_usage_in_every_window_and_zone(admin_client, recorded, window, zone, filters):
    meter = make_meter("SUM", field="n")
    end = {"end": "2024-03-02T00:00"} if window == "MINUTE" else {}
    response, page = get(admin_client, meter, window=window, timezone=zone, filters=filters, anchor="5", **end)
    assert response.status_code == 200
    query = response.context_data["form"].query()
    result = usage(query)
    told = {title: url for url, title in bars(page)}
    shown = [title for title in told if not title.endswith(": 0 (0 events)")]
    assert len(shown) == len(result.points)
    for title, point in zip(shown, result.points, strict=True):
        assert f": {figure(point.value)} ({point.event_count} event" in title
    assert f">{figure(result.value)}</a>" in page
    assert query.calendar.anchor_day == 5


def test_every_bar_leads_to_its_events(admin_client, recorded):
    meter = make_meter("SUM", field="n")
    _, page = get(admin_client, meter, timezone="America/New_York", customer="acme")
    seen = []
    for url, title in bars(page):
        response = admin_client.get(url)
        assert response.status_code == 200
        shares = response.context_data["shares"]
        seen += [row.share.event.event_id for row in shares]
        told = title.rpartition(": ")[2].partition(" ")[0]
        assert figure(sum((row.share.amount for row in shares), Decimal(0))) == told
    assert sorted(seen) == sorted(f"event_{n}" for n in range(1, 20) if n % 3 == 0)


@pytest.mark.parametrize(
    ("type", "changed", "told"),
    [
        ("COUNT", {}, "20 events, each counted as 1."),
        ("SUM", {}, "The sum of what 20 events contribute: 200."),
        ("SUM_WITH_MULTIPLIER", {"multiplier": Decimal("0.5")}, "20 events contribute, each its number times 0.5: 100."),
        ("AVG", {}, "200 ÷ 20 events = 10"),
        ("MAX", {}, "The greatest of 20 is 19.5, of event "),
        ("MIN", {}, "The smallest of 20 is 0.5, of event "),
        ("LATEST", {}, "The newest of 20 says 19.5: event "),
        ("COUNT_UNIQUE", {"field": "kind"}, "2 distinct values in 20 events."),
        ("WEIGHTED_SUM", {}, "Each event counts with its weight"),
        ("MAX", {"bucket_size": "DAY", "group_by": "host"}, "The sum of the greatest of each bucket and group: "),
        ("SUM", {"bucket_size": "HOUR"}, "The sum of what 20 events contribute: 200."),
    ],
)
def test_how_the_figure_comes_about_is_said(admin_client, recorded, type, changed, told):
    meter = make_meter(type, **{"field": "n", **changed} if type != "COUNT" else {})
    response, page = get(admin_client, meter, "events")
    assert told in page
    total = usage(meter=meter, start=START, end=END).value
    assert response.context_data["figure"] == figure(total)


def test_the_peaks_of_a_grouped_meter_lead_to_bucket_and_group(admin_client, recorded):
    meter = make_meter("MAX", field="n", bucket_size="DAY", group_by="host")
    response, _ = get(admin_client, meter, "events", at="2024-03-02T00:00:00+00:00")
    [first, second] = response.context_data["peaks"]
    assert (first.peak.share.group, second.peak.share.group, first.bucket_url) == ("h0", "h1", "")
    narrowed = admin_client.get(first.group_url)
    assert {row.share.group for row in narrowed.context_data["shares"]} == {"h0"}
    assert narrowed.context_data["figure"] == first.number
    whole, _ = get(admin_client, meter, "events")
    bucket = admin_client.get(whole.context_data["peaks"][0].bucket_url)
    assert bucket.context_data["is_window"]


def test_a_long_list_of_events_comes_in_pages(admin_client, recorded, monkeypatch):
    monkeypatch.setattr("flexmeter.admin.usage.EVENTS_OF_A_PAGE", 8)
    meter = make_meter("COUNT")
    response, _page = get(admin_client, meter, "events")
    seen = []
    while True:
        seen += [row.share.event.event_id for row in response.context_data["shares"]]
        url = response.context_data.get("next_url")
        if not url:
            break
        assert "Older events" in response.content.decode()
        response = admin_client.get(url)
    assert seen == [f"event_{n}" for n in reversed(range(20))]
    assert "Newest events" in response.content.decode()


def test_the_customers_with_most_usage_come_first(admin_client, recorded):
    meter = make_meter("SUM", field="n")
    response, _page = get(admin_client, meter)
    answer = response.context_data["answer"]
    assert answer.customers_title == "Customers with most usage"
    expected = {name: usage(meter=meter, customer=name, start=START, end=END) for name in ("acme", "globex", "initech")}
    ranked = sorted(expected.items(), key=lambda item: -item[1].value)
    assert [(row.customer, row.figure, row.events) for row in answer.customers] == [
        (name, figure(result.value), result.event_count) for name, result in ranked
    ]
    narrowed = admin_client.get(answer.customers[0].usage_url)
    assert narrowed.context_data["answer"].total == answer.customers[0].figure
    assert admin_client.get(answer.customers[0].events_url).context_data["figure"] == answer.customers[0].figure


@pytest.mark.parametrize(("type", "changed", "title"), [
    ("AVG", {}, "Customers with most events"), ("LATEST", {}, "Customers with most events"),
    ("MAX", {"bucket_size": "DAY"}, "Customers with most events"), ("COUNT_UNIQUE", {}, "Customers with most usage"),
    ("MAX", {}, "Customers with most usage"), ("SUM", {"reset_usage": "NEVER"}, "Customers with most usage"),
])  # fmt: skip
def test_customers_of_every_type_have_the_figures_of_usage(admin_client, recorded, type, changed, title):
    meter = make_meter(type, field="n", **changed)
    answer = get(admin_client, meter)[0].context_data["answer"]
    assert answer.customers_title == title
    for row in answer.customers:
        assert row.figure == figure(usage(meter=meter, customer=row.customer, start=START, end=END).value)
    assert len(answer.customers) == 3


def test_a_meter_that_never_resets_tells_what_was_before(admin_client, recorded):
    meter = make_meter("COUNT", reset_usage="NEVER")
    response, page = get(admin_client, meter, start="2024-03-05T00:00")
    answer = response.context_data["answer"]
    assert (answer.total, answer.before, answer.events) == ("20", "9", 20)
    assert "This meter never resets." in page
    assert "Before the range it stood at 9." in page
    assert len(admin_client.get(answer.whole_url).context_data["shares"]) == 20


def test_a_bucketed_meter_that_never_resets_tells_its_total(admin_client, recorded):
    meter = make_meter("SUM", field="n", bucket_size="DAY", reset_usage="NEVER")
    answer = get(admin_client, meter, start="2024-03-05T00:00")[0].context_data["answer"]
    assert (answer.total, answer.before) == ("200", None)


def test_while_past_events_are_counted_the_figures_are_right_and_customers_wait(admin_client, recorded):
    meter = make_meter("COUNT")
    restart(meter.pk)
    response, page = get(admin_client, meter)
    assert response.context_data["answer"].total == "20"
    assert "past events are being counted." in page
    assert response.context_data["answer"].customers == []


@pytest.mark.parametrize(("query", "told"), [
    ({"end": "2024-02-01T00:00"}, "The end must lie after the start."),
    ({"start": "yesterday"}, "Enter a date and a time"),
    ({"start": "0001-01-01T00:00"}, "Enter a date and a time"),
    ({"window": "FORTNIGHT"}, "Select a valid choice"),
    ({"timezone": "Mars/Olympus"}, "This is no time zone"),
    ({"timezone": "../etc/passwd"}, "This is no time zone"),
    ({"anchor": "32"}, "less than or equal to 31"),
    ({"filters": "region eu"}, "Line 1 is no filter"),
    ({"filters": 'a = b\n"a" = "\\u0000"'}, "a character that no event can hold"),
    ({"customer": "x" * 300}, "at most 255 characters"),
    ({"start": "2004-03-01T00:00", "window": "HOUR"}, "more than 3,000 windows"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said_beside_the_form(admin_client, recorded, query, told):
    meter = make_meter("COUNT")
    for name in ("usage", "events", "usage/download"):
        if "3,000" in told and name != "usage":
            continue
        response, page = get(admin_client, meter, name, **query)
        assert response.status_code == (400 if name == "usage/download" else 200)
        assert told in page


def test_more_windows_than_any_answer_holds_are_a_message(admin_client, recorded, settings):
    settings.FLEXMETER_MAX_WINDOWS = 3
    response, page = get(admin_client, make_meter("COUNT"))
    assert "The answer would have more than 3 windows" in page
    response, page = get(admin_client, make_meter("COUNT"), "usage/download")
    assert (response.status_code, "more than 3 windows" in page) == (400, True)


def test_pruned_events_are_a_message_where_rollups_cannot_answer(admin_client, recorded):
    meter = make_meter("SUM", field="n")
    prune(at("2024-03-04 00:00"), environment="default")
    response, page = get(admin_client, meter)
    assert response.context_data["answer"].total == "200"
    url, title = bars(page)[0]
    traced = admin_client.get(url).content.decode()
    assert "no longer retained" in traced
    assert figure(Decimal(title.rpartition(": ")[2].partition(" ")[0])) in traced
    assert "no longer retained" in get(admin_client, meter, filters="kind = a")[1]


@pytest.mark.parametrize("query", [{"at": "nonsense"}, {"at": "2024-03-02T00:01:00+00:00"}, {"after": "x/y"}, {"after": "2024"}])
def test_an_address_of_no_bar_is_a_message(admin_client, recorded, query):
    response, page = get(admin_client, make_meter("COUNT"), "events", **query)
    assert response.status_code == 200
    assert re.search("No window of this answer|Enter a date and a time|no such place", page)


def test_the_csv_holds_the_figures_and_no_formula(admin_client):
    names = ["=1+1", "+x", "-x", "@sum", "\tx", "plain", "a=b", 'quote",\nline']
    meter = make_meter("SUM", name="=cmd|' /C calc'!A0", field="n")
    ingest(
        [
            make_event(f"event_{n}", external_customer_id=name, timestamp=START, properties={"n": "1E-7"})
            for n, name in enumerate(names)
        ]
    )
    for name in names:
        response, text = get(admin_client, meter, "usage/download", customer=name, timezone="Europe/Berlin")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert response["Content-Disposition"] == f'attachment; filename="usage-{meter.pk}.csv"'
        header, row = csv.reader(text.splitlines(keepends=True))
        assert header == ["meter_id", "meter", "customer", "start", "end", "usage", "events"]
        assert row[0] == meter.pk
        assert row[1] == "'=cmd|' /C calc'!A0"
        assert row[2] == (name if name in ("plain", "a=b", 'quote",\nline') else f"'{name}")
        assert row[3:] == ["2024-03-01T00:00:00+01:00", "2024-03-02T00:00:00+01:00", "0.0000001", "1"]


@given(st.text(alphabet="=+-@＝; ,\t\r\n\"'ab", max_size=30))
def test_no_cell_begins_a_formula_however_a_file_is_cut_into_cells(text):
    row = io.StringIO()
    csv.writer(row).writerow(["id", safe_cell(text), "x"])
    for delimiter in ",;\t":
        lines = io.StringIO(row.getvalue(), newline="")
        cells = [cell for cells in csv.reader(lines, delimiter=delimiter) for cell in cells]
        assert not [cell for cell in cells if cell.strip().startswith(tuple("=+-@＝"))], (delimiter, cells)


def test_numbers_stay_numbers_and_texts_stay_texts():
    assert safe_cell("-5") == "'-5"
    assert safe_cell("\rx") == "'\rx"
    assert safe_cell("＝1") == "'＝1"
    assert safe_cell("x=1") == "x=1"
    assert safe_cell("  =1") == "'  =1"
    assert safe_cell("\u00a0@x") == "'\u00a0@x"
    assert safe_cell("x;=1;y") == "x;'=1;y"
    assert safe_cell("x\t +1") == "x\t' +1"
    assert safe_cell("x\r\n=1") == "x\r\n'=1"
    assert safe_cell('x;"=1') == "x;'\"=1"
    assert safe_cell("=1;=2") == "'=1;'=2"
    assert plain(Decimal(-5)) == "-5"


def test_the_json_holds_the_question_and_every_digit(admin_client, recorded):
    ingest([make_event("long", external_customer_id="x", timestamp=START, properties={"n": "0.1234567890123456789012345"})])
    meter = make_meter("SUM", field="n")
    response, text = get(admin_client, meter, "usage/download", format="json", customer="x", filters='kind = a\nkind = ""')
    told = json.loads(text)
    assert response["Content-Type"] == "application/json"
    assert told["meter"]["id"] == meter.pk
    assert (told["customer"], told["filters"]) == ("x", [{"key": "kind", "values": ["", "a"]}])
    [point] = told["points"]
    assert point == {
        "start": "2024-03-01T00:00:00Z",
        "end": "2024-03-02T00:00:00Z",
        "usage": "0.1234567890123456789012345",
        "events": 1,
    }


def test_a_download_may_have_more_windows_than_a_chart(admin_client, recorded):
    _response, page = get(admin_client, make_meter("COUNT"), start="2004-03-01T00:00", window="HOUR")
    [url] = [unescape(url) for url in re.findall(r'href="([^"]*format=csv[^"]*)"', page)]
    assert dict(parse_qsl(urlsplit(url).query))["window"] == "HOUR"
    assert len(admin_client.get(url).content.decode().splitlines()) == 21


def test_who_may_not_see_events_gets_figures_without_links(recorded):
    user = User.objects.create_user("meters", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_meter"))
    client = Client()
    client.force_login(user)
    meter = make_meter("COUNT")
    response, page = get(client, meter)
    assert (response.status_code, bars(page), "/events/" in page) == (200, [], False)
    assert get(client, meter, "events")[0].status_code == 403


def test_who_may_not_see_meters_sees_nothing(outsider, recorded):
    meter = make_meter("COUNT")
    assert {get(outsider, meter, name)[0].status_code for name in ("usage", "events", "usage/download")} == {403}


def test_a_viewer_sees_all_of_it(viewer, recorded):
    meter = make_meter("COUNT")
    assert {get(viewer, meter, name)[0].status_code for name in ("usage", "events", "usage/download")} == {200}


def test_a_meter_that_is_gone_is_not_found(admin_client):
    meter = make_meter("COUNT")
    delete_meter(meter.pk, environment="default")
    assert {get(admin_client, meter, name)[0].status_code for name in ("usage", "events", "usage/download")} == {404}


@pytest.mark.parametrize(
    "query", [{"customer": "\0"}, {"timezone": "\0"}, {"after": "2024-03-02T00:00:00Z/\0"}, {"filters": "a = \0"}]
)
def test_text_that_no_database_takes_is_a_message(admin_client, recorded, query):
    assert get(admin_client, make_meter("COUNT"), "events", **query)[0].status_code == 200
    assert admin_client.get("/admin/flexmeter/meter/%00/usage/").status_code == 404


def test_archived_and_narrowed_meters_are_answered(admin_client, recorded):
    meter = add_filters(make_meter("COUNT").pk, [("kind", ["a"])], environment="default")
    archive_meter(meter.pk, environment="default")
    assert get(admin_client, meter)[0].context_data["answer"].total == "10"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_inline_and_hostile_text_is_escaped(admin_client, text):
    kept = text.strip()
    ingest([make_event(text, event_name=kept, external_customer_id=text, timestamp=START, properties={text: text})])
    narrowed = {"customer": text, "filters": lines_of([(text, (text,))])}
    for type in ("COUNT_UNIQUE", "LATEST"):
        meter = make_meter(type, name=text, event_name=kept, field=text)
        for name in ("usage", "events"):
            response, page = get(admin_client, meter, name, **narrowed)
            assert response.status_code == 200
            content = page[page.index('id="content"') :]
            assert not re.search(r"<script(?![^>]*src=)|<style|<img|<svg onload|\sstyle=|<[a-z]+\s[^>\"]*\son[a-z]+=", content)
        assert response.context_data["figure"] == ("1" if type == "COUNT_UNIQUE" else "0")
        assert len(response.context_data["shares"]) == 1
        lines = list(csv.reader(io.StringIO(get(admin_client, meter, "usage/download", **narrowed)[1])))
        assert lines[1][1:3] == [safe_cell(text), safe_cell(text)]


@pytest.mark.parametrize(("name", "queries"), [("usage", 14), ("events", 13)])
def test_what_a_page_asks_the_database(admin_client, recorded, django_assert_max_num_queries, name, queries):
    meter = make_meter("SUM", field="n")
    get(admin_client, meter, name)
    with django_assert_max_num_queries(queries):
        get(admin_client, meter, name)


def test_quotients_are_cut_to_what_can_be_read():
    assert figure(_shortened(Decimal(2) / Decimal(3))) == figure(Decimal(2) / Decimal(3))
    assert _shortened(Decimal("0." + "6" * 50)) == Decimal("0.666666666667")
    with localcontext(Context(prec=1, traps=[Rounded])):
        assert _shortened(Decimal("123456789012345." + "6" * 50)) == Decimal("123456789012345.666666666667")
    assert figure(Decimal("12345678.50")) == "12,345,678.5"
