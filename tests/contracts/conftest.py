"""Which way events go into the ledger, and what is remembered of earlier ones."""

from __future__ import annotations

import pytest

from flexmeter.stores.database import rules, series
from flexmeter.stores.database.few import PostgresFewWriter
from flexmeter.stores.database.native_writers import PostgresWriter


@pytest.fixture(autouse=True)
def nothing_remembered():
    def forget():
        series.forget()
        rules.forget()
        PostgresWriter._to_be_looked_up.clear()

    forget()
    yield
    forget()


@pytest.fixture
def copied(monkeypatch):
    """Batches are copied, however few their events are."""
    monkeypatch.setattr(PostgresFewWriter, "MOST_EVENTS", 1)
