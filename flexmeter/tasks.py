"""Celery tasks: doors to the services, one line each. The app works without Celery; this module needs it.

A lost, late or repeated task does no harm: what is to be done stands in the database.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import current_app, current_task, shared_task

from flexmeter import inbox
from flexmeter.maintenance import compaction, rebuild, retention, verification
from flexmeter.schedule import SWEEP
from flexmeter.upkeep import noted

logger = logging.getLogger("flexmeter.tasks")

EVENTS_OF_ONE_TASK = 100_000
SECONDS_OF_ONE_TASK = 5.0
SECONDS_UNTIL_EXPIRY = 60.0
SECONDS_BETWEEN_CALLS = 0.01
SECONDS_AFTER_FAILURE = 1.0
SECONDS_TO_ANSWER = 5.0
SECONDS_AT_EXIT = 1.0
SECONDS_FOR_A_PING = 1.0


@shared_task(name="flexmeter.drain", ignore_result=True, acks_late=True)
def drain() -> None:
    """Count what waits in the inbox; a long queue takes several tasks, so that a worker can be stopped in between."""
    if inbox.drain(events=EVENTS_OF_ONE_TASK, seconds=SECONDS_OF_ONE_TASK).more:
        ring()


@shared_task(name=SWEEP, ignore_result=True, acks_late=True)
def sweep() -> None:
    """Count what a lost wake-up call has left waiting, and leave a sign that there are a beat and a worker."""
    with noted(SWEEP):
        drain()


@shared_task(name="flexmeter.compact", ignore_result=True, acks_late=True)
def compact() -> None:
    """Merge the rollup rows that ingestion appended."""
    compaction.compact()


@shared_task(name="flexmeter.rebuild", ignore_result=True, acks_late=True)
def rebuild_pending() -> None:
    """Fill the rollups of meters that do not cover history yet."""
    for meter in rebuild.pending():
        rebuild.rebuild(meter.pk)


@shared_task(name="flexmeter.prune", ignore_result=True, acks_late=True)
def prune(environment: str, keep_days: int) -> None:
    """Remove an environment's events older than `keep_days` days."""
    retention.prune(datetime.now(UTC) - timedelta(days=keep_days), environment=environment)


@shared_task(name="flexmeter.verify", ignore_result=True, acks_late=True)
def verify() -> None:
    """Compare every rollup with its events; differences are logged as errors."""
    for difference in verification.verify_and_remember():
        logger.error("Rollup differs from events: %s", difference)


def scheduled_tasks() -> set[str] | None:
    """Names of the tasks in the beat schedule of this process's Celery app; None where it cannot be told."""
    app = current_app._get_current_object()
    if app.main in (None, "default") or "django_celery_beat" in str(app.conf.beat_scheduler):
        return None  # no app of the project's is loaded here, or its schedule is kept elsewhere
    return {str(entry["task"]) for entry in (app.conf.beat_schedule or {}).values()}


def worker_answers() -> bool | None:
    """Whether a worker answers within SECONDS_FOR_A_PING; None where no app of the project's is loaded in this process.

    Raises what the broker's client raises when the broker is out of reach.
    """
    app = current_app._get_current_object()
    if app.main in (None, "default"):
        return None
    with connection_in_time(SECONDS_FOR_A_PING) as connection:
        # A mailbox of its own, because that of the app sends over connections that wait longer.
        options = {"accept": app.conf.accept_content, "serializer": app.conf.task_serializer}
        mailbox = app.control.Mailbox(app.conf.control_exchange, type="fanout", connection=connection, **options)
        return bool(mailbox.multi_call("ping", timeout=SECONDS_FOR_A_PING, limit=1))


def connection_in_time(seconds: float, broker_url: str | None = None) -> Any:
    """A connection to the broker that gives up after `seconds` instead of trying again."""
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    return current_app.connection_for_write(
        broker_url,
        connect_timeout=seconds,
        transport_options={**options, **current_app.conf.broker_transport_options, "max_retries": 0},
    )


def current_task_id() -> str | None:
    """The id of the task that is running in this thread, the same each time it is retried or delivered again; None outside."""
    return current_task.request.id if current_task else None


class Doorbell:
    """Sends the wake-up call from a thread of its own, so that no request ever waits for a broker.

    Rings while a call is under way become one more call. What is not sent because the process ends or the broker is
    away is found by `sweep`. `broker_url` None stands for the Celery app's own.
    """

    def __init__(self, broker_url: str | None = None) -> None:
        self.broker_url = broker_url
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked process must: threads and held locks do not follow it."""
        self._rung = threading.Event()
        self._quiet = threading.Event()
        self._quiet.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self.is_failing = False

    def ring(self) -> None:
        if current_app.conf.task_always_eager:
            inbox.drain()
            return
        if self._rung.is_set():
            return  # the call that is to be sent for it comes after what was committed now
        self._quiet.clear()
        self._rung.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._send_calls, name="flexmeter-doorbell", daemon=True)
                    self._thread.start()

    def settle(self) -> None:
        """Give a call under way a moment before the process ends."""
        self._quiet.wait(SECONDS_AT_EXIT)

    def _send_calls(self) -> None:
        while self._rung.wait():
            self._rung.clear()
            pause = SECONDS_BETWEEN_CALLS
            try:
                self._send()
            except Exception as error:  # noqa: BLE001  # no broker, no harm
                self._hang_up()
                if not self.is_failing:
                    reason = type(error).__name__  # not its text, which may name the broker's password
                    logger.warning("No wake-up call could be sent (%s); until it can, the sweep finds what waits.", reason)
                self.is_failing = True
                pause = SECONDS_AFTER_FAILURE
            else:
                self.is_failing = False
            if not self._rung.is_set():
                self._quiet.set()
            time.sleep(pause)

    def _send(self) -> None:
        if self._connection is None:
            self._connection = connection_in_time(SECONDS_TO_ANSWER, self.broker_url)
        drain.apply_async(connection=self._connection, retry=False, expires=SECONDS_UNTIL_EXPIRY)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.release()
        except Exception:  # noqa: BLE001, S110  # it is of no use any more
            pass


doorbell = Doorbell()
ring = doorbell.ring
"""Ask for a drain by a worker, without waiting and without failing."""
os.register_at_fork(after_in_child=doorbell.forget)
atexit.register(doorbell.settle)
