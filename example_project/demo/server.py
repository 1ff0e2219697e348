"""The example project behind an HTTP server: gunicorn, or where that is missing the threaded server Django brings along."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

GUNICORN_CONFIG = Path(__file__).resolve().parent.parent / "gunicorn.conf.py"
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
PORTS_TRIED = 100


class Server(Protocol):
    def has_ended(self) -> bool:
        """Whether it gave up by itself."""

    def wait(self) -> None:
        """Return when the server has ended by itself."""

    def stop(self) -> None:
        """Stop and return when it has; harmless if it has ended already."""


def listen(host: str, port: int) -> socket.socket:
    """A socket listening on `port`, or the next free one after it. Raises OSError where there is none, or no such host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        try:
            return socket.create_server((host, candidate), family=family, backlog=128)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"port {port} and those after it are taken")


def base_url(listener: socket.socket) -> str:
    """Where a browser on this machine finds what listens there."""
    host, port = listener.getsockname()[:2]
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def start(listener: socket.socket) -> Server:
    """Serve the example project on `listener`, which belongs to the server from then on."""
    host = listener.getsockname()[0]
    allowed = ["*"] if host in WILDCARDS else [*settings.ALLOWED_HOSTS, host]
    return GunicornServer(listener, allowed) if find_spec("gunicorn") else ThreadedServer(listener, allowed)


class GunicornServer:
    """gunicorn in a process group of its own, so that Ctrl-C reaches it only through `stop`."""

    def __init__(self, listener: socket.socket, allowed_hosts: Sequence[str]) -> None:
        command = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG), "--bind", f"fd://{listener.fileno()}"]
        self._process = subprocess.Popen(
            command,
            pass_fds=[listener.fileno()],
            process_group=0,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"ALLOWED_HOSTS": ",".join(allowed_hosts)},
        )
        listener.close()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> None:
        self._process.wait()

    def stop(self, patience: timedelta = timedelta(seconds=10)) -> None:
        self._process.terminate()
        try:
            self._process.wait(patience.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ThreadedServer:
    """Django's own server, in a thread of this process."""

    def __init__(self, listener: socket.socket, allowed_hosts: Sequence[str]) -> None:
        settings.ALLOWED_HOSTS = list(allowed_hosts)
        self._server = ThreadedWSGIServer(listener.getsockname(), QuietHandler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_name, self._server.server_port = listener.getsockname()[:2]
        self._server.setup_environ()
        self._server.set_app(get_wsgi_application())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: every request would be a line among the figures."""
