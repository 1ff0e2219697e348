"""Merge rollup rows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from flexmeter.maintenance.compaction import compact
from flexmeter.management.command import FlexmeterCommand, number
from flexmeter.stores.database.transactions import write_alias


class Command(FlexmeterCommand):
    help = """
    Merge the rollup rows that ingestion appends, so that questions have fewer rows to add up.

    Every batch of events adds rows of its own, which keeps writers out of each other's way. Merged, there is one row for
    each quarter of an hour and one for each UTC day, from which long ranges are answered. Run this from time to time,
    say every few minutes under load or once a night. Figures stay the same throughout, events may keep coming in, and
    running it twice or killing it does no harm.
    """
    examples = """
    examples:
      manage.py flexmeter_compact
      manage.py flexmeter_compact --environment production --json
    """

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_environment(parser, "Only meters of this environment.")
        self.add_json(parser, "the number of rows merged")

    def run(self, **options: Any) -> None:
        self.require_environment(options["environment"], write_alias())
        merged = compact(options["environment"])
        if options["json"]:
            self.print_json({"rows_merged": merged})
        else:
            self.stdout.write(f"{number(merged, 'row')} merged.")
