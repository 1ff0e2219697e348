"""The example project behind gunicorn, two workers of four threads: real connections, and workers that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
from django.db import connection

from flexmeter.keys import create_key
from flexmeter.meters import MeterDefinition, create_meter
from flexmeter.models import Event

from tests.databases.servers import children
from tests.e2e.processes import WebServer
from tests.polling import eventually
from tests.requirements import requires

pytestmark = [requires("gunicorn"), pytest.mark.django_db(transaction=True)]

MIB = 1024 * 1024
EVER = {"start_time": "2000-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z"}
USAGE = {"event_name": "request", "property_name": "size", **EVER}


class Server:
    """A running server and a key for it."""

    def __init__(self, web: WebServer, secret: str) -> None:
        self.web, self.secret = web, secret

    def connect(self, timeout: float = 180.0) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.web.port, timeout=timeout)

    def send(self, path: str, body: Any, client: HTTPConnection | None = None, **headers: str) -> tuple[int, Any]:
        """Status and body of a POST; on a connection of its own unless one is given."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        named = {"x-api-key": self.secret} | {name.replace("_", "-"): value for name, value in headers.items()}
        used = client or self.connect()
        try:
            used.request("POST", "/v1" + path, body, named)
            return read(used.getresponse())
        finally:
            if client is None:
                used.close()

    def figure(self, **query: Any) -> Any:
        status, body = self.send("/events/usage", USAGE | query)
        assert status == 200, body
        return body["value"]

    def workers(self) -> list[int]:
        return children(self.web.pid)


def read(response: HTTPResponse) -> tuple[int, Any]:
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(response.read())


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    secret = create_key("server", environment="main").secret
    with WebServer(tmp_path, surroundings(database_url)) as web:
        web.wait_until_up()
        yield Server(web, secret)


def surroundings(database_url: str) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": database_url, "FLEXMETER_INGEST": "inline"}


NOWHERE = {
    "sqlite": "sqlite:////nowhere/flexmeter.sqlite3",
    "postgresql": "postgresql://postgres@%2Fnowhere:5432/flexmeter",
    "mysql": "mysql://root@localhost/flexmeter?unix_socket=%2Fnowhere",
}


@pytest.fixture
def meters() -> dict[str, str]:
    """Ids of a COUNT and a SUM meter."""
    return {
        type: create_meter(MeterDefinition(type, "request", type, "size"), environment="main").id for type in ("COUNT", "SUM")
    }


def make_batch(number: int, events: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{number}-{position}",
            "event_name": "request",
            "external_customer_id": f"customer {position % 7}",
            "timestamp": f"2025-06-{number % 28 + 1:02}T{position % 24:02}:00:00Z",
            "properties": {"size": str(position), "filler": "x" * 50},
        }
        for position in range(events)
    ]


def assert_exact(server: Server, meters: dict[str, str], batches: int, events: int) -> None:
    """Raw events, ad-hoc figures, meters, lists and monitoring all agree on what was sent."""
    count, total = batches * events, batches * sum(range(events))
    assert Event.objects.count() == count
    assert server.figure(aggregation_type="COUNT") == count
    assert server.figure(aggregation_type="SUM") == total
    assert server.figure(aggregation_type="SUM", filters={"filler": ["x" * 50]}) == total
    for type, figure in (("COUNT", count), ("SUM", total)):
        status, usage = server.send("/events/usage/meter", EVER | {"meter_id": meters[type]})
        assert (status, usage["value"]) == (200, figure)
    assert server.send("/events/query", EVER)[1]["total_count"] == count


def test_batches_from_many_threads_and_their_repeats_count_once(server: Server, meters: dict[str, str]):
    batches, events = 8, 1000
    sent = list(range(batches)) * 2
    random.Random(7).shuffle(sent)

    def deliver(number: int) -> int:
        return server.send("/events/bulk", {"events": make_batch(number, events)})[0]

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(deliver, sent)) == {202}
    assert_exact(server, meters, batches, events)


def test_killing_workers_loses_nothing_that_was_acknowledged_and_counts_nothing_twice(server: Server, meters: dict[str, str]):
    batches, events = 40, 100
    begun, done = Flag(), Flag()

    def deliver(number: int) -> None:
        """As a client does it: the same body again until it is acknowledged."""
        end = time.monotonic() + 480
        while time.monotonic() < end:
            with suppress(OSError, HTTPException):
                status, body = server.send("/events/bulk", {"events": make_batch(number, events)})
                if status == 202:
                    begun.set()
                    return
                assert status == 503, body
        raise AssertionError(f"batch {number} was never acknowledged")

    def kill_workers() -> int:
        """At once when the first body is taken in, then ever more seldom, so that every one is at last."""
        begun.wait(480)
        kills = 0
        while True:
            for worker in server.workers()[:1]:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    kills += 1
            if done.wait(0.2 * 1.3**kills):
                return kills

    with ThreadPoolExecutor(5) as pool:
        killer = pool.submit(kill_workers)
        try:
            deliveries = [pool.submit(deliver, number) for number in range(batches)]
            for delivery in deliveries:
                delivery.result(540)
        finally:
            done.set()
        assert killer.result() >= 1
    eventually(lambda: len(server.workers()) == 2)
    assert_exact(server, meters, batches, events)


def test_without_its_database_a_server_answers_503_at_once(tmp_path: Path):
    with WebServer(tmp_path, surroundings(NOWHERE[connection.vendor])) as web:
        web.wait_until_up()
        server = Server(web, "fm_123456789_secret")
        for path, body in (("/events", make_batch(1, 1)[0]), ("/events/query", {}), ("/meters", {})):
            began = time.monotonic()
            status, answer = server.send(path, body)
            assert (status, answer["code"]) == (503, "service_unavailable")
            assert time.monotonic() - began < 60


def test_a_chunked_body_is_read(server: Server):
    body = json.dumps({"events": make_batch(1, 100)}).encode()
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    client = server.connect()
    for path in ("/v1/events/bulk", "/v1/events/bulk/"):
        client.request("POST", path, iter(chunks), {"x-api-key": server.secret}, encode_chunked=True)
        assert read(client.getresponse())[0] == 202
    client.request(
        "POST", "/v1/events/query", iter([json.dumps(EVER).encode()]), {"x-api-key": server.secret}, encode_chunked=True
    )
    assert read(client.getresponse())[1]["total_count"] == 100
    client.close()


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"])
def test_a_broken_chunked_body_is_no_fault_of_the_server(server: Server, chunks: bytes):
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nx-api-key: {server.secret}\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(server, head.encode() + chunks)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert server.send("/events", make_batch(1, 1)[0])[0] == 202


def test_a_chunked_body_is_limited_too(server: Server):
    client = server.connect()
    client.request("POST", "/v1/events/bulk", (b" " * MIB for _ in range(40)), {"x-api-key": server.secret}, encode_chunked=True)
    status, body = read(client.getresponse())
    assert (status, body["message"][:12]) == (400, "Request body")
    client.close()


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [("", "/v1/events/bulk", 400), ("wrong", "/v1/events/bulk", 401), ("", "/v1/nope", 404), ("", "/v1/events/x", 405)],
)
def test_who_sends_40_mib_reads_the_answer_instead_of_a_broken_connection(server: Server, key: str, path: str, status: int):
    for _ in range(3):
        client = server.connect()
        began = time.monotonic()
        client.request("POST", path, b" " * 40 * MIB, {"x-api-key": key or server.secret})
        answer = client.getresponse()
        assert answer.status == status
        assert json.loads(answer.read())["http_status_code"] == status
        assert time.monotonic() - began < 60
        client.close()


@pytest.mark.parametrize("sent", [0, 100, 1_000_000])
def test_who_announces_a_large_body_and_stops_sending_is_answered(server: Server, sent: int):
    head = f"POST /v1/events/bulk HTTP/1.1\r\nHost: localhost\r\nx-api-key: {server.secret}\r\nContent-Length: {40 * MIB}\r\n\r\n"
    began = time.monotonic()
    assert talk(server, head.encode() + b" " * sent).startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - began < 60
    assert server.send("/events", make_batch(1, 1)[0])[0] == 202


def test_a_connection_goes_on_after_a_refused_body(server: Server):
    client = server.connect()
    assert server.send("/events/bulk", b"x" * 2 * MIB, client)[0] == 400
    assert server.send("/events/nope", b"x" * 2 * MIB, client)[0] == 405
    assert server.send("/events", b"x" * 2 * MIB, client, x_api_key="wrong")[0] == 401
    assert server.send("/events", make_batch(1, 1)[0], client)[0] == 202
    client.close()


def test_almost_32_mib_go_through(server: Server):
    events = make_batch(1, 1000)
    for event in events:
        event["properties"]["filler"] = "y" * 32_500
    body = json.dumps({"events": events}).encode()
    assert 32_000_000 < len(body) < 32 * MIB
    assert server.send("/events/bulk", body)[0] == 202
    assert server.figure(aggregation_type="COUNT") == 1000


def talk(server: Server, data: bytes) -> bytes:
    """Send raw bytes and return the beginning of the answer."""
    with socket.create_connection(("127.0.0.1", server.web.port), 180) as connection:
        connection.sendall(data)
        return connection.recv(4096)
