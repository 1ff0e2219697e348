"""Middleware that meters requests by their URL, without touching the views."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.module_loading import import_string

from flexmeter.conf import conf
from flexmeter.exchanges import Exchange, ViewMeter, check_measures, complete

_FUNCTIONS = ("customer", "properties", "quantity", "counts", "idempotency_key")
_OPTIONS = frozenset({*_FUNCTIONS, "event_name", "measure", "strict", "environment", "source"})
_CONDITIONS = frozenset({"path", "route", "methods"})


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests are metered, and how: an entry of FLEXMETER_METERED_URLS."""

    meter: ViewMeter
    path: re.Pattern[str] | None
    route: str | None
    methods: frozenset[str]

    def matches(self, request: HttpRequest) -> bool:
        """Whether the request, with its URL resolved, is one of this rule's."""
        if self.methods and request.method not in self.methods:
            return False
        if self.path is not None and not self.path.match(request.path_info):
            return False
        found = request.resolver_match
        return self.route is None or (found is not None and found.view_name == self.route)


def rules_of(setting: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """The rules that a setting describes. Raises ImproperlyConfigured for the first that is none."""
    rules = []
    for index, entry in enumerate(setting):
        try:
            rules.append(_rule(entry))
        except (TypeError, ValueError, ImportError, re.error) as error:
            raise ImproperlyConfigured(f"FLEXMETER_METERED_URLS[{index}]: {error}") from error
    return rules


def _rule(entry: Mapping[str, Any]) -> Rule:
    if unknown := sorted(set(entry) - _OPTIONS - _CONDITIONS):
        raise ValueError(f"{unknown[0]!r} is no option; there are {', '.join(sorted(_OPTIONS | _CONDITIONS))}.")
    if "event_name" not in entry:
        raise ValueError("'event_name' is missing.")
    if not entry.get("path") and not entry.get("route"):
        raise ValueError("'path' or 'route' must say which requests are metered.")
    options = {name: value for name, value in entry.items() if name in _OPTIONS}
    for name in _FUNCTIONS:
        if isinstance(options.get(name), str):
            options[name] = import_string(options[name])
    options["measure"] = check_measures(options.get("measure", ()))
    return Rule(
        ViewMeter(**options),
        re.compile(entry["path"]) if entry.get("path") else None,
        entry.get("route"),
        frozenset(method.upper() for method in entry.get("methods", ())),
    )


class MeterMiddleware:
    """Meters what FLEXMETER_METERED_URLS names, as `meter_view` would around everything that follows in MIDDLEWARE.

    It stands outside the request's transaction: an event is recorded on its own, after the view's transaction has ended,
    also for an answer to an exception. Place it after the middleware that tells who is asking.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._setting: Sequence[Mapping[str, Any]] = conf.METERED_URLS
        self._rules = rules_of(self._setting)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._acall(request)
        exchange = Exchange(request)
        response = self.get_response(request)
        if rule := self._rule_for(request):
            complete(exchange, response)
            rule.meter.answered(exchange)
        return response

    async def _acall(self, request: HttpRequest) -> Any:
        exchange = Exchange(request)
        response = await self.get_response(request)
        if rule := self._rule_for(request):
            complete(exchange, response)
            await sync_to_async(rule.meter.answered)(exchange)
        return response

    def _rule_for(self, request: HttpRequest) -> Rule | None:
        setting = conf.METERED_URLS
        if setting is not self._setting:
            self._setting, self._rules = setting, rules_of(setting)
        return next((rule for rule in self._rules if rule.matches(request)), None)
