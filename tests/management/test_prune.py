"""flexmeter_prune: events that go, and only when somebody agreed."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest

from flexmeter.ingest import ingest
from flexmeter.models import Environment, Event, now
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage

from tests.factories import at, make_event, make_meter
from tests.management.running import run

pytestmark = pytest.mark.django_db
PRUNE = ("flexmeter_prune", "--environment", "default", "--before", "2024-03-10T15:00:00Z")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))


@pytest.fixture(autouse=True)
def events():
    ingest([make_event(f"old_{i}", timestamp=at(f"2024-03-0{i} 12:00")) for i in range(1, 6)])
    ingest([make_event("new", timestamp=at("2024-03-10 12:00"))])


def stored():
    return sorted(Event.objects.values_list("event_id", flat=True))


def test_pruning_deletes_what_lies_before_the_day_and_keeps_its_usage():
    meter = make_meter()
    outcome = run(*PRUNE, "--yes", "--json")
    assert outcome.status == 0
    assert outcome.json == {"environment": "default", "before": "2024-03-10T00:00:00Z", "events": 5, "dry_run": False}
    assert stored() == ["new"]
    assert usage(UsageQuery(meter.rule(), Scope("default"), at("2024-03-01"), at("2024-04-01"))).value == 6


def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said():
    outcome = run(*PRUNE)
    assert outcome.status == 1
    assert "--yes" in outcome.stderr
    assert "5 events" in outcome.stderr
    assert len(stored()) == 6
    assert not Environment.objects.filter(pruned_before__isnull=False).exists()


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("Yes\n", True), ("\n", False), ("no\n", False), ("", False)])
def test_at_a_terminal_it_asks(monkeypatch, answer, deleted):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    outcome = run(*PRUNE)
    assert "5 events" in outcome.stderr
    assert outcome.status == (0 if deleted else 1)
    assert len(stored()) == (1 if deleted else 6)


def test_a_dry_run_tells_how_many_and_changes_nothing():
    outcome = run(*PRUNE, "--dry-run", "--json")
    assert outcome.json["events"] == 5
    assert outcome.json["dry_run"] is True
    assert "5 events" in run(*PRUNE, "--dry-run").stdout
    assert len(stored()) == 6


def test_keep_counts_days_back_from_now():
    ingest([make_event("recent", timestamp=now() - timedelta(days=2))])
    assert run("flexmeter_prune", "--environment", "default", "--keep", "3", "--yes").status == 0
    assert stored() == ["recent"]


def test_only_the_named_environment_is_pruned():
    ingest([make_event("old_1", timestamp=at("2024-03-01 12:00"))], environment="other")
    assert run(*PRUNE, "--yes").status == 0
    assert Event.objects.filter(environment="other").count() == 1


def test_pruning_is_refused_while_a_meter_still_counts_from_the_events(settings):
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0
    meter = make_meter()
    outcome = run(*PRUNE, "--yes")
    assert outcome.status == 1
    assert meter.id in outcome.stderr
    assert "flexmeter_rebuild" in outcome.stderr
    assert run(*PRUNE, "--dry-run", "--json").json["waiting_for_rebuild"] == [meter.id]
    assert len(stored()) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--environment", "default"],
        ["--environment", "default", "--keep", "0"],
        ["--environment", "default", "--keep", "-1"],
        ["--environment", "default", "--keep", "1e3"],
        ["--environment", "default", "--before", "yesterday"],
        ["--environment", "default", "--before", "2024-13-01"],
        ["--environment", "default", "--before", "2024-03-10T15:00:00"],
        ["--environment", "default", "--before", "2999-01-01"],
        ["--environment", "default", "--before", "2024-03-10", "--keep", "3"],
        ["--environment", "typo", "--before", "2024-03-10"],
        ["--keep", "3"],
    ],
)
def test_what_is_not_clear_is_refused(arguments):
    outcome = run("flexmeter_prune", "--yes", *arguments)
    assert outcome.status == 1
    assert len(stored()) == 6
    assert not Environment.objects.filter(name="typo").exists()
