"""A real worker and a real Redis: what was accepted is counted soon, once, whatever becomes of either."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from contextlib import contextmanager
from statistics import median

import pytest
from django.db import transaction

from flexmeter import inbox
from flexmeter.keys import create_key
from flexmeter.models import Event
from flexmeter.recording import record

from tests.databases import start_redis
from tests.e2e.processes import ROOT, Process, WebServer, surroundings, worker
from tests.factories import make_meter
from tests.inbox.ledger import assert_exact, waiting
from tests.polling import eventually
from tests.requirements import import_required, only_on

import_required("celery")

from celery import Celery  # noqa: E402

from flexmeter import tasks  # noqa: E402
from flexmeter.tasks import SECONDS_TO_ANSWER, Doorbell  # noqa: E402

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.requires("redis-server", "redis", "celery", "gunicorn"),
    only_on("sqlite", "postgresql"),  # without SKIP LOCKED, and with it
]


@pytest.fixture
def redis():
    with start_redis() as server:
        yield server


@pytest.fixture
def key():
    make_meter()
    return {"x-api-key": create_key("test", environment="default").secret}


class Sender:
    """A caller that sends single events in a thread, again until each is acknowledged, and notes how long answers took."""

    def __init__(self, web, key):
        self.web, self.key = web, key
        self.acknowledged: list[str] = []
        self.took: list[float] = []
        self.failed: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def send(self, event_id):
        event = {"event_id": event_id, "event_name": "tokens", "external_customer_id": "acme"}
        status, seconds = self.web.post("/v1/events", event, self.key)
        self.took.append(seconds)
        if status == 202:
            self.acknowledged.append(event_id)
        else:
            self.failed.append(status)
        return status

    def _run(self):
        number = 0
        while not self._stop.wait(0.01):
            number += 1
            self.send(f"e{number}")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def sends(self, more):
        """Wait until so many more events are acknowledged."""
        wanted = len(self.acknowledged) + more
        eventually(lambda: len(self.acknowledged) >= wanted)


@contextmanager
def serving(tmp_path, environment):
    with WebServer(tmp_path, environment) as web:
        web.wait_until_up()
        yield web


def everything_is_counted(supervised=None):
    """Wait until nothing waits. A worker that has ended by itself, as Celery's may when its broker goes, is started again."""

    def nothing_waits():
        if supervised is not None and not supervised.is_running():
            supervised.kill()  # and what it has left behind
            supervised.start()
        return not waiting()

    eventually(nothing_waits, every=0.1)


def test_what_is_accepted_is_counted_while_more_comes(tmp_path, database_url, redis, key):
    environment = surroundings(database_url, redis.url)
    with worker(tmp_path, environment) as celery, serving(tmp_path, environment) as web, Sender(web, key) as sender:
        eventually(lambda: "ready." in celery.said())
        sender.sends(50)
        assert sender.failed == []
        accepted = set(sender.acknowledged)  # and more come all the while
        eventually(lambda: accepted <= set(Event.objects.values_list("event_id", flat=True)))
        assert celery.stop() == 0
    inbox.drain()  # what came while the worker was being stopped
    assert_exact(len(sender.acknowledged))


def test_a_bell_rung_by_record_reaches_the_worker(tmp_path, database_url, redis):
    make_meter()
    program = """
from django.db import transaction
from flexmeter import tasks
from flexmeter.recording import record
tasks.SECONDS_AT_EXIT = 60  # a slow machine may need more than the moment that a process waits at its end
with transaction.atomic():
    record("tokens", "acme", idempotency_key="sale-1")
"""
    environment = surroundings(database_url, redis.url)
    command = [sys.executable, ROOT / "example_project" / "manage.py", "shell", "-c", program]
    with Process(tmp_path / "log", *command, environment=environment) as process:
        assert process.process.wait(180) == 0, process.said()
    assert waiting() == 1
    assert calls(redis) == 1  # the process has ended, and yet its call was sent
    with worker(tmp_path, environment, beat=False):
        everything_is_counted()
    assert_exact(1)


def test_a_metered_task_counts_once_however_often_it_is_delivered(tmp_path, database_url, redis):
    make_meter(event_name="report", aggregation_type="SUM", field="quantity")
    environment = surroundings(database_url, redis.url)
    with worker(tmp_path, environment) as celery, serving(tmp_path, environment) as web:
        for _ in range(3):
            assert web.get("/shop/report/", {"X-Customer": "acme"})[0] == 202
        app = Celery(set_as_current=False)
        with app.connection_for_write(redis.url) as connection:
            for _ in range(2):  # a broker may deliver a task twice
                report = {"args": ["acme", 30], "task_id": "report-of-may", "connection": connection}
                app.send_task("shop.make_report", **report, ignore_result=True)
        eventually(lambda: done(celery, "shop.make_report") == 5)
        everything_is_counted()
    counted = Event.objects.filter(event_name="report", external_customer_id="acme")
    assert sorted(event.properties["quantity"] for event in counted) == [12, 12, 12, 30]
    assert counted.filter(event_id="report:report-of-may").count() == 1


def done(celery, task):
    return len(re.findall(rf"Task {task}\S* succeeded", celery.said()))


def test_redis_killed_emptied_and_started_again_costs_nothing(tmp_path, database_url, redis, key):
    environment = surroundings(database_url, redis.url)
    with worker(tmp_path, environment) as celery, serving(tmp_path, environment) as web, Sender(web, key) as sender:
        eventually(lambda: "ready." in celery.said())
        sender.sends(20)
        redis.kill()
        sender.sends(30)
        redis.start()
        sender.sends(20)
        redis.flush()
        sender.sends(20)
        redis.kill()
        redis.start()
        sender.sends(10)
        sender.__exit__()
        everything_is_counted(supervised=celery)
        # And the worker still answers to the bell.
        sender.send("last")
        everything_is_counted(supervised=celery)
    assert sender.failed == []
    assert_exact(len(sender.acknowledged))


def test_a_worker_killed_in_the_middle_costs_nothing(tmp_path, database_url, redis, key):
    environment = surroundings(database_url, redis.url)
    with worker(tmp_path, environment) as celery, serving(tmp_path, environment) as web, Sender(web, key) as sender:
        eventually(lambda: "ready." in celery.said())
        for _ in range(2):
            sender.sends(40)
            celery.kill()
            sender.sends(40)
            celery.start()
        sender.__exit__()
        everything_is_counted()
    assert sender.failed == []
    assert_exact(len(sender.acknowledged))


@contextmanager
def nobody_there(tmp_path):
    yield f"redis+socket://{tmp_path / 'absent'}"


@contextmanager
def one_who_never_answers(tmp_path):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1)
        yield f"redis://127.0.0.1:{hole.getsockname()[1]}/0"


each_absence = pytest.mark.parametrize("broker", [nobody_there, one_who_never_answers])


@each_absence
def test_without_a_broker_events_are_taken_in_all_the_same_and_wait_for_a_drain(tmp_path, database_url, key, broker):
    with broker(tmp_path) as url, serving(tmp_path, surroundings(database_url, url)) as web:
        warm_up, sender = Sender(web, key), Sender(web, key)
        for number in range(10):
            warm_up.send(f"first{number}")
        for number in range(30):
            sender.send(f"e{number}")
    assert warm_up.failed == sender.failed == []
    assert median(sender.took) < SECONDS_TO_ANSWER / 10, "requests have waited for the broker"
    assert max(sender.took) < SECONDS_TO_ANSWER, "a request has waited for the broker until it gave up"
    assert waiting() + Event.objects.count() == 40  # what waits for long is counted by whoever asks
    inbox.drain()
    assert_exact(40)


@each_absence
def test_the_bell_itself_takes_no_time_where_the_broker_is_away(tmp_path, settings, monkeypatch, broker):
    settings.FLEXMETER_INGEST = "celery"
    took = []
    with broker(tmp_path) as url:
        bell = Doorbell(url)
        monkeypatch.setattr(tasks, "ring", bell.ring)
        for _ in range(20):
            with transaction.atomic():
                record("tokens", "acme")
            began = time.monotonic()
            bell.ring()
            took.append(time.monotonic() - began)
        eventually(lambda: bell.is_failing)
    assert median(took) < 0.1  # a single one may have waited for the processor
    assert max(took) < SECONDS_TO_ANSWER
    assert waiting() == 20


def test_a_bell_rings_again_in_a_forked_process_and_when_the_broker_is_back(redis):
    bell = Doorbell(redis.url)
    bell.ring()
    eventually(lambda: calls(redis) == 1)
    redis.kill()
    bell.ring()
    eventually(lambda: bell.is_failing)
    redis.start()
    bell.ring()
    eventually(lambda: calls(redis) == 1)
    bell.forget()  # as after a fork
    bell.ring()
    eventually(lambda: calls(redis) == 2)


def test_many_rings_become_few_calls(redis):
    bell = Doorbell(redis.url)
    for _ in range(2_000):
        bell.ring()
    bell.settle()
    eventually(lambda: calls(redis))
    eventually(bell._quiet.is_set)
    assert calls(redis) < 500


def calls(redis):
    with redis.connect() as connection:
        return connection.llen("celery")
