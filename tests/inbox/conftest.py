from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections


@pytest.fixture
def other_database(tmp_path, transactional_db) -> Iterator[str]:
    """The alias of a second database, SQLite in a file, with flexmeter's tables in it; for this thread alone."""
    alias = "other"
    settings = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "other.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
    configured = connections.configure_settings({"default": {"ENGINE": "django.db.backends.dummy"}, alias: settings})[alias]
    connections.settings[alias] = configured
    connection = connections[alias]
    del connections.settings[alias]
    connection.ensure_connection()  # Django's test case lets a test connect to databases only that it does not know
    connections.settings[alias] = configured
    try:
        call_command("migrate", "flexmeter", database=alias, verbosity=0)
        yield alias
    finally:
        connection.close()
        del connections[alias]
        del connections.settings[alias]
