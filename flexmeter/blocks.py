"""Metering of any block of code, and of tasks."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.utils.module_loading import import_string

from flexmeter.exchanges import DURATION_MS, called, check_measures
from flexmeter.failures import tolerated
from flexmeter.properties import digest
from flexmeter.recording import record

Task = TypeVar("Task", bound=Callable[..., Any])

MEASURES = (DURATION_MS,)


class Usage(dict[str, Any]):
    """Properties of the event that a block will become; set them while it runs. `event_id` is there after the block."""

    event_id: str | None = None


class metering:
    """Record an event when the block ends: `with metering("report", customer) as usage:`, or `async with`.

    A block that raises is not metered, or with `on_exception` it is; the exception goes on either way. The event belongs
    to the transaction that is open where the block ends. `measure=[DURATION_MS]` adds how long the block took. What fails
    while recording is raised, as by `record`; with `strict=False` it is logged and counted in `flexmeter.failures`.
    """

    def __init__(
        self,
        event_name: str,
        customer: Any,
        properties: Mapping[str, Any] | None = None,
        *,
        measure: Sequence[str] = (),
        on_exception: bool = False,
        strict: bool = True,
        idempotency_key: str = "",
        source: str = "",
        environment: str | None = None,
    ) -> None:
        self._event_name, self._customer = event_name, customer
        self._measure = check_measures(measure, MEASURES)
        self._on_exception, self._strict = on_exception, strict
        self._idempotency_key, self._source, self._environment = idempotency_key, source, environment
        self._usage = Usage(properties or {})
        self._started = 0.0

    def __enter__(self) -> Usage:
        self._started = time.perf_counter()
        return self._usage

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._counts(error):
            self._record(strict=self._strict and error is None)

    async def __aenter__(self) -> Usage:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._counts(error):
            await sync_to_async(self._record)(strict=self._strict and error is None)

    def _counts(self, error: BaseException | None) -> bool:
        if DURATION_MS in self._measure:
            self._usage.setdefault(DURATION_MS, _since(self._started))
        return error is None or (self._on_exception and isinstance(error, Exception))

    def _record(self, *, strict: bool) -> None:
        with tolerated(self._event_name, strict=strict):
            self._usage.event_id = record(
                self._event_name,
                self._customer,
                self._usage or None,
                idempotency_key=self._idempotency_key,
                source=self._source,
                environment=self._environment,
            )


def meter_task(
    event_name: str,
    *,
    customer: Any,
    properties: Mapping[str, Any] | Callable[[Mapping[str, Any], Any], Mapping[str, Any]] | None = None,
    quantity: Any = None,
    measure: Sequence[str] = (),
    on_exception: bool = False,
    strict: bool = False,
    idempotency_key: Any = None,
    source: str = "",
    environment: str | None = None,
) -> Callable[[Task], Task]:
    """Record an event for each Celery task that succeeds; goes below `@app.task` or `@shared_task`.

    Every value may be a function of (arguments, result): the task's arguments by name, with their defaults, and what it
    returned (None: it raised, and `on_exception` is set). The event's id is made of its name and the task's id, so a task
    that is retried or delivered again counts once; `idempotency_key` replaces that. Where no task is running, each call
    counts. What fails while metering is logged, counted in `flexmeter.failures`, and with `strict` raised, so that the
    task fails; otherwise its result stands.
    """
    check_measures(measure, MEASURES)

    def decorate(function: Task) -> Task:
        if hasattr(function, "apply_async"):
            raise TypeError("meter_task goes below the decorator that makes the task.")
        signature = inspect.signature(function)

        def meter(started: float, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            both = bound.arguments, result
            recorded = {DURATION_MS: _since(started)} if DURATION_MS in measure else {}
            recorded |= {name: called(value, *both) for name, value in (called(properties, *both) or {}).items()}
            if (amount := called(quantity, *both)) is not None:
                recorded["quantity"] = amount
            who = called(customer, *both)
            if who is None:
                return
            key = _task_key(event_name) if idempotency_key is None else called(idempotency_key, *both)
            record(event_name, who, recorded or None, idempotency_key=key, source=source, environment=environment)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                result = function(*args, **kwargs)
            except Exception:
                if on_exception:
                    with tolerated(event_name, strict=False):
                        meter(started, args, kwargs, None)
                raise
            with tolerated(event_name, strict=strict):
                meter(started, args, kwargs, result)
            return result

        return call  # type: ignore[return-value]

    return decorate


def _task_key(event_name: str) -> str:
    """The same for every run of the task that is running; "" where none is."""
    task_id = import_string("flexmeter.tasks.current_task_id")() if find_spec("celery") else None
    if not task_id:
        return ""
    key = f"{event_name}:{task_id}"
    return key if len(key) <= 255 else f"task_{digest(key).hex}"


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)
