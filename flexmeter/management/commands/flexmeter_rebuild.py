"""Fill the rollups of meters from the events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter.maintenance import rebuild
from flexmeter.management import arguments
from flexmeter.management.command import FlexmeterCommand, number, shown
from flexmeter.models import Meter
from flexmeter.stores.database.transactions import write_alias


class Command(FlexmeterCommand):
    help = """
    Fill the rollups of meters from the events there are.

    A meter that is created or changed counts past events too. Where these are many, its figures come from the events
    themselves until this command has run: right all the while, only slower. Without --meter every meter that waits for
    it is filled.

    Events may keep coming in, and several runs at once do no harm. A run that was killed goes on where it stopped.
    """
    examples = """
    examples:
      manage.py flexmeter_rebuild
      manage.py flexmeter_rebuild --environment production --json
      manage.py flexmeter_rebuild --meter meter_01J8Z3F0Q2 --restart

    --restart is for a meter that flexmeter_verify found differences in. What its rollups say of pruned periods stays.
    """

    after_interrupt = "Nothing is lost: run it again, without --restart, to go on where it stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_environment(parser, "Only meters of this environment.")
        parser.add_argument("--meter", metavar="ID", type=arguments.storable, help="Only this meter.")
        parser.add_argument(
            "--restart",
            action="store_true",
            help="Drop the rollups of the meter, or of all meters of the environment, and count all retained events anew.",
        )
        self.add_json(parser, "what was counted")

    def run(self, **options: Any) -> None:
        self.require_environment(options["environment"], write_alias())
        meters = self.meters(**options)
        if options["restart"]:
            for meter in meters:
                rebuild.restart(meter.pk)
        done = [self.fill(meter, options) for meter in meters]
        if options["json"]:
            self.print_json({"meters": done, "events": sum(meter["events"] for meter in done)})
            return
        for meter_done in done:
            self.stdout.write(
                f"{meter_done['id']} ({shown(meter_done['name'])}): {number(meter_done['events'], 'event')} counted."
            )
        if not done:
            self.stdout.write("No meter waits for a rebuild.")

    def meters(self, *, environment: str | None, meter: str | None, restart: bool, **options: Any) -> list[Meter]:
        """The meters to fill. Raises CommandError for one that is not there."""
        if meter is None and not restart:
            return rebuild.pending(environment)
        if meter is None and environment is None:
            raise CommandError("--restart counts all events anew: say of which meters, with --meter or --environment.")
        meters = Meter.objects.using(write_alias()).order_by("id")
        if environment is not None:
            meters = meters.in_environment(environment)
        if meter is None:
            return list(meters)
        found = list(meters.filter(pk=meter))
        if not found:
            where = "" if environment is None else f" in environment {shown(environment)}"
            raise CommandError(f"There is no meter {shown(meter)}{where}.")
        return found

    def fill(self, meter: Meter, options: Mapping[str, Any]) -> dict[str, Any]:
        """Fill one meter and describe what was done."""
        began, events = time.monotonic(), 0
        with self.progress(meter.pk, "events", options) as progress:
            progress.begin(meter.rebuild_done, _part(meter.rebuild_done, meter.rebuild_total))

            def report(step: rebuild.Progress) -> None:
                progress.show(step.done, _part(step.done, step.total))

            with suppress(Meter.DoesNotExist):  # deleted since it was listed
                events = rebuild.rebuild(meter.pk, report=report)
        return {
            "id": meter.pk,
            "name": meter.name,
            "environment": meter.environment,
            "events": events,
            "seconds": round(time.monotonic() - began, 3),
        }


def _part(done: int, total: int) -> float:
    return min(done / total, 1.0) if total else 0.0
