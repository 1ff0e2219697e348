"""Arrays as PostgreSQL's text for them: for many elements a driver takes longer to write one than the server to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime


def array(values: Iterable[int | datetime]) -> str:
    """Whole numbers or instants."""
    return "{" + ",".join(map(str, values)) + "}"


def text_array(texts: Sequence[str]) -> str:
    """Texts, whatever characters are in them."""
    together = "".join(texts)
    if '"' in together or "\\" in together:
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(texts) + '"}' if texts else "{}"
