"""All benchmarks, or those named: `python -m benchmarks [NAME ...] [--json FILE]`. Status 1 if an aim is missed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.rounds import Outcome

HELPERS = {"large", "layouts", "machine", "processor", "rounds"}
"""Which have no aim."""
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem not in HELPERS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found there too")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    found: list[dict[str, Any]] = []
    broken = 0
    for name in options.names or NAMES:
        run = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json"], stdout=subprocess.PIPE, text=True)
        rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode and all(row["met"] for row in rows):
            print(f"{name}: FAILED with status {run.returncode}", flush=True)
            broken += 1
        if rows and not found:
            print(rows[0]["machine"], flush=True)
        for row in rows:
            print(Outcome(**{each.name: row[each.name] for each in fields(Outcome)}).line(), flush=True)
        found += rows
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    missed = sum(not row["met"] for row in found) + broken
    print(f"{sum(row['met'] for row in found)} aims met, {missed} missed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
