"""A language model that knows nothing and answers in the shape of OpenAI's API, without any network."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = "parrot-1"


def completion(messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """A chat completion: the parrot repeats what was said last. A word is a token."""
    words = _answer(messages)
    message = {"role": "assistant", "content": " ".join(words)}
    return _envelope("chat.completion") | {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(messages, words),
    }


def chunks(messages: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """The same, word by word; the last chunk tells the usage."""
    words = _answer(messages)
    envelope = _envelope("chat.completion.chunk")
    for position, word in enumerate(words):
        delta = {"content": word if position == 0 else f" {word}"}
        yield envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield envelope | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield envelope | {"choices": [], "usage": _usage(messages, words)}


def server_sent(chunks: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Chunks as the lines of a `text/event-stream`."""
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _answer(messages: Sequence[Mapping[str, str]]) -> list[str]:
    return ["You", "said:", *messages[-1]["content"].split()]


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": NAME}


def _usage(messages: Sequence[Mapping[str, str]], words: Sequence[str]) -> dict[str, int]:
    prompt = sum(len(message["content"].split()) for message in messages)
    return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
