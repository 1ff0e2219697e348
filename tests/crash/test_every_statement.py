"""Whatever is killed at whichever statement: done again, it ends in the same state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from flexmeter import inbox
from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.rebuild import pending, rebuild, restart
from flexmeter.maintenance.verification import verify
from flexmeter.models import Environment, Event, EventRevision, InboxBatch, Meter, RejectedEvent, Rollup, Series, UniqueValue
from flexmeter.queries import Scope, UsageQuery
from flexmeter.usage import usage

from tests.factories import NOON, make_event, make_meter

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Who is killed closes no cursors.
    pytest.mark.filterwarnings("ignore:.*ServerSideCursor.*was deleted while still open:ResourceWarning"),
]
ROOT = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """Stands for the end of the process: nothing that handles errors sees it."""


class KilledAt:
    """An execute wrapper that ends everything when one statement has been carried out; with 0 it only counts them."""

    def __init__(self, statement: int) -> None:
        self.statement = statement
        self.seen = 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.seen += 1
        result = execute(sql, params, many, context)
        if self.seen == self.statement:
            raise Killed
        return result


def first_events():
    return [
        make_event(f"e{n}", external_customer_id=f"c{n % 2}", timestamp=NOON + timedelta(minutes=9 * n), properties={"n": n})
        for n in range(8)
    ]


def later_events():
    """New ones, unchanged repeats, and repeats that move an event to another bucket, value and customer."""
    repeats = first_events()[:3]
    changed = [
        event._replace(
            accepted_at=event.accepted_at + timedelta(hours=1),
            timestamp=event.timestamp + timedelta(hours=3 * number),
            external_customer_id="c1",
            properties={"n": 100},
            properties_json='{"n":100}',
        )
        for number, event in enumerate(repeats[1:])
    ]
    return [make_event(f"new{n}", properties={"n": n}) for n in range(4)] + repeats[:1] + changed


def few_events():
    """New ones of kinds that have been there."""
    return [make_event(f"few{n}", external_customer_id=f"c{n % 2}", properties={"n": n}) for n in range(4)]


def make_meters():
    for aggregation_type in ("SUM", "MAX", "COUNT_UNIQUE"):
        make_meter(aggregation_type, field="n")


def put_in_batches():
    events = later_events()
    for part in (events[:3], events[3:5], events[5:]):
        inbox.put(part, environment="default")


@dataclass
class Operation:
    prepare: Callable[[], None]
    run: Callable[[], Any]


def restart_and_rebuild():
    meter = Meter.objects.get(aggregation_type="COUNT_UNIQUE")
    restart(meter.pk)
    for unfinished in pending():
        rebuild(unfinished.pk)


OPERATIONS = {
    "ingestion": Operation(lambda: ingest(first_events()), lambda: ingest(later_events())),
    "few at once": Operation(lambda: ingest(first_events()), lambda: ingest(few_events())),
    "drain": Operation(lambda: (ingest(first_events()), put_in_batches()), inbox.drain),
    "compaction": Operation(lambda: [ingest([event]) for event in [*first_events(), *later_events()]], compact),
    "recount of what was compacted": Operation(lambda: (ingest(first_events()), compact()), lambda: ingest(later_events())),
    "rebuild": Operation(lambda: (ingest(first_events()), ingest(later_events())), restart_and_rebuild),
}


@pytest.fixture(autouse=True)
def no_bell(monkeypatch, settings):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = 8


def empty_tables():
    for model in (InboxBatch, RejectedEvent, Rollup, UniqueValue, Series, EventRevision, Event, Meter, Environment):
        model.objects.all()._raw_delete("default")


def prepare(operation):
    empty_tables()
    make_meters()
    operation.prepare()


def state():
    """Everything a user can see, however it is stored."""
    figures = {}
    for meter in Meter.objects.all():
        query = UsageQuery(meter.rule(), Scope("default", None), NOON - timedelta(days=1), NOON + timedelta(days=1))
        result = usage(query)
        figures[meter.aggregation_type] = (result.value, result.event_count)
    columns = ("event_id", "external_customer_id", "timestamp", "accepted_at", "properties")
    events = sorted((*row[:4], str(row[4])) for row in Event.objects.values_list(*columns))
    assert list(verify()) == []
    return figures, events, EventRevision.objects.count(), InboxBatch.objects.count(), RejectedEvent.objects.count()


def done_undisturbed(operation):
    prepare(operation)
    counter = KilledAt(0)
    with connection.execute_wrapper(counter):
        operation.run()
    return state(), counter.seen


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_after_any_statement_and_done_again_it_ends_the_same(name):
    operation = OPERATIONS[name]
    expected, statements = done_undisturbed(operation)
    assert statements > (0 if name == "few at once" else 5)  # they may be one message
    for statement in range(1, statements + 1):
        prepare(operation)
        with connection.execute_wrapper(KilledAt(statement)), suppress(Killed):
            operation.run()
        connection.close()
        operation.run()
        assert state() == expected, f"killed at statement {statement} of {statements}"


PROGRAM = """
import os, signal, sys
from django.db import connection
from tests.crash import test_every_statement as tests

class Kill(tests.KilledAt):
    def __call__(self, execute, sql, params, many, context):
        try:
            return super().__call__(execute, sql, params, many, context)
        except tests.Killed:
            os.kill(os.getpid(), signal.SIGKILL)

tests.inbox.ring = lambda alias: None
with connection.execute_wrapper(Kill({statement})):
    tests.OPERATIONS[{name!r}].run()
"""


@pytest.mark.parametrize("name", ["ingestion", "drain"])
def test_a_process_that_was_really_killed_leaves_nothing_half_done(name, database_url):
    operation = OPERATIONS[name]
    expected, statements = done_undisturbed(operation)
    for statement in (statements // 2, statements - 3):  # a new connection may begin with one more or one less
        prepare(operation)
        before = state()
        run = subprocess.run(
            [
                sys.executable,
                ROOT / "example_project" / "manage.py",
                "shell",
                "-c",
                PROGRAM.format(statement=statement, name=name),
            ],
            env={
                **os.environ,
                "DATABASE_URL": database_url,
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == -9, run.stderr
        assert state() == before
        operation.run()
        assert state() == expected
