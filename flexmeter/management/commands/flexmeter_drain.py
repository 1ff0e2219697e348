"""Count what waits in the inbox."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError, InterfaceError, close_old_connections

from flexmeter import inbox
from flexmeter.conf import conf
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.management import arguments
from flexmeter.management.command import FlexmeterCommand, number

SECONDS_AFTER_FAILURE = 1.0


class Command(FlexmeterCommand):
    help = """
    Count the events that were accepted and wait in the inbox.

    In inline mode nothing waits for long; this counts what a killed process has left. With --watch it takes the place of a
    Celery worker: it looks again every SECONDS until it gets SIGTERM, and then finishes what is under way. A database that
    is out of reach is tried again. Any number of these and of Celery workers may run at once; killing one does no harm.
    """
    examples = """
    examples:
      manage.py flexmeter_drain
      manage.py flexmeter_drain --watch
      manage.py flexmeter_drain --watch 0.2 --json

    What cannot be counted is kept: manage.py flexmeter_rejected list
    """
    after_interrupt = "What was not counted still waits."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--watch",
            metavar="SECONDS",
            nargs="?",
            type=arguments.seconds,
            const=1.0,
            help="Go on until SIGTERM, looking every SECONDS (1, if not given).",
        )
        self.add_json(parser, "what was counted (with --watch: a line whenever something was)")

    def run(self, **options: Any) -> None:
        if options["watch"] is None:
            self.tell(inbox.drain(), **options)
            return
        with _told_to_stop() as stop:
            while not stop.is_set():
                stop.wait(self.look(options["watch"], **options))

    def look(self, pause: float, **options: Any) -> float:
        """Count one portion; returns the seconds to wait before the next."""
        try:
            close_old_connections()
            drained = inbox.drain(events=conf.DRAIN_EVENTS, seconds=1.0)
        except (DatabaseError, InterfaceError, EnvironmentBusy) as error:
            self.stderr.write(f"Nothing was counted, what waits still waits: {str(error).strip()}")
            close_old_connections()
            return max(pause, SECONDS_AFTER_FAILURE)
        if drained.batches:
            self.tell(drained, **options)
        return 0.0 if drained.more else pause

    def tell(self, drained: inbox.Drained, **options: Any) -> None:
        counted = drained.ingested
        if options["json"]:
            self.print_json(
                {
                    "batches": drained.batches,
                    "stored": counted.stored,
                    "replaced": counted.replaced,
                    "repeated": counted.repeated,
                    "rejected": counted.rejected + drained.rejected,
                }
            )
        elif options["watch"] is None or options["verbosity"] > 1:
            rejected = counted.rejected + drained.rejected
            told = f", {number(rejected, 'event')} rejected (see flexmeter_rejected)" if rejected else ""
            self.stdout.write(f"{number(drained.events - rejected, 'event')} counted{told}.")
        self.stdout.flush()


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; elsewhere than in the main thread nothing sets it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
