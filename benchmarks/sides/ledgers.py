"""Two ledgers in one PostgreSQL server, the whole and one of a tenth of its size, and a router that chooses between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks import large
from benchmarks.machine import start_postgres

WHOLE: Final = "default"
TENTH: Final = "tenth"
SIZES: Final = {WHOLE: large.EVENTS, TENTH: large.EVENTS // 10}


class Chosen:
    """A database router: everything is read from and written to the ledger that was chosen last."""

    alias: ClassVar[str] = WHOLE

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return Chosen.alias

    db_for_write = db_for_read


@contextmanager
def two_ledgers() -> Iterator[None]:
    """Both ledgers, filled, behind Django's settings."""
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url, "DJANGO_SETTINGS_MODULE": "config.settings"}
        with postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {TENTH}")
        _set_up()
        for alias, events in SIZES.items():
            Chosen.alias = alias
            large.fill(alias, events)
        Chosen.alias = WHOLE
        yield


def _set_up() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "example_project"))
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.ALLOWED_HOSTS.append("testserver")
    settings.DATABASES[TENTH] = {**settings.DATABASES[WHOLE], "NAME": TENTH}
    settings.DATABASE_ROUTERS = ["benchmarks.sides.ledgers.Chosen"]
    django.setup()
    for alias in SIZES:
        call_command("migrate", database=alias, verbosity=0)
