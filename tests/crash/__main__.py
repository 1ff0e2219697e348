"""Kills processes at random while orders are placed, then compares what was sold with what was counted.

    python -m tests.crash --database postgresql --kills 1000

Orders are placed, each in one transaction with its event, by processes of their own, through a web server that counts
at once and through one that leaves the counting to a Celery worker; events are sent over HTTP besides, one or several at a
time. Whatever is killed is started again. In the end every order must have its event and every event its order, everything
acknowledged must be there, and every figure must have each exactly once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.crash.settings"

from tests.databases import SERVERS, PrivateDirectory, start_redis
from tests.databases.servers import children
from tests.e2e.processes import Process, WebServer, celery
from tests.polling import eventually
from tests.requirements import missing

KILLS = {"postgresql": 1_000, "mariadb": 200, "sqlite": 200}
SECONDS_TO_CATCH_UP = 240.0
CALLERS = 3
"""Of each web server, so that requests come at once, whose events share a transaction on PostgreSQL."""
PAUSES = {"postgresql": 0.1, "mariadb": 0.2, "sqlite": 0.3}

fork = multiprocessing.get_context("fork")


class Acknowledged:
    """Numbers that somebody was told are safe, written down by many processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, number: str) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(number.encode() + b"\n")

    def numbers(self) -> set[str]:
        return set(self.path.read_text().split())


class Forked:
    """A process that does `work` until it is killed."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.start()

    def start(self) -> None:
        self.process = fork.Process(target=self._run, daemon=True)
        self.process.start()

    def _run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        random.seed(os.getpid() ^ time.time_ns())
        self.work()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def kill_and_restart(self) -> None:
        self.kill()
        self.start()


def numbers(prefix: str) -> Iterator[str]:
    life = f"{prefix}-{os.getpid()}-{time.time_ns()}"
    turn = 0
    while True:
        turn += 1
        yield f"{life}-{turn}"


def keep_selling(acknowledged: Acknowledged) -> None:
    from django.db import DatabaseError

    from tests.crash.shop.orders import place_order

    for number in numbers("direct"):
        with suppress(DatabaseError):
            place_order(number, random.randrange(100))
            acknowledged.note(number)


def keep_draining() -> None:
    from django.db import DatabaseError

    from flexmeter import inbox
    from flexmeter.exceptions import EnvironmentBusy

    while True:
        with suppress(DatabaseError, EnvironmentBusy):
            inbox.drain()
        time.sleep(0.02)


def keep_calling(port: int, key: str, acknowledged: Acknowledged) -> None:
    """A caller that sends each order, event and batch again until it is told that it is safe."""
    for number in numbers("web"):
        sent = [number]
        amount = random.randrange(100)
        if amount % 2:
            path, body, headers = f"/orders?number={number}&amount={amount}", b"", {}
        else:
            path, headers = "/v1/events", {"x-api-key": key, "Content-Type": "application/json"}
            event = {"event_id": number, "event_name": "call", "external_customer_id": "acme", "properties": {"amount": amount}}
            if amount % 4:
                sent = [f"{number}-{place}" for place in range(random.randrange(2, 12))]
                path, event = "/v1/events/bulk", {"events": [event | {"event_id": each} for each in sent]}
            body = json.dumps(event).encode()
        while post(port, path, body, headers) not in (200, 201, 202):
            time.sleep(0.05)
        for each in sent:
            acknowledged.note(each)


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; 0 for none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def kill_a_child(process: Process) -> bool:
    """Kill one of the processes that a server has forked; False where it has none just now."""
    forked = children(process.pid)
    if not forked:
        return False
    with suppress(ProcessLookupError):
        os.kill(random.choice(forked), signal.SIGKILL)
    return True


class Run:
    """One run against one database."""

    def __init__(self, database: str, kills: int, stack: ExitStack) -> None:
        self.database, self.kills, self.stack = database, kills, stack
        self.directory = PrivateDirectory("crash")
        stack.callback(self.directory.close)
        self.path = self.directory.path
        self.killed: Counter[str] = Counter()

    def database_url(self) -> str:
        if self.database == "sqlite":
            return f"sqlite:///{self.path / 'crash.sqlite3'}"
        return self.stack.enter_context(SERVERS[self.database](synced=False)).url  # no power cut is among the kills

    def prepare(self) -> str:
        """Make tables, meters and a key; returns the key."""
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from flexmeter.keys import create_key

        from tests.factories import make_meter

        call_command("migrate", run_syncdb=True, verbosity=0)
        for event_name in ("order", "call"):
            make_meter("COUNT", event_name=event_name)
            make_meter("SUM", event_name=event_name, field="amount")
            make_meter("COUNT_UNIQUE", event_name=event_name, field="amount")
        secret = create_key("crash", environment="default").secret
        connections.close_all()
        return secret

    def start(self, key: str) -> None:
        self.acknowledged = Acknowledged(self.path / "acknowledged")
        environment = {**os.environ, "FLEXMETER_INGEST": "inline"}
        self.servers = [self.web("inline", environment)]
        self.workers: list[Process] = []
        if not missing("redis-server"):
            redis = self.stack.enter_context(start_redis())
            environment = {**environment, "FLEXMETER_INGEST": "celery", "CELERY_BROKER_URL": redis.url}
            self.servers.append(self.web("celery", environment))
            options = ["--beat", "--schedule", self.path / "beat", "--concurrency", "2", "--loglevel", "INFO"]
            worker = celery(self.path / "worker.log", "worker", *options, environment=environment)
            self.workers.append(self.stack.enter_context(worker))
            eventually(lambda: "ready." in worker.said())
        for server in self.servers:
            server.wait_until_up()
        self.sellers = [Forked(lambda: keep_selling(self.acknowledged)) for _ in range(2)]
        self.drains = [Forked(keep_draining) for _ in range(2)]
        ports = [server.port for server in self.servers]
        self.callers = [Forked(lambda port=port: keep_calling(port, key, self.acknowledged)) for port in ports * CALLERS]
        for forked in (*self.sellers, *self.drains, *self.callers):
            self.stack.callback(forked.kill)
        eventually(lambda: any(number.startswith("direct") for number in self.acknowledged.numbers()))

    def web(self, name: str, environment: dict[str, str]) -> WebServer:
        (self.path / name).mkdir()
        server = WebServer(self.path / name, environment, wsgi="django.core.wsgi:get_wsgi_application()")
        return self.stack.enter_context(server)

    def kill_at_random(self) -> None:
        while sum(self.killed.values()) < self.kills:
            time.sleep(random.random() * PAUSES[self.database])
            name, kill = random.choices(*zip(*self.victims(), strict=True))[0]
            if kill():
                self.killed[name] += 1

    def victims(self) -> Iterator[tuple[tuple[str, Callable[[], bool]], float]]:
        """What may be killed: ((name, how), weight)."""
        for forked, name in [(self.sellers, "seller"), (self.drains, "drain")]:
            for process in forked:
                yield (name, lambda process=process: process.kill_and_restart() or True), 2.0
        for server in self.servers:
            yield ("web process", lambda server=server: kill_a_child(server)), 4.0
            yield ("web server", lambda server=server: self.restart(server)), 0.1
        for worker in self.workers:
            yield ("worker process", lambda worker=worker: kill_a_child(worker)), 3.0
            yield ("worker", lambda worker=worker: self.restart(worker)), 0.1

    def restart(self, process: Process) -> bool:
        process.kill()
        process.start()
        return True

    def finish(self) -> dict[str, Any]:
        """Stop those who sell, wait for the rest to catch up, and compare. Raises AssertionError with what is wrong."""
        for process in (*self.sellers, *self.callers, *self.servers):  # nobody commits orders or events any more
            process.kill()
        from flexmeter import inbox
        from flexmeter.aggregation import AggregationType
        from flexmeter.maintenance.verification import verify
        from flexmeter.models import Event, Meter, RejectedEvent, Rollup
        from flexmeter.stores.database.levels import BY_BUCKET, of_levels

        from tests.crash.shop.models import Order
        from tests.databases.transactions import wait_for_transactions

        began = time.monotonic()
        wait_for_transactions()
        while inbox.backlog().events:
            assert time.monotonic() - began < SECONDS_TO_CATCH_UP, f"still waiting: {inbox.backlog()}"
            time.sleep(0.05)
        seconds = time.monotonic() - began

        orders = dict(Order.objects.values_list("number", "amount"))
        sold = {
            event_id: int(properties["amount"])
            for event_id, properties in Event.objects.filter(event_name="order").values_list("event_id", "properties")
        }
        called = set(Event.objects.filter(event_name="call").values_list("event_id", flat=True))
        acknowledged = self.acknowledged.numbers()
        lost = acknowledged - set(orders) - called
        assert orders == sold, (
            f"{len(set(orders) - set(sold))} orders without event, {len(set(sold) - set(orders))} without order"
        )
        assert not lost, f"{len(lost)} acknowledged and lost: {sorted(lost)[:5]}"
        assert not RejectedEvent.objects.exists(), RejectedEvent.objects.first()
        differences = list(verify())
        assert not differences, differences[:5]
        for meter in Meter.objects.all():
            rows = Rollup.objects.filter(of_levels(*BY_BUCKET), series__meter_id=meter.pk)
            expected = len(sold) if meter.event_name == "order" else len(called)
            assert sum(rows.values_list("count", flat=True)) == expected, f"{meter.pk} has not each event once"
            if meter.aggregation_type == AggregationType.SUM and meter.event_name == "order":
                assert sum(rows.values_list("total", flat=True)) == sum(orders.values())
        return {
            "database": self.database,
            "kills": dict(self.killed),
            "orders": len(orders),
            "events": len(sold) + len(called),
            "acknowledged": len(acknowledged),
            "lost": 0,
            "twice": 0,
            "seconds_to_catch_up": round(seconds, 2),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--database", choices=list(KILLS), default="sqlite")
    parser.add_argument("--kills", type=int, help="How many (postgresql 1000, the others 200).")
    options = parser.parse_args()
    if options.database in SERVERS and (reason := missing(options.database)):
        print(reason)
        return 1 if os.environ.get("REQUIRE_SERVERS") else 0
    began = time.monotonic()
    with ExitStack() as stack:
        run = Run(options.database, KILLS[options.database] if options.kills is None else options.kills, stack)
        os.environ["DATABASE_URL"] = run.database_url()
        run.start(run.prepare())
        run.kill_at_random()
        figures = run.finish()
    print(json.dumps({**figures, "seconds": round(time.monotonic() - began, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
