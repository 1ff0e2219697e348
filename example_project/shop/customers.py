"""Who is asking. A real project knows it from a session or a key; here curl just says so."""

from __future__ import annotations

from typing import Any


def customer_of(request: Any, response: Any = None) -> str | None:
    """The customer in the header X-Customer; None, so that nothing is metered, where there is none."""
    return request.headers.get("X-Customer") or None
