"""Delete old events, keeping what they amounted to."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter.events import format_timestamp
from flexmeter.maintenance.rebuild import pending
from flexmeter.maintenance.retention import prune
from flexmeter.management import arguments
from flexmeter.management.command import FlexmeterCommand, number, shown
from flexmeter.metering import DAY
from flexmeter.models import Event, now
from flexmeter.stores.database.locks import retained_from
from flexmeter.stores.database.transactions import write_alias
from flexmeter.windows import bucket


class Command(FlexmeterCommand):
    help = """
    Delete the events of an environment from before a time, cut to the start of that day in UTC.

    Usage of meters before that time stays answerable from their rollups. What would need the deleted events is answered
    with an error, never with a smaller number: single events, questions without a meter, windows shorter than the
    rollups. Events older than that time are refused from then on, because a late repeat could not be told from a new one.

    Events may keep coming in. Deleting goes in bounded batches; a run that was killed goes on with the next one. It is
    refused while a meter still waits for flexmeter_rebuild.
    """
    examples = """
    examples:
      manage.py flexmeter_prune --environment production --keep 400 --dry-run
      manage.py flexmeter_prune --environment production --keep 400 --yes
      manage.py flexmeter_prune --environment production --before 2024-01-01

    Keep a copy first: manage.py flexmeter_export --environment production --end 2024-01-01 --output 2023.jsonl.gz
    """
    after_interrupt = "Events before the time given are refused and no longer read from; run it again to delete the rest."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_environment(parser, "The environment whose events are deleted. It must be named.", required=True)
        limit = parser.add_mutually_exclusive_group(required=True)
        limit.add_argument(
            "--before", metavar="TIME", type=arguments.instant, help="A date, or a time such as 2024-03-20T15:04:05Z."
        )
        limit.add_argument(
            "--keep", metavar="DAYS", type=arguments.days, help="Keep this many days up to now, and the day they begin in."
        )
        parser.add_argument("--dry-run", action="store_true", help="Tell how many events would be deleted, and change nothing.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        self.add_json(parser, "what was deleted")

    def run(self, **options: Any) -> None:
        environment, alias = options["environment"], write_alias()
        self.require_environment(environment, alias)
        before = options["before"] or now() - timedelta(days=options["keep"])
        start_of_day = bucket(before.astimezone(UTC), DAY)
        if start_of_day > now():
            raise CommandError(f"{format_timestamp(before)} lies in the future; nothing was pruned.")
        floor = max(filter(None, (start_of_day, retained_from(environment, alias))))
        found = Event.objects.using(alias).in_environment(environment).between(None, floor).count()
        waiting = [meter.pk for meter in pending(environment)]
        if options["dry_run"]:
            self.tell(environment, floor, found, options["json"], dry_run=True, waiting_for_rebuild=waiting)
            return
        if not options["yes"]:
            self.ask(environment, floor, found)
        with self.progress(f"Environment {environment}", "events deleted", options) as progress:
            deleted = prune(
                before,
                environment=environment,
                report=lambda done: progress.show(done, min(done / found, 1.0) if found else None),
            )
        self.tell(environment, floor, deleted, options["json"], dry_run=False)

    def ask(self, environment: str, floor: datetime, found: int) -> None:
        """Raise CommandError unless somebody at a terminal agrees."""
        plan = (
            f"{number(found, 'event')} of environment {shown(environment)} from before {format_timestamp(floor)} "
            "will be deleted for good, and older ones refused from now on."
        )
        if not sys.stdin.isatty():
            raise CommandError(
                f"{plan} Nobody is here to agree: pass --yes to go ahead, or --dry-run to look. Nothing was changed."
            )
        self.stderr.write(f"{plan}\nDelete them? [y/N] ", lambda text: text, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was changed.")

    def tell(self, environment: str, floor: datetime, events: int, as_json: bool, **more: Any) -> None:
        before = format_timestamp(floor)
        if as_json:
            self.print_json({"environment": environment, "before": before, "events": events} | more)
            return
        does = "would be deleted" if more["dry_run"] else "deleted"
        self.stdout.write(f"Environment {shown(environment)}: {number(events, 'event')} from before {before} {does}.")
        if more.get("waiting_for_rebuild"):
            self.stdout.write(
                f"But first run flexmeter_rebuild: {', '.join(more['waiting_for_rebuild'])} still count from these events."
            )
