"""What Prometheus is told."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, transaction

from flexmeter import draining, inbox
from flexmeter.models import InboxBatch, now
from flexmeter.recording import record

from tests.factories import make_event
from tests.requirements import import_required

prometheus = import_required("prometheus_client")
pytestmark = pytest.mark.django_db(transaction=True)


class Growth:
    """How much each metric has grown since this was made."""

    def __init__(self):
        self.before = self.now()

    def now(self):
        return {
            (sample.name.removeprefix("flexmeter_"), *sample.labels.values()): sample.value
            for family in prometheus.REGISTRY.collect()
            for sample in family.samples
            if sample.name.startswith("flexmeter_") and not sample.name.endswith(("_created", "_bucket"))
        }

    def of(self, name, *labels):
        key = (name, *labels)
        return self.now().get(key, 0) - self.before.get(key, 0)


def test_what_is_accepted_and_counted_is_told_however_it_comes():
    growth = Growth()
    record("tokens", "acme", idempotency_key="a")
    with transaction.atomic():
        record("tokens", "acme", idempotency_key="b")
    record("tokens", "acme", {"n": 1}, idempotency_key="a")
    assert growth.of("accepted_events_total") == 3
    assert growth.of("ingested_events_total", "stored") == 2
    assert growth.of("ingested_events_total", "replaced") == 1
    assert growth.of("duplicate_events_total") == 1
    assert growth.of("batch_seconds_count") == 3


def test_what_was_rolled_back_was_never_accepted():
    growth = Growth()
    with transaction.atomic():
        record("tokens", "acme")
        transaction.set_rollback(True)
    assert growth.of("accepted_events_total") == 0


def test_rejected_events_are_told_by_reason(monkeypatch):
    def fail(events, **named):
        raise DataError

    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    growth = Growth()
    inbox.put([make_event("a"), make_event("b")], environment="default")
    monkeypatch.setattr(draining, "ingest", fail)
    inbox.drain()
    assert growth.of("rejected_events_total", "error") == 2


def test_the_lag_is_that_of_the_inbox_and_absent_where_nobody_knows(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    assert Growth().now()[("lag_events",)] == Growth().now()[("lag_seconds",)] == 0
    inbox.put([make_event("a"), make_event("b")], environment="default")
    InboxBatch.objects.update(accepted_at=now() - timedelta(minutes=1))
    told = Growth().now()
    assert told[("lag_events",)] == 2
    assert 60 <= told[("lag_seconds",)] < 120

    def fail(**named):
        raise OperationalError("out of reach")

    monkeypatch.setattr(inbox, "backlog", fail)
    assert not {("lag_events",), ("lag_seconds",)} & Growth().now().keys()


def test_without_prometheus_client_nothing_is_kept_and_nothing_fails():
    program = (
        "import sys; sys.modules['prometheus_client'] = None; from flexmeter import metrics; metrics.accepted(1); "
        "metrics.ingested(1, 0, 0); metrics.rejected('error'); metrics.batch_took(1); print(metrics.prometheus)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
