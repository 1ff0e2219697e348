"""A page of the admin as its reader gets it: parsed, so that a test sees text as text and markup as markup."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.test import Client

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

INLINE = {"a", "bdi", "button", "span", "strong", "time"}


class Page(HTMLParser):
    """`text` is what can be read (`raw` with its white space), `tags` are the elements with their attributes, `links` the
    addresses by their text."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.content = content
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.links: dict[str, str] = {}
        self._texts: list[str] = []
        self._link: tuple[str, list[str]] | None = None
        self._within: list[str] = []
        self.feed(content)
        self.raw = "".join(self._texts)
        self.text = " ".join(self.raw.split())

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._within.append(tag)
        if tag == "a":
            self._link = (dict(attributes).get("href") or "", [])

    def handle_endtag(self, tag: str) -> None:
        if tag not in INLINE:
            self._texts.append(" ")
        assert tag not in VOID
        assert self._within, f"</{tag}> closes nothing"
        assert self._within.pop() == tag, f"</{tag}> closes something else"
        if tag == "a" and self._link:
            self.links[" ".join("".join(self._link[1]).split())] = self._link[0]
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._within and self._within[-1] in ("script", "style"):
            return
        self._texts.append(data)
        if self._link:
            self._link[1].append(data)


def read(client: Client, path: str, query: dict[str, str] | None = None, *, status: int = 200) -> Page:
    """Open a page and hold it against what every page must be: nothing inline that a strict policy would refuse."""
    response = client.get(path, query or {})
    assert response.status_code == status, response
    page = Page(response.content.decode())
    for tag, attributes in page.tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src"), attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
        assert not (attributes.get("href") or "").lower().startswith("javascript:")
    return page
