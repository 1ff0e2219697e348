"""The demo's events, and the count of the files that its figures are held against."""

import gzip
import re
from collections import Counter
from datetime import UTC, datetime

import pytest

from flexmeter.events import parse_events

from demo import traffic
from demo.tally import tally_of_files
from demo.traffic import CHAT, CODE, CUSTOMERS, DATA, SITE, TRACES, Trace

each_trace = pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.source)


@pytest.fixture(scope="module")
def events():
    return {trace.source: list(trace.events()) for trace in TRACES}


@each_trace
def test_every_row_becomes_one_event_that_the_api_takes(events, trace: Trace):
    parsed = parse_events(events[trace.source], now=datetime.now(UTC))
    assert len(parsed) == trace.rows == {"llm-code": 8_819, "llm-chat": 19_366, "web-site": 10_000}[trace.source]
    assert len({event.event_id for event in parsed}) == trace.rows


@each_trace
def test_reading_a_file_again_gives_the_same_events(events, trace: Trace):
    assert list(trace.events()) == events[trace.source]


def test_ids_of_different_files_never_meet(events):
    ids = Counter(event["event_id"] for trace in TRACES for event in events[trace.source])
    assert ids.most_common(1)[0][1] == 1


def test_token_counts_and_times_are_those_of_the_row(events):
    assert events["llm-code"][0] == {
        "event_id": "llm-code-00001",
        "event_name": "llm_request",
        "external_customer_id": "customer-02",
        "timestamp": "2023-11-16T18:17:03.9799600Z",
        "source": "llm-code",
        "properties": {"model": "coder-1", "prompt_tokens": 4808, "completion_tokens": 10},
    }


def test_a_logged_request_keeps_what_the_log_says_of_it(events):
    first = events["web-site"][0]
    assert first["timestamp"] == "2015-05-17T10:05:03Z"
    assert first["properties"] == {
        "visitor": "visitor-e230fe463f",
        "method": "GET",
        "path": "/presentations/logstash-monitorama-2013/images/kibana-search.png",
        "status": 200,
        "bytes": 203023,
        "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/32.0.1700.77 Safari/537.36",
    }


def test_a_visitor_always_calls_for_the_same_customer(events):
    customers = {(event["properties"]["visitor"], event["external_customer_id"]) for event in events["web-site"]}
    assert len(customers) == len({visitor for visitor, _ in customers}) == 1_753


@pytest.mark.parametrize("trace", [CODE, CHAT], ids=lambda trace: trace.source)
def test_a_dozen_customers_share_the_requests_unevenly(events, trace: Trace):
    shares = Counter(event["external_customer_id"] for event in events[trace.source])
    assert sorted(shares) == sorted(CUSTOMERS)
    assert len(CUSTOMERS) == 12
    assert [customer for customer, _ in shares.most_common()] == list(CUSTOMERS)
    assert shares[CUSTOMERS[0]] > 10 * shares[CUSTOMERS[-1]]


def test_a_line_that_is_no_access_log_is_named(monkeypatch, tmp_path):
    with gzip.open(tmp_path / SITE.filename, "wt") as file:
        file.write('visitor-1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\nnot a request\n')
    monkeypatch.setattr(traffic, "DATA", tmp_path)
    with pytest.raises(ValueError, match=re.escape("apache_access_2015.log.gz, line 2")):
        list(SITE.events())


def test_the_count_of_the_files_agrees_with_the_events(events):
    tally = tally_of_files()
    for trace in (CODE, CHAT):
        counted, properties = tally.by_model[trace.model], [event["properties"] for event in events[trace.source]]
        assert counted.requests == trace.rows
        assert counted.prompt_tokens == sum(each["prompt_tokens"] for each in properties)
        assert counted.completion_tokens == sum(each["completion_tokens"] for each in properties)
    assert sum(counted.requests for counted in tally.by_customer.values()) == CODE.rows + CHAT.rows
    site = [event["properties"] for event in events["web-site"]]
    assert tally.site.bytes == sum(each["bytes"] for each in site)
    assert tally.site.visitors == {each["visitor"] for each in site}
    assert tally.requests_by_hour == Counter(
        datetime.fromisoformat(event["timestamp"][:13] + ":00Z") for event in events["web-site"]
    )
    assert {day: each.requests for day, each in tally.by_day.items()} == Counter(
        datetime.fromisoformat(event["timestamp"][:10] + "T00:00Z") for event in events["web-site"]
    )


def test_the_data_comes_with_its_authors_and_licences():
    attribution = (DATA / "README.md").read_text()
    assert {path.name for path in DATA.iterdir()} == {"README.md", *(trace.filename for trace in TRACES)}
    for trace in TRACES:
        assert trace.filename in attribution
    for words in ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "Azure/AzurePublicDataset", "Splitwise"):
        assert words in attribution
    for words in ("Apache License, Version 2.0", "https://www.apache.org/licenses/LICENSE-2.0", "elastic/examples"):
        assert words in attribution
