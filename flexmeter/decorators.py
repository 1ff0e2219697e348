"""Decorators that meter views and tasks."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction

from flexmeter.blocks import meter_task
from flexmeter.exchanges import (
    DURATION_MS,
    METHOD,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    ROUTE,
    STATUS,
    SUCCESSFUL,
    ViewMeter,
    ametered_call,
    check_measures,
    metered_call,
)

__all__ = ["DURATION_MS", "METHOD", "REQUEST_BYTES", "RESPONSE_BYTES", "ROUTE", "STATUS", "meter_task", "meter_view"]

View = TypeVar("View", bound=Callable[..., Any])


def meter_view(
    event_name: str | Callable[[Any, Any], str],
    *,
    customer: Any = None,
    properties: Mapping[str, Any] | Callable[[Any, Any], Mapping[str, Any]] | None = None,
    quantity: Any = None,
    measure: Sequence[str] = (),
    counts: Callable[[Any, Any], bool] | Container[int] = SUCCESSFUL,
    on_exception: bool = False,
    strict: bool = False,
    environment: str | Callable[[Any, Any], str] | None = None,
    source: str | Callable[[Any, Any], str] = "",
    idempotency_key: str | Callable[[Any, Any], str] = "",
) -> Callable[[View], View]:
    """Record an event for each response of a view that counts.

    Decorates functions, classes, and methods of classes, of Django and of DRF, sync and async, and what `as_view()`
    returns. Every value may be a function of (request, response), also an async one.

    `customer` is what `record` takes; by default the request, so FLEXMETER_CUSTOMER_ID tells. A function that returns
    None leaves the request unmetered. `quantity` becomes the property of that name, `measure` names properties that are
    measured: DURATION_MS, REQUEST_BYTES, RESPONSE_BYTES, STATUS, METHOD, ROUTE. `counts` is a collection of statuses or
    a function; without it all below 400. A view that raises is not metered, or with `on_exception` metered with None
    as its response.

    What fails while metering is logged, counted in `flexmeter.failures`, and with `strict` raised; the view's own
    exception always goes on. A request counts once under one event name, however many decorators and middlewares see it:
    the innermost that counts it does.
    """
    meter = ViewMeter(
        event_name=event_name,
        customer=customer,
        properties=properties,
        quantity=quantity,
        measure=check_measures(measure),
        counts=counts,
        on_exception=on_exception,
        strict=strict,
        environment=environment,
        source=source,
        idempotency_key=idempotency_key,
    )

    def decorate(view: View) -> View:
        if not isinstance(view, type):
            return _metered(meter, view)
        if not hasattr(view, "dispatch"):
            raise TypeError(f"meter_view cannot meter the class {view.__name__}: it has no dispatch().")
        view.dispatch = _metered(meter, view.dispatch)
        return view

    return decorate


def _metered(meter: ViewMeter, view: View) -> View:
    @wraps(view)
    def call(*args: Any, **kwargs: Any) -> Any:
        return metered_call(meter, view, args, kwargs)

    @wraps(view)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        return await ametered_call(meter, view, args, kwargs)

    return acall if iscoroutinefunction(view) else call  # type: ignore[return-value]
