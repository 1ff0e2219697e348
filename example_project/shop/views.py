"""Metered views of Django: functions, classes, streams, blocks, a language model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from flexmeter.blocks import metering
from flexmeter.decorators import DURATION_MS, RESPONSE_BYTES, STATUS, meter_view
from flexmeter.llm import meter_completion, meter_stream
from flexmeter.mixins import MeteredViewMixin
from flexmeter.recording import record

from shop import model
from shop.customers import customer_of
from shop.tasks import make_report


@meter_view("page_view", customer=customer_of)
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("A page.\n")


@meter_view("search", customer=customer_of, properties=lambda request, response: {"query": request.GET.get("q", "")},
            measure=[DURATION_MS, STATUS])  # fmt: skip
async def search(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0.01)
    return JsonResponse({"found": []})


@meter_view("thumbnail", customer=customer_of, quantity=lambda request, response: int(response["X-Pixels"]))
class Thumbnail(View):
    def get(self, request: HttpRequest, width: int, height: int) -> HttpResponse:
        return HttpResponse("an image\n", headers={"X-Pixels": str(width * height)})


class Invoice(MeteredViewMixin, View):
    meter_event_name = "invoice"

    def meter_customer(self, request: HttpRequest, response: HttpResponse | None) -> str | None:
        return customer_of(request)

    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("An invoice.\n")


@meter_view("export", customer=customer_of, measure=[RESPONSE_BYTES])
def export(request: HttpRequest) -> StreamingHttpResponse:
    def rows() -> Iterator[str]:
        for number in range(1_000):
            yield f"{number};row\n"

    return StreamingHttpResponse(rows(), content_type="text/csv")


@meter_view("ticks", customer=customer_of, measure=[RESPONSE_BYTES, DURATION_MS])
async def ticks(request: HttpRequest) -> StreamingHttpResponse:
    """Without an end, under ASGI: curl's Ctrl-C ends it, and then it is metered."""

    async def forever() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"{number}\n"
            number += 1
            await asyncio.sleep(0.5)

    return StreamingHttpResponse(forever(), content_type="text/plain")


def by_middleware(request: HttpRequest, name: str) -> HttpResponse:
    """Knows nothing of metering: FLEXMETER_METERED_URLS in the settings names its URL."""
    return HttpResponse("A file.\n")


@csrf_exempt
def order(request: HttpRequest) -> HttpResponse:
    """The order and its event are committed together, or neither is: try it with ?fail=1."""
    name = request.POST.get("name", "")
    with transaction.atomic():
        order, _ = Group.objects.get_or_create(name=f"order {name}")
        record("order", request.headers["X-Customer"], {"name": name}, idempotency_key=f"order-{order.pk}")
        if request.GET.get("fail"):
            transaction.set_rollback(True)
    return JsonResponse({"order": order.pk})


def conversion(request: HttpRequest) -> HttpResponse:
    with metering("conversion", request.headers["X-Customer"], measure=[DURATION_MS]) as usage:
        pages = [f"page {number}" for number in range(3)]
        usage["pages"] = len(pages)
    return JsonResponse({"pages": pages})


def report(request: HttpRequest) -> HttpResponse:
    """Leaves the report to a Celery worker where events are left to one too; otherwise makes it here."""
    customer = request.headers["X-Customer"]
    if settings.FLEXMETER_INGEST == "celery":
        return JsonResponse({"task": make_report.delay(customer, rows=12).id}, status=202)
    return JsonResponse({"rows": make_report(customer, rows=12)})


@csrf_exempt
def chat(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Asks the model, and meters its tokens whether the answer is streamed or not."""
    asked = json.loads(request.body)
    customer = request.headers["X-Customer"]
    if asked.get("stream"):
        metered = meter_stream(model.chunks(asked["messages"]), customer)
        return StreamingHttpResponse(model.server_sent(metered), content_type="text/event-stream")
    return JsonResponse(meter_completion(model.completion(asked["messages"]), customer))


@csrf_exempt
def model_server(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The model by itself, as a server in the shape of OpenAI's: any of their clients can be pointed at it."""
    asked = json.loads(request.body)
    if asked.get("stream"):
        return StreamingHttpResponse(model.server_sent(model.chunks(asked["messages"])), content_type="text/event-stream")
    return JsonResponse(model.completion(asked["messages"]))
