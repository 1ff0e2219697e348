"""Chooses the database of a run (`--database`), starts its server and skips what this machine has no means for.

Loaded with `-p`, because DATABASE_URL must be set before pytest-django reads the settings. Under pytest-xdist the
controlling process starts the server; its workers find the address in their environment.
"""

import os
import unittest
from collections.abc import Generator

import pytest

from tests.databases import SERVERS, PrivateDirectory, Server
from tests.requirements import missing, servers_are_required, skip_or_fail

DATABASE_FIXTURES = {"db", "transactional_db", "database_url", "live_server"}

sqlite_directory = pytest.StashKey[PrivateDirectory]()
server_key = pytest.StashKey[Server]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", *SERVERS],
        default="sqlite",
        help="Database of this run. postgresql and mariadb are started privately for it; without the programs every test is "
        "skipped, or with REQUIRE_SERVERS=1 the run fails.",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    if not is_worker():
        database = early_config.known_args_namespace.database
        if database in SERVERS and not missing(database):
            server = early_config.stash[server_key] = SERVERS[database](synced=False)
            os.environ["DATABASE_URL"] = server.url
        else:
            directory = early_config.stash[sqlite_directory] = PrivateDirectory("sqlite")
            os.environ["DATABASE_URL"] = f"sqlite:///{directory.path / 'flexmeter.sqlite3'}"
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if is_worker() or config.option.collectonly:
        return
    reason = missing(config.option.database) if config.option.database in SERVERS else None
    if reason and servers_are_required():
        raise pytest.UsageError(f"{reason}, and REQUIRE_SERVERS is set")
    if server := config.stash.get(server_key, None):
        server.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(server_key, None):
        server.close()
    if directory := config.stash.get(sqlite_directory, None):
        directory.close()


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.option.database}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    database = config.option.database
    if database in SERVERS and (reason := missing(database)):
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))
    kept = [item for item in items if is_meant_for(item, database)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if not is_meant_for(item, database)])
        items[:] = kept


def is_meant_for(item: pytest.Item, database: str) -> bool:
    is_named = all(database in mark.args for mark in item.iter_markers("only_on"))
    return is_named and (database not in SERVERS or is_about_a_database(item))


def is_about_a_database(item: pytest.Item) -> bool:
    """Whether a test can tell one database from another; what can't runs once, with SQLite."""
    return not (
        isinstance(item, pytest.Function)
        and not (item.cls and issubclass(item.cls, unittest.TestCase))
        and item.get_closest_marker("django_db") is None
        and item.get_closest_marker("only_on") is None
        and not DATABASE_FIXTURES & set(item.fixturenames)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for reason in filter(None, map(missing, mark.args)):
            skip_or_fail(reason)


def is_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ
