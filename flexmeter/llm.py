"""Token usage of language models that answer in the shape of OpenAI's API: whole responses and streams.

    response = meter_completion(client.chat.completions.create(...), customer)
    for chunk in meter_stream(client.chat.completions.create(..., stream=True, stream_options={"include_usage": True}), customer):
        ...

Responses and chunks may be dicts or objects, of chat completions, completions, embeddings or responses.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from flexmeter.exchanges import DURATION_MS
from flexmeter.failures import logger, tolerated
from flexmeter.recording import record

Answer = TypeVar("Answer")
Chunk = TypeVar("Chunk")
Estimate = Callable[[str], Mapping[str, Any]]

EVENT_NAME = "llm_request"

# Our names, and where the APIs keep them: those of chat completions first, then those of responses.
_COUNTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "prompt_tokens": (("prompt_tokens",), ("input_tokens",)),
    "completion_tokens": (("completion_tokens",), ("output_tokens",)),
    "total_tokens": (("total_tokens",),),
    "cached_tokens": (("prompt_tokens_details", "cached_tokens"), ("input_tokens_details", "cached_tokens")),
    "reasoning_tokens": (("completion_tokens_details", "reasoning_tokens"), ("output_tokens_details", "reasoning_tokens")),
}


def token_usage(response: Any) -> dict[str, int]:
    """What a response says it used: `prompt_tokens`, `completion_tokens`, `total_tokens`, and where they are told
    `cached_tokens` and `reasoning_tokens`; {} where it says nothing."""
    told = _member(response, "usage") or _member(_member(response, "response"), "usage")
    counts: dict[str, int] = {}
    for name, places in _COUNTS.items():
        for place in places:
            value = told
            for step in place:
                value = _member(value, step)
            if isinstance(value, int):
                counts[name] = value
                break
    if counts and "total_tokens" not in counts:
        counts["total_tokens"] = counts.get("prompt_tokens", 0) + counts.get("completion_tokens", 0)
    return counts


def meter_completion(
    response: Answer,
    customer: Any,
    *,
    event_name: str = EVENT_NAME,
    properties: Mapping[str, Any] | None = None,
    strict: bool = False,
    idempotency_key: str = "",
    environment: str | None = None,
) -> Answer:
    """Record the tokens of a whole response, and return it.

    The event has `token_usage`, the model and the response's id as properties. If it says nothing of usage, that is a
    failure like any other while metering: logged and counted, or with `strict` raised as ValueError.
    """
    with tolerated(event_name, strict=strict):
        counts = token_usage(response)
        if not counts:
            raise ValueError("The response tells no usage.")
        told = _identity(response) | counts | dict(properties or {})
        record(event_name, customer, told, idempotency_key=idempotency_key, environment=environment)
    return response


async def ameter_completion(response: Answer, customer: Any, **options: Any) -> Answer:
    """`meter_completion` for async code."""
    metered: Answer = await sync_to_async(meter_completion)(response, customer, **options)
    return metered


def meter_stream(
    chunks: Iterable[Chunk],
    customer: Any,
    *,
    event_name: str = EVENT_NAME,
    properties: Mapping[str, Any] | None = None,
    estimate: Estimate | None = None,
    strict: bool = False,
    idempotency_key: str = "",
    environment: str | None = None,
) -> Iterator[Chunk]:
    """Pass the chunks of a streamed response on, and record its tokens when it ends: once, however it ends.

    The usage told last is what counts; OpenAI tells it in the last chunk if it is asked to, by
    `stream_options={"include_usage": True}`. `complete` says whether the stream came to its end.

    A stream that is cut off, by an error or because nobody takes its chunks any more, may have told nothing. Its event is
    recorded all the same, so that it counts as a request: with `usage_missing` instead of tokens, and a warning. `estimate`
    may say more of it: it is given the text that was streamed, and returns properties such as
    `{"prompt_tokens": 12, "completion_tokens": 30}`; the event then has `estimated`.

    Of a stream that is never begun nothing is recorded.
    """
    tally = _Tally(event_name, customer, properties, estimate, strict, idempotency_key, environment)
    try:
        for chunk in chunks:
            tally.add(chunk)
            yield chunk
        tally.complete = True
    finally:
        try:
            if close := getattr(chunks, "close", None):
                close()
        finally:
            tally.record()


async def ameter_stream(
    chunks: AsyncIterable[Chunk],
    customer: Any,
    *,
    event_name: str = EVENT_NAME,
    properties: Mapping[str, Any] | None = None,
    estimate: Estimate | None = None,
    strict: bool = False,
    idempotency_key: str = "",
    environment: str | None = None,
) -> AsyncIterator[Chunk]:
    """`meter_stream` for async code."""
    tally = _Tally(event_name, customer, properties, estimate, strict, idempotency_key, environment)
    try:
        async for chunk in chunks:
            tally.add(chunk)
            yield chunk
        tally.complete = True
    finally:
        try:
            if close := getattr(chunks, "aclose", None) or getattr(chunks, "close", None):
                closing = close()
                if hasattr(closing, "__await__"):
                    await closing
        finally:
            await sync_to_async(tally.record)()


class _Tally:
    """What the chunks of a stream have told so far."""

    def __init__(
        self,
        event_name: str,
        customer: Any,
        properties: Mapping[str, Any] | None,
        estimate: Estimate | None,
        strict: bool,
        idempotency_key: str,
        environment: str | None,
    ) -> None:
        self._event_name, self._customer, self._properties = event_name, customer, dict(properties or {})
        self._estimate, self._strict = estimate, strict
        self._idempotency_key, self._environment = idempotency_key, environment
        self._started = time.perf_counter()
        self._counts: dict[str, int] = {}
        self._identity: dict[str, Any] = {}
        self._texts: list[str] = []
        self.complete = False

    def add(self, chunk: Any) -> None:
        with tolerated(self._event_name, strict=False):
            self._counts = token_usage(chunk) or self._counts
            if not self._identity:
                self._identity = _identity(chunk)
            if self._estimate is not None:
                self._texts.append(_text(chunk))

    def record(self) -> None:
        with tolerated(self._event_name, strict=self._strict):
            told = self._identity | (self._counts or self._guessed())
            told |= {"complete": self.complete, DURATION_MS: round((time.perf_counter() - self._started) * 1_000, 3)}
            record(
                self._event_name,
                self._customer,
                told | self._properties,
                idempotency_key=self._idempotency_key,
                environment=self._environment,
            )

    def _guessed(self) -> dict[str, Any]:
        if self._estimate is not None:
            return dict(self._estimate("".join(self._texts))) | {"estimated": True}
        logger.warning("A stream of %r ended without telling its usage; it counts as a request without tokens.", self._event_name)
        return {"usage_missing": True}


def _identity(response: Any) -> dict[str, Any]:
    inner = _member(response, "response") or response
    told = {"model": _member(inner, "model"), "response_id": _member(inner, "id")}
    return {name: value for name, value in told.items() if isinstance(value, str) and value}


def _text(chunk: Any) -> str:
    """The text that a chunk adds: of a chat, of a completion, or of a response."""
    if isinstance(delta := _member(chunk, "delta"), str):
        return delta
    texts = []
    for choice in _member(chunk, "choices") or ():
        text = _member(_member(choice, "delta"), "content") or _member(choice, "text")
        if isinstance(text, str):
            texts.append(text)
    return "".join(texts)


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
