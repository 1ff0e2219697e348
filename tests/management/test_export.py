"""flexmeter_export: events out, in a stable order, and the same ledger when they come back."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.events import EARLIEST, LATEST, parse_event
from flexmeter.ingest import ingest
from flexmeter.management.exporting import in_order
from flexmeter.management.mapping import FORMULA_STARTS
from flexmeter.meters import archive_meter
from flexmeter.models import Event
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage

from tests.examples import examples
from tests.factories import NOON, at, make_event, make_meter
from tests.management.running import finish, run, start

pytestmark = pytest.mark.django_db

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)
starting = st.sampled_from([*FORMULA_STARTS, "'", " ", '"', "\ufeff", ",", "\r\n", "\x85", "\u2028"])
tricky = st.builds(str.__add__, starting, texts) | texts
named = tricky.map(lambda text: text.strip()).filter(bool)
numbers = (
    st.integers(-(10**30), 10**30)
    | st.decimals(-(10**12), 10**12, allow_nan=False, places=20)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | tricky,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(tricky, inner, max_size=2),
)
instants = st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None) - timedelta(days=1), timezones=st.just(UTC))
events = st.builds(
    lambda accepted_at, **raw: parse_event(raw, now=accepted_at),
    accepted_at=st.datetimes(datetime(2020, 1, 1), datetime(2024, 1, 1), timezones=st.just(UTC)),
    event_id=tricky.filter(bool),
    event_name=named,
    external_customer_id=tricky.filter(str.strip),
    customer_id=tricky,
    source=tricky,
    timestamp=instants | st.just(NOON),
    properties=st.none() | st.dictionaries(tricky, values, max_size=3),
)


def exported(path, *arguments):
    outcome = run("flexmeter_export", "--output", path, *arguments)
    assert outcome.status == 0, outcome.stderr
    return path.read_bytes()


def ids(outcome):
    return [json.loads(line)["id"] for line in outcome.stdout.splitlines()]


@examples(40)
@given(ledger=st.lists(events, max_size=8), form=st.sampled_from(["jsonl", "csv"]))
def test_an_export_comes_back_as_the_identical_ledger(db, tmp_path_factory, ledger, form):
    directory = tmp_path_factory.mktemp("export")
    with transaction.atomic():
        ingest(ledger)
        before = exported(directory / f"events.{form}")
        known = list(Event.objects.order_by("event_id").values("event_id", "properties", "timestamp", "accepted_at", "source"))
        Event.objects.all().delete()
        assert run("flexmeter_import", directory / f"events.{form}").status == 0
        assert exported(directory / f"again.{form}") == before
        assert (
            list(Event.objects.order_by("event_id").values("event_id", "properties", "timestamp", "accepted_at", "source"))
            == known
        )
        transaction.set_rollback(True)


def test_importing_an_older_export_leaves_later_corrections_alone(tmp_path):
    ingest([make_event(source="typo")])
    exported(tmp_path / "events.jsonl")
    ingest([make_event(source="corrected", accepted_at=NOON + timedelta(hours=1))])
    again = run("flexmeter_import", tmp_path / "events.jsonl", "--json").json
    assert (again["repeated"], again["replaced"]) == (1, 0)
    assert Event.objects.get().source == "corrected"


def test_an_edited_export_corrects_events_when_it_is_accepted_now(tmp_path):
    ingest([make_event(source="typo")])
    text = exported(tmp_path / "events.jsonl").replace(b"typo", b"corrected")
    (tmp_path / "events.jsonl").write_bytes(text)
    assert run("flexmeter_import", tmp_path / "events.jsonl", "--accept-now", "--json").json["replaced"] == 1
    assert Event.objects.get().source == "corrected"


def test_what_an_archived_meter_counted_survives_a_move_to_another_environment(tmp_path):
    meters = [make_meter(environment=name) for name in ("old", "new")]
    ingest([make_event("before")], environment="old")
    for meter in meters:
        archive_meter(meter.id, environment=meter.environment)
    ingest([make_event("after", accepted_at=datetime.now(UTC))], environment="old")
    text = exported(tmp_path / "events.jsonl", "--environment", "old")
    assert run("flexmeter_import", tmp_path / "events.jsonl", "--environment", "new").status == 0
    figures = [
        usage(UsageQuery(meter.rule(), Scope(meter.environment), at("2024-03-01"), at("2024-04-01"))).value for meter in meters
    ]
    assert figures == [1, 1]
    assert exported(tmp_path / "moved.jsonl", "--environment", "new") == text


def test_events_come_by_timestamp_and_then_id_byte_by_byte():
    ingest([make_event(name) for name in ("b", "B", "a", "é", "a ", "Z")])
    ingest([make_event("first", timestamp=NOON - timedelta(microseconds=1))])
    assert ids(run("flexmeter_export")) == ["first", "B", "Z", "a", "a ", "b", "é"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_every_event_comes_once_however_the_reading_is_cut(chunk):
    ingest([make_event(f"event_{i}", timestamp=NOON + timedelta(seconds=i // 3)) for i in range(7)])
    assert [row[0] for row in in_order(Event.objects.all(), chunk=chunk)] == [f"event_{i}" for i in range(7)]


def test_events_that_arrive_meanwhile_make_nothing_come_twice():
    ingest([make_event(f"event_{i}", timestamp=NOON + timedelta(seconds=i)) for i in range(1, 6)])
    rows = in_order(Event.objects.all(), chunk=2)
    seen = [next(rows)[0]]
    ingest([make_event("event_0"), make_event("event_6", timestamp=NOON + timedelta(seconds=6))])
    seen.extend(row[0] for row in rows)
    assert seen == [f"event_{i}" for i in range(1, 7)]


def test_filters_narrow_what_is_written():
    ingest(
        [
            make_event("a", timestamp=at("2024-03-01 00:00")),
            make_event("b", timestamp=at("2024-03-02 00:00"), external_customer_id="blue"),
            make_event("c", timestamp=at("2024-03-03 00:00"), event_name="calls"),
            make_event("d", timestamp=at("2024-03-04 00:00"), source="web"),
        ]
    )
    ingest([make_event("e")], environment="other")
    assert ids(run("flexmeter_export")) == ["a", "b", "c", "d"]
    assert ids(run("flexmeter_export", "--customer", "blue")) == ["b"]
    assert ids(run("flexmeter_export", "--event-name", "calls")) == ["c"]
    assert ids(run("flexmeter_export", "--source", "web")) == ["d"]
    assert ids(run("flexmeter_export", "--start", "2024-03-02", "--end", "2024-03-04T00:00:00Z")) == ["b", "c"]
    assert ids(run("flexmeter_export", "--environment", "other")) == ["e"]
    assert ids(run("flexmeter_export", "--source", "")) == ["a", "b", "c"]
    assert run("flexmeter_export", "--environment", "typo").status == 1


def test_no_cell_of_a_csv_export_is_a_formula(tmp_path):
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted"]
    ingest([make_event(text, source=text, external_customer_id=text) for text in hostile])
    with io.StringIO(exported(tmp_path / "events.csv").decode(), newline="") as file:
        _, *rows = csv.reader(file)
    assert {row[0] for row in rows} == {"'" + text for text in hostile}
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA_STARTS)]


def test_the_output_says_its_format_by_its_suffix_and_may_be_compressed(tmp_path):
    ingest([make_event()])
    plain = exported(tmp_path / "events.jsonl")
    assert json.loads(plain)["id"] == "event_1"
    packed = exported(tmp_path / "events.jsonl.gz")
    assert gzip.decompress(packed) == plain
    assert exported(tmp_path / "again.gz", "--gzip", "--format", "jsonl") == packed
    assert gzip.decompress(exported(tmp_path / "events.csv.gz")).startswith(b"id,event_name,")


def test_json_tells_how_many_events_were_written(tmp_path):
    ingest([make_event("a"), make_event("b")])
    outcome = run("flexmeter_export", "--output", tmp_path / "events.csv", "--json")
    assert outcome.json == {"environment": "default", "events": 2, "format": "csv", "output": str(tmp_path / "events.csv")}
    assert run("flexmeter_export", "--json").status == 1


def test_a_file_is_replaced_only_by_a_complete_one(tmp_path, monkeypatch):
    ingest([make_event("a")])
    path = tmp_path / "events.jsonl"
    before = exported(path)
    ingest([make_event("b")])

    def interrupted(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("flexmeter.management.progress.Progress.show", interrupted)
    outcome = run("flexmeter_export", "--output", path)
    assert outcome.status == 130
    assert "not complete" in outcome.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    outcome = run("flexmeter_export", "--output", tmp_path / "nowhere" / "events.jsonl")
    assert outcome.status == 1
    assert "nowhere" in outcome.stderr


@pytest.mark.django_db(transaction=True)
def test_standard_output_carries_the_bytes_of_the_file(database_url, tmp_path):
    ingest([make_event("é", source="漢字")])
    expected = exported(tmp_path / "events.jsonl")
    outcome = finish(start(database_url, "flexmeter_export"))
    assert (outcome.status, outcome.stdout.encode()) == (0, expected)


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_stops_ends_the_export_without_a_traceback(database_url):
    ingest([make_event(f"event_{i}", properties={"text": "x" * 1_000}) for i in range(1_000)])
    process = start(database_url, "flexmeter_export", bufsize=0)
    assert process.stdout.readline().startswith(b'{"id":"event_0"')
    process.stdout.close()
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(180) == 128 + signal.SIGPIPE
    assert "Traceback" not in stderr
    assert "stopped reading" in stderr
