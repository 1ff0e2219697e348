"""What comes while a thread stores is stored with it or after it, whatever becomes of the others."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from queue import Queue
from random import Random
from unittest.mock import patch

import pytest
from django.db import connections

from flexmeter.ingest import ingest
from flexmeter.keys import create_key
from flexmeter.maintenance.verification import verify
from flexmeter.models import Event, now
from flexmeter.queries import Scope, UsageQuery
from flexmeter.recording import record
from flexmeter.stores.database.few import FewWriter, PostgresFewWriter
from flexmeter.stores.database.together import Together
from flexmeter.usage import usage

from tests.factories import NOON, make_event, make_meter
from tests.http.client import Api
from tests.http.client import make_event as make_members
from tests.polling import eventually

THREADS = 6


class Slow(FewWriter):
    """Stores what it is told to store, when it is told: by the first event's id."""

    MOST_EVENTS = 100

    def __init__(self) -> None:
        super().__init__("default")
        self.begun: list[list[str]] = []
        self.began_at: list[datetime] = []
        self.answers: dict[str, Queue[bool | Exception]] = defaultdict(Queue)

    def write(self, environment, events, now):
        self.began_at.append(now)
        self.begun.append([event.event_id for event in events])
        answer = self.answers[events[0].event_id].get(timeout=60)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, first_id: str, answer: bool | Exception = True) -> None:
        self.answers[first_id].put(answer)


class Callers:
    """Threads that bring events, one after another: each is writing or waiting before the next one comes."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.together, self.writer, self.pool = Together(), Slow(), pool

    def bring(self, *ids: str, environment: str = "default") -> Future[bool]:
        seen = self._seen()
        future = self.come(*ids, environment=environment)
        eventually(lambda: self._seen() > seen)
        return future

    def come(self, *ids: str, environment: str = "default") -> Future[bool]:
        events = [make_event(event_id) for event_id in ids]
        return self.pool.submit(self.together.write, self.writer, environment, events)

    def _seen(self) -> int:
        waiting = [len(writing.waiting) for writing in self.together._writing.values()]
        return len(self.writer.begun) + sum(waiting)


@pytest.fixture
def callers(monkeypatch):
    monkeypatch.setattr(Together, "PATIENCE_SECONDS", 60.0)
    with ThreadPoolExecutor(THREADS) as pool:
        yield Callers(pool)


def results(futures):
    return [future.result(timeout=60) for future in futures]


def test_what_comes_meanwhile_is_stored_by_the_first_of_it(callers):
    futures = [callers.bring("a"), callers.bring("b"), callers.bring("c"), callers.bring("d", "e")]
    callers.writer.answer("a")
    callers.writer.answer("b")
    assert results(futures) == [True] * 4
    assert callers.writer.begun == [["a"], ["b", "c", "d", "e"]]
    assert callers.together._writing == {}


def test_nothing_is_stored_before_it_came(callers):
    futures = [callers.bring("a"), callers.bring("b")]
    accepted_at = now()  # of what comes last
    futures.append(callers.bring("c"))
    callers.writer.answer("a")
    callers.writer.answer("b")
    assert results(futures) == [True] * 3
    assert callers.writer.begun[1] == ["b", "c"]
    assert callers.writer.began_at[1] >= accepted_at


@pytest.mark.parametrize("answer", [True, False])
def test_what_comes_alone_goes_alone(callers, answer):
    for number in (1, 2):
        callers.writer.answer(f"e{number}", answer)
        assert callers.come(f"e{number}").result(timeout=60) is answer
    assert callers.writer.begun == [["e1"], ["e2"]]


@pytest.mark.parametrize("answer", [False, ValueError("of one of them")], ids=["refused", "raised"])
def test_what_cannot_be_stored_with_others_goes_alone(callers, answer):
    futures = [callers.bring("a"), callers.bring("b"), callers.bring("c")]
    callers.writer.answer("b", answer)
    callers.writer.answer("b", False)
    for each in ("a", "c"):
        callers.writer.answer(each)
    assert results(futures) == [True, False, True]
    assert callers.writer.begun[:2] == [["a"], ["b", "c"]]
    assert sorted(callers.writer.begun[2:]) == [["b"], ["c"]]


def test_what_cannot_be_stored_alone_is_its_own_affair(callers):
    futures = [callers.bring("a"), callers.bring("b")]
    callers.writer.answer("a", ValueError("a is to blame"))
    callers.writer.answer("b")
    with pytest.raises(ValueError, match="a is to blame"):
        futures[0].result(timeout=60)
    assert futures[1].result(timeout=60)
    assert callers.writer.begun == [["a"], ["b"]]


def test_there_is_room_for_so_many_events(callers, monkeypatch):
    monkeypatch.setattr(Slow, "MOST_EVENTS", 3)
    futures = [callers.bring("a"), callers.bring("b"), callers.bring("c"), callers.bring("d", "e"), callers.bring("f")]
    for each in ("a", "b", "d"):
        callers.writer.answer(each)
    assert results(futures) == [True] * 5
    assert callers.writer.begun == [["a"], ["b", "c"], ["d", "e", "f"]]


def test_what_is_too_much_for_one_transaction_waits_for_nobody(callers, monkeypatch):
    monkeypatch.setattr(Slow, "MOST_EVENTS", 2)
    first = callers.bring("a")
    callers.writer.answer("b", False)
    assert not callers.come("b", "c", "d").result(timeout=60)
    assert not first.done()
    callers.writer.answer("a")
    assert first.result(timeout=60)
    assert callers.writer.begun == [["a"], ["b", "c", "d"]]


def test_environments_do_not_wait_for_each_other(callers):
    futures = [callers.bring("a", environment="one"), callers.bring("b", environment="two")]
    assert callers.writer.begun == [["a"], ["b"]]
    for each in ("a", "b"):
        callers.writer.answer(each)
    assert results(futures) == [True, True]


def test_nobody_waits_behind_what_has_taken_long(callers, monkeypatch):
    futures = [callers.bring("a"), callers.bring("b")]
    monkeypatch.setattr(Together, "PATIENCE_SECONDS", 0.0)
    callers.writer.answer("c")
    assert callers.come("c").result(timeout=60)
    assert not any(future.done() for future in futures)
    for each in ("a", "b"):
        callers.writer.answer(each)
    assert results(futures) == [True, True]
    assert callers.writer.begun == [["a"], ["c"], ["b"]]


def test_who_has_waited_long_enough_goes_alone(callers, monkeypatch):
    first = callers.bring("a")
    monkeypatch.setattr(Together, "PATIENCE_SECONDS", 0.2)
    callers.together._writing["default", "default"].since += 60  # it is this one's patience that ends
    callers.writer.answer("b")
    assert callers.come("b").result(timeout=60)
    assert not first.done()
    callers.writer.answer("a")
    assert first.result(timeout=60)
    assert (callers.writer.begun, callers.together._writing) == ([["a"], ["b"]], {})


def test_who_is_taken_along_waits_however_long_it_takes(callers, monkeypatch):
    futures = [callers.bring("a"), callers.bring("b")]
    monkeypatch.setattr(Together, "PATIENCE_SECONDS", 0.2)
    callers.together._writing["default", "default"].since += 60
    futures.append(callers.bring("c"))
    callers.writer.answer("a")
    eventually(lambda: callers.writer.begun == [["a"], ["b", "c"]])
    with pytest.raises(TimeoutError):
        futures[2].result(timeout=0.4)
    callers.writer.answer("b")
    assert results(futures) == [True, True, True]


class Interrupted(BaseException):
    """As a server's timeout is, or what ends a process."""


def test_a_waiter_that_is_interrupted_waits_no_longer(callers):
    futures = [callers.bring("a")]
    with patch("flexmeter.stores.database.together._Call.wait", side_effect=Interrupted), pytest.raises(Interrupted):
        callers.come("b").result(timeout=60)
    futures.append(callers.bring("c"))
    for each in ("a", "c"):
        callers.writer.answer(each)
    assert results(futures) == [True, True]
    assert callers.writer.begun == [["a"], ["c"]]


def test_a_waiter_that_is_interrupted_in_its_turn_passes_it_on(callers):
    appointed = threading.Event()

    def wait(call, seconds):
        eventually(lambda: call.leads)
        appointed.set()
        raise Interrupted

    first = callers.bring("a")
    with patch("flexmeter.stores.database.together._Call.wait", wait):
        doomed = callers.bring("b")
        callers.writer.answer("a")
        assert appointed.wait(60)
    with pytest.raises(Interrupted):
        doomed.result(timeout=60)
    callers.writer.answer("c")
    assert results([first, callers.come("c")]) == [True, True]
    assert (callers.writer.begun, callers.together._writing) == ([["a"], ["c"]], {})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_of_its_parent():
    from flexmeter.stores.database.together import together

    with together._guard:
        together._writing["default", "default"] = None  # as if a thread were at it
        child = os.fork()
        if not child:
            os._exit(0 if together._guard.acquire(blocking=False) and not together._writing else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        together._writing.clear()


def in_threads(work: Sequence[Callable[[], object]]) -> list[object]:
    """What each of them returns; all begin at once, and leave no connection behind."""
    ready = threading.Barrier(len(work), timeout=60)

    def run(each: Callable[[], object]) -> object:
        try:
            ready.wait()
            return each()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(work)) as pool:
        return results([pool.submit(run, each) for each in work])


@pytest.mark.django_db(transaction=True)
def test_all_that_threads_bring_is_counted_once(monkeypatch):
    """New customers, repeats and values that replace, all at once."""
    sizes: list[int] = []

    def noted(self, environment, events, now, write=PostgresFewWriter.write):
        sizes.append(len(events))
        return write(self, environment, events, now)

    monkeypatch.setattr(PostgresFewWriter, "write", noted)
    meters = [make_meter("SUM", field="n"), make_meter("COUNT_UNIQUE", field="n"), make_meter("LATEST", field="n")]
    chooser = Random(5)
    brought = [
        make_event(f"e{min(number, chooser.randrange(800))}", external_customer_id=f"c{number % 7}", properties={"n": number})
        for number in range(400)
    ]

    def bring(events):
        for event in events:
            ingest([event], shared=True)

    in_threads([lambda events=brought[place::THREADS]: bring(events) for place in range(THREADS)])
    assert set(Event.objects.values_list("event_id", flat=True)) == {event.event_id for event in brought}
    assert list(verify()) == []
    assert sum(usage_of(meters[0], f"c{number}").event_count for number in range(7)) == Event.objects.count()
    if connections["default"].vendor == "postgresql":
        assert max(sizes) > 1


def usage_of(meter, customer):
    return usage(UsageQuery(meter.rule(), Scope("default", customer), NOON - timedelta(days=1), NOON + timedelta(days=1)))


@pytest.mark.django_db(transaction=True)
def test_what_code_records_shares_no_transaction(monkeypatch):
    brought = []

    def noted(self, writer, environment, events):
        brought.extend(event.event_id for event in events)
        return False

    monkeypatch.setattr(Together, "write", noted)
    record("tokens", "acme", idempotency_key="from code")
    api = Api(create_key("API", environment="default").secret)
    assert api.post("/events", make_members("from the API")).status == 202
    assert brought == ["from the API"]
    assert Event.objects.count() == 2
