"""Bodies as JSON, whatever the content type says, and query strings as UTF-8."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpRequest, QueryDict
from django.http.request import RawPostDataException, UnreadablePostError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from flexmeter import properties
from flexmeter.conf import conf
from flexmeter.http.errors import ApiError, InvalidPayload

DRAINED_BYTES = 256 * 1024 * 1024
DRAINED_SECONDS = 5.0
IDLE_SECONDS = 1.0
CHUNK_BYTES = 64 * 1024
ENCLOSING_LEVELS = 3
"""Around the properties of an event there may be the event, the list and the body."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
TOO_LARGE = "Request body exceeds the maximum size; split the batch into smaller requests"


class JsonOnly(BaseContentNegotiation):
    """Every answer is JSON, whatever the Accept header wishes for: see `Answer`."""

    def select_parser(self, request: Request, parsers: Sequence[BaseParser]) -> BaseParser:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class AnyJsonParser(BaseParser):
    """Declares that JSON is read from any media type; the reading itself is `json_body`."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return {}


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidPayload, or ApiError for a body that is too large."""
    return decoded(read_body(request))


def decoded(body: bytes) -> dict[str, Any]:
    """A JSON object from bytes. Raises InvalidPayload."""
    if not body.strip():
        raise InvalidPayload("", "the body is empty; send a JSON object")
    try:
        value = properties.loads(body)
    except properties.InvalidJson as error:
        raise InvalidPayload("", f"the body is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidPayload("", "the body must be a JSON object")
    if _may_be_nested_deeper(body, most := properties.MAX_DEPTH + ENCLOSING_LEVELS) and (path := _too_deep(value, most)):
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[:ENCLOSING_LEVELS])
        raise InvalidPayload(where.removeprefix("."), f"is nested deeper than {properties.MAX_DEPTH} levels")
    return value


def _may_be_nested_deeper(body: bytes, levels: int) -> bool:
    """Whether brackets are left after taking out the innermost pairs `levels` times; brackets in strings may mislead."""
    brackets = body.translate(None, delete=_NO_BRACKETS)
    while brackets and levels:
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(brackets):
            return True
        brackets, levels = inner, levels - 1
    return bool(brackets)


def _too_deep(value: Any, levels: int) -> list[str | int] | None:
    """Names and positions that lead to a container below more than `levels` others, or None."""
    if not isinstance(value, (dict, list)):
        return None
    if not levels:
        return []
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        path = _too_deep(inner, levels - 1)
        if path is not None:
            return [step, *path]
    return None


def query_parameters(request: HttpRequest) -> QueryDict:
    """The query string as UTF-8, whatever charset the content type names. Raises InvalidPayload."""
    # WSGI carries bytes as Latin-1 text.
    given = request.META.get("QUERY_STRING", "").encode("latin-1" if hasattr(request, "environ") else "utf-8", "replace")
    try:
        unquote_to_bytes(given.replace(b"+", b" ")).decode("utf-8")
        return QueryDict(given, encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidPayload("", "the query string is not UTF-8") from None
    except TooManyFieldsSent:
        raise InvalidPayload("", "the query string has too many parameters") from None


def read_body(request: HttpRequest) -> bytes:
    """The whole body, unpacked if it came with gzip, never more than FLEXMETER_MAX_BODY_BYTES."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise ApiError(415, "validation_error", "Content-Encoding must be gzip or identity", {"content_encoding": encoding})
    limit = conf.MAX_BODY_BYTES
    try:
        body = _received(request, limit)
    except (UnreadablePostError, RawPostDataException, RequestDataTooBig, OSError):
        raise InvalidPayload("", "the body could not be read") from None
    return _unpacked(body, limit) if encoding == "gzip" else body


def _received(request: HttpRequest, limit: int) -> bytes:
    if request._read_started:  # type: ignore[attr-defined]  # a middleware has read it
        body = request.body
    elif _announced(request) > limit:
        raise ApiError(400, "validation_error", TOO_LARGE)
    else:
        body = _read(request, limit + 1)
    if len(body) > limit:
        raise ApiError(400, "validation_error", TOO_LARGE)
    return body


def _announced(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _read(request: HttpRequest, size: int) -> bytes:
    """Bytes of the body; of a chunked one from the server itself, because Django reads nothing without a length."""
    environ = getattr(request, "environ", {})
    if not (environ.get("wsgi.input_terminated") and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()):
        return request.read(size)
    try:
        return bytes(environ["wsgi.input"].read(size))
    except Exception as error:  # servers have errors of their own for chunks that are none
        raise UnreadablePostError(*error.args) from error


def drain(request: HttpRequest) -> None:
    """Take in what nobody has read of the body, within bounds of bytes and time.

    gunicorn cuts a connection on which data waits, and the client would get that instead of the answer. Other servers
    see to it themselves.
    """
    connection = getattr(request, "environ", {}).get("gunicorn.socket")
    if connection is None or hasattr(request, "_body"):
        return
    left, end, timeout = DRAINED_BYTES, time.monotonic() + DRAINED_SECONDS, connection.gettimeout()
    try:
        while left > 0 and (seconds := end - time.monotonic()) > 0:
            connection.settimeout(min(seconds, IDLE_SECONDS))
            received = len(_read(request, CHUNK_BYTES))
            if not received:
                break
            left -= received
    except OSError:  # the client has gone, or sends nothing more
        pass
    finally:
        connection.settimeout(timeout)


def _unpacked(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidPayload("", "the body is not gzip, although Content-Encoding says so") from None
    if len(unpacked) > limit:
        raise ApiError(400, "validation_error", TOO_LARGE)
    if not unpacker.eof:
        raise InvalidPayload("", "the gzip body is cut short")
    if unpacker.unused_data:
        raise InvalidPayload("", "the gzip body goes on after its end")
    return unpacked
