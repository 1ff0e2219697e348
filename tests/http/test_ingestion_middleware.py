"""IngestionMiddleware answers from its place in MIDDLEWARE, and answers what the views would."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path, re_path

from tests.http.client import PREFIX, Api, make_event

MIDDLEWARE = "flexmeter.http.middleware.IngestionMiddleware"
EVENT = make_event("e1")
BULK = {"events": [make_event("e2"), make_event("e3")]}

passed: list[tuple[str, str]] = []


class Before:
    """Notes what passes it, and which view has answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        passed.append((type(self).__name__, request.path_info))
        response = self.get_response(request)
        response.view_name = request.resolver_match.view_name if request.resolver_match else None  # type: ignore[attr-defined]
        return response


class After(Before):
    pass


class ElsewhereRouted(Before):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.urlconf = __name__  # type: ignore[attr-defined]
        return super().__call__(request)


app_urls = ([path("", include("flexmeter.urls"))], "metering")
urlpatterns = [
    re_path("^metering/api/", include("flexmeter.urls")),
    path("named/", include(app_urls, namespace="named")),
]


@pytest.fixture(autouse=True)
def _middleware(settings):
    passed.clear()
    settings.MIDDLEWARE = [f"{__name__}.Before", MIDDLEWARE, f"{__name__}.After"]


@pytest.mark.parametrize(
    ("address", "body", "view"),
    [
        ("/events", EVENT, "flexmeter-events"),
        ("/events/", EVENT, None),
        ("/events/bulk", BULK, "flexmeter-events-bulk"),
        ("/events/bulk/", BULK, None),
    ],
)
def test_events_are_taken_before_the_middleware_that_follows(api: Api, address: str, body: Any, view: str | None):
    response = api.client.post(PREFIX + address, body, content_type="application/json", headers=api.headers)
    assert response.status_code == 202
    assert passed == [("Before", PREFIX + address)]
    if view is not None:
        assert response.view_name == view
    assert api.usage().body["value"] == len(body.get("events", [body]))


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "/events"), ("PUT", "/events"), ("OPTIONS", "/events/bulk"), ("POST", "/events/query"), ("POST", "/events/usage"),
        ("POST", "/events/bulk/more"), ("POST", "/meters"), ("POST", "/event"),
    ],
)  # fmt: skip
def test_everything_else_goes_on(api: Api, method: str, address: str):
    api.call(method, address, {} if method == "POST" else b"")
    assert [name for name, _ in passed] == ["Before", "After"]


@pytest.mark.parametrize(
    ("address", "body", "headers"),
    [
        ("/events", json.dumps(EVENT), {}),
        ("/events", json.dumps(EVENT), {"x-api-key": "fm_unknown"}),
        ("/events", json.dumps(EVENT), {"content-encoding": "br"}),
        ("/events", "{", {}),
        ("/events", "", {}),
        ("/events", json.dumps({"event_id": "e1"}), {}),
        ("/events/bulk", json.dumps(BULK), {}),
        ("/events/bulk", json.dumps({"events": [EVENT, {}]}), {}),
    ],
)
def test_answers_are_those_of_the_views(api: Api, settings, address: str, body: str, headers: dict[str, str]):
    def answer() -> tuple[int, bytes, dict[str, str]]:
        sent = {**api.headers, "x-request-id": "asked", **headers}
        response = Client().generic("POST", PREFIX + address, body, content_type="text/plain", headers=sent)
        return response.status_code, response.content, dict(response.headers)

    at_once = answer()
    assert [name for name, _ in passed] == ["Before"]
    settings.MIDDLEWARE = []
    assert at_once == answer()


def test_the_api_is_found_wherever_it_is_included(api: Api, settings):
    settings.ROOT_URLCONF = __name__
    for prefix, through in (("/metering/api", ["Before"]), ("/named", ["Before", "After"])):
        passed.clear()
        response = api.client.post(f"{prefix}/events", EVENT, content_type="application/json", headers=api.headers)
        assert response.status_code == 202
        assert [name for name, _ in passed] == through


def test_it_follows_the_routes_that_a_request_was_given(api: Api, settings):
    settings.MIDDLEWARE = [f"{__name__}.ElsewhereRouted", *settings.MIDDLEWARE]
    response = api.client.post("/metering/api/events", EVENT, content_type="application/json", headers=api.headers)
    assert response.status_code == 202
    assert [name for name, _ in passed] == ["ElsewhereRouted", "Before"]


def test_a_project_under_a_path_of_its_own_is_served(api: Api):
    response = api.client.post(
        f"{PREFIX}/events", EVENT, content_type="application/json", headers=api.headers, SCRIPT_NAME="/shop"
    )
    assert response.status_code == 202
    assert [name for name, _ in passed] == ["Before"]


def test_routes_without_the_api_are_left_alone(api: Api, settings):
    settings.ROOT_URLCONF = "tests.http.no_routes"
    response = api.client.post(f"{PREFIX}/events", EVENT, content_type="application/json", headers=api.headers)
    assert response.status_code == 404
    assert [name for name, _ in passed] == ["Before", "After"]


def test_an_asgi_server_is_answered_too(api: Api, settings):
    settings.MIDDLEWARE = [MIDDLEWARE]

    async def send() -> None:
        response = await AsyncClient().post(f"{PREFIX}/events", EVENT, content_type="application/json", headers=api.headers)
        assert response.status_code == 202
        assert (await AsyncClient().get(f"{PREFIX}/events/e1", headers=api.headers)).status_code == 200

    async_to_sync(send)()
    assert api.usage().body["value"] == 1
