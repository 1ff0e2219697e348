"""Compare rollups with events."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter.events import format_timestamp
from flexmeter.maintenance.verification import Difference, Verification, verify_and_remember
from flexmeter.management.command import FlexmeterCommand, number, shown
from flexmeter.stores.database.transactions import write_alias


class Command(FlexmeterCommand):
    help = """
    Compare every rollup with the events it stands for, and print every difference.

    The exit status is 0 only if there is none. Events may keep coming in meanwhile: what is being counted this very
    moment is not reported. Meters that are being rebuilt are skipped, and so are periods whose events were pruned.
    When it has come to the end, what it found is kept for flexmeter_doctor and the admin's page on health.
    """
    examples = """
    examples:
      manage.py flexmeter_verify
      manage.py flexmeter_verify --environment production --json

    A meter with differences is put right by: manage.py flexmeter_rebuild --meter ID --restart
    """
    after_interrupt = "Nothing was changed."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_environment(parser, "Only meters of this environment.")
        self.add_json(parser, "what was compared and every difference")

    def run(self, **options: Any) -> None:
        self.require_environment(options["environment"], write_alias())
        result = Verification()
        differences = verify_and_remember(options["environment"], result=result)
        if options["json"]:
            self.stdout.write('{"differences": [', ending="")  # one by one: nobody knows how many there are
            for index, difference in enumerate(differences):
                self.stdout.write((", " if index else "") + json.dumps(described(difference)), ending="")
            rest = {"meters": result.meters, "customers": result.customers, "skipped": result.skipped}
            self.stdout.write("], " + json.dumps(rest)[1:])
        else:
            for difference in differences:
                self.stdout.write(
                    f"{difference.meter_id} customer {shown(difference.external_customer_id)} "
                    f"bucket {format_timestamp(difference.bucket)}: events say {shown(difference.counted)}, "
                    f"rollups say {shown(difference.stored)}"
                )
            found = number(result.differences, "difference") if result.differences else "no difference"
            skipped = (
                f" {number(result.skipped, 'meter')} being rebuilt skipped: run flexmeter_rebuild first."
                if result.skipped
                else ""
            )
            self.stdout.write(
                f"{number(result.meters, 'meter')} and {number(result.customers, 'customer')} compared, {found}.{skipped}"
            )
        if result.differences:
            raise CommandError(
                f"Rollups and events disagree in {number(result.differences, 'bucket')}. "
                "flexmeter_rebuild --meter ID --restart counts a meter anew."
            )


def described(difference: Difference) -> dict[str, Any]:
    """A difference as JSON."""
    return {
        "meter": difference.meter_id,
        "external_customer_id": difference.external_customer_id,
        "bucket": format_timestamp(difference.bucket),
        "events": difference.counted,
        "rollups": difference.stored,
    }
