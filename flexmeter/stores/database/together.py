"""One transaction for the few events of several requests: of those that come while this process is storing others.

As a database's log is flushed for all who commit meanwhile, so what waits for one transaction shares the next. Nobody waits
where nothing is being stored, and what comes alone goes alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from threading import Lock
from typing import ClassVar, NamedTuple

from flexmeter.events import UsageEvent
from flexmeter.models import now
from flexmeter.stores.database.few import FewWriter


class _Place(NamedTuple):
    alias: str
    environment: str


class _Call:
    """Events of a thread that waits: until another one has stored them, or for its own turn to store what waits."""

    def __init__(self, events: Sequence[UsageEvent]) -> None:
        self.events = events
        self.stored = self.leads = False
        self._asleep = Lock()
        self._asleep.acquire()

    def wait(self, seconds: float) -> bool:
        """Whether it was woken in this time; negative: however long it takes."""
        return self._asleep.acquire(timeout=seconds)

    def wake(self) -> None:
        self._asleep.release()


class _Writing:
    """What is going on at a place: since when a thread has been writing, and who waits for it."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.waiting: list[_Call] = []


class Together:
    """Lets one thread at a time write, with what has come meanwhile; then it is the turn of the one that came next."""

    PATIENCE_SECONDS: ClassVar[float] = 0.1
    """For another thread's transaction: one that takes longer waits for somebody itself, and nobody shall wait behind it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a process that has none of the threads."""
        self._guard = Lock()
        self._writing: dict[_Place, _Writing] = {}

    def write(self, writer: FewWriter, environment: str, events: Sequence[UsageEvent]) -> bool:
        """As FewWriter's: others' events make no difference, but that these may wait as long as PATIENCE_SECONDS for them.

        Once another thread has taken them along, they wait until it is done.
        """
        if len(events) > writer.MOST_EVENTS:
            return writer.write(environment, events, now())
        place = _Place(writer.alias, environment)
        call = _Call(events)
        if self._begins(place, call) or self._comes_to_lead(place, call):
            return self._lead(place, call, writer)
        return call.stored or writer.write(environment, events, now())

    def _begins(self, place: _Place, call: _Call) -> bool:
        """Whether nobody writes there, so that this one begins; else it waits, unless that has taken too long already."""
        with self._guard:
            writing = self._writing.get(place)
            if writing is None:
                self._writing[place] = _Writing()
                return True
            if time.monotonic() - writing.since < self.PATIENCE_SECONDS:
                writing.waiting.append(call)
            else:
                call.wake()
            return False

    def _comes_to_lead(self, place: _Place, call: _Call) -> bool:
        """Wait, and tell whether it is this one's turn then."""
        try:
            if not call.wait(self.PATIENCE_SECONDS) and not self._withdraws(place, call):
                call.wait(-1)
        except BaseException:  # such as a timeout of the server's
            if not self._withdraws(place, call) and call.leads:
                self._pass_on(place)
            raise
        return call.leads

    def _withdraws(self, place: _Place, call: _Call) -> bool:
        """Whether it waits no longer, for nobody has taken it along."""
        with self._guard:
            writing = self._writing.get(place)
            if writing is None or call not in writing.waiting:
                return False
            writing.waiting.remove(call)
            return True

    def _lead(self, place: _Place, call: _Call, writer: FewWriter) -> bool:
        """Write what waits, and let the next one lead."""
        with self._guard:
            others = self._taken_along(self._writing[place], writer.MOST_EVENTS - len(call.events))
        stored = False
        try:
            stored = writer.write(place.environment, [event for each in (call, *others) for event in each.events], now())
        except Exception:
            if not others:  # of which one may have led to it: then each goes alone
                raise
        finally:
            self._pass_on(place)
            for each in others:
                each.stored = stored
                each.wake()
        return stored or (bool(others) and writer.write(place.environment, call.events, now()))

    def _taken_along(self, writing: _Writing, room: int) -> list[_Call]:
        """The first of those who wait, as long as there is room for their events."""
        number = 0
        for each in writing.waiting:
            room -= len(each.events)
            if room < 0:
                break
            number += 1
        others = writing.waiting[:number]
        del writing.waiting[:number]
        return others

    def _pass_on(self, place: _Place) -> None:
        """Have the next one lead, if anybody waits."""
        with self._guard:
            writing = self._writing[place]
            if not writing.waiting:
                del self._writing[place]
                return
            heir = writing.waiting.pop(0)
            writing.since = time.monotonic()
            heir.leads = True
        heir.wake()


together = Together()
os.register_at_fork(after_in_child=together.forget)
