"""What the health check says of a worker and a beat that run, and of ones that do not."""

from __future__ import annotations

import time

import pytest

from flexmeter.health import State, examine_sweep, examine_workers

from tests.databases import start_redis
from tests.e2e.processes import surroundings, worker
from tests.polling import eventually
from tests.requirements import import_required

import_required("celery")

from flexmeter import tasks  # noqa: E402

from config.celery import app  # noqa: E402

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires("redis-server", "redis", "celery")]


def test_a_worker_and_a_beat_are_seen_while_they_run(tmp_path, database_url, settings, monkeypatch):
    app.set_default()
    settings.FLEXMETER_INGEST = "celery"
    connect = tasks.connection_in_time
    with start_redis() as redis:
        monkeypatch.setattr(tasks, "connection_in_time", lambda seconds: connect(seconds, redis.url))
        eventually(lambda: examine_workers("default").state is State.WARNING)
        assert examine_sweep("default").state is State.UNKNOWN
        with worker(tmp_path, surroundings(database_url, redis.url)) as celery:
            eventually(lambda: "ready." in celery.said())
            assert eventually(lambda: examine_workers("default").state is State.OK)
            eventually(lambda: examine_sweep("default").state is State.OK)
            assert celery.stop() == 0
        began = time.monotonic()
        eventually(lambda: examine_workers("default").state is State.WARNING)
        assert time.monotonic() - began < 60
    assert examine_workers("default").state is State.ERROR
