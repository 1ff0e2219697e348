"""Limits per key, counted by the minute in Django's default cache; none by default."""

from __future__ import annotations

import logging
import time

from django.core.cache import cache
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from flexmeter.conf import conf
from flexmeter.http.authentication import Credentials

logger = logging.getLogger("flexmeter.http")

MINUTE = 60


class KeyThrottle(BaseThrottle):
    """At most FLEXMETER_REQUESTS_PER_MINUTE requests of one key."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        limit = conf.REQUESTS_PER_MINUTE
        if limit is None or not isinstance(request.auth, Credentials):
            return True
        return spent("requests", request.auth.subject, 1) <= limit

    def wait(self) -> float:
        return seconds_left()


def charge_events(credentials: Credentials, events: int) -> None:
    """Count events against FLEXMETER_EVENTS_PER_MINUTE before they are stored. Raises Throttled: nothing was taken."""
    limit = conf.EVENTS_PER_MINUTE
    if limit is not None and spent("events", credentials.subject, events) > limit:
        raise Throttled(wait=seconds_left())


def spent(kind: str, subject: str, amount: int) -> int:
    """Add to what a subject has spent in the current minute, and return the sum; 0 while the cache is out of reach."""
    key = f"flexmeter:{kind}:{subject}:{int(time.time()) // MINUTE}"
    try:
        cache.add(key, 0, timeout=2 * MINUTE)
        try:
            return int(cache.incr(key, amount))
        except ValueError:  # the cache dropped it between the two calls
            cache.set(key, amount, timeout=2 * MINUTE)
            return amount
    except Exception as error:  # noqa: BLE001  # each cache has errors of its own, and none is worth an event
        logger.warning("Limits are not kept: the cache does not answer (%s)", type(error).__name__)
        return 0


def seconds_left() -> float:
    """Seconds until the current minute ends."""
    return MINUTE - time.time() % MINUTE
