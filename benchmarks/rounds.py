"""The project that is measured, alternating rounds of a candidate and its baseline, and what came of them."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import machine

ROWS: Final = int(os.environ.get("FLEXMETER_BENCH_ROWS", "1000000"))
"""How many events are imported, and how many are weighed on disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark found: `told` in words, `figures` for machines, and whether its aim was met."""

    name: str
    told: str
    aim: str
    met: bool
    figures: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        return f"{self.name}: {self.told}; aim {self.aim}: {'met' if self.met else 'MISSED'}"


def set_up(*apps: str) -> None:
    """Set up the example project on DATABASE_URL, with further apps, and migrate its database."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "example_project"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    from django.conf import settings

    settings.INSTALLED_APPS.extend(apps)
    settings.ALLOWED_HOSTS.append("testserver")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


Clock = Callable[[], float]


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """How long one call takes, with the garbage collector out of the way."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        work()
        return clock() - start
    finally:
        gc.enable()


def seconds_twice(work: Callable[[], object]) -> tuple[float, float]:
    """How long one call takes after whatever was done before, and how long a second one right after it."""
    first = seconds(work)
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return first, time.perf_counter() - start
    finally:
        gc.enable()


def medians(*works: Callable[[], object], rounds: int, clock: Clock = time.perf_counter) -> list[float]:
    """Median seconds of each, measured in alternating rounds after one of each that does not count.

    `time.process_time` as clock leaves out what other processes take, for work that waits for nothing.
    """
    return medians_told(*(lambda work=work: seconds(work, clock) for work in works), rounds=rounds)  # type: ignore[misc]


def medians_told(*trials: Callable[[], float], rounds: int) -> list[float]:
    """As `medians`, of what each trial itself says it took or reached, so that it can prepare and check out of the clock."""
    told: list[list[float]] = [[] for _ in trials]
    for number in range(rounds + 1):
        for trial, mine in zip(trials, told, strict=True):
            figure = trial()
            if number:  # the first fills caches
                mine.append(figure)
    return [statistics.median(mine) for mine in told]


def compared(name: str, rate: float, limit: float, *, peer: str, aim: float, unit: str = "events/s", **figures: Any) -> Outcome:
    """What came of a rate and that of its peer: the aim is met by `aim` times the peer's, or more."""
    ratio = rate / limit
    return Outcome(
        name,
        f"{rate:,.0f} {unit}, {ratio:.2f} times {peer} ({limit:,.0f})",
        f"at least {aim} times",
        ratio >= aim,
        {"rate": rate, "baseline_rate": limit, "ratio": ratio, "unit": unit, **figures},
    )


def check_ledger(events: int, *, meters: int, before: int = 0) -> None:
    """Raise unless so many events are stored besides those of `before`, and each is counted once by so many meters.

    Django has to be set up.
    """
    from django.db.models import Sum

    from flexmeter.models import Event, Rollup
    from flexmeter.stores.database.levels import BY_BUCKET, of_levels

    stored = Event.objects.count() - before
    counted = Rollup.objects.filter(of_levels(*BY_BUCKET)).aggregate(events=Sum("count"))["events"] or 0
    if stored != events or counted != events * meters:
        raise RuntimeError(f"{events} events were sent, {stored} stored, and {counted} counted by {meters} meters.")


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def report(*outcomes: Outcome) -> None:
    """Print the outcomes, as JSON with --json, and exit with status 1 if an aim was missed."""
    parser = argparse.ArgumentParser(description="A benchmark: prints the ratio to a baseline measured in the same run.")
    parser.add_argument("--json", action="store_true", help="print one JSON object per outcome")
    options = parser.parse_args()
    measured_on = {"machine": machine()}
    if not options.json:
        print(measured_on["machine"])
    for outcome in outcomes:
        print(json.dumps(asdict(outcome) | measured_on) if options.json else outcome.line())
    missed = sum(not outcome.met for outcome in outcomes)
    if not options.json:
        print(f"{len(outcomes) - missed} aims met, {missed} missed")
    sys.exit(bool(missed))
