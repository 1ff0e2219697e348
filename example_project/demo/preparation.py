"""What has to be there before traffic can be sent: tables, an administrator, an API key, meters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from demo.client import ApiError, Client
from demo.credentials import Credentials
from demo.meters import METERS, create_meter, existing_meters

ENVIRONMENT = "demo"
ADMIN = "admin"


def credentials_path(project: Path) -> Path:
    """Where the secrets of this database are kept: beside it if it is a file, otherwise in the project's directory.

    Raises CommandError for a database in memory, which a server could not share.
    """
    database: Mapping[str, Any] = connection.settings_dict
    name = str(database["NAME"])
    if connection.vendor == "sqlite":
        if not name or ":memory:" in name or "mode=memory" in name:
            raise CommandError("The demo's server needs a database of its own to open: set DATABASE_URL to a file or a server.")
        file = Path(name).absolute()
        return file.with_name(file.name + ".demo.json")
    where = "-".join(filter(None, [database["HOST"].strip("/").replace("/", "_"), str(database["PORT"]), name]))
    return project / f"{where}.demo.json"


def migrate() -> str:
    """Bring the tables up to date and say what that took."""
    executor = MigrationExecutor(connection)
    new = not executor.loader.applied_migrations
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not missing:
        return "up to date"
    call_command("migrate", interactive=False, verbosity=0)
    return "created" if new else f"{len(missing)} migrations applied"


def ensure_admin(credentials: Credentials) -> str:
    """Make the administrator if there is none, and say how to log in. A password somebody changed stays as it is."""
    users = get_user_model()._default_manager
    admin = users.filter(username=ADMIN).first()
    if admin is None:
        users.create_superuser(username=ADMIN, password=credentials.admin_password)
    elif not admin.check_password(credentials.admin_password):
        return f'user "{ADMIN}" with the password it was given (manage.py changepassword {ADMIN} sets another)'
    return f"{ADMIN} / {credentials.admin_password}"


def client_with_key(base_url: str, credentials: Credentials) -> Client:
    """A client whose key works: the one that is kept, or if the server does not know that any more, a new one."""
    client = Client(base_url, credentials.api_key)
    try:
        client.get("/v1/meters", {"limit": 1})
    except ApiError as error:
        if error.status != 401:
            raise
        credentials.api_key = _new_key()
        client = Client(base_url, credentials.api_key)
    credentials.save()
    return client


def _new_key() -> str:
    answer = StringIO()
    arguments = ["create", "demo", "--environment", ENVIRONMENT, "--scopes", "ingest,read,admin", "--json"]
    call_command("flexmeter_apikey", *arguments, stdout=answer)
    return str(json.loads(answer.getvalue())["secret"])


def ensure_meters(client: Client) -> tuple[dict[str, str], int]:
    """Ids of the demo's meters by their names, and how many of them had to be made."""
    ids = existing_meters(client)
    missing = [name for name in METERS if name not in ids]
    return ids | {name: create_meter(client, name) for name in missing}, len(missing)
