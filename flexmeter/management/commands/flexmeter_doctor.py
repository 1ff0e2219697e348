"""Say what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter.health import State, examine
from flexmeter.management.command import FlexmeterCommand, number


class Command(FlexmeterCommand):
    help = """
    Say what is wrong with this installation and what to do about it. Nothing is changed.

    It looks at settings, tables, the inbox, rejected events, meters, rollups, retention, Celery's schedule, workers and last
    sweep, and asks the database whether it keeps what it commits. What cannot be told is "unknown", never "ok". The exit
    status is 1 if anything is an error, so it can serve as a health check.
    """
    examples = """
    examples:
      manage.py flexmeter_doctor
      manage.py flexmeter_doctor --json
      manage.py flexmeter_doctor --verify
    """
    after_interrupt = "Nothing was changed."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--verify", action="store_true", help="Compare all rollups with the events; takes long with many.")
        self.add_json(parser, "every finding")

    def run(self, **options: Any) -> None:
        findings = []
        for finding in examine(verify_all=options["verify"]):
            findings.append(finding)
            if not options["json"]:
                self.stdout.write(f"{finding.state:8} {finding.name}: {finding.sentence}")
                if finding.advice:
                    self.stdout.write(f"{'':8} -> {finding.advice}")
        errors = sum(finding.state is State.ERROR for finding in findings)
        if options["json"]:
            self.print_json({"healthy": not errors, "findings": [asdict(finding) for finding in findings]})
        if errors:
            raise CommandError(f"{number(errors, 'error')} found.")
