"""System checks: a wrong setting is told at start, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.utils.module_loading import import_string

from flexmeter.conf import declared
from flexmeter.schedule import SWEEP


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Every FLEXMETER_ setting holds a usable value, and none is misspelt."""
    messages: list[CheckMessage] = []
    names = set()
    for setting in declared():
        names.add(setting.name)
        value = getattr(django_settings, setting.name, setting.default)
        if not setting.accepts(value):
            allowed = f" One of {', '.join(map(repr, setting.choices))}." if setting.choices else ""
            messages.append(Error(f"{setting.name} is {value!r}.", hint=setting.help + allowed, id="flexmeter.E001"))
    unknown = sorted(name for name in set(dir(django_settings)) - names if name.startswith("FLEXMETER_"))
    return messages + [
        Warning(f"{name} is not a flexmeter setting.", hint="Check the spelling.", id="flexmeter.W001") for name in unknown
    ]


def check_databases(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Database options that ingestion relies on, read from the settings without opening a connection."""
    from flexmeter.models import Event

    messages: list[CheckMessage] = []
    alias = router.db_for_write(Event)
    connection = connections[alias]
    if not django_settings.USE_TZ:
        messages.append(
            Error("USE_TZ is False.", hint="flexmeter stores instants; set USE_TZ = True.", id="flexmeter.E002"),
        )
    if not connection.settings_dict.get("AUTOCOMMIT", True):
        messages.append(
            Error(
                f"Database {alias!r}: AUTOCOMMIT is False.",
                hint="What flexmeter commits by itself would never be committed. Leave AUTOCOMMIT at True; to turn it off for "
                "a while, use transaction.set_autocommit().",
                id="flexmeter.E004",
            )
        )
    elsewhere = sorted(
        other for other in connections if other != alias and connections[other].settings_dict.get("ATOMIC_REQUESTS", False)
    )
    if (
        elsewhere
        and not connection.settings_dict.get("ATOMIC_REQUESTS", False)
        and getattr(django_settings, "FLEXMETER_OTHER_DATABASE", "error") == "error"
    ):
        messages.append(
            Warning(
                f"Requests run in a transaction of {', '.join(map(repr, elsewhere))}, but events are kept in {alias!r}: "
                "record() in a view will raise OtherDatabase.",
                hint=f"Set ATOMIC_REQUESTS for {alias!r} too, or FLEXMETER_OTHER_DATABASE = 'allow' to let events commit by "
                "themselves.",
                id="flexmeter.W004",
            )
        )
    options = connection.settings_dict.get("OPTIONS", {})
    isolation = str(getattr(options.get("isolation_level"), "name", options.get("isolation_level") or "read committed"))
    if connection.vendor in ("postgresql", "mysql") and isolation.lower().replace("_", " ") != "read committed":
        messages.append(
            Error(
                f"Database {alias!r}: the isolation level is {isolation.lower()}.",
                hint="Ingestion must see what was committed before it got a lock: use READ COMMITTED, Django's default.",
                id="flexmeter.E003",
            )
        )
    if connection.vendor == "sqlite":
        if options.get("transaction_mode", "").upper() != "IMMEDIATE":
            messages.append(
                Warning(
                    f"Database {alias!r}: SQLite transactions do not take the write lock when they begin.",
                    hint="Set OPTIONS['transaction_mode'] = 'IMMEDIATE', or concurrent writers fail with 'database is locked'.",
                    id="flexmeter.W002",
                )
            )
        if "journal_mode" not in str(options.get("init_command", "")).lower():
            messages.append(
                Warning(
                    f"Database {alias!r}: SQLite is not told to use write-ahead logging.",
                    hint="Set OPTIONS['init_command'] = 'PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;'.",
                    id="flexmeter.W003",
                )
            )
    return messages


def check_celery(**kwargs: Any) -> list[CheckMessage]:
    """Where Celery counts events it is installed, and its beat runs the sweep that finds what a lost call left."""
    if getattr(django_settings, "FLEXMETER_INGEST", "inline") != "celery":
        return []
    if not find_spec("celery"):
        hint = "Install flexmeter[celery], or set FLEXMETER_INGEST = 'inline'."
        return [Error("FLEXMETER_INGEST is 'celery', but Celery is not installed.", hint=hint, id="flexmeter.E005")]
    scheduled = import_string("flexmeter.tasks.scheduled_tasks")()
    if scheduled is None or SWEEP in scheduled:
        return []
    hint = "Add flexmeter.schedule.BEAT_SCHEDULE to CELERY_BEAT_SCHEDULE and run one beat."
    return [Warning(f"No entry of Celery's beat schedule runs {SWEEP}.", hint=hint, id="flexmeter.W005")]
