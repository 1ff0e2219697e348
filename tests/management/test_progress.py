"""What a command says while it works."""

from __future__ import annotations

import io

import pytest
from django.core.management.base import OutputWrapper

from flexmeter.management.progress import Progress


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


def test_rate_and_time_left_follow_from_what_was_done_since_the_beginning(clock):
    stream = io.StringIO()
    with Progress(OutputWrapper(stream), "usage.csv", "rows", clock=clock) as progress:
        progress.begin(500, 0.5)
        for second in range(1, 11):
            clock.seconds = second
            progress.show(500 + 10 * second, 0.5 + 0.01 * second, "3 rejected")
    assert stream.getvalue() == "usage.csv: 600 rows, 3 rejected, 10/s, 60%, 0:40 left\n"


def test_hours_are_told_as_hours(clock):
    progress = Progress(OutputWrapper(io.StringIO()), "usage.csv", "rows", clock=clock)
    progress.begin()
    assert progress.line(1_000, 0.001, "", 10.0).endswith("1,000 rows, 100/s, 0%, 2:46:30 left")


def test_without_a_known_end_there_is_no_time_left(clock):
    progress = Progress(OutputWrapper(io.StringIO()), "standard input", "rows", clock=clock)
    progress.begin()
    assert progress.line(1_000, None, "", 10.0) == "standard input: 1,000 rows, 100/s"


def test_a_terminal_sees_one_line_that_changes(clock):
    stream = Terminal()
    with Progress(OutputWrapper(stream), "a", "rows", clock=clock) as progress:
        progress.begin()
        for done in (1_000, 1_000, 4):
            clock.seconds += 0.5
            progress.show(done, note="some rejected" if done == 1_000 else "")
            progress.show(done)  # too soon
    first = "a: 1,000 rows, some rejected, 2,000/s"
    second = "a: 1,000 rows, some rejected, 1,000/s"
    assert stream.getvalue() == f"\r{first}\r{second}\r" + "a: 4 rows, 3/s".ljust(len(second)) + "\n"


def test_silence_when_it_is_asked_for(clock):
    stream = io.StringIO()
    with Progress(OutputWrapper(stream), "a", "rows", shown=False, clock=clock) as progress:
        clock.seconds = 100
        progress.show(5)
    assert stream.getvalue() == ""
