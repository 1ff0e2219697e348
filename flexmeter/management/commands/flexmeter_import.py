"""Take events from files into the ledger."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, connections

from flexmeter.exceptions import EnvironmentBusy
from flexmeter.management import arguments
from flexmeter.management.checkpoint import Checkpoint
from flexmeter.management.command import FlexmeterCommand, number
from flexmeter.management.importing import Clock, Counts, Importer, Rejects
from flexmeter.management.mapping import FIELDS, PROPERTY, UNITS, CsvMapping, TimestampReader
from flexmeter.management.rows import csv_rows, jsonl_rows, line_limit
from flexmeter.management.sources import STDIN, Source
from flexmeter.stores.database.transactions import write_alias

FORMATS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
CSV_ONLY: Final = ("map", "constant", "rest_as_properties", "timestamp_format", "timezone", "delimiter")
UNMAPPED: Final = frozenset({"event_id", "properties", "accepted_at", "timestamp"})
"""Members that cannot be the same for all rows, or hold more than text."""


class Command(FlexmeterCommand):
    help = """
    Take events from JSON Lines and CSV files, plain or gzip, into the ledger.

    JSON Lines: each line is an event as POST /events takes it, or as flexmeter_export writes it (id for event_id).

    CSV: the first row names the columns. A column called like a member of the event (event_name, timestamp,
    properties.tokens, ...) is that member; --map names others, --constant gives every row the same value, and
    --rest-as-properties makes a property of every other column. An empty cell is no value. A column called properties
    holds a JSON object.

    Importing the same file again changes nothing, because an event counts once by its id:

    - A row with an event_id is that event. If it is stored with other values, those of the row replace them. In one
      file the last row of an id wins.
    - A row without one gets an id that is derived from its text, from how many equal rows came before it in the file,
      and from the file's name (without directory and .gz; --name gives another). So rows may be added, removed or moved
      and the rest stay the same events, while two equal rows are two events. But a row that was edited is a new event
      beside the old one, and a file that was renamed holds new events throughout: import it under its old name with
      --name. To make a second event of every row, as for another meter, give another --name too.
    - A row without a timestamp happens when it is first imported, and keeps that time when it is imported again.
    - A row with accepted_at, as in files of flexmeter_export, was accepted then: values that were accepted later stand.
      To correct exported events, edit the file and import it with --accept-now.

    A row that is no valid event does not stop the import: it goes to FILE.rejected.jsonl with its line number and what
    is wrong with it. Correct it in FILE and import that again. The exit status is 1 if a row was rejected or stands back
    behind stored values (see FLEXMETER_REPEATED_EVENT), unless --allow-rejects is given.

    While it runs, FILE.progress notes how far it has come. After a kill, --resume goes on there; without it the import
    begins anew, which takes longer and does no harm. Memory stays the same however large the files are.
    """
    examples = """
    examples:
      manage.py flexmeter_import events.jsonl.gz --environment production
      manage.py flexmeter_import usage.csv --map external_customer_id=Account --map timestamp=Time --timezone Europe/Berlin \\
          --constant event_name=api_request --constant source=import --map properties.bytes=Size
      manage.py flexmeter_import access.csv --timestamp-format '%d/%b/%Y:%H:%M:%S %z' --rest-as-properties
      zcat *.jsonl.gz | manage.py flexmeter_import - --format jsonl --name archive --json
    """
    after_interrupt = "What was committed stays; run the same command with --resume to go on there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", metavar="FILE", nargs="+", help="A file, or - for standard input.")
        self.add_one_environment(parser, "The environment the events are for.")
        parser.add_argument(
            "--format",
            choices=["jsonl", "csv"],
            help="What the files hold. Default: by suffix (.jsonl, .ndjson, .csv; .tsv is CSV with tabs; .gz is left off first).",
        )
        parser.add_argument(
            "--name",
            type=arguments.storable,
            help="Name of the import in derived ids, instead of the file's name; standard input has none.",
        )
        parser.add_argument(
            "--rejects", metavar="PATH", help="Where rejected rows go. Default: beside the file, with .rejected.jsonl added; "
            "for standard input stdin.rejected.jsonl. A run from the beginning writes it anew.",
        )  # fmt: skip
        parser.add_argument("--allow-rejects", action="store_true", help="Exit with status 0 in spite of rejected rows.")
        parser.add_argument(
            "--resume", action="store_true", help="Go on where an interrupted import of the same unchanged file stopped."
        )
        parser.add_argument("--accept-now", action="store_true", help="Take rows with accepted_at as accepted now.")
        self.add_json(parser, "what became of the rows")

        columns = parser.add_argument_group("CSV")
        columns.add_argument(
            "--map",
            metavar="MEMBER=COLUMN",
            action="append",
            type=assignment,
            default=[],
            help=f"Which column is which member of an event: {', '.join(FIELDS)}, "
            f"or {PROPERTY}NAME for a property. May be repeated.",
        )
        columns.add_argument(
            "--constant",
            metavar="MEMBER=VALUE",
            action="append",
            type=assignment,
            default=[],
            help="Give every row this value: for event_name, external_customer_id, customer_id, source, "
            f"or {PROPERTY}NAME. May be repeated.",
        )
        columns.add_argument(
            "--rest-as-properties",
            action="store_true",
            help="Make a property of every column that is not used otherwise, with its name.",
        )
        columns.add_argument(
            "--timestamp-format",
            metavar="FORMAT",
            type=timestamp_format,
            help="iso: 2024-03-20 15:04:05.1234567, with T or a space, with or without an offset (the default). unix, unix-ms: "
            "seconds or milliseconds since 1970. Or a pattern of Python's strptime. Digits beyond microseconds are cut.",
        )
        columns.add_argument(
            "--timezone",
            metavar="ZONE",
            type=zone,
            help="Zone of timestamps that do not name theirs, such as UTC or Europe/Berlin.",
        )
        columns.add_argument(
            "--delimiter", type=delimiter, help="The character between cells; 'tab' for a tab. Default: a comma."
        )

    def run(self, **options: Any) -> None:
        files = [ImportedFile(path, options) for path in options["files"]]
        self.refuse_contradictions(files, options)
        clock, total = Clock(), Counts()
        results, finished = [], []
        if options["rejects"] and not options["resume"]:
            delete(Path(options["rejects"]))
        for file in files:
            with closing(Checkpoint(file.checkpoint_path)) as checkpoint:
                try:
                    result = self.take(file, checkpoint, clock, options)
                except BaseException:
                    if not checkpoint.last.get("offset"):
                        checkpoint.remove()  # there is nothing to go on from
                    raise
            finished.append(checkpoint)
            total += result.pop("counts")
            results.append(result)
        for checkpoint in finished:  # not before: a resumed import passes over the files that were done
            checkpoint.remove()
        self.tell(results, total, options)

    def refuse_contradictions(self, files: Sequence[ImportedFile], options: Mapping[str, Any]) -> None:
        """Raise CommandError for options that do not go together."""
        if len(files) > 1 and options["name"] is not None:
            raise CommandError("--name is the name of one file: import the files one by one.")
        if len({file.path for file in files}) < len(files):
            raise CommandError("A file is named twice.")
        for file in files:
            if file.rejects_path.resolve() in {other.resolved for other in files}:
                raise CommandError(f"Rejected rows cannot go to {file.rejects_path}, which is to be imported.")
        if all(file.format == "jsonl" for file in files) and (given := [name for name in CSV_ONLY if options[name]]):
            raise CommandError(f"--{given[0].replace('_', '-')} is for CSV files. JSON Lines are taken as they are.")
        names = Counter(file.name for file in files)
        for file in files:
            if file.name is not None and names[file.name] > 1:
                file.name = None
                file.nameless = (
                    f"{file.path} has rows without an id, and another file has the same name, which derived ids depend on. "
                    "Import the files one by one, each with a --name of its own."
                )

    def take(self, file: ImportedFile, checkpoint: Checkpoint, clock: Clock, options: Mapping[str, Any]) -> dict[str, Any]:
        """Import one file, from the beginning or from where its checkpoint says."""
        alias = write_alias()
        rejects = Rejects(file.rejects_path, file.path)
        importer = Importer(
            options["environment"], alias, checkpoint, rejects, clock, file.name, file.nameless, options["accept_now"]
        )
        label = "standard input" if file.path == STDIN else Path(file.path).name
        with Source(file.path, line_limit=line_limit()) as source, self.progress(label, "rows", options) as progress:
            of_import = file.described(source, alias, options)
            place = checkpoint.place(of_import) if options["resume"] else None
            if place is None:
                if options["resume"] and checkpoint.kept:
                    self.note(f"{file.path}: no interrupted import of this file as it is; from the beginning.", options)
                if options["rejects"] is None:
                    delete(file.rejects_path)
                checkpoint.begin(of_import)
                resume_at, resumed_after = None, 0
            else:
                resume_at = (place["offset"], place["line"])
                resumed_after = place["line"]
                importer.counts = Counts(**place["counts"])
                rejects.cut(place["rejects"])
                self.note(f"{file.path}: going on after line {resumed_after:,}.", options)
            if not checkpoint.kept and file.path != STDIN:
                self.note(f"{file.checkpoint_path} cannot be written, so this import cannot be resumed.", options)

            def commit() -> None:
                checkpoint.commit(
                    {"offset": source.offset, "line": source.line, "counts": asdict(importer.counts), "rejects": rejects.size()}
                )

            if place is None:
                commit()
            if file.format == "csv":
                rows = csv_rows(source, file.mapping, resume_at)
            else:
                rows = jsonl_rows(source)
                if resume_at is not None:
                    source.go_to(*resume_at)
            progress.begin(importer.counts.rows, source.part() or 0.0)
            try:
                for counts in importer.take(rows):
                    commit()
                    progress.show(counts.rows, source.part(), f"{counts.rejected:,} rejected" if counts.rejected else "")
            except BaseException as error:
                rejects.cut(checkpoint.last["rejects"])
                if not isinstance(error, EnvironmentBusy | DatabaseError):
                    raise
                raise CommandError(
                    f"{file.path}: the database did not take the rows after number {importer.counts.rows:,}: "
                    f"{str(error).strip().rstrip('.')}. Those before are committed. "
                    "Run the same command with --resume to go on there."
                ) from error
            finally:
                rejects.close()
        return {
            "file": file.path,
            **asdict(importer.counts),
            "resumed_after_line": resumed_after,
            "rejects": str(file.rejects_path) if importer.counts.rejected else None,
            "counts": importer.counts,
        }

    def tell(self, results: Sequence[Mapping[str, Any]], total: Counts, options: Mapping[str, Any]) -> None:
        """Print what became of the rows. Raises CommandError if some were rejected and that is not allowed."""
        if options["json"]:
            self.print_json({"environment": options["environment"], **asdict(total), "files": list(results)})
        else:
            for result in results:
                self.stdout.write(
                    f"{result['file']}: {number(result['rows'], 'row')}: {result['stored']:,} stored, "
                    f"{result['repeated']:,} repeated, {result['replaced']:,} replaced, {result['rejected']:,} rejected."
                )
        problems = []
        if total.rejected:
            paths = dict.fromkeys(result["rejects"] for result in results if result["rejects"])
            problems.append(f"{number(total.rejected, 'row')} rejected; see {', '.join(paths)}.")
        if total.conflicts:
            problems.append(
                f"{number(total.conflicts, 'row')} in conflict with stored events, whose values stand "
                "(FLEXMETER_REPEATED_EVENT is 'keep')."
            )
        if problems and not options["allow_rejects"]:
            raise CommandError(" ".join(problems))

    def note(self, text: str, options: Mapping[str, Any]) -> None:
        if options["verbosity"]:
            self.stderr.write(text, lambda line: line)


class ImportedFile:
    """A file on the command line and how it is to be taken. Raises CommandError where that is not clear."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path = path
        bare = Path(path.removesuffix(".gz"))
        suffix = FORMATS.get(bare.suffix.lower())
        if options["format"] is None and suffix is None:
            what = "standard input" if path == STDIN else path
            raise CommandError(f"Say what {what} holds: --format jsonl or --format csv.")
        self.format: str = options["format"] or suffix or ""
        self.name: str | None = options["name"] or (None if path == STDIN else bare.name)
        self.nameless = "Rows without an id from standard input need --name, which their derived ids depend on."
        beside = Path("stdin" if path == STDIN else path)
        self.rejects_path = Path(options["rejects"]) if options["rejects"] else beside.with_name(beside.name + ".rejected.jsonl")
        self.checkpoint_path = beside.with_name(beside.name + ".progress") if Path(path).is_file() else None
        self.resolved = Path(path).resolve()
        self.mapping = CsvMapping(
            by_column=assigned("--map", options["map"], FIELDS),
            constants=assigned("--constant", options["constant"], [field for field in FIELDS if field not in UNMAPPED]),
            rest_as_properties=options["rest_as_properties"],
            timestamps=TimestampReader(options["timestamp_format"] or "iso", options["timezone"]),
            delimiter=options["delimiter"] or ("\t" if bare.suffix.lower() == ".tsv" else ","),
        )
        if both := sorted(self.mapping.by_column.keys() & self.mapping.constants.keys()):
            raise CommandError(f"{both[0]} cannot be both a column and a constant.")

    def described(self, source: Source, alias: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """What must be the same for an interrupted import to go on."""
        database = connections[alias].settings_dict
        return {
            "size": source.size,
            "modified": source.modified,
            "format": self.format,
            "name": self.name,
            "mapping": repr(self.mapping),
            "environment": options["environment"],
            "accept_now": options["accept_now"],
            "rejects": str(self.rejects_path),
            "database": [connections[alias].vendor, *(str(database.get(key)) for key in ("HOST", "PORT", "NAME"))],
        }


def delete(path: Path) -> None:
    """Delete a file of rejects of an earlier run, if there is one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{path} cannot be written anew: {error.strerror}. Name another file with --rejects.") from None


def assignment(text: str) -> tuple[str, str]:
    member, equals, value = text.partition("=")
    if not equals or not member:
        raise ArgumentTypeError(f"{text!r} is not of the form MEMBER=VALUE, such as event_name=api_request")
    return arguments.storable(member), arguments.storable(value)


def assigned(option: str, pairs: Sequence[tuple[str, str]], members: Sequence[str]) -> dict[str, str]:
    """The pairs as a mapping. Raises CommandError for a member that an event does not have, and for one named twice."""
    found: dict[str, str] = {}
    for member, value in pairs:
        if member not in members and (not member.startswith(PROPERTY) or member == PROPERTY):
            raise CommandError(f"{option} {member}={value}: choose from {', '.join(members)} and {PROPERTY}NAME.")
        if member in found:
            raise CommandError(f"{option} names {member} twice.")
        found[member] = value
    return found


def timestamp_format(text: str) -> str:
    if text == "iso" or text in UNITS:
        return text
    example = datetime(2024, 3, 20, 15, 4, 5, tzinfo=UTC)
    try:
        if datetime.strptime(example.strftime(text), text).date() == example.date():  # noqa: DTZ007  # only the date is looked at
            return text
    except ValueError:
        pass
    raise ArgumentTypeError(
        f"{text!r} is neither iso, unix nor unix-ms, nor a pattern that holds a date, such as '%d.%m.%Y %H:%M:%S'"
    )


def zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):
        raise ArgumentTypeError(f"{text!r} is no time zone; UTC and Europe/Berlin are") from None


def delimiter(text: str) -> str:
    text = "\t" if text in {"tab", "\\t"} else text
    if len(text) != 1 or text in '"\r\n\x00':
        raise ArgumentTypeError("must be one character, or 'tab'")
    return text
