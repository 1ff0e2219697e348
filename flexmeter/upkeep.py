"""When recurring work last ended and what it found, kept in the database so that every process can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flexmeter.models import LastRun, now
from flexmeter.stores.database.transactions import in_transaction, write_alias


@contextmanager
def noted(task: str, *, using: str | None = None) -> Iterator[None]:
    """Remember that the block ran, once it has ended without an error."""
    started_at = now()
    yield
    remember(task, started_at=started_at, using=using)


def remember(
    task: str,
    *,
    started_at: datetime,
    environment: str = "",
    result: Mapping[str, Any] | None = None,
    using: str | None = None,
) -> None:
    """Keep that a task ended now, in place of what was kept of its last run."""
    alias = using or write_alias()
    changed = {"started_at": started_at, "ended_at": now(), "result": result}
    runs = LastRun.objects.using(alias)
    in_transaction(alias, lambda: runs.update_or_create(task=task, environment=environment, defaults=changed))


def last_runs(task: str, *, using: str | None = None) -> list[LastRun]:
    """The last run for all environments, if there is one, then those for a single environment that began after it."""
    rows = sorted(LastRun.objects.using(using or write_alias()).filter(task=task), key=lambda run: run.environment)
    everywhere = next((run for run in rows if not run.environment), None)
    return [run for run in rows if everywhere is None or run is everywhere or run.started_at > everywhere.started_at]
