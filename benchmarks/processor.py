"""Processor time by process, as Linux tells it in /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.databases.servers import children

_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Spent:
    """Seconds of processor time that work has taken so far: of this process, and of others and their children.

    `of` holds nothing where the system does not tell.
    """

    def __init__(self, **processes: int) -> None:
        self.processes = processes
        self.of: dict[str, float] = {}

    def during(self, work: Callable[[], float]) -> float:
        """Do the work, note what it takes, and return what it returns."""
        before = self._now()
        result = work()
        for name, seconds in self._now().items():
            self.of[name] = self.of.get(name, 0.0) + seconds - before.get(name, 0.0)
        return result

    def told(self, times: int) -> str:
        """Milliseconds of each, for one of so many times."""
        return ", ".join(f"{name} {seconds / times * 1e3:.2f}" for name, seconds in self.of.items())

    def _now(self) -> dict[str, float]:
        if not Path("/proc/self/stat").exists():
            return {}
        taken = {name: sum(map(_seconds, (pid, *children(pid)))) for name, pid in self.processes.items()}
        return taken | {"client": time.process_time()}


def postmaster() -> int:
    """The process that has started all others of Django's default database, PostgreSQL on this machine."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        [directory] = cursor.fetchone()
    return int((Path(directory) / "postmaster.pid").read_text().split()[0])


def _seconds(pid: int) -> float:
    """What a process has taken, and children of its that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # before it stands a name
    except OSError:  # it has ended meanwhile, and its parent tells
        return 0.0
    return sum(map(int, fields[11:15])) * _TICK
