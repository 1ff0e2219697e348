"""What goes wrong besides a caller's mistakes, and the envelope it comes in."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DataError, IntegrityError, InterfaceError, OperationalError, connection

from flexmeter.exceptions import EnvironmentBusy
from flexmeter.models import Event
from flexmeter.stores.database import transactions

from tests.http.client import Api, make_event
from tests.http.operations import BODY_REQUIRED, OPERATIONS, Operation
from tests.requirements import only_on

pytestmark = only_on("sqlite")  # an envelope is the same whatever stands behind it

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


@contextmanager
def failing(error: Exception, where: str = "flexmeter_") -> Iterator[None]:
    """Every statement that mentions `where` raises."""

    def run(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if where in sql:
            raise error
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        yield


# Routes and methods


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/nope/",
        "/event",
        "/meter",
        "/meters/a/b",
        "/meters/a/disable/x",
        "/meters//",
        "//events",
        "/v1/events",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "FOO"])
def test_an_unknown_address_is_a_404(api: Api, nobody: Api, method: str, path: str):
    for caller in (api, nobody):
        answer = caller.call(method, path)
        assert (answer.status, answer.body["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/events"), ("DELETE", "/events"), ("PATCH", "/events"), ("GET", "/events/bulk"), ("GET", "/events/query"),
        ("GET", "/events/usage"), ("GET", "/events/usage/meter"), ("GET", "/events/analytics"), ("POST", "/events/monitoring"),
        ("POST", "/events/lookup"), ("POST", "/events/some-id"), ("DELETE", "/events/some-id"), ("GET",
        "/events/huggingface-inference"),
        ("PUT", "/meters"), ("DELETE", "/meters"), ("TRACE", "/events"), ("BREW", "/events"),
    ],
)  # fmt: skip
def test_a_known_address_with_another_method_is_a_405(api: Api, method: str, path: str):
    answer = api.call(method, path, {"event_name": "x"} if method == "POST" else b"")
    assert answer.status == 405
    assert answer.headers["Allow"]


# Bodies that are no JSON object


@pytest.mark.parametrize("operation", BODY_REQUIRED, ids=lambda operation: operation.name)
@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"}", b"[]", b"null", b"5", b'"text"', b"true", b"{} {}", b"{'a': 1}", b'{"a": 1,}', b'{"a"}', b"{a: 1}",
        b"\xff", b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b"\xef\xbb\xbf{}", b'{"a": NaN}', b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}', b'{"a": -1e400}', b'{"a": 01}', b'{"a": .5}', b'{"a": +1}', b'{"a": 0x1}', b'{"a": "\t"}',
        b'{"a": "\\x"}',
        b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 0.' + b"9" * 5000 + b"}", b'{"a": 1e-99999}', b"[" * 100_000, b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_a_body_that_is_not_usable_json_is_a_400(api: Api, operation: Operation, body: bytes):
    if b'"\xed' in body and operation.name in ("query", "analytics"):
        body = body.replace(b'"a"', b'"external_customer_id"')
    answer = api.call(operation.method, operation.path.replace("{meter}", "meter_01"), body)
    assert (answer.status, answer.body["code"]) == (400, "validation_error")
    prefix = "Invalid request payload" if operation.scope == "ingest" else "Please check the request payload"
    assert answer.message.startswith(f"{prefix}: the body ")
    assert Event.objects.count() == 0


@pytest.mark.parametrize("operation", BODY_REQUIRED, ids=lambda operation: operation.name)
def test_nesting_is_limited_in_members_that_nobody_reads(api: Api, operation: Operation):
    for deep in ("[" * 103 + "]" * 103, '{"a":' * 103 + "1" + "}" * 103):
        answer = api.call(operation.method, operation.path.replace("{meter}", "meter_01"), '{"unread": [' + deep + "]}")
        assert answer.status == 400
        assert "unread" in answer.message
        assert "is nested deeper than 100 levels" in answer.message


def test_nesting_is_measured_not_guessed_from_brackets(api: Api):
    brackets = {"text": "[{" * 500, "wide": [[] for _ in range(500)], "deep": eval("[" * 90 + "]" * 90)}  # noqa: S307
    api.accept(*(make_event(f"e{number}", properties=brackets) for number in range(3)))
    assert api.post("/events/query", {"ignored": eval("[" * 100 + "]" * 100)}).status == 200  # noqa: S307


# The database


@every_operation
@pytest.mark.parametrize("error", [OperationalError("FATAL: secret host 10.0.0.1"), InterfaceError("connection already closed")])
def test_an_unreachable_database_is_a_503_that_asks_to_try_again(api: Api, operation: Operation, error: Exception):
    with failing(error):
        answer = operation.call(api)
    assert (answer.status, answer.body["code"]) == (503, "service_unavailable")
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert "secret" not in str(answer.body)


@pytest.mark.parametrize("error", [OperationalError("disk full"), EnvironmentBusy("busy")])
@pytest.mark.parametrize("table", ["flexmeter_event", "flexmeter_rollup", "flexmeter_series"])
def test_a_failure_while_storing_stores_nothing_and_sending_again_counts_once(api: Api, table: str, error: Exception):
    api.meter("COUNT")
    with (
        failing(error, f'INTO "{table}"' if connection.vendor != "mysql" else f"INTO `{table}`"),
        failing(error, f"INTO {table} "),
    ):
        first = api.post("/events/bulk", {"events": [make_event("a"), make_event("b")]})
    assert first.status == 503
    assert Event.objects.count() == 0
    api.accept(make_event("a"), make_event("b"))
    assert api.usage().body["value"] == 2


@only_on("sqlite")
def test_while_another_process_writes_an_event_waits_and_then_is_asked_for_again(api: Api, monkeypatch):
    monkeypatch.setattr(transactions, "ATTEMPTS", 3)
    api.accept(make_event("a"))
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 100")
    writer = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    busy = api.post("/events", make_event("b"))
    assert (busy.status, busy.body["code"]) == (503, "service_unavailable")
    assert busy.headers["Retry-After"]
    assert api.ids() == ["a"]
    writer.execute("ROLLBACK")
    writer.close()
    api.accept(make_event("b"))
    assert api.usage().body["value"] == 2
    connection.close()


@pytest.mark.parametrize("error", [DataError("value too long: secret"), IntegrityError("constraint secret")])
def test_any_other_database_error_is_a_500_without_its_text(api: Api, error: Exception):
    with failing(error, "flexmeter_meter"):
        answer = api.get("/meters")
    assert (answer.status, answer.body["code"], answer.message) == (500, "database_error", "An unexpected error occurred")
    assert "secret" not in str(answer.body)


def test_an_unexpected_exception_is_a_logged_500_without_its_text(api: Api, monkeypatch, caplog):
    def fail(*given: Any, **named: Any) -> None:
        raise RuntimeError("secret in /etc/secret.py")

    monkeypatch.setattr("flexmeter.recording.accept", fail)
    with caplog.at_level(logging.ERROR, logger="flexmeter.http"):
        answer = api.post("/events", make_event("e1"), X_Request_ID="req-1")
    assert (answer.status, answer.body["code"], answer.message) == (500, "internal_error", "An unexpected error occurred")
    assert "secret" not in str(answer.body)
    assert "POST /v1/events failed (request req-1)" in caplog.text
    monkeypatch.undo()
    api.accept(make_event("e1"))
    assert api.usage().body["value"] == 1
