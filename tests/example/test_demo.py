"""The demo as a newcomer meets it: a command, what it prints, and the server it leaves running."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatch
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper

from demo import preparation
from demo.client import Client
from demo.credentials import Credentials
from demo.figures import Figure, json_lines
from demo.loading import wait_until_counted
from demo.management.commands import demo
from demo.meters import METERS, WEIGHTED_TOKENS
from demo.preparation import ADMIN, client_with_key, credentials_path, ensure_admin, ensure_meters
from demo.price_list import KEYS, ensure_price_list, owed
from demo.progress import Progress
from demo.tally import Tally, TokenTally
from demo.traffic import CUSTOMERS
from tests.polling import eventually
from tests.requirements import only_on, requires

MANAGE = Path(demo.__file__).resolve().parents[3] / "manage.py"
FIGURE = Figure(
    "Requests",
    "POST /v1/events/usage",
    {"event_name": "api_request"},
    [],
    {("monday", "requests"): 5},
    {("monday", "requests"): 5},
)


class Run:
    """One run of the command, in a process of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.path = directory / "output"
        with self.path.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(MANAGE), "demo", "--port", "0", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(directory),
                preexec_fn=take_interrupts,
            )

    @property
    def output(self) -> str:
        return self.path.read_text()

    def shows(self, text: str) -> bool:
        ended = self.process.poll() is not None
        if text in self.output:
            return True
        if ended:
            pytest.fail(f"the demo ended with status {self.process.returncode} and did not show {text!r}:\n{self.output}")
        return False

    def address(self) -> tuple[str, int]:
        host, port = re.search(r"http://([\d.]+):(\d+)", self.output).groups()
        return host, int(port)

    def exit_status(self) -> int:
        status = self.process.wait(timeout=300)
        sys.stdout.write(self.output)  # which pytest shows if the test fails
        assert "Traceback" not in self.output
        return status


def take_interrupts() -> None:
    """As at a terminal, even if this run of the tests was started in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def run_demo(directory: Path, *arguments: str) -> Iterator[Run]:
    run = Run(directory, *arguments)
    try:
        yield run
    finally:
        run.process.terminate()
        run.process.wait(timeout=300)


def environment(directory: Path) -> dict[str, str]:
    url = f"sqlite:///{directory / 'demo.sqlite3'}"
    return os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONIOENCODING": "utf-8"}


@only_on("sqlite")
@requires("gunicorn")
def test_an_interrupted_demo_goes_on_then_counts_nothing_twice_and_serves_until_ctrl_c(tmp_path):
    older_schema = [sys.executable, str(MANAGE), "migrate", "auth", "--verbosity=0"]
    subprocess.run(older_schema, env=environment(tmp_path), check=True)

    with run_demo(tmp_path, "--no-serve") as run:
        eventually(lambda: run.shows("8,819 of 8,819"), within=300)
        run.process.send_signal(signal.SIGINT)
        assert run.exit_status() == 130
        assert re.search(r"demo\.sqlite3, \d+ migrations applied\n", run.output)
        assert "8 created, 0 there already" in run.output
        assert "5 created; 12 customers subscribed to them" in run.output
        assert "Run it again to go on" in run.output
        assert not is_served(run.address())

    with run_demo(tmp_path, "--no-serve") as run:
        assert run.exit_status() == 0
        new, known = re.search(r"38,185 events sent in \S+ s: ([\d,]+) new, ([\d,]+) there already", run.output).groups()
        assert number(new) + number(known) == 38_185
        assert 8_819 <= number(known) < 38_185
        assert "0 created, 8 there already" in run.output
        assert "0 created; 0 customers subscribed to them" in run.output
        assert "API requests: 100 × 0 + 900 × 0.002 + 1,392 × 0.0015 = 3.888\n" in run.output
        assert "numbers behind these figures match the files." in run.output
        assert not is_served(run.address())

    with run_demo(tmp_path) as run:
        eventually(lambda: run.shows("\"}'\n"), within=300)
        assert ": 0 new, 38,185 there already." in run.output
        assert max(len(line) for line in run.output.splitlines() if "database" not in line) <= 100
        points = paste(run.output[run.output.index("curl ") :])["results"]
        assert sum(point["value"] for point in points) == 4_088_665 + 245_896
        run.process.send_signal(signal.SIGINT)
        assert run.exit_status() == 0
        assert run.output.endswith("Stopped.\n")
        assert not is_served(run.address())


def test_a_count_that_is_not_that_of_the_files_ends_the_demo(monkeypatch):
    monkeypatch.setattr(demo, "load", lambda client, out: 38_185)
    monkeypatch.setattr(demo, "wait_until_counted", lambda client: None)
    monkeypatch.setattr(demo, "stored_events", lambda client: 38_186)
    with pytest.raises(CommandError, match="The files hold 38,185 events, the API counts 38,186"):
        demo.Command(stdout=StringIO())._load(Client("http://127.0.0.1"))


def test_events_that_wait_for_a_worker_are_waited_for():
    lags = iter([30, 20, 0])
    wait_until_counted(SimpleNamespace(get=lambda path: {"consumption_lag": next(lags)}))
    assert list(lags) == []


def test_events_that_no_worker_counts_end_the_demo():
    stuck = SimpleNamespace(get=lambda path: {"consumption_lag": 30})
    with pytest.raises(CommandError, match="30 events were accepted but are not counted"):
        wait_until_counted(stuck, patience=timedelta(0))


def test_a_figure_that_is_not_that_of_the_files_ends_the_demo(monkeypatch):
    wrong = replace(FIGURE, answered={("monday", "requests"): 4, ("sunday", "requests"): 1})
    monkeypatch.setattr(demo, "FIGURES", [lambda client, meters, tally: FIGURE, lambda client, meters, tally: wrong])
    with pytest.raises(CommandError) as failure:
        demo.Command(stdout=StringIO())._show_figures(Client("http://127.0.0.1"), {})
    assert str(failure.value).splitlines() == [
        "The figures do not match the files:",
        "  Requests, monday, requests: the API says 4, the files 5",
        "  Requests, sunday, requests: the API says 1, the files nothing",
    ]


@pytest.mark.django_db
def test_a_key_that_was_revoked_is_replaced_and_a_good_one_is_kept(live_server, tmp_path):
    credentials = Credentials.load(tmp_path / "kept.json")
    first = client_with_key(live_server.url, credentials).api_key
    assert client_with_key(live_server.url, Credentials.load(tmp_path / "kept.json")).api_key == first
    call_command("flexmeter_apikey", "revoke", first[:12], stdout=StringIO())
    second = client_with_key(live_server.url, Credentials.load(tmp_path / "kept.json")).api_key
    assert second != first
    assert Credentials.load(tmp_path / "kept.json").api_key == second


@pytest.mark.django_db
def test_meters_are_made_once(live_server, tmp_path):
    client = client_with_key(live_server.url, Credentials.load(tmp_path / "kept.json"))
    meters, created = ensure_meters(client)
    assert (list(meters), created) == (list(METERS), len(METERS))
    assert ensure_meters(client) == (meters, 0)
    client.post(f"/v1/meters/{meters[WEIGHTED_TOKENS]}/disable", {})
    again, created = ensure_meters(client)
    assert created == 1
    assert again[WEIGHTED_TOKENS] != meters[WEIGHTED_TOKENS]


@pytest.mark.django_db
def test_the_price_list_is_made_once(live_server, tmp_path):
    client = client_with_key(live_server.url, Credentials.load(tmp_path / "kept.json"))
    assert ensure_price_list(client) == (len(KEYS), len(CUSTOMERS))
    assert ensure_price_list(client) == (0, 0)
    for path, number in {"prices": len(KEYS), "customers": len(CUSTOMERS), "subscriptions": len(CUSTOMERS), "plans": 1}.items():
        assert client.get(f"/v1/{path}")["pagination"]["total"] == number


def test_what_a_customer_owes_is_reckoned_from_the_files_alone():
    tally = Tally(
        by_customer_and_model={
            ("customer-01", "chat-1"): TokenTally(3, prompt_tokens=1_000_000, completion_tokens=2_000_000),
            ("customer-01", "coder-1"): TokenTally(1, prompt_tokens=10, completion_tokens=0),
        },
        site_requests_by_customer=Counter({"customer-01": 1_500, "customer-02": 100}),
    )
    assert owed(tally, "customer-01") == {
        "chat-1-prompt-tokens": Decimal("0.5"),
        "chat-1-completion-tokens": Decimal(3),
        "coder-1-prompt-tokens": Decimal("0.000003"),
        "coder-1-completion-tokens": 0,
        "api-requests": Decimal("2.55"),
    }
    assert set(owed(tally, "customer-02").values()) == {0}


@pytest.mark.django_db
def test_the_administrator_logs_in_with_the_password_that_is_printed(tmp_path):
    credentials = Credentials.load(tmp_path / "kept.json")
    username, _, password = ensure_admin(credentials).partition(" / ")
    assert authenticate(username=username, password=password).is_superuser
    assert ensure_admin(credentials) == f"{username} / {password}"


@pytest.mark.django_db
def test_a_password_that_somebody_changed_stays(tmp_path):
    credentials = Credentials.load(tmp_path / "kept.json")
    ensure_admin(credentials)
    admin = authenticate(username=ADMIN, password=credentials.admin_password)
    admin.set_password("another")
    admin.save()
    assert "changepassword" in ensure_admin(credentials)
    assert authenticate(username=ADMIN, password="another")


def test_secrets_are_kept_where_only_their_owner_reads_them(tmp_path):
    kept = Credentials.load(tmp_path / "kept.json")
    kept.api_key = "secret"
    kept.save()
    assert Credentials.load(tmp_path / "kept.json") == kept
    assert (tmp_path / "kept.json").stat().st_mode & 0o777 == 0o600


def test_git_ignores_the_file_with_the_secrets(monkeypatch):
    ignored = (MANAGE.parent.parent / ".gitignore").read_text().split()
    for database in ({"NAME": MANAGE.parent / "db.sqlite3"}, {"NAME": "usage", "HOST": "/run/db", "PORT": 5432}):
        vendor = "postgresql" if "HOST" in database else "sqlite"
        monkeypatch.setattr(preparation, "connection", SimpleNamespace(vendor=vendor, settings_dict=database))
        path = credentials_path(MANAGE.parent)
        assert path.parent == MANAGE.parent
        assert any(fnmatch(f"/{path.relative_to(MANAGE.parent.parent)}", pattern) for pattern in ignored)


def test_a_database_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr(preparation, "connection", SimpleNamespace(vendor="sqlite", settings_dict={"NAME": ":memory:"}))
    with pytest.raises(CommandError, match="DATABASE_URL"):
        credentials_path(MANAGE.parent)


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(monkeypatch):
    terminal, file = StringIO(), StringIO()
    terminal.isatty = lambda: True
    for out in (terminal, file):
        progress = Progress(OutputWrapper(out), "requests", 3)
        for _ in range(3):
            progress.advance(1)
    assert len(terminal.getvalue().splitlines()) == 1 + terminal.getvalue().count("\r")
    assert len(file.getvalue().splitlines()) == 1
    assert "3 of 3" in file.getvalue()


def test_a_query_is_shown_without_breaking_a_member():
    body = {"event_name": "api_request", "start_time": "2015-05-19T00:00:00+02:00", "group_by": ["properties.model"]}
    lines = json_lines(body, width=60)
    assert json.loads("\n".join(lines)) == body
    assert lines == [
        '{"event_name": "api_request",',
        ' "start_time": "2015-05-19T00:00:00+02:00",',
        ' "group_by": ["properties.model"]}',
    ]


def paste(command: str) -> Any:
    """What a shell with curl would get from `command`."""
    name, url, *options = shlex.split(command.replace("\\\n", ""))
    assert (name, options[0], options[2]) == ("curl", "-H", "-d")
    header, _, value = options[1].partition(": ")
    request = Request(url, options[3].encode(), {header: value, "Content-Type": "application/x-www-form-urlencoded"})
    with urlopen(request, timeout=120) as response:
        return json.load(response)


def is_served(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def number(text: str) -> int:
    return int(text.replace(",", ""))
