"""The machine that is measured on, told with the figures, and a PostgreSQL that is set up for it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from tests.databases import start_postgres as start_small_postgres
from tests.databases.servers import PostgresServer

MEGABYTE = 1024 * 1024


def start_postgres() -> PostgresServer:
    """A PostgreSQL of one's own, set up as its manual advises for many writes, and otherwise as shipped.

    A quarter of the memory is shared buffers, and checkpoints come with the time and not with what was written.
    """
    return start_small_postgres({"shared_buffers": f"{_memory() // 4 // MEGABYTE}MB", "max_wal_size": "8GB"})


def machine() -> str:
    """Processor, memory, and the versions of what was measured with."""
    told = [
        f"{_cores()} cores of {_processor()}",
        f"{_memory() / 1024 / MEGABYTE:.0f} GiB",
        f"Python {platform.python_version()}",
        f"Django {version('django')}",
    ]
    from django.db import connection

    if connection.vendor != "unknown":  # as it is where nothing is stored
        with connection.cursor():
            number = connection.get_database_version()
        told.append(f"{connection.display_name} {'.'.join(map(str, number))}")
    return ", ".join(told)


def _memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
