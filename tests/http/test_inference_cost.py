"""`POST /events/huggingface-inference` and its alias: one entry per requested id, each "0" while no prices are known."""

from typing import Any

import pytest

from tests.http.client import Api, make_event

PATHS = ["/events/huggingface-inference", "/events/huggingface-billing"]
pytestmark = pytest.mark.parametrize("path", PATHS)


def test_every_requested_id_has_an_entry_in_order_with_repeats(api: Api, path: str):
    api.accept(make_event("event123"))
    answer = api.post(path, {"requestIds": ["event123", "nope", "event123", ""]})
    assert answer.status == 200
    assert answer.body == {
        "requests": [
            {"requestId": "event123", "costNanoUsd": "0"},
            {"requestId": "nope", "costNanoUsd": "0"},
            {"requestId": "event123", "costNanoUsd": "0"},
            {"requestId": "", "costNanoUsd": "0"},
        ]
    }


def test_a_call_without_body_and_content_type_is_answered_with_an_empty_list(api: Api, path: str):
    for suffix in ("", "/"):
        answer = api.post(path + suffix, b"", content_type="")
        assert (answer.status, answer.body) == (200, {"requests": []})


@pytest.mark.parametrize(
    "body", [{}, {"requestIds": []}, {"requestIds": None}, {"requestIds": "x"}, {"requestIds": [5]}, {"requestIds": {}}]
)
def test_a_body_without_ids_is_a_400(api: Api, path: str, body: Any):
    answer = api.post(path, body)
    assert answer.status == 400
    assert answer.message.startswith("Please check the request payload: requestIds")


@pytest.mark.parametrize(
    "body", [b" ", b"[]", b"null", b"x", b'{"requestIds": ["\\u0000"]}', b'{"requestIds": ["\\ud800"]}', b"\xff"]
)
def test_a_body_that_is_not_usable_json_is_a_400(api: Api, path: str, body: bytes):
    assert api.post(path, body).status == 400
