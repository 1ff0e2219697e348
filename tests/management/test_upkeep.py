"""flexmeter_rebuild, flexmeter_compact and flexmeter_verify: rollups that are filled, merged and compared."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flexmeter.ingest import ingest
from flexmeter.models import Meter, Rollup

from tests.factories import NOON, make_event, make_meter
from tests.management.running import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def pending_meter(settings):
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = 2
    ingest([make_event(f"event_{i}", external_customer_id=f"customer_{i}") for i in range(5)])
    meter = make_meter()
    assert not meter.rollups_ready
    return meter


def is_ready(meter):
    meter.refresh_from_db()
    return meter.rollups_ready


def test_rebuild_fills_every_meter_that_waits_for_it(pending_meter):
    outcome = run("flexmeter_rebuild", "--json")
    assert outcome.status == 0
    assert outcome.json["events"] == 5
    [meter] = outcome.json["meters"]
    assert (meter["id"], meter["events"], meter["environment"]) == (pending_meter.id, 5, "default")
    assert is_ready(pending_meter)
    assert run("flexmeter_rebuild", "--json").json == {"meters": [], "events": 0}
    assert "No meter" in run("flexmeter_rebuild").stdout


def test_rebuild_leaves_meters_of_other_environments_alone(pending_meter):
    make_meter(environment="other")
    assert run("flexmeter_rebuild", "--environment", "other", "--json").json["events"] == 0
    assert not is_ready(pending_meter)
    outcome = run("flexmeter_rebuild", "--environment", "other", "--meter", pending_meter.id)
    assert outcome.status == 1
    assert not is_ready(pending_meter)


def test_rebuild_of_one_meter_passes_over_the_others(pending_meter):
    other = make_meter()
    assert run("flexmeter_rebuild", "--meter", pending_meter.id).status == 0
    assert is_ready(pending_meter)
    assert not is_ready(other)


def test_rebuild_of_an_unknown_meter_or_environment_fails():
    assert "meter_unknown" in run("flexmeter_rebuild", "--meter", "meter_unknown").stderr
    outcome = run("flexmeter_rebuild", "--environment", "typo")
    assert outcome.status == 1
    assert '"default"' in outcome.stderr


def test_restart_must_be_told_which_meters():
    outcome = run("flexmeter_rebuild", "--restart")
    assert outcome.status == 1
    assert "--meter or --environment" in outcome.stderr


@pytest.mark.parametrize("chosen", ["--meter", "--environment"])
def test_verify_finds_a_wrong_rollup_and_a_restarted_rebuild_puts_it_right(chosen):
    meter = make_meter()
    ingest([make_event("event_1"), make_event("event_2", external_customer_id="blue\tsky")])
    compared = run("flexmeter_verify", "--json")
    assert compared.status == 0
    assert compared.json == {"differences": [], "meters": 1, "customers": 2, "skipped": 0}

    Rollup.objects.filter(series__external_customer_id="acme").delete()
    Rollup.objects.filter(series__external_customer_id="blue\tsky").update(count=7)
    compared = run("flexmeter_verify", "--json")
    assert compared.status == 1
    assert compared.json["differences"] == [
        {
            "meter": meter.id,
            "external_customer_id": "acme",
            "bucket": "2024-03-10T12:00:00Z",
            "events": "count=1",
            "rollups": "count=0",
        },
        {
            "meter": meter.id,
            "external_customer_id": "blue\tsky",
            "bucket": "2024-03-10T12:00:00Z",
            "events": "count=1",
            "rollups": "count=7",
        },
    ]
    told = run("flexmeter_verify")
    assert told.status == 1
    assert f'{meter.id} customer "acme" bucket 2024-03-10T12:00:00Z' in told.stdout
    assert "blue\\tsky" in told.stdout
    assert "2 differences" in told.stdout

    run("flexmeter_rebuild", chosen, meter.id if chosen == "--meter" else "default", "--restart")
    assert run("flexmeter_verify").status == 0


def test_verify_says_how_many_meters_it_skipped(pending_meter):
    outcome = run("flexmeter_verify", "--json")
    assert outcome.json == {"differences": [], "meters": 0, "customers": 0, "skipped": 1}
    assert "1 meter being rebuilt skipped" in run("flexmeter_verify").stdout


def test_verify_keeps_to_its_environment():
    make_meter()
    ingest([make_event()])
    Rollup.objects.update(count=7)
    make_meter(environment="other")
    assert run("flexmeter_verify", "--environment", "other").status == 0
    assert run("flexmeter_verify", "--environment", "default").status == 1


def test_compact_merges_the_rows_of_a_bucket_and_changes_no_figure():
    make_meter()
    make_meter(environment="other")
    for environment in ("default", "other"):
        for i in range(4):
            ingest([make_event(f"event_{i}", timestamp=NOON + timedelta(seconds=i))], environment=environment)
    assert run("flexmeter_compact", "--environment", "other", "--json").json == {"rows_merged": 4}
    assert "4 rows merged" in run("flexmeter_compact").stdout
    assert run("flexmeter_compact", "--json").json == {"rows_merged": 0}
    rows = [(row.series.environment, row.level, row.count) for row in Rollup.objects.select_related("series")]
    levels = (Rollup.Level.BUCKET, Rollup.Level.DAY)
    assert sorted(rows) == [(environment, level, 4) for environment in ("default", "other") for level in levels]
    assert run("flexmeter_verify").status == 0
    assert Meter.objects.count() == 2
