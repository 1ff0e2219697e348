"""Uses the installed package as a newcomer would: a new project, its settings and URLs, migrate, an event, its usage.

Run in an environment that has nothing but the package and what it depends on, from an empty directory (`tox -e package`).
"""

import importlib.metadata
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import flexmeter

PROJECT = Path("newcomer").resolve()
SETTINGS = """
INSTALLED_APPS += ["rest_framework", "django_filters", "flexmeter"]
DATABASES["default"]["OPTIONS"] = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
"""
URLS = """
from django.urls import include
urlpatterns += [path("v1/", include("flexmeter.urls"))]
"""


def manage(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", PROJECT / "manage.py", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def create_project() -> None:
    subprocess.run([sys.executable, "-m", "django", "startproject", PROJECT.name], check=True)
    for name, addition in (("settings.py", SETTINGS), ("urls.py", URLS)):
        with (PROJECT / PROJECT.name / name).open("a") as file:
            file.write(addition)


def post(url: str, body: dict[str, Any], secret: str) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", "x-api-key": secret}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.status, json.load(response)


def wait_for(log: Path, words: str) -> None:
    end = time.monotonic() + 120
    while words not in log.read_text():
        if time.monotonic() > end:
            sys.exit(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def main() -> None:
    location = Path(flexmeter.__file__).resolve()
    if "site-packages" not in location.parts:
        sys.exit(f"{location} is not an installed package; this is about the wheel.")
    for name in ("py.typed", "migrations/0001_initial.py"):
        if not (location.parent / name).exists():
            sys.exit(f"{name} is missing in the wheel.")

    create_project()
    manage("check", "--fail-level=WARNING", "--database=default")
    manage("makemigrations", "--check", "--dry-run")
    manage("migrate", "--verbosity=0")
    secret = json.loads(manage("flexmeter_apikey", "create", "newcomer", "--scopes=ingest,read", "--json"))["secret"]

    log = Path("server.log")
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-u", PROJECT / "manage.py", "runserver", "--noreload", address]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            wait_for(log, "Starting development server")
            event = {"event_name": "page", "external_customer_id": "acme", "event_id": "one", "properties": {}}
            for _ in range(2):
                status, _ = post(f"http://{address}/v1/events", event, secret)
                assert status == 202, status
            query = {"event_name": "page", "external_customer_id": "acme", "aggregation_type": "COUNT"}
            _, usage = post(f"http://{address}/v1/events/usage", query, secret)
            assert float(usage["value"]) == 1, usage
        finally:
            server.terminate()
    print(f"flexmeter {importlib.metadata.version('flexmeter')} works in an empty project: {usage}")


if __name__ == "__main__":
    main()
