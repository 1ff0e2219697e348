"""Make, list and revoke API keys."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime, timedelta
from inspect import cleandoc
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter.events import LATEST, format_timestamp
from flexmeter.keys import create_key, name_fault, revoke_key, state_of
from flexmeter.management import arguments
from flexmeter.management.command import FlexmeterCommand, TeachingFormatter, number, shown
from flexmeter.models import ApiKey, now
from flexmeter.stores.database.transactions import write_alias

SCOPES = ApiKey.Scope.values
COLUMNS = ("id", "prefix", "environment", "scopes", "state", "last_used_at", "name")


class Command(FlexmeterCommand):
    help = """
    Make, list and revoke the keys that open the HTTP API.

    A key belongs to one environment and sees nothing of any other. Its scopes say what it may do: ingest sends events,
    read asks for events and usage, admin changes meters. Only a hash of the secret is stored, so the secret can be shown
    once, when the key is made.
    """
    examples = """
    examples:
      manage.py flexmeter_apikey create backend --environment production --scopes ingest
      manage.py flexmeter_apikey create dashboard --scopes read --expires 90 --json
      manage.py flexmeter_apikey list --environment production
      manage.py flexmeter_apikey revoke fm_1f0a2b3c4

    Each of the three has a --help of its own.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="create|list|revoke", required=True)

        create = actions.add_parser(
            "create",
            help="make a key and show its secret, once",
            epilog=cleandoc(CREATE_EXAMPLES),
            formatter_class=TeachingFormatter,
        )
        create.add_argument("name", metavar="NAME", type=key_name, help="What the key is for, or who holds it.")
        self.add_one_environment(create, "The environment the key is for.")
        create.add_argument(
            "--scopes",
            type=scopes,
            default=list(SCOPES),
            help=f"What the key may do: some of {', '.join(SCOPES)}, separated by commas. Default: all of them.",
        )
        create.add_argument(
            "--expires",
            metavar="DAYS|TIME",
            type=expiry,
            help="When the key stops working: a number of days from now, a date, or a time such as 2030-01-31T12:00:00Z. "
            "Default: never.",
        )
        self.add_json(create, "the key and its secret")

        listing = actions.add_parser("list", help="list keys, without secrets", formatter_class=TeachingFormatter)
        self.add_environment(listing, "Only keys of this environment.")
        self.add_json(listing, "the list")

        revoke = actions.add_parser(
            "revoke", help="stop a key from working, at once and for good", formatter_class=TeachingFormatter
        )
        revoke.add_argument(
            "key",
            metavar="ID|PREFIX",
            type=arguments.storable,
            help="Its id (key_…), or the prefix its secret begins with (fm_…).",
        )
        self.add_json(revoke, "the key")

    def run(self, **options: Any) -> None:
        actions = {"create": self.create, "list": self.show, "revoke": self.revoke}
        actions[options["action"]](**options)

    def create(self, **options: Any) -> None:
        key, secret = create_key(
            options["name"], environment=options["environment"], scopes=options["scopes"], expires_at=options["expires"]
        )
        if options["json"]:
            self.print_json(described(key) | {"secret": secret})
            return
        until = f" until {format_timestamp(key.expires_at)}" if key.expires_at else ""
        self.stdout.write(
            f"Key {key.id} ({shown(key.name)}) opens environment {key.environment} for {', '.join(key.scopes)}{until}."
        )
        self.stdout.write("Its secret is shown this once and cannot be looked up later. Send it in the header x-api-key:\n")
        self.stdout.write(secret)

    def show(self, **options: Any) -> None:
        keys = ApiKey.objects.using(write_alias()).order_by("environment", "created_at", "id")
        if options["environment"] is not None:
            keys = keys.filter(environment=options["environment"])
        rows = [described(key) for key in keys]
        if options["json"]:
            self.print_json(rows)
            return
        table = [COLUMNS, *(tuple(map(_cell, (row[column] for column in COLUMNS))) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table if rows else []:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        self.stderr.write(f"{number(len(rows), 'key')}.", lambda text: text)

    def revoke(self, **options: Any) -> None:
        key = revoke_key(options["key"])
        if key is None or key.revoked_at is None:
            raise CommandError(
                f"No API key has the id or prefix {shown(options['key'])}. flexmeter_apikey list shows all of them."
            )
        if options["json"]:
            self.print_json(described(key))
        else:
            self.stdout.write(f"Key {key.id} ({shown(key.name)}) is revoked since {format_timestamp(key.revoked_at)}.")


CREATE_EXAMPLES = """
    examples:
      manage.py flexmeter_apikey create backend --environment production --scopes ingest
      manage.py flexmeter_apikey create audit --scopes read --expires 2030-01-31 --json
    """


def described(key: ApiKey) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "environment": key.environment,
        "scopes": key.scopes,
        "state": state_of(key, now()),
    } | {name: _time(getattr(key, name)) for name in times}


def key_name(text: str) -> str:
    if fault := name_fault(text):
        raise ArgumentTypeError(f"the name {fault}")
    return text


def scopes(text: str) -> list[str]:
    chosen = list(dict.fromkeys(scope.strip() for scope in text.split(",") if scope.strip()))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown or not chosen:
        raise ArgumentTypeError(f"{text!r} must be some of {', '.join(SCOPES)}, separated by commas")
    return chosen


def expiry(text: str) -> datetime:
    try:
        moment = now() + timedelta(days=arguments.days(text)) if text.isdigit() else arguments.instant(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is neither a number of days nor a date such as 2030-01-31 nor a time such as 2030-01-31T12:00:00Z"
        ) from None
    if not now() < moment < LATEST:
        raise ArgumentTypeError(f"{text!r} lies in the past")
    return moment


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(value)
    return shown(value)[1:-1] if isinstance(value, str) else str(value)
