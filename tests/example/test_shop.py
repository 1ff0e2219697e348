"""Each curl line of docs/views.md does what the page says."""

import asyncio
import json
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.test import AsyncClient, Client

from flexmeter.testing import Captured, capture_usage

pytestmark = [pytest.mark.django_db, pytest.mark.urls("config.urls")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "views.md"
LINES = [shlex.split(line.removeprefix("$ ")) for line in PAGE.read_text().splitlines() if line.startswith("$ curl")]

COUNTED = {
    "/shop/page/": ("page_view", {}),
    "/shop/search/?q=pears": ("search", {"query": "pears", "status": 200, "duration_ms": lambda ms: ms >= 10}),
    "/shop/thumbnail/40x30/": ("thumbnail", {"quantity": 1200}),
    "/shop/invoice/": ("invoice", {}),
    "/shop/export/": ("export", {"response_bytes": 7890}),
    "/shop/quote/": ("quote", {}),
    "/shop/prices/": ("prices", {"response_bytes": 20}),
    "/shop/products/apple/": ("product_view", {"price": 3}),
    "/shop/products/apple/stock/": ("stock_check", {}),
    "/shop/files/manual/": ("download", {"response_bytes": 8}),
    "/shop/order/": ("order", {"name": "first"}),
    "/shop/conversion/": ("conversion", {"pages": 3}),
    "/shop/report/": ("report", {"quantity": 12}),
    "/shop/chat/": ("llm_request", {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6, "model": "parrot-1"}),
}
NOT_COUNTED = ["/shop/order/?fail=1", "/shop/products/plum/", "/shop/page/"]


def parsed(words: list[str]) -> tuple[str, dict[str, str], str | None]:
    headers = dict(words[index + 1].split(": ") for index, word in enumerate(words) if word == "-H")
    body = next((words[index + 1] for index, word in enumerate(words) if word == "-d"), None)
    parts = urlsplit(words[-1])
    return parts.path + (f"?{parts.query}" if parts.query else ""), headers, body


def curl(words: list[str]) -> tuple[str, int, bytes, Captured]:
    url, headers, body = parsed(words)
    with capture_usage() as captured:
        if body is None:
            response = Client().get(url, headers=headers)
        else:
            response = Client().post(url, body, content_type="application/x-www-form-urlencoded", headers=headers)
        answer = b"".join(response)
    return url, response.status_code, answer, captured


@pytest.mark.parametrize("words", LINES[:-3], ids=[" ".join(line[3:])[-60:] for line in LINES[:-3]])
def test_a_line_that_counts(words):
    url, status, _, captured = curl(words)
    name, properties = COUNTED[url]
    assert status == 200
    captured.assert_metered(name, customer="acme", count=1, properties=properties)
    assert len(captured) == 1


@pytest.mark.parametrize("words", LINES[-3:], ids=NOT_COUNTED)
def test_a_line_that_does_not_count(words):
    url, _, _, captured = curl(words)
    assert url in NOT_COUNTED
    captured.assert_not_metered()
    assert not Group.objects.exists()


def test_the_page_has_a_line_for_each_view():
    assert {parsed(words)[0] for words in LINES} == {*COUNTED, *NOT_COUNTED}
    assert len(LINES) == len(COUNTED) + 1 + 3, "the chat is shown twice, in one piece and streamed"


def test_a_streamed_chat_is_made_of_server_sent_events():
    _, _, answer, _ = curl(next(words for words in LINES if "-N" in words))
    *events, done = answer.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert (
        "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]) == "You said: good morning"
    )


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_alone_answers_without_being_metered(stream, client):
    asked = {"messages": [{"role": "user", "content": "good morning"}], "stream": stream}
    with capture_usage() as captured:
        answer = b"".join(client.post("/shop/model/chat/completions", json.dumps(asked), content_type="application/json"))
    assert b'"usage": {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}' in answer
    captured.assert_not_metered()


def test_ticks_that_somebody_stops_are_metered():
    async def stop() -> None:
        response = await AsyncClient().get("/shop/ticks/", headers={"X-Customer": "acme"})
        assert await anext(response.streaming_content) == b"0\n"
        captured.assert_not_metered()
        response.close()
        async with asyncio.timeout(180):
            while not len(captured):
                await asyncio.sleep(0.01)

    with capture_usage() as captured:
        async_to_sync(stop)()
    captured.assert_metered("ticks", customer="acme", count=1, properties={"response_bytes": 2})
