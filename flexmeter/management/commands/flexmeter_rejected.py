"""Show the events that could not be counted, and try them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from flexmeter import rejections
from flexmeter.events import format_timestamp
from flexmeter.management.command import FlexmeterCommand, number, shown
from flexmeter.models import RejectedEvent
from flexmeter.properties import dumps
from flexmeter.stores.database.transactions import write_alias

ROWS_AT_ONCE = 500


class Command(FlexmeterCommand):
    help = """
    Show the events that were accepted but could not be counted, or try to count them again.

    Each has a number, the reason and the number of attempts; `list --json` shows the event itself too. One that counts when
    it is tried again is rejected no more; one that fails again stays, with one attempt more.
    """
    examples = """
    examples:
      manage.py flexmeter_rejected list
      manage.py flexmeter_rejected list --environment production --json
      manage.py flexmeter_rejected retry 17 18
      manage.py flexmeter_rejected retry --all
    """

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|retry")
        for name, help in (("list", "Show what is rejected, oldest first."), ("retry", "Try to count events again.")):
            action = actions.add_parser(name, help=help)
            self.add_environment(action, "Only events of this environment.")
            self.add_json(action, "the result")
            if name == "retry":
                which = action.add_mutually_exclusive_group(required=True)
                which.add_argument("ids", metavar="ID", nargs="*", type=int, default=[], help="Numbers that `list` shows.")
                which.add_argument("--all", action="store_true", help="All of them.")

    def run(self, **options: Any) -> None:
        self.require_environment(options["environment"], write_alias())
        if options["action"] == "list":
            self.list(**options)
        else:
            self.retry(**options)

    def list(self, **options: Any) -> None:
        rows = self.rows(**options)
        if options["json"]:
            self.print_json([described(row) for row in rows])
            return
        found = 0
        for row in rows:
            found += 1
            self.stdout.write(
                f"{row.pk} {format_timestamp(row.rejected_at)} {shown(row.environment)} event {shown(row.event_id)}: "
                f"{row.reason}, {number(row.attempts, 'attempt')}: {shown(row.detail[:200])}"
            )
        if not found:
            self.stdout.write("Nothing is rejected.")

    def retry(self, **options: Any) -> None:
        wanted: list[int] = options["ids"]
        rows = self.queryset(**options)
        ids = list(rows.values_list("pk", flat=True)) if options["all"] else wanted
        known = set(ids) if options["all"] else set(rows.filter(pk__in=wanted).values_list("pk", flat=True))
        if missing := sorted(set(ids) - known):
            raise CommandError(f"There is no rejected event {', '.join(map(str, missing))}. Nothing was tried.")
        failed = [pk for pk in ids if not rejections.retry(pk)]
        if options["json"]:
            self.print_json({"counted": len(ids) - len(failed), "failed": failed})
        else:
            self.stdout.write(
                f"{number(len(ids) - len(failed), 'event')} counted, {number(len(failed), 'event')} still rejected."
            )
        if failed:
            raise CommandError(f"Still rejected: {', '.join(map(str, failed))}. `list` says why.")

    def queryset(self, **options: Any) -> Any:
        rows = RejectedEvent.objects.using(write_alias()).order_by("id")
        return rows if options["environment"] is None else rows.filter(environment=options["environment"])

    def rows(self, **options: Any) -> Iterator[RejectedEvent]:
        yield from self.queryset(**options).iterator(chunk_size=ROWS_AT_ONCE)


def described(row: RejectedEvent) -> dict[str, Any]:
    """A rejected event as JSON; numbers in its body are exact as text only, so the body is one."""
    return {
        "id": row.pk,
        "environment": row.environment,
        "event_id": row.event_id,
        "reason": row.reason,
        "detail": row.detail,
        "attempts": row.attempts,
        "accepted_at": format_timestamp(row.accepted_at),
        "rejected_at": format_timestamp(row.rejected_at),
        "body": dumps(row.body),
    }
