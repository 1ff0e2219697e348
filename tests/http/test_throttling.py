"""Limits per key: 429 with Retry-After, and nothing of the request is taken."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache

from flexmeter.http import throttling
from flexmeter.keys import create_key
from flexmeter.models import Event

from tests.http.client import Answer, Api, make_event


class BrokenCache(LocMemCache):
    """A cache whose server is away."""

    def add(self, *given: Any, **named: Any) -> bool:
        raise ConnectionError("secret-host:6379")


class Clock:
    now = 1_000_000_020.0  # a whole minute

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throttling, "time", SimpleNamespace(time=clock.time))
    return clock


def assert_throttled(answer: Answer, seconds: int) -> None:
    assert (answer.status, answer.body["code"]) == (429, "too_many_requests")
    assert answer.headers["Retry-After"] == str(seconds)


def test_there_is_no_limit_by_default(api: Api, clock: Clock):
    for _ in range(50):
        assert api.get("/meters").status == 200


def test_requests_beyond_the_limit_are_refused_until_the_minute_is_over(api: Api, clock: Clock, settings):
    settings.FLEXMETER_REQUESTS_PER_MINUTE = 3
    clock.now += 20
    assert [api.post("/events", make_event(f"e{number}")).status for number in range(3)] == [202, 202, 202]
    assert_throttled(api.post("/events", make_event("e3")), 40)
    assert_throttled(api.get("/meters"), 40)
    assert Event.objects.count() == 3
    clock.now += 39.9
    assert_throttled(api.get("/meters"), 1)
    clock.now += 0.1
    assert api.post("/events", make_event("e3")).status == 202


def test_each_key_has_its_own_limit(api: Api, clock: Clock, settings):
    settings.FLEXMETER_REQUESTS_PER_MINUTE = 1
    other = Api(create_key("other", environment="main").secret)
    assert api.get("/meters").status == other.get("/meters").status == 200
    assert api.get("/meters").status == other.get("/meters").status == 429


def test_what_is_refused_for_its_key_or_is_a_preflight_costs_nothing(api: Api, nobody: Api, clock: Clock, settings):
    settings.FLEXMETER_REQUESTS_PER_MINUTE = 1
    for _ in range(3):
        assert nobody.get("/meters").status == 401
        assert api.call("OPTIONS", "/events").status == 200
    assert api.get("/meters").status == 200


def test_events_beyond_the_limit_are_refused_with_their_whole_batch(api: Api, clock: Clock, settings):
    settings.FLEXMETER_EVENTS_PER_MINUTE = 5
    api.accept(*(make_event(f"a{number}") for number in range(4)))
    assert_throttled(api.post("/events/bulk", {"events": [make_event("b1"), make_event("b2")]}), 60)
    assert Event.objects.count() == 4
    clock.now += 60
    api.accept(make_event("b1"), make_event("b2"))
    assert Event.objects.count() == 6


def test_a_bad_batch_costs_nothing(api: Api, clock: Clock, settings):
    settings.FLEXMETER_EVENTS_PER_MINUTE = 2
    for _ in range(3):
        assert api.post("/events/bulk", {"events": [make_event(), make_event(), {}]}).status == 400
    api.accept(make_event(), make_event())


def test_a_throttled_batch_is_not_looked_at_when_requests_are_limited(api: Api, clock: Clock, settings):
    settings.FLEXMETER_REQUESTS_PER_MINUTE = 1
    assert api.get("/meters").status == 200
    assert_throttled(api.post("/events", b"{"), 60)


def test_without_the_cache_there_are_no_limits_but_events(api: Api, settings, caplog: pytest.LogCaptureFixture):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.BrokenCache"}}
    settings.FLEXMETER_REQUESTS_PER_MINUTE = settings.FLEXMETER_EVENTS_PER_MINUTE = 1
    api.accept(make_event(), make_event())
    assert "Limits are not kept" in caplog.text
    assert "secret-host" not in caplog.text
