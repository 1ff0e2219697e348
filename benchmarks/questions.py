"""Questions about usage on ten million events: flexmeter, against SQL over the raw events, and against ClickHouse.

All three hold the same events and have to give the same answers. PostgreSQL is asked by hand-written statements over the
event table and its indexes; ClickHouse, in this process, holds a row for every meter and event as FlexPrice lays them out,
asked with FINAL. Each side is asked twice in a row, and the second time counts, for a server of usage answers one question
after the other; how long the first took, in processor caches that another side has filled, is told of ours. The same
questions are also asked of a ledger of a tenth of the size. Run: python -m benchmarks.questions
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from benchmarks import large
from benchmarks.rounds import Outcome, medians, medians_told, report, seconds_twice
from benchmarks.sides import END, START, columnar
from benchmarks.sides.apart import Apart
from benchmarks.sides.ledgers import SIZES, TENTH, WHOLE, Chosen, two_ledgers
from benchmarks.sides.ours import Ours
from benchmarks.sides.raw_events import RawEvents

ROUNDS: Final = 9
QUICK_ROUNDS: Final = 25
MOST_GROWTH: Final = 1.3
RAW_SHARE: Final = 1.2
TIMES_BY_DIMENSION: Final = 50
PAGE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Question:
    """A question that every side answers by the method of that name, and how many times as fast as the others we aim at."""

    method: str
    told: str
    times_raw: float
    times_columnar: float


QUESTIONS: Final = (
    Question("sum_by_day", "SUM of a customer by day", 200, 30),
    Question("unique_by_day", "COUNT_UNIQUE of a customer by day", 15, 4),
    Question("unique_over_month", "COUNT_UNIQUE of a customer over the month", 15, 4),
    Question("max_by_hour", "MAX of a customer by hour, summed", 50, 10),
    Question("top_customers", "top 10 customers", 50, 10),
    Question("everyone_by_day", "SUM of all customers by day", 50, 10),
)


def main() -> None:
    with two_ledgers(), ExitStack() as stack:
        ours, tenth = Ours(WHOLE), Ours(TENTH)
        raw = RawEvents()
        others: list[Any] = [raw]
        if lacking := columnar.missing():
            print(f"questions: ClickHouse is left out, for it needs {lacking}; not installed here", file=sys.stderr, flush=True)
        else:
            table = stack.enter_context(columnar.filled())
            others += table, table.counting(columnar.ROWS)
        found = []
        for question in QUESTIONS:
            found += compared(question, ours, others)
            found.append(grown(question.told, getattr(ours, question.method), getattr(tenth, question.method)))
        found += [raw_path(ours, raw), *pages()]
        Chosen.alias = WHOLE
        report(*found, *by_dimension(Apart(ours.meters["SUM"])))


def compared(question: Question, ours: Ours, others: list[Any]) -> Iterator[Outcome]:
    """How many times as fast as each of the others we are; the last of them is only told of."""
    asked = [getattr(side, question.method) for side in (ours, *others)]
    agree(question.told, *asked)
    firsts: list[float] = []

    def again(ask: Callable[[], Any]) -> float:
        first, second = seconds_twice(ask)
        if ask is asked[0]:
            firsts.append(first)
        return second

    own, *theirs = medians_told(*(partial(again, ask) for ask in asked), rounds=ROUNDS)
    cold = statistics.median(firsts[1:])
    counting_rows = f"; {theirs[2] * 1e3:.1f} ms where it counts rows, not distinct ids" if theirs[2:] else ""
    notes = ("", counting_rows)
    for side, taken, times, note in zip(others, theirs, (question.times_raw, question.times_columnar), notes, strict=False):
        yield Outcome(
            f"{question.told}, against {side.name}",
            f"{own * 1e3:.2f} ms ({cold * 1e3:.2f} ms the first time), {taken / own:.1f} times as fast "
            f"({taken * 1e3:.1f} ms{note}) on {large.EVENTS:,} events",
            f"at least {times:g} times",
            taken / own >= times,
            {"seconds": own, "first_seconds": cold, "baseline_seconds": taken, "times": taken / own, "events": large.EVENTS},
        )


def agree(told: str, *asked: Callable[[], Any]) -> None:
    """Raise unless all give the same answer, and one at all."""
    first, *others = (ask() for ask in asked)
    if not first:
        raise RuntimeError(f"{told}: no answer.")
    for other in others:
        if other != first:
            differing = [pair for pair in zip(first, other, strict=False) if pair[0] != pair[1]]
            raise RuntimeError(f"{told}: {len(first)} and {len(other)} rows, of which differ {differing[:3]}.")


def grown(told: str, whole: Callable[[], Any], tenth: Callable[[], Any]) -> Outcome:
    """How much longer it takes on ten times the events."""
    large_one, small_one = medians(whole, tenth, rounds=QUICK_ROUNDS)
    ratio = large_one / small_one
    return Outcome(
        f"{told}, growth",
        f"{large_one * 1e3:.2f} ms on {SIZES[WHOLE]:,} events, {ratio:.2f} times as long as on {SIZES[TENTH]:,} "
        f"({small_one * 1e3:.2f} ms)",
        f"at most {MOST_GROWTH} times",
        ratio <= MOST_GROWTH,
        {"seconds": large_one, "tenth_seconds": small_one, "ratio": ratio, "events": SIZES[WHOLE]},
    )


def raw_path(ours: Ours, raw: RawEvents) -> Outcome:
    """A filter and a group that no rollup keeps apart, against SQL for that very question."""
    told = "SUM of a customer by a property, filtered by another"
    agree(told, ours.filtered_by_group, raw.filtered_by_group)
    own, taken = medians(ours.filtered_by_group, raw.filtered_by_group, rounds=ROUNDS)
    return Outcome(
        f"{told}, against {raw.name}",
        f"{own * 1e3:.0f} ms, {own / taken:.2f} times as long ({taken * 1e3:.0f} ms) on {large.EVENTS:,} events",
        f"at most {RAW_SHARE} times",
        own / taken <= RAW_SHARE,
        {"seconds": own, "baseline_seconds": taken, "ratio": own / taken, "events": large.EVENTS},
    )


def by_dimension(asked: Apart) -> Iterator[Outcome]:
    """A filter and a group by what a meter keeps apart, against the same from events."""
    for told, own_answer, from_events in (
        ("SUM of a customer by day, filtered by a dimension", asked.filtered, asked.filtered_from_events),
        ("SUM of a customer by day, grouped by a dimension", asked.grouped, asked.grouped_from_events),
    ):
        agree(told, own_answer, from_events)
        own, taken = medians(own_answer, from_events, rounds=ROUNDS)
        yield Outcome(
            f"{told}, against the raw path",
            f"{own * 1e3:.2f} ms, {taken / own:.1f} times as fast ({taken * 1e3:.1f} ms) on {large.EVENTS:,} events",
            f"at least {TIMES_BY_DIMENSION:g} times",
            taken / own >= TIMES_BY_DIMENSION,
            {"seconds": own, "baseline_seconds": taken, "times": taken / own, "events": large.EVENTS},
        )


def pages() -> Iterator[Outcome]:
    """The first page of a customer's events, and single events by their ids, through the whole of Django."""
    readers = {alias: Reader(alias) for alias in SIZES}
    for told, method in (("event query, first page of a customer", "page"), ("event by id", "event")):
        whole, tenth = (getattr(readers[alias], method) for alias in (WHOLE, TENTH))
        growth = grown(told, whole, tenth)
        taken = growth.figures["seconds"]
        yield Outcome(
            told,
            f"{taken * 1e3:.1f} ms on {large.EVENTS:,} events",
            f"below {PAGE_SECONDS * 1e3:.0f} ms",
            taken < PAGE_SECONDS,
            {"seconds": taken, "events": large.EVENTS},
        )
        yield growth


class Reader:
    """Reads events of the ledger behind an alias over HTTP, without a network."""

    def __init__(self, alias: str) -> None:
        from django.test import Client

        from flexmeter.events import format_timestamp
        from flexmeter.keys import create_key

        self.alias = alias
        self.client = Client(headers={"x-api-key": create_key("bench", environment="default", using=alias).secret})
        self.chooser = random.Random(7)
        self.question = {
            "external_customer_id": large.BUSY,
            "start_time": format_timestamp(START),
            "end_time": format_timestamp(END),
        }

    def page(self) -> None:
        Chosen.alias = self.alias
        answer = self.client.post("/v1/events/query", self.question, content_type="application/json")
        if answer.status_code != 200 or len(answer.json()["events"]) != 50:
            raise RuntimeError(f"The event query answered {answer.status_code}: {answer.content[:500]!r}")

    def event(self) -> None:
        Chosen.alias = self.alias
        event_id = f"event_{self.chooser.randrange(SIZES[self.alias]):026d}"
        answer = self.client.get(f"/v1/events/{event_id}")
        if answer.status_code != 200 or answer.json()["event"]["id"] != event_id:
            raise RuntimeError(f"The look-up answered {answer.status_code}: {answer.content[:500]!r}")


if __name__ == "__main__":
    main()
