"""JSON for people to read: indented, exact, and no more of it than fits on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flexmeter.properties import dumps

SHOWN_CHARACTERS = 20_000
INDENT = "  "


class PrettyJson(NamedTuple):
    """Indented JSON; `is_cut` where it breaks off."""

    text: str
    is_cut: bool


def pretty(value: Any, limit: int = SHOWN_CHARACTERS) -> PrettyJson:
    """The beginning of a decoded value as indented JSON, up to `limit` characters."""
    written: list[str] = []
    room = limit
    for token in _tokens(value, "\n"):
        if len(token) > room:
            return PrettyJson("".join([*written, token[:room]]), is_cut=True)
        written.append(token)
        room -= len(token)
    return PrettyJson("".join(written), is_cut=False)


def _tokens(value: Any, newline: str) -> Iterator[str]:
    within = newline + INDENT
    if isinstance(value, Mapping) and value:
        opening = "{"
        for key, item in value.items():
            yield f"{opening}{within}{dumps(str(key))}: "
            yield from _tokens(item, within)
            opening = ","
        yield newline + "}"
    elif isinstance(value, (list, tuple)) and value:
        opening = "["
        for item in value:
            yield opening + within
            yield from _tokens(item, within)
            opening = ","
        yield newline + "]"
    else:
        yield dumps(value)
