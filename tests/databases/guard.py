"""Waits for the end of its standard input, then kills what runs in a directory and removes it.

The one who starts it holds the other end, which the kernel closes with that process.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:  # no such file system here, or the process ended just now
        return not Path("/proc/self").exists()
    return state != "Z"


def kill_all(directory: Path) -> None:
    for file in directory.glob("*.pid"):
        with suppress(ValueError, FileNotFoundError, ProcessLookupError):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 60
            while is_alive(pid) and time.monotonic() < end:
                time.sleep(0.01)


def remove(directory: Path) -> None:
    """Orphans of a killed server may still write for a moment."""
    end = time.monotonic() + 60
    while directory.exists() and time.monotonic() < end:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    kill_all(Path(sys.argv[1]))
    remove(Path(sys.argv[1]))
