"""flexmeter_import: files into the ledger, once, whatever happens on the way."""

from __future__ import annotations

import gc
import gzip
import io
import json
import signal
import sqlite3
import tracemalloc
from datetime import timedelta

import pytest
from django.db import OperationalError

from flexmeter import ingest as ingest_module
from flexmeter.events import parse_timestamp
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.ingest import ingest
from flexmeter.maintenance.retention import prune
from flexmeter.management import importing
from flexmeter.management.checkpoint import Checkpoint, CheckpointUnusable
from flexmeter.management.importing import Clock, Importer, Rejects, derived_id
from flexmeter.management.rows import Row
from flexmeter.models import Event, EventRevision, RejectedEvent, now

from tests.factories import at, make_event, make_meter
from tests.management.running import finish, run, start, write_jsonl
from tests.polling import eventually

pytestmark = pytest.mark.django_db


def row(**changed):
    return {"event_name": "tokens", "external_customer_id": "acme", "timestamp": "2024-03-10T12:00:00Z"} | changed


def counts(outcome):
    return {name: outcome.json[name] for name in ("rows", "stored", "replaced", "repeated", "rejected")}


def imported(path, *arguments, status=0):
    outcome = run("flexmeter_import", path, *arguments, "--json")
    assert outcome.status == status, outcome.stderr
    return counts(outcome)


def result(rows=0, stored=0, replaced=0, repeated=0, rejected=0):
    return {"rows": rows, "stored": stored, "replaced": replaced, "repeated": repeated, "rejected": rejected}


# What a row becomes


def test_events_are_taken_as_they_would_be_sent_and_as_they_are_exported(tmp_path):
    path = write_jsonl(
        tmp_path / "events.jsonl",
        row(event_id="sent", properties={"n": 12345678901234567890, "text": "ü"}, source="web", unknown=1),
        row(id="listed", customer_id="internal"),
        row(event_id="both", id="ignored"),
    )
    make_meter()
    assert imported(path) == result(rows=3, stored=3)
    assert sorted(Event.objects.values_list("event_id", flat=True)) == ["both", "listed", "sent"]
    sent = Event.objects.get(event_id="sent")
    assert sent.properties == {"n": 12345678901234567890, "text": "ü"}
    assert (sent.source, sent.timestamp, sent.environment) == ("web", at("2024-03-10 12:00"), "default")
    assert run("flexmeter_verify").status == 0


def test_a_csv_of_a_trace_becomes_events(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,Prompt,Generated,Region\n2023-11-16 18:17:03.9799600,4808,10,\n2023-11-16 18:17:04.0319600,3180,8,eu\n"
    )
    outcome = run(
        *("flexmeter_import", path, "--map", "timestamp=TIMESTAMP", "--timezone", "UTC", "--constant", "event_name=llm"),
        *("--constant", "external_customer_id=acme", "--map", "properties.prompt_tokens=Prompt", "--rest-as-properties"),
        *("--constant", "source=trace", "--environment", "stage"),
    )
    assert outcome.status == 0
    assert "2 rows: 2 stored" in outcome.stdout
    first, second = Event.objects.filter(environment="stage").order_by("timestamp")
    assert first.timestamp == parse_timestamp("2023-11-16T18:17:03.97996Z")
    assert first.properties == {"prompt_tokens": 4808, "Generated": 10}
    assert second.properties == {"prompt_tokens": 3180, "Generated": 8, "Region": "eu"}
    assert (first.event_name, first.source, first.external_customer_id) == ("llm", "trace", "acme")


def test_tabs_and_other_delimiters(tmp_path):
    (tmp_path / "a.tsv").write_text("event_name\texternal_customer_id\ttimestamp\ntokens\tacme\t2024-03-10T12:00:00Z\n")
    (tmp_path / "b.csv").write_text("event_name;external_customer_id;timestamp\ntokens;acme, inc;1710072000\n")
    assert imported(tmp_path / "a.tsv")["stored"] == 1
    assert imported(tmp_path / "b.csv", "--delimiter", ";", "--timestamp-format", "unix")["stored"] == 1
    assert Event.objects.get(external_customer_id="acme, inc").timestamp == at("2024-03-10 12:00")


@pytest.mark.parametrize("name", ["events.jsonl.gz", "events.jsonl"])
def test_compressed_files_are_known_by_their_first_bytes(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(json.dumps(row()).encode()))
    assert imported(tmp_path / name)["stored"] == 1


def test_a_row_without_a_timestamp_happens_when_it_is_first_imported(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", {"event_name": "tokens", "external_customer_id": "acme"})
    before = now()
    assert imported(path)["stored"] == 1
    first = Event.objects.get().timestamp
    assert before <= first <= now()
    assert imported(path)["repeated"] == 1
    assert Event.objects.get().timestamp == first


# Identity


def test_importing_a_file_again_changes_nothing(tmp_path):
    make_meter()
    path = write_jsonl(tmp_path / "events.jsonl", row(event_id="a"), row(), row(), row(properties={"n": 1}))
    assert imported(path) == result(rows=4, stored=4)
    columns = ("event_id", "timestamp", "accepted_at", "ingested_at", "properties")
    before = list(Event.objects.order_by("id").values(*columns))
    assert imported(path) == result(rows=4, repeated=4)
    assert list(Event.objects.order_by("id").values(*columns)) == before
    assert not EventRevision.objects.exists()
    assert run("flexmeter_verify").status == 0


def test_equal_rows_without_ids_are_as_many_events_wherever_they_stand(tmp_path):
    one, two = row(source="one"), row(source="two")
    assert imported(write_jsonl(tmp_path / "log.jsonl", one, one, two)) == result(rows=3, stored=3)
    assert imported(write_jsonl(tmp_path / "log.jsonl", two, "", one, row(source="new"), one, one)) == result(
        rows=5, stored=2, repeated=3
    )


def test_neither_directory_nor_packing_nor_line_endings_make_other_events_of_a_file(tmp_path):
    (tmp_path / "later").mkdir()
    text = (json.dumps(row()) + "\n") * 2
    (tmp_path / "log.jsonl").write_text(text)
    (tmp_path / "later" / "log.jsonl.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    assert imported(tmp_path / "log.jsonl")["stored"] == 2
    assert imported(tmp_path / "later" / "log.jsonl.gz")["repeated"] == 2


def test_a_renamed_file_holds_other_events_unless_its_name_is_given(tmp_path):
    path = write_jsonl(tmp_path / "log.jsonl", row())
    assert imported(path)["stored"] == 1
    path = path.rename(tmp_path / "copy.jsonl")
    assert imported(path, "--name", "log.jsonl") == result(rows=1, repeated=1)
    assert imported(path) == result(rows=1, stored=1)


def test_a_corrected_mapping_replaces_what_the_wrong_one_made(tmp_path):
    (tmp_path / "usage.csv").write_text("event_name,Account,Reseller,timestamp\ntokens,acme,blue,2024-03-10T12:00:00Z\n")
    assert imported(tmp_path / "usage.csv", "--map", "external_customer_id=Reseller")["stored"] == 1
    assert imported(tmp_path / "usage.csv", "--map", "external_customer_id=Account")["replaced"] == 1
    assert Event.objects.get().external_customer_id == "acme"


def test_derived_ids_stay_what_they_are():
    """Another release must not make other events of a file that was imported before."""
    assert derived_id("usage.csv", b"tokens,acme", 1) == "row_ca4dd4991b4b5b122636e0c1abf990d4"
    assert derived_id("usage.csv", b"tokens,acme", 2) == "row_6252c59a8e1193008ad0422ec72d94b7"
    assert derived_id("\udcff", b"\xff", 1) == "row_dcc5a535fcc7901d59aadbcc8a0c7f31"


@pytest.mark.parametrize("batch", [1, 2, 1_000])
def test_of_two_rows_with_one_id_the_later_wins(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(importing, "BATCH_ROWS", batch)
    monkeypatch.setattr(importing, "now", lambda: at("2024-03-11 00:00"))  # a clock that stands still
    path = write_jsonl(tmp_path / "events.jsonl", *(row(event_id="a", source=str(i)) for i in range(5)))
    make_meter()
    imported(path)
    assert Event.objects.get().source == "4"
    assert run("flexmeter_verify").status == 0


def test_two_files_with_one_name_cannot_both_have_rows_without_ids(tmp_path):
    paths = []
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        paths.append(write_jsonl(tmp_path / directory / "log.jsonl", row()))
    outcome = run("flexmeter_import", *paths)
    assert outcome.status == 1
    assert "--name" in outcome.stderr
    assert not Event.objects.exists()
    for path in paths:
        write_jsonl(path, row(event_id=str(path)))
    assert imported(paths[0], paths[1])["stored"] == 2


def test_acceptance_in_the_future_is_no_shield_against_corrections(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", row(event_id="a", accepted_at="2999-01-01T00:00:00Z"))
    assert imported(path)["stored"] == 1
    assert Event.objects.get().accepted_at <= now()


# Rows that are no events


def test_bad_rows_go_to_a_file_with_line_and_reason_and_the_rest_is_imported(tmp_path):
    path = tmp_path / "events.jsonl"
    good = json.dumps(row()).encode() + b"\n"
    bad = [b'{"event_name": "tokens"}', b"not json", b"[1]", b"\xff", json.dumps(row(properties={"a\x00": 1})).encode(),
           json.dumps(row(id=17)).encode(), json.dumps(row(accepted_at="0001-01-01T00:00:00Z")).encode(),
           json.dumps(row(accepted_at=5)).encode()]  # fmt: skip
    path.write_bytes(good + b"\n".join(bad) + b"\n" + good)
    outcome = run("flexmeter_import", path, "--json")
    assert outcome.status == 1
    assert counts(outcome) == result(rows=10, stored=2, rejected=8)
    rejects = tmp_path / "events.jsonl.rejected.jsonl"
    assert str(rejects) in outcome.stderr
    assert outcome.json["files"][0]["rejects"] == str(rejects)
    rejected = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [each["line"] for each in rejected] == list(range(2, 10))
    fields = ["external_customer_id", "", "", "", "properties", "event_id", "accepted_at", "accepted_at"]
    assert [each["field"] for each in rejected] == fields
    assert rejected[0] == {
        "file": str(path),
        "line": 2,
        "field": "external_customer_id",
        "reason": "external_customer_id is required and must not be empty",
        "row": '{"event_name": "tokens"}',
    }
    assert rejected[3]["row"] == "\\xff"


def test_a_run_without_bad_rows_leaves_no_file_of_rejects_behind(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", row(), "bad")
    assert imported(path, status=1)["rejected"] == 1
    assert imported(path, status=1)["rejected"] == 1
    assert len((tmp_path / "events.jsonl.rejected.jsonl").read_text().splitlines()) == 1
    assert imported(write_jsonl(path, row(), row(source="good"))) == result(rows=2, stored=1, repeated=1)
    assert list(tmp_path.iterdir()) == [path]


def test_rejected_rows_are_allowed_when_that_is_said(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", "bad")
    assert imported(path, "--allow-rejects", "--rejects", tmp_path / "bad", status=0)["rejected"] == 1
    assert "not JSON" in (tmp_path / "bad").read_text()


def test_rejects_of_several_files_may_go_to_one(tmp_path):
    first, second = (write_jsonl(tmp_path / name, "bad", row(event_id=name)) for name in ("a.jsonl", "b.jsonl"))
    for _ in range(2):
        assert run("flexmeter_import", first, second, "--rejects", tmp_path / "bad").status == 1
        assert [json.loads(line)["file"] for line in (tmp_path / "bad").read_text().splitlines()] == [str(first), str(second)]


def test_rejects_that_cannot_be_kept_stop_the_import(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", "bad")
    outcome = run("flexmeter_import", path, "--rejects", tmp_path / "nowhere" / "bad")
    assert outcome.status == 1
    assert "--rejects" in outcome.stderr
    assert "Line 1" in outcome.stderr


@pytest.mark.parametrize("floor", ["2024-03-11", "2025-01-01"])
def test_events_of_pruned_periods_are_rejected_and_the_rest_of_the_batch_is_taken(tmp_path, floor):
    prune(at(floor), environment="default")
    path = write_jsonl(tmp_path / "events.jsonl", row(), row(timestamp="2025-01-01T00:00:00Z"), row(event_id="old"), "bad")
    assert imported(path, status=1) == result(rows=4, stored=1, rejected=3)
    rejected = [json.loads(line) for line in (tmp_path / "events.jsonl.rejected.jsonl").read_text().splitlines()]
    assert sorted((each["line"], each["field"]) for each in rejected) == [(1, "timestamp"), (3, "timestamp"), (4, "")]
    assert f"lies before {floor}T00:00:00Z" in next(each["reason"] for each in rejected if each["line"] == 1)


def test_a_single_event_of_a_pruned_period_is_rejected(tmp_path):
    prune(at("2025-01-01"), environment="default")
    assert imported(write_jsonl(tmp_path / "events.jsonl", row()), status=1) == result(rows=1, rejected=1)


def test_rows_that_stand_back_behind_stored_events_are_told(tmp_path, settings):
    settings.FLEXMETER_REPEATED_EVENT = "keep"
    imported(write_jsonl(tmp_path / "events.jsonl", row(event_id="a", source="first")))
    outcome = run("flexmeter_import", write_jsonl(tmp_path / "events.jsonl", row(event_id="a", source="second")), "--json")
    assert outcome.status == 1
    assert outcome.json["conflicts"] == 1
    assert "FLEXMETER_REPEATED_EVENT" in outcome.stderr
    assert RejectedEvent.objects.get().body["source"] == "second"


def test_a_damaged_file_gives_the_rows_before_the_damage(tmp_path):
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(
        gzip.compress(b"".join(json.dumps(row(event_id=str(i))).encode() + b"\n" for i in range(100)), compresslevel=0)[:-200]
    )
    outcome = run("flexmeter_import", path)
    assert outcome.status == 1
    assert "damaged after line" in outcome.stderr
    assert 90 < Event.objects.count() < 100


# Interruptions


class Killed(BaseException):
    """Stands for a process that ends."""


@pytest.fixture
def killed_after(monkeypatch):
    """Let the import be killed when it is about to ingest batch `number`, of two rows each."""
    monkeypatch.setattr(importing, "BATCH_ROWS", 2)

    def kill_after(number):
        batches = 0

        def ingest_or_die(*arguments, **options):
            nonlocal batches
            batches += 1
            if batches > number:
                raise Killed
            return ingest_module.ingest(*arguments, **options)

        monkeypatch.setattr(importing, "ingest", ingest_or_die)

    return kill_after


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz", "events.csv"])
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_killed_import_goes_on_where_it_stopped(tmp_path, killed_after, name, batches):
    rows = [row(), "bad", row(), row(), "bad", row(source="x"), row()]
    if name.endswith("csv"):
        lines = ["event_name,external_customer_id,timestamp,source"]
        lines += ["bad" if each == "bad" else f"tokens,acme,2024-03-10T12:00:00Z,{each.get('source', '')}" for each in rows]
    else:
        lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    text = ("\n".join(lines) + "\n").encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    killed_after(batches)
    with pytest.raises(Killed):
        run("flexmeter_import", path)
    assert path.with_name(name + ".progress").exists() == (batches > 0)
    killed_after(100)
    outcome = run("flexmeter_import", path, "--resume", "--json")
    assert outcome.status == 1
    assert counts(outcome) == result(rows=7, stored=5, rejected=2)
    header = 1 if name.endswith("csv") else 0
    assert outcome.json["files"][0]["resumed_after_line"] == (2 * batches + header if batches else 0)
    rejects = path.with_name(name + ".rejected.jsonl")
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [2 + header, 5 + header]
    assert sorted(tmp_path.iterdir()) == sorted([path, rejects])
    assert imported(path, status=1) == result(rows=7, repeated=5, rejected=2)


def test_without_resume_an_import_begins_anew_and_counts_the_same(tmp_path, killed_after):
    path = write_jsonl(tmp_path / "events.jsonl", *[row()] * 5)
    killed_after(1)
    with pytest.raises(Killed):
        run("flexmeter_import", path)
    killed_after(100)
    assert imported(path) == result(rows=5, stored=3, repeated=2)


def test_a_file_that_changed_is_imported_from_the_beginning(tmp_path, killed_after):
    path = write_jsonl(tmp_path / "events.jsonl", *[row()] * 5)
    killed_after(1)
    with pytest.raises(Killed):
        run("flexmeter_import", path)
    killed_after(100)
    write_jsonl(path, row(source="new"), *[row()] * 5)
    outcome = run("flexmeter_import", path, "--resume", "--json")
    assert "from the beginning" in outcome.stderr
    assert counts(outcome) == result(rows=6, stored=4, repeated=2)


@pytest.mark.parametrize("other", [["--environment", "other"], ["--name", "other"]])
def test_another_import_of_the_file_does_not_go_on_where_this_one_stopped(tmp_path, killed_after, other):
    path = write_jsonl(tmp_path / "events.jsonl", *[row()] * 5)
    killed_after(1)
    with pytest.raises(Killed):
        run("flexmeter_import", path)
    killed_after(100)
    assert imported(path, "--resume", *other) == result(rows=5, stored=5)


def test_resuming_passes_over_the_files_that_were_done(tmp_path, killed_after):
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", *[row(source=name)] * 3, "bad") for name in "abc"]
    killed_after(3)
    with pytest.raises(Killed):
        run("flexmeter_import", *paths, "--rejects", tmp_path / "bad")
    killed_after(100)
    outcome = run("flexmeter_import", *paths, "--rejects", tmp_path / "bad", "--resume", "--json")
    assert counts(outcome) == result(rows=12, stored=9, rejected=3)
    assert [file["resumed_after_line"] for file in outcome.json["files"]] == [4, 2, 0]
    assert [json.loads(line)["file"] for line in (tmp_path / "bad").read_text().splitlines()] == [str(path) for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted([*paths, tmp_path / "bad"])


def test_one_file_is_imported_by_one_command_at_a_time(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", row())
    checkpoint = Checkpoint(tmp_path / "events.jsonl.progress")
    try:
        outcome = run("flexmeter_import", path)
        assert outcome.status == 1
        assert "another import of this file is running" in outcome.stderr
    finally:
        checkpoint.close()
    assert imported(path)["stored"] == 1


@pytest.mark.parametrize("content", [b"somebody's notes about how the work is going" * 50, None])
def test_a_file_that_is_no_checkpoint_is_left_alone(tmp_path, content):
    path = write_jsonl(tmp_path / "events.jsonl", row())
    progress = tmp_path / "events.jsonl.progress"
    if content is None:
        connection = sqlite3.connect(progress)
        connection.execute("CREATE TABLE mine (a)")
        connection.close()
        content = progress.read_bytes()
    else:
        progress.write_bytes(content)
    outcome = run("flexmeter_import", path)
    assert outcome.status == 1
    assert "no checkpoint" in outcome.stderr
    assert progress.read_bytes() == content
    with pytest.raises(CheckpointUnusable):
        Checkpoint(progress)


def test_where_no_checkpoint_can_be_written_the_import_works_all_the_same(tmp_path):
    path = write_jsonl(tmp_path / "events.jsonl", row(), row())
    (tmp_path / "events.jsonl.progress").mkdir()
    outcome = run("flexmeter_import", path, "--json")
    assert counts(outcome) == result(rows=2, stored=2)
    assert "cannot be resumed" in outcome.stderr


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_in_the_middle_loses_and_doubles_nothing(database_url, tmp_path, kill):
    make_meter()
    path = write_jsonl(tmp_path / "events.jsonl", *(row(external_customer_id=f"customer_{i % 7}") for i in range(50_000)))
    process = start(database_url, "flexmeter_import", path)
    eventually(lambda: Event.objects.count() > importing.BATCH_ROWS)  # one batch is noted by now
    process.send_signal(kill)
    killed = finish(process)
    assert 0 < Event.objects.count() < 50_000
    if kill == signal.SIGINT:
        assert killed.status == 130
        assert "--resume" in killed.stderr
        assert "Traceback" not in killed.stderr
    else:
        assert killed.status == -signal.SIGKILL
    outcome = finish(start(database_url, "flexmeter_import", path, "--resume", "--json"))
    assert outcome.status == 0, outcome.stderr
    assert outcome.json["files"][0]["resumed_after_line"] > 0
    assert Event.objects.count() == outcome.json["rows"] == 50_000
    assert run("flexmeter_verify").status == 0


# The database in the way


@pytest.fixture
def importer(tmp_path):
    checkpoint, rejects = Checkpoint(None), Rejects(tmp_path / "bad", "events.jsonl")
    pauses = []
    yield Importer("default", "default", checkpoint, rejects, Clock(), "events.jsonl", sleep=pauses.append), pauses
    checkpoint.close()
    rejects.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [EnvironmentBusy("busy"), OperationalError("database is locked")])
def test_a_database_that_is_busy_is_asked_again_a_few_times(monkeypatch, importer, error):
    importer, pauses = importer
    failures = [error] * 3

    def busy(*arguments, **options):
        if failures:
            raise failures.pop()
        return ingest_module.ingest(*arguments, **options)

    monkeypatch.setattr(importing, "ingest", busy)
    [counted] = importer.take([Row(1, b"{}", row())])
    assert counted.stored == 1
    assert len(pauses) == 3
    assert pauses == sorted(pauses)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_stays_busy_ends_the_import_and_says_how_to_go_on(monkeypatch, importer):
    importer, pauses = importer

    def busy(*arguments, **options):
        raise EnvironmentBusy("Other writers kept getting in the way.")

    monkeypatch.setattr(importing, "ingest", busy)
    with pytest.raises(EnvironmentBusy):
        list(importer.take([Row(1, b"{}", row())]))
    assert len(pauses) == importing.ATTEMPTS - 1


def test_the_command_says_how_to_go_on_after_the_database_failed(tmp_path, monkeypatch, killed_after):
    monkeypatch.setattr(importing, "ATTEMPTS", 1)

    def busy(*arguments, **options):
        raise EnvironmentBusy("Other writers kept getting in the way.")

    monkeypatch.setattr(importing, "ingest", busy)
    outcome = run("flexmeter_import", write_jsonl(tmp_path / "events.jsonl", row()))
    assert outcome.status == 1
    assert "--resume" in outcome.stderr


def test_large_rows_are_committed_in_smaller_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_BYTES", 1_000)
    sizes = []

    def measured(events, **options):
        sizes.append(len(events))
        return ingest_module.ingest(events, **options)

    monkeypatch.setattr(importing, "ingest", measured)
    imported(write_jsonl(tmp_path / "events.jsonl", *[row(source="x" * 250)] * 6))
    assert sizes == [3, 3]


def test_memory_is_bounded_by_the_batch_not_by_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_ROWS", 50)
    held = []

    def measured(events, **options):
        if len(held) in (10, 29):
            gc.collect()  # what waits for the collector is not held
        held.append(tracemalloc.get_traced_memory()[0])
        return ingest_module.ingest(events, **options)

    monkeypatch.setattr(importing, "ingest", measured)
    path = write_jsonl(tmp_path / "events.jsonl", *(row(properties={"n": i}) for i in range(1_500)))
    tracemalloc.start()
    try:
        assert imported(path)["stored"] == 1_500
    finally:
        tracemalloc.stop()
    assert len(held) == 30
    assert held[29] - held[10] < 950 * 100  # bytes, for 950 rows more; an event alone takes 500


# Standard input, and what is not clear


def test_standard_input_is_imported(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "log.jsonl", row())
    for _ in range(2):
        with path.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            outcome = run("flexmeter_import", "-", "--format", "jsonl", "--name", "log.jsonl", "--json")
            assert outcome.status == 0, outcome.stderr
    assert counts(outcome) == result(rows=1, repeated=1)
    assert imported(path)["repeated"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_import_that_never_began_leaves_nothing_behind(tmp_path):
    path = tmp_path / "usage.csv"
    path.write_text("event_name,Account\ntokens,acme\n")
    assert run("flexmeter_import", path).status == 1
    (tmp_path / "bad").mkdir()
    assert "cannot be written anew" in run("flexmeter_import", path, "--rejects", tmp_path / "bad").stderr
    assert sorted(tmp_path.iterdir()) == [tmp_path / "bad", path]


def test_rows_without_ids_from_standard_input_need_a_name(tmp_path, monkeypatch):
    with write_jsonl(tmp_path / "log.jsonl", row(event_id="a"), row()).open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        outcome = run("flexmeter_import", "-", "--format", "jsonl")
    assert outcome.status == 1
    assert "--name" in outcome.stderr
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_pipe_is_imported_to_its_end(database_url, tmp_path):
    process = start(database_url, "flexmeter_import", "-", "--format", "csv", "--name", "pipe", "--json", stdin=-1, cwd=tmp_path)
    text = "event_name,external_customer_id\n" + "tokens,acme\n" * 3 + "tokens\n"
    outcome = finish(process, gzip.compress(text.encode()))
    assert outcome.status == 1
    assert counts(outcome) == result(rows=4, stored=3, rejected=1)
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.rejected.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["events.txt"], "--format"),
        (["-"], "--format"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["events.jsonl", "events.jsonl"], "twice"),
        (["events.jsonl", "other.jsonl", "--name", "x"], "one by one"),
        (["events.jsonl", "--map", "source=x"], "--map is for CSV"),
        (["events.jsonl", "--timezone", "UTC"], "--timezone is for CSV"),
        (["events.jsonl", "--rejects", "events.jsonl"], "to be imported"),
        (["events.csv", "--map", "tokens=x"], "properties.NAME"),
        (["events.csv", "--map", "properties.=x"], "properties.NAME"),
        (["events.csv", "--map", "source"], "MEMBER=VALUE"),
        (["events.csv", "--map", "source=a", "--map", "source=b"], "twice"),
        (["events.csv", "--map", "source=a", "--constant", "source=b"], "both"),
        (["events.csv", "--constant", "event_id=a"], "--constant event_id"),
        (["events.csv", "--timezone", "Middle/Earth"], "time zone"),
        (["events.csv", "--timezone", "../../etc/passwd"], "time zone"),
        (["events.csv", "--timestamp-format", "%H:%M"], "holds a date"),
        (["events.csv", "--timestamp-format", "%Q"], "holds a date"),
        (["events.csv", "--delimiter", "||"], "one character"),
        (["events.csv", "--environment", ""], "1 to 64"),
        (["events.csv"], "event_name"),
    ],
)
def test_what_is_not_clear_is_refused_before_anything_is_imported(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in ("events.jsonl", "other.jsonl", "events.txt"):
        write_jsonl(tmp_path / name, row(event_id=name))
    (tmp_path / "events.csv").write_text("name\nx\n")
    outcome = run("flexmeter_import", *arguments)
    assert outcome.status == 1
    assert told in outcome.stderr
    assert not Event.objects.exists()


def test_other_environments_are_not_touched(tmp_path):
    ingest([make_event("a", source="theirs", accepted_at=now() - timedelta(days=1))], environment="theirs")
    imported(write_jsonl(tmp_path / "events.jsonl", row(event_id="a", source="ours")), "--environment", "ours")
    assert sorted(Event.objects.values_list("environment", "source")) == [("ours", "ours"), ("theirs", "theirs")]
