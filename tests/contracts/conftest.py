"""Which way events go into the ledger."""

from __future__ import annotations

import pytest

from flexmeter.stores.database.few import PostgresFewWriter


@pytest.fixture
def copied(monkeypatch):
    """Batches are copied, however few their events are."""
    monkeypatch.setattr(PostgresFewWriter, "MOST_EVENTS", 1)
