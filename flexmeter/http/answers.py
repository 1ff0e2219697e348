"""Answers of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

from flexmeter import properties


class Answer(HttpResponse):
    """Strict JSON, whatever was asked for; decimals are numbers with all their digits. None is an empty body."""

    def __init__(self, data: Any = None, status: int = 200, *, headers: Mapping[str, str] | None = None) -> None:
        body = b"" if data is None else properties.dumps(data).encode("utf-8", "replace")
        told = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        super().__init__(body, status=status, headers=told)
        if data is None:
            del self["Content-Type"]
