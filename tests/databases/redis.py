"""A private Redis, which may be killed, emptied and started again."""

import signal
from typing import Any

from tests.databases.servers import Server, require_program
from tests.ports import free_port


class RedisServer(Server):
    """Redis on a port of the loopback. It keeps nothing on disk: after `kill` and `start` it is empty, like the worst broker.

    Not on a Unix socket, because a Celery worker ends when its Redis goes away from one; over TCP it comes back by itself.
    """

    name = "redis"
    users = ["nobody"]
    installer = ["redis-server"]
    program = ["redis-server"]
    drivers = ["redis"]
    stop_signal = signal.SIGTERM
    maintenance_database = "0"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        """What CELERY_BROKER_URL has to be."""
        return f"redis://127.0.0.1:{self.port}/0"

    def connect(self, database: str = "0") -> Any:
        return self.driver.Redis(host="127.0.0.1", port=self.port, db=int(database))

    def flush(self) -> None:
        """Remove everything that waits in it."""
        with self.connect() as connection:
            connection.flushall()

    def initialize(self) -> None:
        """There is nothing to be made before it runs."""

    def start(self) -> None:
        if self.process:
            raise RuntimeError(f"{self.name} is running already.")
        self._launch()

    def command(self) -> list[str]:
        return [
            require_program(self.program), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.path),
            "--save", "", "--appendonly", "no",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                return bool(connection.ping())
        except self.driver.ConnectionError:
            return False


def start_redis() -> RedisServer:
    """A running Redis of one's own: use it in a `with` statement, or close it."""
    return RedisServer().__enter__()
