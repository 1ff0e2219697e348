"""Commands as a test runs them: in this process, or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

from tests.e2e.processes import hear_signals

MANAGE = Path(__file__).resolve().parents[2] / "example_project" / "manage.py"


@dataclass
class Outcome:
    """What a command printed, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def run(command: str, *arguments: object) -> Outcome:
    """Run a command in this process, on the test's connection."""
    out, err, status = StringIO(), StringIO(), 0
    try:
        call_command(command, *map(str, arguments), stdout=out, stderr=err)
    except CommandError as error:
        status = error.returncode
        err.write(str(error))
    return Outcome(status, out.getvalue(), err.getvalue())


def start(database_url: str, command: str, *arguments: object, **popen: Any) -> subprocess.Popen[Any]:
    """Start a command in a process of its own."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": str(MANAGE.parents[1]),
    }
    popen = {"env": environment, "preexec_fn": hear_signals, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    return subprocess.Popen([sys.executable, str(MANAGE), command, *map(str, arguments)], **popen)


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Outcome:
    """Wait for a started command."""
    out, err = process.communicate(stdin, timeout=300)
    return Outcome(process.returncode, out.decode(), err.decode())


def write_jsonl(path: Path, *rows: Mapping[str, Any] | str) -> Path:
    """A file with a line for each row; texts are written as they are."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path
