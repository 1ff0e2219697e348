"""Both behind gunicorn with two workers, and a client that sends prepared bodies over connections it keeps."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

from benchmarks.rounds import check_ledger, set_up

from tests.databases import start_postgres, start_redis
from tests.e2e.processes import WebServer

CONNECTIONS = 8


@contextmanager
def project() -> Iterator[dict[str, str]]:
    """A database with one SUM meter and an equal table for the peer; gives the headers that flexmeter wants."""
    with start_postgres() as postgres, start_redis() as redis:
        os.environ |= {"DATABASE_URL": postgres.url, "CELERY_BROKER_URL": redis.url}
        set_up()
        from django.db import connection

        from flexmeter.keys import create_key

        from tests.factories import make_meter

        make_meter("SUM", event_name="llm_request", field="prompt_tokens")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE peer_event (LIKE flexmeter_event INCLUDING ALL)")
        yield {"x-api-key": create_key("bench", environment="default").secret}


@contextmanager
def served(ingest: str) -> Iterator[WebServer]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.peer.settings", "FLEXMETER_INGEST": ingest}
    with TemporaryDirectory() as directory, WebServer(Path(directory), environment, workers=2) as server:
        server.wait_until_up()
        yield server


def make_members(number: int) -> dict[str, Any]:
    from flexmeter.events import format_timestamp, new_id

    return {
        "event_id": new_id("event"),
        "event_name": "llm_request",
        "external_customer_id": f"customer-{number % 100}",
        "timestamp": format_timestamp(datetime.now(UTC)),
        "properties": {
            "prompt_tokens": str(number),
            "completion_tokens": number % 500,
            "model": "chat-1",
            "region": "eu",
        },
        "source": "gateway",
    }


def single_bodies(count: int) -> list[bytes]:
    return [json.dumps(make_members(number)).encode() for number in range(count)]


def bulk_bodies(count: int, events: int) -> list[bytes]:
    return [json.dumps({"events": [make_members(number) for number in range(events)]}).encode() for _ in range(count)]


def post_all(server: WebServer, path: str, bodies: list[bytes], headers: Mapping[str, str] = {}) -> float:
    """Seconds from the first body to the last answer, over CONNECTIONS connections that are open before the clock starts."""
    headers = {"Content-Type": "application/json", **headers}
    waiting = deque(bodies)
    ready = Barrier(CONNECTIONS + 1, timeout=60)

    def send() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            connection.connect()
            ready.wait()
            while True:
                try:
                    body = waiting.popleft()
                except IndexError:
                    return
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"{path} answered {answer.status}: {said[:500]!r}")

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        senders = [threads.submit(send) for _ in range(CONNECTIONS)]
        ready.wait()
        start = time.perf_counter()
        for sender in senders:
            sender.result()
        return time.perf_counter() - start


def check(*, flexmeter: int, peer: int) -> None:
    """Raise unless each side stored all events that were sent to it, once, and flexmeter counted its own."""
    from django.db import connection

    check_ledger(flexmeter, meters=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM peer_event")
        [stored] = cursor.fetchone()
    if stored != peer:
        raise RuntimeError(f"{peer} events were sent to the peer, {stored} stored.")
