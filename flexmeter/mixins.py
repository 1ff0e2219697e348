"""A mixin that meters class-based views."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

from flexmeter.exchanges import SUCCESSFUL, ViewMeter, check_measures, metered_call

if TYPE_CHECKING:
    from django.views import View
else:
    View = object


class MeteredViewMixin(View):
    """Records an event for each response of the view that counts; for class-based views of Django and of DRF.

    Set `meter_event_name`; override the rest as needed. Each method is given the request as the view sees it, and the
    response (None if the view raised and `meter_on_exception` is set). See `meter_view` for what the options mean.
    """

    meter_event_name: str
    meter_measure: Sequence[str] = ()
    meter_on_exception: bool = False
    meter_strict: bool = False
    meter_environment: str | None = None
    meter_source: str = ""
    meter_statuses: Container[int] = SUCCESSFUL

    def meter_counts(self, request: Any, response: Any) -> bool:
        return response.status_code in self.meter_statuses

    def meter_customer(self, request: Any, response: Any) -> Any:
        return request

    def meter_properties(self, request: Any, response: Any) -> Mapping[str, Any]:
        return {}

    def meter_quantity(self, request: Any, response: Any) -> Any:
        """The property `quantity`; None leaves it out."""
        return None

    def meter_idempotency_key(self, request: Any, response: Any) -> str:
        return ""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        dispatch = super().dispatch
        meter = ViewMeter(
            event_name=self.meter_event_name,
            customer=self.meter_customer,
            properties=self.meter_properties,
            quantity=self.meter_quantity,
            measure=check_measures(self.meter_measure),
            counts=self.meter_counts,
            on_exception=self.meter_on_exception,
            strict=self.meter_strict,
            environment=self.meter_environment,
            source=self.meter_source,
            idempotency_key=self.meter_idempotency_key,
        )
        return metered_call(meter, lambda view, *rest, **named: dispatch(*rest, **named), (self, request, *args), kwargs)
