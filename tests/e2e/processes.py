"""Processes of the example project that a test starts, kills and stops: web server, worker, beat."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def hear_signals() -> None:
    """In a child: undo that its parent ignores signals, as a shell has what it starts in the background do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """A program in a session of its own; leaving the `with` block kills it and all it has started."""

    def __init__(self, log: Path, *command: str | Path, environment: Mapping[str, str]) -> None:
        self.log, self.command = log, [str(part) for part in command]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example_project")]),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=hear_signals,
            )
        return self

    def kill(self) -> None:
        """SIGKILL for the process and its children at once."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process
        self.process.terminate()
        status = self.process.wait(180)
        self.kill()
        return status

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


def surroundings(database_url: str, broker_url: str = "", *, ingest: str = "celery") -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "tests.e2e.celery_settings",
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker_url,
        "FLEXMETER_INGEST": ingest,
    }


def celery(log: Path, *arguments: str | Path, environment: Mapping[str, str]) -> Process:
    return Process(log, BIN / "celery", "--app", "config", *arguments, environment=environment)


def worker(directory: Path, environment: Mapping[str, str], *, beat: bool = True) -> Process:
    """A worker of two processes, with the beat in it."""
    options = ["--beat", "--schedule", directory / "beat"] if beat else []
    return celery(
        directory / "worker.log", "worker", *options, "--concurrency", "2", "--loglevel", "INFO", environment=environment
    )


class WebServer(Process):
    """The example project behind gunicorn, with the tests' settings."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        wsgi: str = "config.wsgi",
        workers: int = 2,
    ) -> None:
        self.port = free_port()
        super().__init__(
            directory / "web.log",
            BIN / "gunicorn", wsgi, "--bind", f"127.0.0.1:{self.port}", "--workers", str(workers), "--threads", "4",
            "--preload", "--no-control-socket", "--log-level", "warning",
            environment=environment,
        )  # fmt: skip

    def get(self, path: str, headers: Mapping[str, str] = {}) -> tuple[int, float]:
        """The answer's status (0: no answer) and the seconds it took."""
        return self._send(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=dict(headers)))

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> tuple[int, float]:
        """As `get`."""
        headers = {"Content-Type": "application/json", **headers}
        return self._send(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), headers))

    def _send(self, request: urllib.request.Request) -> tuple[int, float]:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        except OSError:
            status = 0
        return status, time.monotonic() - began

    def wait_until_up(self, within: float = 180.0) -> None:
        end = time.monotonic() + within
        while self.is_running() and time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError(f"The web server did not come up:\n{self.said()[-2000:]}")
