"""Arrays as PostgreSQL's text for them: for many elements a driver takes longer to write one than the server to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID


def array(values: Iterable[int | datetime]) -> str:
    """Whole numbers or instants."""
    return "{" + ",".join(map(str, values)) + "}"


def text_array(texts: Sequence[str]) -> str:
    """Texts, whatever characters are in them."""
    together = "".join(texts)
    if '"' in together or "\\" in together:
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(texts) + '"}' if texts else "{}"


def mixed_array(values: Sequence[int | Decimal | datetime | UUID | str | None]) -> str:
    """Values of one kind, or nothings."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return text_array(values)  # type: ignore[arg-type]
    if str in kinds:
        return "{" + ",".join("NULL" if value is None else text_array([str(value)])[1:-1] for value in values) + "}"
    if kinds == {type(None)}:
        return "{" + ",".join(["NULL"] * len(values)) + "}"
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"
