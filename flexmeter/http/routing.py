"""How routes are written: every path works with and without a trailing slash, and nothing redirects."""

from __future__ import annotations

from django.urls import URLPattern, re_path

from flexmeter.http.base import ApiView


def routes(path: str, view: type[ApiView], name: str) -> list[URLPattern]:
    """A path as clients write it, and with a slash behind it, which the schema of the API leaves out."""
    return [
        re_path(rf"^{path}\Z", view.as_view(), name=name),
        re_path(rf"^{path}/\Z", view.as_view(schema=None)),
    ]
