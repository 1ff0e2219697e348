"""A small client of the HTTP API, for one server and one key."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit


class ApiError(Exception):
    """The server did not do what it was asked; `status` is 0 when it could not be reached."""

    def __init__(self, asked: str, status: int, reason: str) -> None:
        super().__init__(f"{asked}: {status or 'no answer'}, {reason}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    base_url: str
    api_key: str = ""
    timeout: timedelta = timedelta(seconds=60)

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
        """The decoded answer, fractions as Decimal. Raises ApiError for anything but a 2xx."""
        return self._request("GET", f"{path}?{urlencode(parameters)}" if parameters else path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """As `get`, with `body` sent as JSON."""
        return self._request("POST", path, json.dumps(body).encode())

    def _request(self, method: str, path: str, body: bytes | None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=self.timeout.total_seconds())
        headers = {"Content-Type": "application/json", "X-API-Key": self.api_key}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{method} {path}", 0, str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise ApiError(f"{method} {path}", response.status, text[:500])
        return json.loads(text, parse_float=Decimal)
