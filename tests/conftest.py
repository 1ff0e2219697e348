import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings

from flexmeter import inbox, pricebook
from flexmeter.stores.database import prepared

settings.register_profile(
    "flexmeter",
    derandomize="EXAMPLES" not in os.environ,  # a run says something of the code it runs, not of its luck
    deadline=None,  # the machines of continuous integration are slow at random
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("flexmeter")


PATIENCE = [
    "flexmeter.activity.SECONDS_OF_ALL_HOURS",
    "flexmeter.admin.inbox.DRAINED_SECONDS",
    "flexmeter.admin.meters.SECONDS_OF_A_REQUEST",
    "flexmeter.admin.rejected.SECONDS_AT_ONCE",
    "flexmeter.stores.database.transactions.PATIENCE_SECONDS",
]


@pytest.fixture(scope="session", autouse=True)
def nobody_is_in_a_hurry() -> Iterator[None]:
    """What is broken off after some seconds goes on, unless a test is about that: its outcome must not depend on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PATIENCE:
            patch.setattr(name, 600.0)
        yield


@pytest.fixture(autouse=True)
def nobody_looks_after_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test leaves waiting goes on waiting, although somebody asks for figures; see `inbox.look_after`."""
    monkeypatch.setattr(inbox._Watch, "looked_at", float("inf"))


@pytest.fixture(autouse=True)
def nothing_was_sent_before() -> None:
    """What a test sends to its database does not depend on what others sent through the same connection."""
    prepared._sent.clear()


@pytest.fixture
def unpriced(monkeypatch: pytest.MonkeyPatch) -> None:
    """flexmeter as it is where no app that knows prices is installed."""
    monkeypatch.setattr(pricebook, "_book", pricebook.Unpriced())


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """DATABASE_URL of this test's own database, for a process of its own: what either commits, the other sees."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
