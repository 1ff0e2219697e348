"""Private database servers: data of their own, a Unix socket that nobody else can reach, no configuration of the machine's."""

import abc
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

from tests.databases.directories import PrivateDirectory

DATABASE = "flexmeter"
SECONDS_TO_START = 180.0
SECONDS_TO_STOP = 180.0


class ServerFailed(RuntimeError):
    """A server that is installed did not start; the message ends with the end of its log."""


class Server(abc.ABC):
    """A database server of our own. Making one starts nothing; `start` may follow `stop` or `kill`, with the data kept.

    `url` holds from the beginning: what DATABASE_URL has to be for the empty database in it. As a context manager a
    server runs inside the block and leaves nothing behind. Database servers refuse to run as root, so root runs them as
    the first of `users` that exists. With `synced=False` it saves the time that waiting for the disk takes; what it has
    committed then survives no power cut.
    """

    name: ClassVar[str]
    users: ClassVar[Sequence[str]]
    installer: ClassVar[Sequence[str]]
    program: ClassVar[Sequence[str]]
    drivers: ClassVar[Sequence[str]]
    stop_signal: ClassVar[signal.Signals]
    maintenance_database: ClassVar[str]

    def __init__(self, *, synced: bool = True) -> None:
        self.synced = synced
        self.user = next(existing_users(self.users)) if os.geteuid() == 0 else None
        self.directory = PrivateDirectory(self.name, owner=self.user)
        self.path = self.directory.path
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks to run the server and to talk to it, or None."""
        absent = [" or ".join(names) for names in (cls.installer, cls.program) if not find_program(names)]
        if not any(find_spec(driver) for driver in cls.drivers):
            absent.append(f"the Python module {' or '.join(cls.drivers)}")
        return f"{cls.name} needs {', '.join(absent)}; not installed here" if absent else None

    @property
    @abc.abstractmethod
    def url(self) -> str: ...

    @abc.abstractmethod
    def connect(self, database: str = DATABASE) -> Any:
        """A DB-API connection of the administrator, in autocommit mode."""

    @abc.abstractmethod
    def initialize(self) -> None:
        """Fill the data directory."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Runs the server in the foreground."""

    @property
    def driver(self) -> Any:
        return import_module(next(filter(find_spec, self.drivers)))

    def start(self) -> None:
        """Return once the server takes connections; raise ServerFailed if it does not within SECONDS_TO_START."""
        if self.process:
            raise RuntimeError(f"{self.name} is running already.")
        new = not self.data.exists()
        if new:
            self.initialize()
        self._launch()
        if new:
            connection = self.connect(self.maintenance_database)
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
            connection.close()

    def stop(self) -> None:
        """Shut down in order; connections that are open are cut."""
        if self.process:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            self._forget()

    def kill(self) -> None:
        """End the server and its children with SIGKILL, in the middle of whatever they do."""
        if self.process:
            for pid in [self.process.pid, *children(self.process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self._forget()

    def close(self) -> None:
        """Stop, and remove everything."""
        try:
            self.stop()
        finally:
            self.directory.close()

    def __enter__(self) -> Self:
        if not self.process:
            try:
                self.start()
            except BaseException:
                self.directory.close()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def pid_file(self) -> Path:
        return self.path / "server.pid"

    def run(self, *command: str) -> None:
        """Run one of the server's own programs to its end, as the server's user."""
        with self.log.open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False, **self._surroundings())
        if done.returncode:
            raise self._failure(f"{Path(command[0]).name} ended with status {done.returncode}")

    def _surroundings(self) -> dict[str, Any]:
        account = pwd.getpwnam(self.user) if self.user else None
        return {
            "cwd": self.path,
            "stdin": subprocess.DEVNULL,
            "env": {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(self.path), "LC_ALL": "C"},
            "start_new_session": True,
            **({"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}),
        }

    def _launch(self) -> None:
        end = time.monotonic() + SECONDS_TO_START
        while True:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, **self._surroundings())
            self.pid_file.write_text(str(self.process.pid))
            while self.process.poll() is None:
                if self._answers():
                    return
                if time.monotonic() > end:
                    self.kill()
                    raise self._failure(f"took no connection within {SECONDS_TO_START:.0f} seconds")
                time.sleep(0.05)
            status = self.process.returncode
            self._forget()
            # A killed server's children may hold its shared memory for another moment.
            if time.monotonic() > end or "is still in use" not in self._last_words():
                raise self._failure(f"ended with status {status} while starting")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.connect(self.maintenance_database).close()
        except self.driver.OperationalError:
            return False
        return True

    def _forget(self) -> None:
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _failure(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.name} {what}. Its log ends:\n{self._last_words()}")


class PostgresServer(Server):
    """PostgreSQL, with a linguistic collation (as most installations have it) where its version can bring one along."""

    name = "postgresql"
    users = ["postgres", "nobody"]
    installer = ["initdb"]
    program = ["postgres"]
    drivers = ["psycopg"]
    stop_signal = signal.SIGINT
    maintenance_database = "postgres"

    def __init__(self, *, synced: bool = True, settings: Mapping[str, str] = {}) -> None:
        super().__init__(synced=synced)
        self.settings = settings

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{quote(str(self.path), safe='')}:5432/{DATABASE}"

    def connect(self, database: str = DATABASE) -> Any:
        return self.driver.connect(host=str(self.path), port=5432, user="postgres", dbname=database, autocommit=True)

    def initialize(self) -> None:
        initdb = require_program(self.installer)
        version = subprocess.run([initdb, "--version"], capture_output=True, text=True, check=True).stdout
        major = int(re.findall(r"\d+", version)[0])
        collation = ["--locale-provider=icu", "--icu-locale=en-US"] if major >= 15 else []
        self.run(
            initdb, "--pgdata", str(self.data), "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", *collation,
        )  # fmt: skip

    def command(self) -> list[str]:
        options = {"listen_addresses": "", "unix_socket_directories": str(self.path), "port": "5432", "shared_buffers": "64MB"}
        if not self.synced:
            options |= {"fsync": "off", "full_page_writes": "off"}
        options |= self.settings
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return [require_program(self.program), "-D", str(self.data), *arguments]


class MariaDBServer(Server):
    """MariaDB, with the character set that Debian configures and that set's own collation."""

    name = "mariadb"
    users = ["mysql", "nobody"]
    installer = ["mariadb-install-db", "mysql_install_db"]
    program = ["mariadbd", "mysqld"]
    drivers = ["MySQLdb", "pymysql"]
    stop_signal = signal.SIGTERM
    maintenance_database = "mysql"

    @property
    def socket(self) -> str:
        return str(self.path / "socket")

    @property
    def url(self) -> str:
        return f"mysql://root@localhost/{DATABASE}?unix_socket={quote(self.socket, safe='')}"

    def connect(self, database: str = DATABASE) -> Any:
        return self.driver.connect(unix_socket=self.socket, user="root", database=database, autocommit=True)

    def initialize(self) -> None:
        self.run(
            require_program(self.installer), "--no-defaults", f"--datadir={self.data}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M",
        )  # fmt: skip

    def command(self) -> list[str]:
        return [
            require_program(self.program), "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}",
            f"--pid-file={self.data / 'pid'}", "--skip-networking", "--character-set-server=utf8mb4",
            "--innodb-log-file-size=16M",
            *([] if self.synced else ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"]),
        ]  # fmt: skip


SERVERS: dict[str, type[Server]] = {server.name: server for server in (PostgresServer, MariaDBServer)}


def start_postgres(settings: Mapping[str, str] = {}) -> PostgresServer:
    """A running PostgreSQL of one's own with these settings: use it in a `with` statement, or close it."""
    return PostgresServer(settings=settings).__enter__()


def start_mariadb() -> MariaDBServer:
    """A running MariaDB of one's own: use it in a `with` statement, or close it."""
    return MariaDBServer().__enter__()


def find_program(names: Sequence[str]) -> str | None:
    """The path of the first of `names` that is installed; servers are often outside of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", *map(str, versions)])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def require_program(names: Sequence[str]) -> str:
    found = find_program(names)
    if not found:
        raise ServerFailed(f"{' or '.join(names)} is not installed.")
    return found


def existing_users(names: Sequence[str]) -> Iterator[str]:
    known = {account.pw_name for account in pwd.getpwall()}
    return (name for name in names if name in known)


def children(pid: int) -> list[int]:
    """Direct children, where the system tells (Linux)."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []
