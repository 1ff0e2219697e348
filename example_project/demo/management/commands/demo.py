"""From an empty database to a served API with real traffic in it, in one command."""

from __future__ import annotations

import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, connections
from django.urls import NoReverseMatch, reverse

from demo.client import ApiError, Client
from demo.credentials import Credentials
from demo.figures import FIGURES, LLM_DAY, json_lines, stored_events
from demo.loading import BULK_SIZE, load, wait_until_counted
from demo.preparation import ENVIRONMENT, client_with_key, credentials_path, ensure_admin, ensure_meters, migrate
from demo.price_list import ensure_price_list
from demo.server import Server, base_url, listen, start
from demo.tally import tally_of_files
from demo.traffic import LLM_REQUEST, TRACES


class Command(BaseCommand):
    help = """\
Load real traffic through the HTTP API, show what it adds up to, and serve it.

The traffic is an hour of requests to two LLM services and four days of a web
site's access log (example_project/data/README.md says whose). All of it goes
through POST /v1/events/bulk with an API key. Every figure is asked for over
HTTP and compared with a count of the files, and so is what each customer owes
for the traffic by a price list of the demo's own.

Run it as often as you like: what is there is used again, and no event counts
twice. DATABASE_URL names another database than example_project/db.sqlite3."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="end after the figures")
        parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1)")
        parser.add_argument(
            "--port", type=_port, default=settings.PORT, help="port to serve on, or the next free one (default: PORT, or 8000)"
        )

    def handle(self, *, host: str, port: int, no_serve: bool, **options: Any) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without block characters shows the figures all the same
        signal.signal(signal.SIGTERM, _end)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, _end)
        try:
            self._demonstrate(host, port, serve=not no_serve)
        except KeyboardInterrupt:
            self.stdout.write("\n\nStopped. Run it again to go on: what was sent already does not count twice.")
            sys.exit(128 + signal.SIGINT)
        except (ApiError, DatabaseError) as error:
            raise CommandError(str(error)) from error

    def _demonstrate(self, host: str, port: int, *, serve: bool) -> None:
        self._heading("flexmeter demo")
        schema = migrate()
        self._item("database", f"{connection.display_name}, {_shortened(str(connection.settings_dict['NAME']))}, {schema}")
        credentials = Credentials.load(credentials_path(Path(settings.BASE_DIR)))
        login = ensure_admin(credentials)
        credentials.save()
        with self._served(host, port) as (server, url):
            client = client_with_key(url, credentials)
            connections.close_all()
            self._item("key", f'{client.api_key[:12]}… for the environment "{ENVIRONMENT}"')
            meters, created = ensure_meters(client)
            self._item("meters", f"{created} created, {len(meters) - created} there already")
            prices, subscriptions = ensure_price_list(client)
            self._item("prices", f"{prices} created; {subscriptions} customers subscribed to them")
            self._load(client)
            self._show_figures(client, meters)
            if serve:
                self._show_ways_in(client, login)
                self._serve(server)

    @contextmanager
    def _served(self, host: str, port: int) -> Iterator[tuple[Server, str]]:
        """Serve the project while the block runs; the server answers when it begins."""
        try:
            listener = listen(host, port)
        except OSError as error:
            raise CommandError(f"Cannot serve on {host}, port {port}: {error.strerror or error}") from error
        url, taken = base_url(listener), port != 0 and listener.getsockname()[1] != port
        server = start(listener)
        try:
            _await_answer(Client(url), server)
            self._item("server", f"{url}{f' (port {port} is taken)' if taken else ''}")
            yield server, url
        finally:
            # Once is enough: a second Ctrl-C must not leave the server behind.
            interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
            server.stop()
            signal.signal(signal.SIGINT, interrupt)

    def _load(self, client: Client) -> None:
        self._heading(f"Loading real traffic through POST /v1/events/bulk, {BULK_SIZE:,} events at a time")
        before, started = stored_events(client), time.monotonic()
        sent = load(client, self.stdout)
        wait_until_counted(client)
        seconds, after = time.monotonic() - started, stored_events(client)
        new = after - before
        self.stdout.write(f"\n  {sent:,} events sent in {seconds:.1f} s: {new:,} new, {sent - new:,} there already.")
        if new < sent:
            self.stdout.write("  An event counts once, however often it is sent.")
        expected = sum(trace.rows for trace in TRACES)
        if after != expected:
            raise CommandError(f"The files hold {expected:,} events, the API counts {after:,} between their first and last day.")

    def _show_figures(self, client: Client, meters: Mapping[str, str]) -> None:
        self._heading("Figures, each with the query that gives it")
        tally, differences, numbers = tally_of_files(), [], 0
        for ask in FIGURES:
            figure = ask(client, meters, tally)
            differences += figure.differences()
            numbers += len(figure.held)
            self.stdout.write(f"\n  {self.style.MIGRATE_LABEL(figure.title)}")
            for line in [figure.asked, *json_lines(figure.body)]:
                self.stdout.write(f"    {line}")
            self.stdout.write("\n".join(["", *(f"    {line}" for line in figure.lines)]))
        if differences:
            raise CommandError("\n  ".join(["The figures do not match the files:", *differences]))
        self.stdout.write(self.style.SUCCESS(f"\n  All {numbers} numbers behind these figures match the files."))

    def _show_ways_in(self, client: Client, login: str) -> None:
        url = client.base_url
        self._heading(f"Serving on {url} until Ctrl-C")
        with suppress(NoReverseMatch):
            self._item("API pages", url + reverse("docs"))
        self._item("admin", f"{url}{reverse('admin:index')}  {login}")
        self._item("key", client.api_key)
        body = {"event_name": LLM_REQUEST, "aggregation_type": "SUM", "property_name": "completion_tokens"}
        question = "\n        ".join(json_lines({**body, "window_size": "15MIN", **LLM_DAY}))
        self.stdout.write(f"\n  curl {url}/v1/events/usage \\\n    -H 'x-api-key: {client.api_key}' \\\n    -d '{question}'\n")

    def _serve(self, server: Server) -> None:
        self.stdout.flush()
        try:
            server.wait()
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")
        else:
            raise CommandError("The server has ended by itself.")

    def _heading(self, text: str) -> None:
        self.stdout.write(f"\n{self.style.MIGRATE_HEADING(text)}\n")

    def _item(self, name: str, text: str) -> None:
        self.stdout.write(f"  {name:<9} {text}")
        self.stdout.flush()


def _await_answer(client: Client, server: Server) -> None:
    """Return when the server answers; its socket takes connections while it starts, so that asking once is enough."""
    try:
        client.get("/v1/meters")
    except ApiError as error:
        if error.status == 0:
            state = "ended as soon as it was started" if server.has_ended() else f"does not answer ({error})"
            raise CommandError(f"The server {state}.") from error


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise ArgumentTypeError(f"{text!r} is not a port; give a number from 0 (any free one) to 65535")
    return int(text)


def _shortened(name: str) -> str:
    """A file below the working directory by its path from there, anything else as it is."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else name


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)
