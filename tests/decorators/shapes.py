"""Every shape a view can have, metered, each with the same four behaviours: see `SHAPES` and `BEHAVIOURS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework import routers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action, api_view, authentication_classes
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from flexmeter.decorators import DURATION_MS, REQUEST_BYTES, RESPONSE_BYTES, STATUS, meter_view
from flexmeter.mixins import MeteredViewMixin

CHUNKS = [b"first,", b"second,", "third – wide".encode()]
TEXT = b"".join(CHUNKS)
MEASURES = (DURATION_MS, REQUEST_BYTES, RESPONSE_BYTES, STATUS)


class BrokenView(Exception):
    """What a view raises on its own account."""


class TokenUser:
    is_authenticated = True

    def __init__(self, pk: str) -> None:
        self.pk = pk


class TokenAuthentication(BaseAuthentication):
    """Knows the customer from a header, which only DRF's request ever learns."""

    def authenticate(self, request: Any) -> tuple[TokenUser, None] | None:
        token = request.headers.get("X-Token")
        return (TokenUser(token), None) if token else None


def chunks() -> Iterator[bytes]:
    yield from CHUNKS


async def achunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


def answer(behaviour: str) -> HttpResponse | StreamingHttpResponse:
    if behaviour == "error":
        return HttpResponse("no", status=422)
    if behaviour == "exception":
        raise BrokenView
    if behaviour == "missing":
        raise Http404
    return StreamingHttpResponse(chunks()) if behaviour == "stream" else HttpResponse(TEXT)


def aanswer(behaviour: str) -> HttpResponse | StreamingHttpResponse:
    return StreamingHttpResponse(achunks()) if behaviour == "stream" else answer(behaviour)


def api_answer(behaviour: str) -> Any:
    if behaviour == "error":
        raise ValidationError("no")
    if behaviour == "missing":
        raise NotFound
    if behaviour == "success":
        return Response(TEXT.decode())
    return answer(behaviour)


def customer(request: Any, response: Any) -> str:
    return request.headers["X-Token"]


metered = meter_view("call", customer=customer, measure=MEASURES)
metered_user = meter_view("call", measure=MEASURES)


@metered
def function(request, behaviour):
    return answer(behaviour)


@metered
async def afunction(request, behaviour):
    return aanswer(behaviour)


@metered
class OnClass(View):
    def get(self, request, behaviour):
        return answer(behaviour)

    post = get


@metered
class OnAsyncClass(View):
    async def get(self, request, behaviour):
        return aanswer(behaviour)

    post = get


@method_decorator(metered, name="dispatch")
class OnDispatch(View):
    def get(self, request, behaviour):
        return answer(behaviour)

    post = get


@method_decorator(metered, name="dispatch")
class OnAsyncDispatch(View):
    async def get(self, request, behaviour):
        return aanswer(behaviour)

    post = get


class Plain(View):
    def get(self, request, behaviour):
        return answer(behaviour)

    post = get


class AsyncPlain(View):
    async def get(self, request, behaviour):
        return aanswer(behaviour)

    post = get


class OnMethod(View):
    @metered
    def get(self, request, behaviour):
        return answer(behaviour)

    post = get


class OnAsyncMethod(View):
    @metered
    async def get(self, request, behaviour):
        return aanswer(behaviour)

    post = get


class Mixed(MeteredViewMixin, View):
    meter_event_name = "call"
    meter_measure = MEASURES

    def meter_customer(self, request, response):
        return request.headers["X-Token"]

    def get(self, request, behaviour):
        return answer(behaviour)

    post = get


class AsyncMixed(MeteredViewMixin, View):
    meter_event_name = "call"
    meter_measure = MEASURES

    def meter_customer(self, request, response):
        return request.headers["X-Token"]

    async def get(self, request, behaviour):
        return aanswer(behaviour)

    post = get


class Api(APIView):
    authentication_classes = [TokenAuthentication]

    def get(self, request, behaviour):
        return api_answer(behaviour)

    post = get


@metered_user
class OnApi(Api):
    pass


class MixedApi(MeteredViewMixin, Api):
    meter_event_name = "call"
    meter_measure = MEASURES


class OnApiMethod(Api):
    @metered_user
    def get(self, request, behaviour):
        return api_answer(behaviour)

    post = get


@metered_user
@api_view(["GET", "POST"])
@authentication_classes([TokenAuthentication])
def above_api_view(request, behaviour):
    return api_answer(behaviour)


@api_view(["GET", "POST"])
@authentication_classes([TokenAuthentication])
@metered_user
def below_api_view(request, behaviour):
    return api_answer(behaviour)


@metered_user
class OnViewSet(viewsets.ViewSet):
    authentication_classes = [TokenAuthentication]

    def retrieve(self, request, pk):
        return api_answer(pk)

    update = retrieve


class OnViewSetMethod(viewsets.ViewSet):
    authentication_classes = [TokenAuthentication]

    @metered_user
    def retrieve(self, request, pk):
        return api_answer(pk)


class OnAction(viewsets.ViewSet):
    authentication_classes = [TokenAuthentication]

    @action(detail=True, methods=["get", "post"])
    @metered_user
    def below(self, request, pk):
        return api_answer(pk)

    @metered_user
    @action(detail=True, methods=["get", "post"])
    def above(self, request, pk):
        return api_answer(pk)


router = routers.SimpleRouter()
router.register("viewset", OnViewSet, basename="viewset")
router.register("viewset-method", OnViewSetMethod, basename="viewset-method")
router.register("action", OnAction, basename="action")


@metered
def rendered_late(request, behaviour):
    if behaviour == "success":
        return TemplateResponse(request, engines["django"].from_string(TEXT.decode()))
    return answer(behaviour)


def view(of: Callable[..., Any], name: str) -> Any:
    return path(f"{name}/<behaviour>/", of, name=name)


VIEWS: dict[str, Any] = {
    "function": function,
    "async-function": afunction,
    "class": OnClass.as_view(),
    "async-class": OnAsyncClass.as_view(),
    "dispatch": OnDispatch.as_view(),
    "async-dispatch": OnAsyncDispatch.as_view(),
    "as-view": metered(Plain.as_view()),
    "async-as-view": metered(AsyncPlain.as_view()),
    "method": OnMethod.as_view(),
    "async-method": OnAsyncMethod.as_view(),
    "mixin": Mixed.as_view(),
    "async-mixin": AsyncMixed.as_view(),
    "template": rendered_late,
    "api-class": OnApi.as_view(),
    "api-mixin": MixedApi.as_view(),
    "api-method": OnApiMethod.as_view(),
    "api-as-view": metered_user(Api.as_view()),
    "above-api-view": above_api_view,
    "below-api-view": below_api_view,
}

SHAPES = {name: f"/{name}/{{}}/" for name in VIEWS} | {
    "viewset": "/viewset/{}/",
    "viewset-method": "/viewset-method/{}/",
    "action-below": "/action/{}/below/",
    "action-above": "/action/{}/above/",
}
ASYNC_SHAPES = [name for name in SHAPES if name.startswith("async-")]
API_SHAPES = {"api-class", "api-mixin", "api-method", "api-as-view", "above-api-view", "below-api-view"} | {
    "viewset", "viewset-method", "action-below", "action-above",
}  # fmt: skip


def unmetered(request, behaviour):
    return answer(behaviour)


async def aunmetered(request, behaviour):
    return aanswer(behaviour)


def echo(request):
    return JsonResponse({"read": len(request.body)})


urlpatterns = [
    *(view(of, name) for name, of in VIEWS.items()),
    view(unmetered, "unmetered"),
    view(aunmetered, "async-unmetered"),
    path("echo/", metered(echo)),
    path("nested/", include(([view(unmetered, "inner")], "nested"))),
    path("", include(router.urls)),
]
