"""Streamed responses: metered when they end, whatever ends them, with what was handed to the server."""

import asyncio
import io
from wsgiref.util import FileWrapper

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import FileResponse, StreamingHttpResponse
from django.test import AsyncClient, RequestFactory
from django.urls import path

from flexmeter.decorators import DURATION_MS, RESPONSE_BYTES, meter_view

from tests.decorators.shapes import TEXT, aanswer, achunks, answer
from tests.polling import eventually

pytestmark = pytest.mark.django_db

metered = meter_view("stream", customer="acme", measure=[RESPONSE_BYTES, DURATION_MS])


def endless():
    while True:
        yield b"12345"


async def aendless():
    while True:
        yield b"12345"
        await asyncio.sleep(0)


def breaking_off():
    yield b"123"
    raise OSError("the disk is gone")


async def abreaking_off():
    yield b"123"
    raise OSError("the disk is gone")


@metered
def whole(request):
    return answer("stream")


@metered
async def awhole(request):
    return aanswer("stream")


@metered
async def astream(request):
    return StreamingHttpResponse(aendless())


@metered
def file(request):
    return FileResponse(io.BytesIO(TEXT), as_attachment=True, filename="report.csv")


urlpatterns = [path("whole/", whole), path("awhole/", awhole), path("endless/", astream), path("file/", file)]


@pytest.fixture(autouse=True)
def _urls(settings, _shapes):
    settings.ROOT_URLCONF = __name__
    for signal in (request_started, request_finished):  # as the test clients do: closing would end the test's transaction
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def of(chunks):
    return metered(lambda request: StreamingHttpResponse(chunks))(RequestFactory().get("/"))


def test_a_stream_is_not_metered_before_it_ends(usage_capture):
    response = of([b"123", b"45"])
    taken = iter(response)
    assert next(taken) == b"123"
    usage_capture.assert_not_metered()
    assert list(taken) == [b"45"]
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 5})


def test_a_client_that_goes_away_pays_for_what_was_sent(usage_capture):
    response = of(endless())
    taken = iter(response)
    assert [next(taken), next(taken)] == [b"12345"] * 2
    response.close()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 10})


def test_closing_again_or_after_the_end_counts_nothing_more(usage_capture):
    response = of([b"123"])
    assert response.getvalue() == b"123"
    response.close()
    response.close()
    usage_capture.assert_metered("stream", count=1)


def test_a_stream_that_nobody_takes_counts_with_nothing_sent(usage_capture):
    of(endless()).close()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 0})


def test_a_stream_that_breaks_off_counts_with_what_was_sent_and_its_error_goes_on(usage_capture):
    response = of(breaking_off())
    with pytest.raises(OSError, match="disk"):
        response.getvalue()
    response.close()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 3})


def test_an_async_stream_that_breaks_off_does_too(usage_capture):
    async def take():
        async for _ in of(abreaking_off()):
            pass

    with pytest.raises(OSError, match="disk"):
        async_to_sync(take)()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 3})


def test_what_is_metered_of_a_stream_is_known_at_its_end(usage_capture):
    tokens = []

    def view(request):
        def chunks():
            for word in (b"a ", b"b ", b"c"):
                tokens.append(word)
                yield word

        return StreamingHttpResponse(chunks())

    response = meter_view("stream", customer="acme", quantity=lambda *both: len(tokens))(view)(RequestFactory().get("/"))
    assert response.getvalue() == b"a b c"
    usage_capture.assert_metered("stream", properties={"quantity": 3})


def test_an_async_client_that_stops_asking_pays_for_what_was_sent(usage_capture):
    async def leave():
        response = await AsyncClient().get("/endless/")
        assert await anext(response.streaming_content) == b"12345"
        response.close()  # in the event loop, where the database must not be touched
        async with asyncio.timeout(180):
            while not len(usage_capture):
                await asyncio.sleep(0.01)

    async_to_sync(leave)()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: 5})


def test_under_asgi_a_disconnect_ends_an_endless_stream_and_meters_it(usage_capture):
    sent = []

    async def serve():
        gone = asyncio.Event()
        received = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            if received:
                return received.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message.get("body", b""))
            if len(sent) > 3:
                gone.set()

        async with asyncio.timeout(180):
            await ASGIHandler()(asgi_scope("/endless/"), receive, send)

    async_to_sync(serve)()
    [event] = usage_capture.assert_metered("stream", count=1)
    assert 0 < event.properties[RESPONSE_BYTES] - sum(map(len, sent)) + 5 <= 10, "at most the chunk under way is not sent"


def asgi_scope(url):
    return {"type": "http", "method": "GET", "path": url, "query_string": b"", "headers": [(b"host", b"testserver")],
            "http_version": "1.1", "scheme": "http"}  # fmt: skip


@pytest.mark.parametrize("url", ["/whole/", "/file/"])
def test_under_wsgi_the_server_takes_all_of_it(url, usage_capture):
    """The server offers to send files by itself, past our count."""
    environ = RequestFactory().get(url).environ | {"wsgi.file_wrapper": FileWrapper}
    response = WSGIHandler()(environ, lambda status, headers: None)
    assert b"".join(response) == TEXT
    response.close()
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: len(TEXT)})


def test_a_file_keeps_its_headers_and_is_closed(usage_capture, client):
    response = client.get("/file/")
    assert response.headers["Content-Length"] == str(len(TEXT))
    assert 'filename="report.csv"' in response.headers["Content-Disposition"]
    assert response.getvalue() == TEXT
    usage_capture.assert_metered("stream", properties={RESPONSE_BYTES: len(TEXT)})


def test_a_failure_at_the_end_of_a_stream_is_logged_or_raised(usage_capture, caplog):
    def view(request):
        return StreamingHttpResponse([b"123"])

    tolerant = meter_view("stream", customer="")(view)(RequestFactory().get("/"))
    assert tolerant.getvalue() == b"123"
    assert "could not be metered" in caplog.text
    with pytest.raises(Exception, match="external_customer_id"):
        meter_view("stream", customer="", strict=True)(view)(RequestFactory().get("/")).getvalue()


def test_two_decorators_on_a_stream_count_it_once(usage_capture):
    response = metered(metered(lambda request: StreamingHttpResponse([b"123"])))(RequestFactory().get("/"))
    assert response.getvalue() == b"123"
    usage_capture.assert_metered("stream", count=1)


def test_an_async_stream_is_metered_when_awaited_to_its_end(usage_capture):
    async def take():
        response = metered(lambda request: StreamingHttpResponse(achunks()))(RequestFactory().get("/"))
        return b"".join([chunk async for chunk in response])

    assert async_to_sync(take)() == TEXT
    assert eventually(lambda: len(usage_capture)) == 1
    usage_capture.assert_metered("stream", count=1, properties={RESPONSE_BYTES: len(TEXT)})
