"""flexmeter_import of a JSON Lines file into PostgreSQL, counted by one meter: events/s, and memory at two sizes.

The command runs as a process of its own, and its start counts too. First a tenth of the events is imported, then as many as
FLEXMETER_BENCH_ROWS says (a million), all new. Run: python -m benchmarks.importing
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import start_postgres
from benchmarks.rounds import ROWS, Outcome, check_ledger, report, set_up

from tests.e2e.processes import ROOT

AIM = 20_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
_, status, used = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - start, used.ru_maxrss)
"""
"""A small process: until a child has become another program, the memory of the one that forks it counts as the child's."""


def main() -> None:
    with start_postgres() as postgres, TemporaryDirectory() as directory:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        from tests.factories import make_meter

        make_meter("SUM", event_name="llm_request", field="tokens")
        few, many = Path(directory) / "few.jsonl", Path(directory) / "many.jsonl"
        write_events(few, ROWS // 10)
        write_events(many, ROWS)
        _, memory_of_few = imported(few)
        taken, memory = imported(many)
        check_ledger(ROWS // 10 + ROWS, meters=1)
        report(
            Outcome(
                "importing",
                f"{ROWS / taken:,.0f} events/s; {memory / 1e6:.0f} MB of memory at most for {ROWS:,} events, "
                f"{memory_of_few / 1e6:.0f} MB for {ROWS // 10:,}",
                f"at least {AIM:,} events/s",
                ROWS / taken >= AIM,
                {"rate": ROWS / taken, "events": ROWS, "peak_bytes": memory, "peak_bytes_of_a_tenth": memory_of_few},
            )
        )


def write_events(file: Path, count: int) -> None:
    """A hundred events a minute, with ids in the order of time."""
    chooser = random.Random(7)
    with file.open("w") as lines:
        for number in range(count):
            event = {
                "event_id": f"{file.stem}-{number:012d}",
                "event_name": "llm_request",
                "external_customer_id": f"customer_{chooser.randrange(100)}",
                "timestamp": (BEGIN + timedelta(milliseconds=600 * number)).isoformat(),
                "properties": {"tokens": chooser.randrange(4_000), "model": f"model-{number % 7}", "cached": False},
                "source": "gateway",
            }
            lines.write(json.dumps(event, separators=(",", ":")) + "\n")


def imported(file: Path) -> tuple[float, int]:
    """Seconds that the command took for a file, and bytes of memory it had at most."""
    command = [sys.executable, str(ROOT / "example_project" / "manage.py"), "flexmeter_import", str(file), "--verbosity=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLEXMETER_INGEST": "inline"}
    launched = subprocess.run([sys.executable, "-c", LAUNCHER, *command], env=environment, stdout=subprocess.PIPE, check=True)
    status, taken, used = launched.stdout.splitlines()[-1].split()
    if int(status):
        raise RuntimeError(f"flexmeter_import ended with status {int(status)}.")
    return float(taken), int(used) * MAXRSS_BYTES


if __name__ == "__main__":
    main()
