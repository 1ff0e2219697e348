"""How requests are read whatever they look like: slashes, content types, encodings, sizes, transactions."""

import gzip
import json
import time
import zlib
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, re_path

from flexmeter import recording
from flexmeter.models import Event

from tests.http.client import PREFIX, Api, make_event, make_meter
from tests.http.operations import OPERATIONS, Operation

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
TOO_LARGE = "Request body exceeds the maximum size; split the batch into smaller requests"


@pytest.fixture
def meter(api: Api) -> str:
    api.accept(make_event("e1"))
    return api.meter()["id"]


# Slashes


@every_operation
def test_a_trailing_slash_makes_no_difference_and_redirects_nothing(api: Api, meter: str, operation: Operation):
    address, question, query = operation.path.partition("?")
    answer = operation._replace(path=address + "/" + question + query).call(api, meter)
    assert answer.status == operation.status


def test_no_redirect_even_where_the_project_appends_slashes_and_wants_https(api: Api, settings):
    settings.APPEND_SLASH = True
    for path in ("/nope", "/events/bulk/x", "/meters/x/y", "/events/e1"):
        for method in ("GET", "POST"):
            assert api.call(method, path).status in (404, 405)


# Content types, Accept and CSRF


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json", "application/json; charset=utf-8", "application/json; charset=utf-16",
        "application/json; charset=rot13",
        "application/octet-stream", "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data",
        "multipart/form-data; boundary=x", "application/xml", "garbage", ";;;=", "application/json, text/html", "é",
    ],
)  # fmt: skip
def test_a_body_is_json_whatever_the_content_type_says(api: Api, content_type: str):
    event = make_event("e1", properties={"größe": "5"})
    body = json.dumps(event, ensure_ascii=False).encode()
    assert api.post("/events", body, content_type=content_type).status == 202
    assert api.post("/events/bulk", {"events": [event]}, content_type=content_type).status == 202
    answer = api.post("/events/query", {"start_time": "2025-01-01T00:00:00Z"}, content_type=content_type)
    assert answer.body["events"][0]["properties"] == {"größe": "5"}
    assert api.post("/meters", make_meter(), content_type=content_type).status == 201


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "text/html", "application/xml", "", "garbage", "application/problem+json"]
)
@pytest.mark.parametrize("path", ["/meters", "/nope", "/meters/unknown", "/events/monitoring?format=xml&window_size=DAY"])
def test_an_answer_is_json_whatever_is_asked_for(api: Api, accept: str, path: str):
    answer = api.get(path, Accept=accept, Accept_Language="tlh, de;q=0.5")
    assert answer.headers["Content-Type"] == "application/json"


def test_no_csrf_token_is_asked_for_not_even_of_a_browser_with_a_session(api: Api):
    api.client = Client(enforce_csrf_checks=True)
    api.client.force_login(User.objects.create_user("someone"))
    assert api.post("/events", make_event("e1"), Origin="https://elsewhere.example").status == 202
    assert api.post("/meters", make_meter()).status == 201


def test_a_session_is_no_key(db: None):
    nobody = Api(None)
    nobody.client.force_login(User.objects.create_superuser("root"))
    assert nobody.get("/meters").status == 401


# Request ids and CORS


@pytest.mark.parametrize("given", ["abc", "req_01HRK", "a-b.c:d/e=f", "x" * 128])
def test_a_request_id_is_given_back(api: Api, given: str):
    for path in ("/meters", "/nope", "/meters/unknown"):
        assert api.get(path, X_Request_ID=given).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "é", "\x7f", "<b>\t"])
def test_an_unusable_request_id_is_replaced(api: Api, given: str):
    first, second = (api.get("/meters", X_Request_ID=given).headers["X-Request-ID"] for _ in range(2))
    assert first.startswith("req_")
    assert len(first) == 30
    assert first < second


@every_operation
def test_a_browser_may_ask_beforehand_without_a_key(nobody: Api, operation: Operation):
    answer = nobody.call("OPTIONS", operation.path, Origin="https://app.example", Access_Control_Request_Method=operation.method)
    assert (answer.status, answer.body) == (200, None)
    assert operation.method in answer.headers["Access-Control-Allow-Methods"]
    assert "x-api-key" in answer.headers["Access-Control-Allow-Headers"].lower()


def test_a_browser_may_send_any_header(nobody: Api):
    headers = nobody.call("OPTIONS", "/events", Access_Control_Request_Headers="x-anything").headers
    assert "*" in headers["Access-Control-Allow-Headers"].split(", ")


def test_any_address_answers_options(nobody: Api):
    for path in ("/nope", "/events/x/y", "/"):
        assert nobody.call("OPTIONS", path).status == 200


def test_head_answers_like_get_without_a_body(api: Api):
    assert api.call("HEAD", "/meters").status == 200
    assert api.call("HEAD", "/events/unknown").status == 404


# Compression


def test_a_gzip_body_is_unpacked(api: Api):
    body = gzip.compress(json.dumps({"events": [make_event(f"e{number}") for number in range(100)]}).encode())
    for encoding in ("gzip", "GZIP", " gzip "):
        assert api.post("/events/bulk", body, Content_Encoding=encoding).status == 202
    assert api.usage().body["value"] == 100


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_no_encoding_is_an_encoding(api: Api, encoding: str):
    assert api.post("/events", make_event(), Content_Encoding=encoding).status == 202


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "compress", "x", "é"])
def test_any_other_encoding_is_a_415(api: Api, encoding: str):
    answer = api.post("/events", zlib.compress(b"{}"), Content_Encoding=encoding)
    assert answer.status == 415
    assert "Content-Encoding" in answer.message


PACKED = gzip.compress(json.dumps(make_event("e1")).encode(), mtime=0)


@pytest.mark.parametrize("body", [b"", b"{}", PACKED[:-1], PACKED[:20], PACKED + PACKED, PACKED + b"x", b"\x1f\x8b" + b"x" * 100])
def test_a_broken_gzip_body_is_a_400(api: Api, body: bytes):
    assert api.post("/events", body, Content_Encoding="gzip").status == 400
    assert Event.objects.count() == 0


def test_a_gzip_body_is_limited_by_its_unpacked_size(api: Api):
    bomb = gzip.compress(b" " * 40 * 1024 * 1024)
    assert len(bomb) < 100_000
    answer = api.post("/events", bomb, Content_Encoding="gzip")
    assert (answer.status, answer.message) == (400, TOO_LARGE)


# Sizes


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(api: Api, settings):
    settings.FLEXMETER_MAX_BODY_BYTES = 2048
    body = json.dumps(make_event("e1")).encode().ljust(2048)
    assert api.post("/events", body).status == 202
    answer = api.post("/events", body + b" ")
    assert (answer.status, answer.body["code"], answer.message) == (400, "validation_error", TOO_LARGE)
    for path in ("/events/bulk", "/events/query", "/events/usage", "/meters", "/events/huggingface-inference"):
        assert api.post(path, body + b" ").message == TOO_LARGE


def test_more_than_32_mib_are_refused_quickly(api: Api):
    began = time.process_time()
    answer = api.post("/events/bulk", b"x" * (32 * 1024 * 1024 + 1))
    assert (answer.status, answer.message) == (400, TOO_LARGE)
    assert time.process_time() - began < 2


def test_a_thousand_events_of_almost_32_mib_go_through_and_can_be_read(api: Api):
    api.meter("COUNT")
    filler = 'é\\"x' * 4500
    events = [make_event(f"e{number:03}", properties={"filler": filler, "number": number}) for number in range(1000)]
    body = json.dumps({"events": events}, ensure_ascii=False).encode()
    assert 30_000_000 < len(body) < 32 * 1024 * 1024
    began = time.process_time()
    assert api.post("/events/bulk", body).status == 202
    assert time.process_time() - began < 30
    assert api.usage().body["value"] == 1000
    assert api.usage(aggregation_type="SUM", property_name="number").body["value"] == 499_500
    page = api.query(page_size=1000, order="asc").body["events"]
    assert [event["properties"]["number"] for event in page] == list(range(1000))
    assert page[-1]["properties"]["filler"] == filler
    assert api.post("/events/bulk", body.replace(b'"acme"', b'"other"')).status == 202
    assert api.usage(external_customer_id="other").body["value"] == 1000
    assert api.usage(external_customer_id="acme").body["value"] == 0


def test_long_query_strings_are_read_or_refused(api: Api):
    assert api.get("/events/lookup?" + "&".join(f"p{number}=x" for number in range(900)) + "&id=x").status == 404
    answer = api.get("/events/lookup?" + "&".join(f"p{number}=x" for number in range(5000)) + "&id=x")
    assert answer.status == 400
    assert "too many parameters" in answer.message


# The project around it


class ReadsTheBody:
    """A middleware of the project that has read the body before the view does."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.body  # noqa: B018
        return self.get_response(request)


class ReadsAPart(ReadsTheBody):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.read(5)
        return self.get_response(request)


def test_a_body_that_a_middleware_has_read_is_still_there(api: Api, settings):
    settings.MIDDLEWARE = [f"{__name__}.ReadsTheBody", *settings.MIDDLEWARE]
    assert api.post("/events", make_event("e1")).status == 202
    settings.FLEXMETER_MAX_BODY_BYTES = 1024
    assert api.post("/events", make_event("e2", source="x" * 200, properties={"a": "x" * 1000})).message == TOO_LARGE


def test_a_body_that_a_middleware_has_eaten_is_a_400(api: Api, settings):
    settings.MIDDLEWARE = [f"{__name__}.ReadsAPart", *settings.MIDDLEWARE]
    answer = api.post("/events", make_event("e1"))
    assert (answer.status, "could not be read" in answer.message) == (400, True)


def test_the_projects_rest_framework_settings_change_nothing(api: Api, settings):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
        "EXCEPTION_HANDLER": "nowhere.to.be.found",
    }
    assert api.post("/events", make_event("e1")).status == 202
    assert api.get("/meters/unknown").status == 404


urlpatterns = [re_path("^metering/api/", include("flexmeter.urls")), re_path("", include("flexmeter.urls"))]


def test_the_api_can_be_included_under_any_prefix(api: Api, settings):
    settings.ROOT_URLCONF = __name__
    for prefix in ("/metering/api", ""):
        response = api.client.post(f"{prefix}/events/", make_event("e1"), content_type="application/json", headers=api.headers)
        assert response.status_code == 202
        response = api.client.get(f"{prefix}/events/e1", headers=api.headers)
        assert response.json()["event"]["id"] == "e1"


def test_the_api_answers_an_asgi_server_too(api: Api):
    async def talk() -> None:
        async def call(method: str, path: str, body: bytes = b"", **headers: str) -> HttpResponse:
            return await AsyncClient().generic(method, PREFIX + path, body, "text/plain", headers=api.headers | headers)

        event = json.dumps(make_event("é", properties={"größe": 1}), ensure_ascii=False)
        assert (await call("POST", "/events", event.encode())).status_code == 202
        packed = gzip.compress(json.dumps({"events": [make_event("b"), make_event("c")]}).encode())
        assert (await call("POST", "/events/bulk", packed, **{"content-encoding": "gzip"})).status_code == 202
        assert (await call("GET", "/events/b")).json()["event"]["id"] == "b"
        assert (await call("GET", "/events/lookup?id=%C3%A9")).json()["event"]["properties"] == {"größe": 1}
        assert (await call("GET", "/events/lookup?id=%FF")).status_code == 400
        assert (await call("POST", "/events/huggingface-inference")).json() == {"requests": []}
        answer = await call("POST", "/events/query", b"x" * (32 * 1024 * 1024 + 1))
        assert (answer.status_code, answer.json()["message"]) == (400, TOO_LARGE)

    async_to_sync(talk)()
    assert api.usage().body["value"] == 3


def test_with_atomic_requests_the_answer_leaves_after_the_commit(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    nested: list[bool] = []
    accept = recording.accept

    def watched(*given: Any, **named: Any) -> None:
        nested.append(connection.in_atomic_block)
        accept(*given, **named)

    monkeypatch.setattr(recording, "accept", watched)
    assert api.post("/events", make_event("e1")).status == 202
    assert api.post("/events/bulk", {"events": [make_event("e2"), {}]}).status == 400
    api.accept(make_event("e3"))
    assert nested == [False, False]
    assert seen_by_another_connection() == 2
    meter = api.meter()
    assert api.get(f"/meters/{meter['id']}").status == 200


def seen_by_another_connection() -> int:
    counts: list[int] = []

    def count() -> None:
        counts.append(Event.objects.count())
        connection.close()

    thread = Thread(target=count)
    thread.start()
    thread.join()
    return counts[0]
