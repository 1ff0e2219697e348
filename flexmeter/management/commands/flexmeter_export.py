"""Write events to a file."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from flexmeter.management import arguments
from flexmeter.management.command import FlexmeterCommand, number
from flexmeter.management.exporting import FORMATS, in_order
from flexmeter.models import Event
from flexmeter.stores.database.transactions import read_alias

STDOUT = "-"
Write = Callable[[bytes], Any]


class Command(FlexmeterCommand):
    help = """
    Write the events of an environment to standard output or a file, as JSON Lines or CSV.

    Events come in the order of timestamp and id, so the same ledger gives the same bytes. flexmeter_import takes either
    format back and arrives at the same ledger: accepted_at, when an event was taken in, is part of it. Values that were
    replaced, and when events were stored, are not.

    JSON Lines is the lossless form and the one to keep. CSV is for spreadsheets: a cell that begins with = + - @, a tab
    or a line break could be run as a formula there, so it gets a leading apostrophe, and so does one that begins with an
    apostrophe. flexmeter_import takes them off again; other programs do not.

    Memory stays the same however many events there are. Events that arrive or change while it runs may be missing or
    occur twice, the later time with their newer values.
    """
    examples = """
    examples:
      manage.py flexmeter_export --environment production --output events.jsonl.gz
      manage.py flexmeter_export --customer acme --start 2024-03-01 --end 2024-04-01 --format csv > march.csv
      manage.py flexmeter_export --event-name api_request | grep timeout
    """
    after_interrupt = "The output is not complete."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_one_environment(parser, "The environment whose events are written.")
        parser.add_argument("--customer", metavar="ID", type=arguments.storable, help="Only events of this external_customer_id.")
        parser.add_argument("--event-name", metavar="NAME", type=arguments.storable, help="Only events of this name.")
        parser.add_argument("--source", type=arguments.storable, help="Only events of this source.")
        parser.add_argument("--start", metavar="TIME", type=arguments.instant, help="Only events from this date or time on.")
        parser.add_argument("--end", metavar="TIME", type=arguments.instant, help="Only events before this date or time.")
        parser.add_argument("--format", choices=list(FORMATS), help="Default: by the suffix of the output, else jsonl.")
        parser.add_argument(
            "--output",
            metavar="FILE",
            default=STDOUT,
            help="Where to write, - for standard output. A file appears when it is complete.",
        )
        parser.add_argument("--gzip", action="store_true", help="Compress; also done when FILE ends with .gz.")
        self.add_json(parser, "the number of events (with --output FILE)")

    def run(self, **options: Any) -> None:
        output = options["output"]
        if options["json"] and output == STDOUT:
            raise CommandError("--json would go to standard output, where the events go: name a file with --output.")
        self.require_environment(options["environment"], read_alias())
        bare = Path(output.removesuffix(".gz"))
        form = options["format"] or ("csv" if bare.suffix.lower() == ".csv" else "jsonl")
        events = 0

        def counted() -> Iterator[tuple[Any, ...]]:
            nonlocal events
            for event in in_order(chosen(**options)):
                events += 1
                yield event
                progress.show(events)

        with (
            self.progress("Export", "events", options) as progress,
            self.opened(output) as write,
            compressed(write, options["gzip"] or output.endswith(".gz")) as write_text,
        ):
            for text in FORMATS[form](counted()):
                write_text(text.encode("utf-8"))
        if options["json"]:
            self.print_json({"environment": options["environment"], "events": events, "format": form, "output": output})
        elif options["verbosity"]:
            self.stderr.write(f"{number(events, 'event')} written.", lambda line: line)

    @contextmanager
    def opened(self, output: str) -> Iterator[Write]:
        """A function that writes bytes to the output. A file takes its place when everything is written, or not at all."""
        if output == STDOUT:
            self.stdout.flush()
            binary: BinaryIO | None = getattr(self.stdout, "buffer", None)
            if binary is not None:
                yield binary.write
                binary.flush()
            else:  # a stream of text, as when another program calls the command
                yield lambda part: self.stdout.write(part.decode("utf-8"), ending="")
            return
        path = Path(output)
        if path.exists() and not path.is_file():  # a device or a pipe
            with path.open("wb") as file:
                yield file.write
            return
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as file:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        finally:
            with suppress(OSError):
                part.unlink()


@contextmanager
def compressed(write: Write, wanted: bool) -> Iterator[Write]:
    """`write`, or a function that compresses what it is given first; the same bytes in give the same bytes out."""
    if not wanted:
        yield write
        return
    with gzip.GzipFile(fileobj=Sink(write), mode="wb", filename="", mtime=0) as packed:
        yield packed.write


class Sink:
    """A file for a function that writes."""

    def __init__(self, write: Write) -> None:
        self.write = write

    def flush(self) -> None:
        """Nothing is held back here."""


def chosen(
    *, environment: str, customer: str | None, event_name: str | None, source: str | None, start: Any, end: Any, **options: Any
) -> QuerySet[Event]:
    """The events the options name."""
    events: QuerySet[Event] = Event.objects.using(read_alias()).in_environment(environment).between(start, end)
    if customer is not None:
        events = events.filter(external_customer_id=customer)
    if event_name is not None:
        events = events.filter(event_name=event_name)
    return events if source is None else events.filter(source=source)
