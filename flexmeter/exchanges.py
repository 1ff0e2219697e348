"""Metering of requests: which answers count, when they are over, and what is recorded of them.

An exchange is a request and its response. It is recorded in the view's transaction, unless something of it is known only
later: the size of a response that is rendered after the view has returned, or anything about one that is streamed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from flexmeter.failures import logger, tolerated
from flexmeter.recording import record
from flexmeter.stores.database.transactions import write_alias

DURATION_MS = "duration_ms"
REQUEST_BYTES = "request_bytes"
RESPONSE_BYTES = "response_bytes"
STATUS = "status"
METHOD = "method"
ROUTE = "route"

SUCCESSFUL = range(100, 400)
_CLAIMS = "_flexmeter_claims"


@dataclass(slots=True, eq=False)
class Exchange:
    """A request, the response to it (None: the view raised), and what can be measured of both.

    `request` is what the view was given: of a DRF view DRF's own, with the user it has authenticated.
    """

    request: Any
    response: Any = None
    started: float = field(default_factory=time.perf_counter)
    sent: int | None = None

    @property
    def django_request(self) -> HttpRequest:
        request: HttpRequest = getattr(self.request, "_request", self.request)
        return request

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status_code

    @property
    def duration_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1_000, 3)

    @property
    def request_bytes(self) -> int:
        """Size of the body: what was read of it, or else what its header announces."""
        request = self.django_request
        if hasattr(request, "_body"):
            return len(request._body)
        length = request.META.get("CONTENT_LENGTH") or "0"
        return int(length) if length.isdecimal() else 0

    @property
    def response_bytes(self) -> int | None:
        """Size of the body handed to the server, without headers; a HEAD request is answered with none."""
        if self.response is None:
            return None
        if self.django_request.method == "HEAD":
            return 0
        return len(self.response.content) if self.sent is None else self.sent

    @property
    def method(self) -> str | None:
        return self.django_request.method

    @property
    def route(self) -> str | None:
        """The URL pattern that matched, such as `reports/<int:pk>/`: unlike the path it has few values."""
        match = self.django_request.resolver_match
        return match.route if match else None


MEASURES: Mapping[str, Callable[[Exchange], Any]] = {
    name: getattr(Exchange, name).fget for name in (DURATION_MS, REQUEST_BYTES, RESPONSE_BYTES, STATUS, METHOD, ROUTE)
}


def check_measures(names: Sequence[str], known: Container[str] = MEASURES) -> tuple[str, ...]:
    """The names as a tuple. Raises ValueError for one that nothing measures."""
    if isinstance(names, str):
        names = (names,)
    for name in names:
        if name not in known:
            raise ValueError(f"Nothing measures {name!r}; there are {', '.join(map(repr, known))}.")  # type: ignore[call-overload]
    return tuple(names)


def called(value: Any, *arguments: Any) -> Any:
    """`value`, or what it returns for the arguments if it is a function; that may be an async one."""
    if not callable(value):
        return value
    return async_to_sync(value)(*arguments) if iscoroutinefunction(value) else value(*arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewMeter:
    """How exchanges become events. Any value may be a function of (request, response)."""

    event_name: Any
    customer: Any = None
    properties: Any = None
    quantity: Any = None
    measure: Sequence[str] = ()
    counts: Callable[[Any, Any], bool] | Container[int] = SUCCESSFUL
    on_exception: bool = False
    strict: bool = False
    environment: Any = None
    source: Any = ""
    idempotency_key: Any = ""

    def answered(self, exchange: Exchange) -> None:
        """Meter an exchange whose view has returned: now, or once its response is complete."""
        with self._tolerance(exchange):
            if not self._counts(exchange):
                return
            event_name = self._claim(exchange)
            if event_name is None:
                return
            response = exchange.response
            if getattr(response, "streaming", False):
                _Ending(exchange, lambda: self._conclude(exchange, event_name)).watch()
            elif RESPONSE_BYTES in self.measure and not getattr(response, "is_rendered", True):
                response.add_post_render_callback(lambda _: self._conclude(exchange, event_name))
            else:
                self._record(exchange, event_name)

    def raised(self, exchange: Exchange) -> None:
        """Meter an exchange whose view has raised, if that is wanted. What fails here never hides the view's exception."""
        if not self.on_exception:
            return
        try:
            with self._tolerance(exchange):
                event_name = self._claim(exchange)
                if event_name is not None:
                    self._record(exchange, event_name)
        except Exception:  # noqa: BLE001, S110  # was logged; the view's own exception goes on
            pass

    def _tolerance(self, exchange: Exchange) -> AbstractContextManager[None]:
        name = self.event_name
        return tolerated(name if isinstance(name, str) else getattr(name, "__name__", "?"), strict=self.strict)

    def _counts(self, exchange: Exchange) -> bool:
        if callable(self.counts):
            with self._savepoint(write_alias()):
                return bool(called(self.counts, exchange.request, exchange.response))
        return exchange.status in self.counts

    def _claim(self, exchange: Exchange) -> str | None:
        """The event's name, or None if this request counts under that name already."""
        name: str = called(self.event_name, exchange.request, exchange.response)
        environment = called(self.environment, exchange.request, exchange.response)
        claims: set[tuple[str, str | None]] = exchange.django_request.__dict__.setdefault(_CLAIMS, set())
        if (name, environment) in claims:
            return None
        claims.add((name, environment))
        return name

    def _conclude(self, exchange: Exchange, event_name: str) -> None:
        with self._tolerance(exchange):
            self._record(exchange, event_name)

    def _record(self, exchange: Exchange, event_name: str) -> None:
        alias = write_alias()
        connection = connections[alias]
        if connection.in_atomic_block and connection.needs_rollback:
            logger.debug("The usage %r goes with the transaction that will be rolled back.", event_name)
            return
        with self._savepoint(alias):
            both = exchange.request, exchange.response
            customer = exchange.request if self.customer is None else called(self.customer, *both)
            if customer is None:
                return
            record(
                event_name,
                customer,
                self._properties(exchange),
                idempotency_key=called(self.idempotency_key, *both) or "",
                source=called(self.source, *both),
                environment=called(self.environment, *both),
            )

    def _savepoint(self, alias: str) -> AbstractContextManager[None]:
        """So that a query that fails in one of our functions leaves the view's transaction usable."""
        if not connections[alias].in_atomic_block:
            return nullcontext()
        properties = self.properties.values() if isinstance(self.properties, Mapping) else (self.properties,)
        values = (self.customer, self.quantity, self.counts, self.idempotency_key, self.source, self.environment, *properties)
        return transaction.atomic(using=alias) if any(map(callable, values)) else nullcontext()

    def _properties(self, exchange: Exchange) -> dict[str, Any] | None:
        both = exchange.request, exchange.response
        properties = {name: MEASURES[name](exchange) for name in self.measure}
        properties = {name: value for name, value in properties.items() if value is not None}
        given = called(self.properties, *both) or {}
        properties |= {name: called(value, *both) for name, value in given.items()}
        quantity = called(self.quantity, *both)
        return (properties if quantity is None else properties | {"quantity": quantity}) or None


class _Ending:
    """The end of a streamed response: complete, broken off by an error, or closed because the client went away.

    It comes once, whichever of these is noticed first.
    """

    def __init__(self, exchange: Exchange, conclude: Callable[[], None]) -> None:
        self._exchange, self._conclude = exchange, conclude
        self._lock = threading.Lock()
        self._over = False

    def watch(self) -> None:
        """Count the chunks of the response on their way to the server."""
        response = self._exchange.response
        self._exchange.sent = 0
        chunks = response.streaming_content
        response.streaming_content = self._counted_async(chunks) if response.is_async else _CountedChunks(chunks, self)
        response._resource_closers.append(self._closed)

    def passed(self, chunk: bytes) -> None:
        self._exchange.sent = (self._exchange.sent or 0) + len(chunk)

    def come(self) -> None:
        if self._first():
            self._conclude()

    async def _counted_async(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                self.passed(chunk)
                yield chunk
        except Exception:
            await sync_to_async(self.come)()
            raise
        await sync_to_async(self.come)()

    def _closed(self) -> None:
        """The server is done with the response."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.come()
            return
        if self._first():  # servers close in a thread, but a test client in the loop itself, where nothing may block
            task = loop.create_task(sync_to_async(self._conclude)())
            _under_way.add(task)
            task.add_done_callback(_under_way.discard)

    def _first(self) -> bool:
        with self._lock:
            first, self._over = not self._over, True
        return first


_under_way: set[asyncio.Task[None]] = set()


class _CountedChunks:
    """The chunks of a streamed response, as they are taken by the server."""

    def __init__(self, chunks: Iterator[bytes], ending: _Ending) -> None:
        self._chunks, self._ending = chunks, ending

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except BaseException:  # StopIteration is the usual end
            self._ending.come()
            raise
        self._ending.passed(chunk)
        return chunk


def metered_call(meter: ViewMeter, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a view and meter what comes of it; for one that returns an awaitable, return an awaitable that does."""
    exchange = Exchange(request_among(args, kwargs))
    try:
        response = view(*args, **kwargs)
    except Exception:
        meter.raised(exchange)
        raise
    if hasattr(response, "__await__"):
        return _metered_answer(meter, exchange, response, args)
    complete(exchange, response, args)
    meter.answered(exchange)
    return response


async def ametered_call(meter: ViewMeter, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`metered_call` of an async view."""
    return await _metered_answer(meter, Exchange(request_among(args, kwargs)), view(*args, **kwargs), args)


async def _metered_answer(meter: ViewMeter, exchange: Exchange, answer: Any, args: tuple[Any, ...]) -> Any:
    try:
        response = await answer
    except Exception:
        if meter.on_exception:
            await sync_to_async(meter.raised)(exchange)
        raise
    complete(exchange, response, args)
    await sync_to_async(meter.answered)(exchange)
    return response


def request_among(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The request that a view, or a method of one, was called with. Raises TypeError if there is none."""
    for argument in (*args[:2], kwargs.get("request")):
        if isinstance(getattr(argument, "_request", argument), HttpRequest):
            return argument
    raise TypeError("meter_view decorates views and their methods: neither of the first two arguments is a request.")


def complete(exchange: Exchange, response: Any, args: tuple[Any, ...] = ()) -> None:
    """Add the response, and the request as the view saw it; `args` are what the view, or a method of it, was called with."""
    if not isinstance(response, HttpResponseBase):
        raise TypeError(f"meter_view decorates views: a response was expected, not {type(response).__name__}.")
    exchange.response = response
    if isinstance(exchange.request, HttpRequest):
        context = getattr(response, "renderer_context", None) or {}
        seen = context.get("request") or getattr(args[0] if args else None, "request", None)
        if getattr(seen, "_request", None) is exchange.request:
            exchange.request = seen
