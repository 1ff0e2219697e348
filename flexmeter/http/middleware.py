"""Middleware that brings events to the API past the rest of the project's middleware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, ResolverMatch, get_resolver

ROUTES = ("flexmeter-events", "flexmeter-events-bulk")
"""Names of the routes in `flexmeter.urls` whose POST requests are answered here."""


class IngestionMiddleware:
    """Answers `POST /events` and `POST /events/bulk` from its place in MIDDLEWARE: what comes after it there never sees them.

    They bring a key of their own, and want neither a session nor a user, so most of what a project's middleware does for a
    page is lost on them. Place it behind what has to see every request, such as SecurityMiddleware. All other requests go
    on, and so do these where `flexmeter.urls` is included in a namespace.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        match = _match(request)
        if match is None:
            return self.get_response(request)
        request.resolver_match = match
        view = sync_to_async(match.func) if self._is_async else match.func
        return view(request, *match.args, **match.kwargs)


def _match(request: HttpRequest) -> ResolverMatch | None:
    """The view that takes the events of this request, if there is one."""
    if request.method != "POST":
        return None
    return _matches(getattr(request, "urlconf", settings.ROOT_URLCONF)).get(request.path_info)


@cache
def _matches(urlconf: Any) -> Mapping[str, ResolverMatch]:
    """By path, with and without a slash behind it."""
    resolver = get_resolver(urlconf)
    found: dict[str, ResolverMatch] = {}
    for name in ROUTES:
        try:
            path = f"/{resolver.reverse(name)}"
        except NoReverseMatch:
            continue
        for each in (path, f"{path}/"):
            found[each] = resolver.resolve(each)
    return found
