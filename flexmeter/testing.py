"""For the tests of your project: what was metered, without workers, commits or waiting.

    with capture_usage() as captured:
        client.post("/reports/")
    captured.assert_metered("report", customer=user, properties={"pages": 3})

Like Django's test mailbox, a capture keeps events in memory: nothing is stored, so it works in any test case, in several
threads at once, and without a database. An event whose transaction was rolled back is not in it. With
`capture_usage(count=True)` the events are stored and counted as well, for tests that ask for usage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections, transaction

from flexmeter import inbox, properties, recording
from flexmeter.conf import conf
from flexmeter.events import UsageEvent, from_json, parse_event
from flexmeter.ingest import ingest
from flexmeter.models import Event, InboxBatch, now
from flexmeter.stores.database.transactions import read_alias, write_alias

Test = TypeVar("Test", bound=Callable[..., Any])

_active: list[capture_usage] = []
_CAPTURE = "in the capture"


class _Entry:
    """A captured event, and whether the transaction it was recorded in has let it stand so far."""

    def __init__(self, event: UsageEvent, environment: str, alias: str) -> None:
        self.event, self.environment = event, environment
        self._connection = connections[alias]
        self._committed = not self._connection.in_atomic_block
        if not self._committed:
            transaction.on_commit(self._commit, using=alias)

    def _commit(self) -> None:
        self._committed = True

    @property
    def stands(self) -> bool:
        # Django drops the callbacks of what is rolled back, savepoints too; a TestCase never gets to call the others.
        return self._committed or any(entry[1] == self._commit for entry in list(self._connection.run_on_commit))


class Captured:
    """The events of a capture that were not rolled back, oldest first."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    @property
    def events(self) -> list[UsageEvent]:
        return [event for event, _ in self._standing()]

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[UsageEvent]:
        return iter(self.events)

    def assert_metered(
        self,
        event_name: str,
        *,
        customer: Any = None,
        count: int | None = None,
        properties: Mapping[str, Any] | None = None,
        environment: str | None = None,
    ) -> list[UsageEvent]:
        """Fail unless there are such events: exactly `count`, or at least one. Returns them.

        `customer` is what `record` takes. `properties` need not be complete; a value may be a function that tells whether
        it is right.
        """
        __tracebackhide__ = True
        return _assert_metered(self._standing(), _CAPTURE, event_name, customer, count, properties, environment)

    def assert_not_metered(
        self,
        event_name: str | None = None,
        *,
        customer: Any = None,
        properties: Mapping[str, Any] | None = None,
        environment: str | None = None,
    ) -> None:
        """Fail if there is such an event; without arguments, if there is any."""
        __tracebackhide__ = True
        _assert_metered(self._standing(), _CAPTURE, event_name, customer, 0, properties, environment)

    def clear(self) -> None:
        """Forget what was captured so far."""
        with self._lock:
            self._entries.clear()

    def _standing(self) -> list[tuple[UsageEvent, str]]:
        with self._lock:
            entries = list(self._entries)
        return [(entry.event, entry.environment) for entry in entries if entry.stands]

    def _add(self, events: Sequence[UsageEvent], environment: str, alias: str) -> None:
        entries = [_Entry(event, environment, alias) for event in events]
        with self._lock:
            self._entries += entries


class capture_usage:
    """Capture what is recorded in this process while the block runs, or the decorated test or class of tests.

    `count` stores the events too, and has them counted when the block ends. Of nested captures each captures, and the
    innermost says whether events are stored.
    """

    def __init__(self, *, count: bool = False) -> None:
        self._count = count
        self._captured = Captured()

    def __enter__(self) -> Captured:
        self._captured = Captured()
        _active.append(self)
        recording.witnesses.append(self._witness)
        return self._captured

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        recording.witnesses.remove(self._witness)
        _active.remove(self)
        if self._count and error is None:
            inbox.drain()

    async def __aenter__(self) -> Captured:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)

    def __call__(self, test: Test) -> Test:
        if isinstance(test, type):
            for name in [name for name in dir(test) if name.startswith("test")]:
                method = getattr(test, name)
                if callable(method):
                    setattr(test, name, capture_usage(count=self._count)(method))
            return test

        @wraps(test)
        def captured(*args: Any, **kwargs: Any) -> Any:
            with capture_usage(count=self._count):
                return test(*args, **kwargs)

        @wraps(test)
        async def acaptured(*args: Any, **kwargs: Any) -> Any:
            async with capture_usage(count=self._count):
                return await test(*args, **kwargs)

        return acaptured if iscoroutinefunction(test) else captured  # type: ignore[return-value]

    def _witness(self, events: Sequence[UsageEvent], environment: str, alias: str) -> bool:
        self._captured._add(events, environment, alias)
        return not self._count


def assert_metered(
    event_name: str,
    *,
    customer: Any = None,
    count: int | None = None,
    properties: Mapping[str, Any] | None = None,
    environment: str | None = None,
) -> list[UsageEvent]:
    """`Captured.assert_metered` of the capture that is active, or if there is none, of the ledger in the database."""
    __tracebackhide__ = True
    return _assert_metered(*_visible(), event_name, customer, count, properties, environment)


def assert_not_metered(
    event_name: str | None = None,
    *,
    customer: Any = None,
    properties: Mapping[str, Any] | None = None,
    environment: str | None = None,
) -> None:
    """`Captured.assert_not_metered` of the capture that is active, or if there is none, of the ledger in the database."""
    __tracebackhide__ = True
    _assert_metered(*_visible(), event_name, customer, 0, properties, environment)


def make_event(
    event_name: str = "event",
    customer: Any = "customer",
    properties: Mapping[str, Any] | None = None,
    *,
    stored: bool = True,
    timestamp: datetime | None = None,
    event_id: str = "",
    source: str = "",
    environment: str | None = None,
) -> UsageEvent:
    """An event, stored and counted at once in the test's own transaction; with `stored=False` only the value."""
    event = parse_event(
        {
            "event_id": event_id,
            "event_name": event_name,
            "external_customer_id": recording.customer_id(customer),
            "timestamp": timestamp,
            "source": source,
            "properties": None if properties is None else _as_stored(properties),
        },
        now=now(),
    )
    if stored:
        ingest([event], environment=environment or conf.ENVIRONMENT)
    return event


def _as_stored(value: Any) -> Any:
    return properties.loads(properties.dumps(value))


def _visible() -> tuple[list[tuple[UsageEvent, str]], str]:
    if _active:
        return _active[-1]._captured._standing(), _CAPTURE
    counted = [
        (event.as_usage_event(), event.environment) for event in Event.objects.using(read_alias()).order_by("accepted_at", "id")
    ]
    waiting = InboxBatch.objects.using(write_alias()).order_by("id")
    pending = [(from_json(members), batch.environment) for batch in waiting for members in inbox.contents(batch)]
    return counted + pending, "in the ledger (no capture_usage() is active)"


def _assert_metered(
    visible: list[tuple[UsageEvent, str]],
    where: str,
    event_name: str | None,
    customer: Any,
    count: int | None,
    properties: Mapping[str, Any] | None,
    environment: str | None,
) -> list[UsageEvent]:
    __tracebackhide__ = True
    customer_id = None if customer is None else recording.customer_id(customer)
    found = [
        event
        for event, of_environment in visible
        if event_name in (None, event.event_name)
        and customer_id in (None, event.external_customer_id)
        and environment in (None, of_environment)
        and all(_holds(event, name, wanted) for name, wanted in (properties or {}).items())
    ]
    if len(found) == count if count is not None else found:
        return found
    conditions = {"customer": customer_id, "properties": properties, "environment": environment}
    wanted = ", ".join([repr(event_name) if event_name else "any event", *(f"{k}={v!r}" for k, v in conditions.items() if v)])
    expected = "at least 1 event" if count is None else f"{count} events" if count != 1 else "1 event"
    listing = "\n".join(f"  {_told(event)}" for event, _ in visible[:50]) or "  nothing"
    raise AssertionError(f"Expected {expected} of {wanted}, found {len(found)}. Events {where}:\n{listing}")


def _holds(event: UsageEvent, name: str, wanted: Any) -> bool:
    held = event.properties or {}
    if name not in held:
        return False
    return bool(wanted(held[name])) if callable(wanted) else bool(held[name] == _as_stored(wanted))


def _told(event: UsageEvent) -> str:
    return f"{event.event_name!r} customer={event.external_customer_id!r} properties={event.properties_json or '{}'}"


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def usage_capture() -> Iterator[Captured]:
        """What the test has recorded so far; import it into your conftest.py to have it."""
        with capture_usage() as captured:
            yield captured
