"""What all flexmeter commands have in common: help that teaches, JSON on stdout, and polite ends."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import DatabaseError

from flexmeter.environments import is_known, known_environments
from flexmeter.exceptions import FlexmeterError
from flexmeter.management.arguments import environment_name
from flexmeter.management.progress import Progress
from flexmeter.models import DEFAULT_ENVIRONMENT

INTERRUPTED = 130
READER_GONE = 141
ENVIRONMENTS_NAMED = 40


class TeachingFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the paragraphs and examples of the help as they are written."""


class FlexmeterCommand(BaseCommand, ABC):
    """A command that does its work in `run`; errors raised on purpose become one line on stderr and exit status 1.

    `examples` follows the options in `--help`. `after_interrupt` says what an interrupted run leaves behind.
    """

    examples = ""
    after_interrupt = "What was done so far stays done; run the command again to go on."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs = {"formatter_class": TeachingFormatter, "epilog": cleandoc(self.examples)} | kwargs
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = cleandoc(self.help)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.run(**options)
            self.stdout.flush()
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. {self.after_interrupt}", returncode=INTERRUPTED) from None
        except BrokenPipeError:
            _discard_stdout()
            raise CommandError(
                "Whatever read the output has stopped reading, so it is not complete.", returncode=READER_GONE
            ) from None
        except FlexmeterError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database answered: {str(error).strip().rstrip('.')}. Is it there, and has migrate been run? "
                "--traceback shows where it happened."
            ) from error

    @abstractmethod
    def run(self, **options: Any) -> None:
        """Do the work; `options` are the parsed arguments."""

    def add_json(self, parser: CommandParser, what: str) -> None:
        parser.add_argument("--json", action="store_true", help=f"Print {what} as JSON on standard output.")

    def add_environment(self, parser: CommandParser, help: str, *, required: bool = False, default: str | None = None) -> None:
        """Add `--environment`; without a default None means all of them."""
        parser.add_argument("--environment", metavar="NAME", type=environment_name, required=required, default=default, help=help)

    def add_one_environment(self, parser: CommandParser, what: str) -> None:
        self.add_environment(parser, f"{what} Default: {DEFAULT_ENVIRONMENT}.", default=DEFAULT_ENVIRONMENT)

    def print_json(self, value: Mapping[str, Any] | Sequence[Any]) -> None:
        """One JSON text on stdout, in ASCII so that every terminal and pipe takes it."""
        self.stdout.write(json.dumps(value))

    def progress(self, label: str, unit: str, options: Mapping[str, Any]) -> Progress:
        return Progress(self.stderr, label, unit, shown=options["verbosity"] > 0)

    def require_environment(self, name: str | None, alias: str) -> None:
        """Raise CommandError for an environment that nothing belongs to: it is likely misspelt."""
        if name is None:
            return
        if name == DEFAULT_ENVIRONMENT or is_known(name, using=alias):
            return
        known = sorted({DEFAULT_ENVIRONMENT, *known_environments(using=alias)})[:ENVIRONMENTS_NAMED]
        raise CommandError(f"There is no environment {shown(name)}. Known are: {', '.join(map(shown, known))}.")


def shown(text: str) -> str:
    """Text from the ledger for a terminal: quoted, with everything but printable ASCII escaped."""
    return json.dumps(text)


def number(count: int, singular: str, plural: str = "") -> str:
    """`1 event`, `12,000 events`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _discard_stdout() -> None:
    """Keep the interpreter from complaining about unwritten output when it ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
