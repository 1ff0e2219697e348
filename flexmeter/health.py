"""What is wrong with this installation, and what to do about it.

Each examination answers with a Finding; one that cannot tell says so instead of reporting that all is well. None looks
at more than a bounded number of rows, except for the comparisons of rollups with events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, TypeVar

from django.apps import apps
from django.core.checks import ERROR
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Exists, OuterRef
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from flexmeter import checks, inbox, upkeep
from flexmeter.activity import MOST_COUNTED, Figure, counted, rejections
from flexmeter.conf import conf
from flexmeter.events import format_timestamp
from flexmeter.exceptions import EnvironmentBusy
from flexmeter.maintenance.verification import spot_check, verify
from flexmeter.models import Environment, Event, InboxBatch, Meter, Series, now
from flexmeter.schedule import SWEEP, VERIFY
from flexmeter.stores.database.transactions import write_alias

Answer = TypeVar("Answer")

UNANSWERED = (DatabaseError, InterfaceError, EnvironmentBusy)
STALE_AFTER = timedelta(minutes=1)
STUCK_AFTER = timedelta(minutes=10)
SWEPT_WITHIN = timedelta(minutes=2)
VERIFIED_WITHIN = timedelta(days=8)
NAMED = 5


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found; `advice` is empty where nothing has to be done."""

    name: str
    state: State
    sentence: str
    advice: str = ""


Examination = Callable[[str], Finding]


def examine(*, verify_all: bool = False, quick: bool = False, using: str | None = None) -> Iterator[Finding]:
    """Yield a finding for everything that is examined, in the order in which one would repair things.

    Rollups are compared with events for a few customers, or with `verify_all` for all of them, which takes long, or with
    `quick` for none. Nothing is changed. What needs a database that does not answer is unknown.
    """
    alias = using or write_alias()
    yield examine_settings(alias)
    reachable = told("database", examine_database, alias)
    yield reachable
    if reachable.state is State.ERROR:
        return
    yield told("tables", examine_tables, alias)
    examinations: dict[str, Examination] = {
        "inbox": examine_inbox,
        "failing": examine_failing_batches,
        "beat": examine_beat,
        "sweep": examine_sweep,
        "workers": examine_workers,
        "rejected": examine_rejected,
        "meters": examine_meters,
        "rollups": examine_all_rollups if verify_all else examine_some_rollups,
        "verification": examine_verification,
        "retention": examine_retention,
        "durability": examine_durability,
        "isolation": examine_isolation,
    }
    if quick:
        del examinations["rollups"]
    for name, examination in examinations.items():
        yield told(name, examination, alias)


def told(name: str, examination: Examination, alias: str) -> Finding:
    """The finding of an examination, `unknown` where the database fails. A caller's transaction stays usable."""
    try:
        return _kept_usable(alias, lambda: examination(alias))
    except UNANSWERED as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        sentence = _("It cannot be told: %(reason)s") % {"reason": reason}
        return Finding(name, State.UNKNOWN, sentence, _("Run it again once the database answers."))


def answered(question: Callable[[], Answer], *, using: str | None = None) -> Answer | None:
    """The answer to a question, None where the database fails to give one. A caller's transaction stays usable."""
    try:
        return _kept_usable(using or write_alias(), question)
    except UNANSWERED:
        return None


def _kept_usable(alias: str, question: Callable[[], Answer]) -> Answer:
    with transaction.atomic(using=alias) if connections[alias].in_atomic_block else nullcontext():
        return question()


def examine_settings(alias: str) -> Finding:
    """What the system checks say of the settings."""
    messages = [*checks.check_settings(), *checks.check_databases(), *checks.check_celery()]
    if not messages:
        return Finding("settings", State.OK, _("The settings are in order."))
    worst = State.ERROR if any(message.level >= ERROR for message in messages) else State.WARNING
    sentence = " ".join(str(message.msg) for message in messages)
    return Finding("settings", worst, sentence, " ".join(str(message.hint) for message in messages if message.hint))


def examine_database(alias: str) -> Finding:
    """Whether the database answers."""
    try:
        _ask(alias, "SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        reason = str(error).strip() or type(error).__name__
        sentence = _("Database %(alias)s does not answer: %(reason)s") % {"alias": repr(alias), "reason": reason}
        return Finding("database", State.ERROR, sentence, _("See that it runs and try again."))
    return Finding("database", State.OK, _("Database %(alias)s answers.") % {"alias": repr(alias)})


def examine_tables(alias: str) -> Finding:
    """Whether the tables are those of this version."""
    executor = MigrationExecutor(connections[alias])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "flexmeter"]
    missing = [migration.name for migration, _backwards in executor.migration_plan(targets) if migration.app_label == "flexmeter"]
    if missing:
        sentence = _("Migrations of flexmeter have not been applied: %(names)s.") % {"names": ", ".join(missing)}
        return Finding("tables", State.ERROR, sentence, _("Run: manage.py migrate flexmeter"))
    return Finding("tables", State.OK, _("All migrations have been applied."))


def examine_inbox(alias: str) -> Finding:
    """How much waits to be counted, and for how long."""
    survey = inbox.survey(batches=MOST_COUNTED, using=alias)
    waiting = survey.total
    if waiting.oldest is None:
        return Finding("inbox", State.OK, _("Nothing waits to be counted."))
    age = max(now() - waiting.oldest, timedelta(0))
    sentence = ngettext(
        "%(events)s event waits to be counted, the oldest for %(age)s.",
        "%(events)s events wait to be counted, the oldest for %(age)s.",
        waiting.events,
    ) % {"events": figure_told(Figure(waiting.events, survey.is_capped)), "age": duration_told(age)}
    if age < STALE_AFTER:
        return Finding("inbox", State.OK, sentence)
    advice = (
        _("See that a Celery worker and a beat run, or run: manage.py flexmeter_drain --watch")
        if conf.INGEST == "celery"
        else _("Run: manage.py flexmeter_drain (a process may have been killed between its commit and its drain)")
    )
    return Finding("inbox", State.ERROR if age >= STUCK_AFTER else State.WARNING, sentence, advice)


def examine_failing_batches(alias: str) -> Finding:
    """Batches that drains have failed on."""
    failing = counted(InboxBatch.objects.using(alias).filter(attempts__gt=0).values("attempts"))
    if not failing.count:
        return Finding("failing", State.OK, _("No batch has failed to be counted."))
    sentence = ngettext(
        "%(batches)s batch has failed to be counted and is tried again.",
        "%(batches)s batches have failed to be counted and are tried again.",
        failing.count,
    ) % {"batches": figure_told(failing)}
    return Finding("failing", State.WARNING, sentence, _("See why: manage.py flexmeter_drain --traceback"))


def examine_rejected(alias: str) -> Finding:
    """Events that were accepted and could not be counted."""
    reasons = rejections(using=alias)
    if not reasons.events:
        return Finding("rejected", State.OK, _("No event is rejected."))
    sentence = ngettext(
        "%(events)s accepted event could not be counted (%(reasons)s).",
        "%(events)s accepted events could not be counted (%(reasons)s).",
        reasons.total.count,
    ) % {
        "events": figure_told(reasons.total),
        "reasons": ", ".join(f"{reason} {events:,}" for reason, events in reasons.events.items()),
    }
    advice = _("See why: manage.py flexmeter_rejected list. Once that is put right: manage.py flexmeter_rejected retry --all")
    return Finding("rejected", State.WARNING, sentence, advice)


def examine_meters(alias: str) -> Finding:
    """Meters whose rollups do not cover history yet."""
    building = list(Meter.objects.using(alias).being_built().order_by("id").values_list("id", flat=True))
    if not building:
        return Finding("meters", State.OK, _("The rollups of all meters cover all retained events."))
    sentence = ngettext(
        "%(count)s meter is answered from events, which is right but slow: %(names)s.",
        "%(count)s meters are answered from events, which is right but slow: %(names)s.",
        len(building),
    ) % {"count": f"{len(building):,}", "names": _some(building)}
    return Finding("meters", State.WARNING, sentence, _("Run: manage.py flexmeter_rebuild"))


def examine_some_rollups(alias: str) -> Finding:
    """Whether rollups and events agree, for a few customers of a few meters."""
    compared, differences = spot_check(using=alias)
    if differences:
        return _broken("rollups", sorted({difference.meter_id for difference in differences}))
    if not Series.objects.using(alias).exists():
        return Finding("rollups", State.OK, _("There are no rollups yet."))
    if not compared:
        sentence = _("There was nothing small enough to compare.")
        return Finding("rollups", State.UNKNOWN, sentence, _("Run: manage.py flexmeter_verify"))
    sentence = ngettext(
        "Rollups and events agree in %(count)s sample.", "Rollups and events agree in %(count)s samples.", compared
    )
    return Finding("rollups", State.OK, sentence % {"count": f"{compared:,}"})


def examine_all_rollups(alias: str) -> Finding:
    """Whether rollups and events agree, everywhere."""
    broken = sorted({difference.meter_id for difference in verify(using=alias)})
    return _broken("rollups", broken) if broken else Finding("rollups", State.OK, _("All rollups agree with the events."))


def examine_verification(alias: str) -> Finding:
    """When all rollups were last compared with the events, and whether they agreed."""
    advice = _("Run every night: manage.py flexmeter_verify, or the task %(task)s") % {"task": VERIFY}
    runs = upkeep.last_runs(VERIFY, using=alias)
    broken = sorted({meter for run in runs for meter in (run.result or {}).get("broken", [])})
    if broken:
        return _broken("verification", broken)
    whole = next((run for run in runs if not run.environment), None)
    if whole is None:
        if not Series.objects.using(alias).exists():
            return Finding("verification", State.OK, _("There are no rollups yet."))
        sentence = _("Nothing remembers that all rollups were ever compared with the events.")
        return Finding("verification", State.UNKNOWN, sentence, advice)
    age = max(now() - whole.started_at, timedelta(0))
    sentence = _("All rollups agreed with the events %(age)s ago (%(meters)s meters, %(customers)s customers).") % {
        "age": duration_told(age),
        "meters": f"{(whole.result or {}).get('meters', 0):,}",
        "customers": f"{(whole.result or {}).get('customers', 0):,}",
    }
    return (
        Finding("verification", State.WARNING, sentence, advice)
        if age > VERIFIED_WITHIN
        else Finding("verification", State.OK, sentence)
    )


def _broken(name: str, meters: list[str]) -> Finding:
    sentence = ngettext(
        "Rollups disagree with events in %(count)s meter: %(names)s.",
        "Rollups disagree with events in %(count)s meters: %(names)s.",
        len(meters),
    ) % {"count": f"{len(meters):,}", "names": _some(meters)}
    advice = _("Run: manage.py flexmeter_rebuild --meter %(meter)s --restart (and so on), then flexmeter_verify")
    return Finding(name, State.ERROR, sentence, advice % {"meter": meters[0]})


def examine_retention(alias: str) -> Finding:
    """From when on events are kept, and whether older ones are still there."""
    floors = Environment.objects.using(alias).exclude(pruned_before=None).order_by("name")
    older = Event.objects.using(alias).filter(environment=OuterRef("name"), timestamp__lt=OuterRef("pruned_before"))
    unfinished = list(floors.filter(Exists(older)).values_list("name", flat=True))
    if unfinished:
        sentence = _("Pruning was interrupted in %(names)s: events older than what is retained are still stored.")
        advice = _("Run the same manage.py flexmeter_prune again.")
        return Finding("retention", State.WARNING, sentence % {"names": _some(unfinished)}, advice)
    kept = [
        _("%(name)s from %(time)s") % {"name": floor.name, "time": format_timestamp(floor.pruned_before)}
        for floor in floors
        if floor.pruned_before is not None
    ]
    if not kept:
        return Finding("retention", State.OK, _("All events are kept."))
    sentence = _("Events are kept: %(times)s; older ones are refused.") % {"times": _some(kept)}
    return Finding("retention", State.OK, sentence)


def examine_beat(alias: str) -> Finding:
    """Whether somebody is told to sweep the inbox from time to time, where that is Celery's work."""
    if conf.INGEST != "celery":
        return Finding("beat", State.OK, _("Events are counted inline; no beat is needed."))
    advice = _("Add flexmeter.schedule.BEAT_SCHEDULE to the beat schedule and run one beat (docs/celery.md).")
    if not find_spec("celery"):
        sentence = _("FLEXMETER_INGEST is 'celery', but Celery is not installed.")
        return Finding("beat", State.ERROR, sentence, _("Install flexmeter[celery]."))
    scheduled = import_string("flexmeter.tasks.scheduled_tasks")()
    if scheduled is None and apps.is_installed("django_celery_beat"):
        tasks = import_string("django_celery_beat.models.PeriodicTask").objects
        scheduled = set(tasks.filter(enabled=True).values_list("task", flat=True))
    if scheduled is None:
        return Finding("beat", State.UNKNOWN, _("This process does not know the schedule of the beat."), advice)
    if SWEEP not in scheduled:
        return Finding("beat", State.ERROR, _("No entry of the beat schedule runs %(task)s.") % {"task": SWEEP}, advice)
    return Finding("beat", State.OK, _("The beat schedule runs %(task)s.") % {"task": SWEEP})


def examine_sweep(alias: str) -> Finding:
    """When a worker last swept the inbox because a beat told it to, where that is Celery's work."""
    if conf.INGEST != "celery":
        return Finding("sweep", State.OK, _("Events are counted inline; no sweep is needed."))
    advice = _("See that one beat and a worker run (docs/celery.md).")
    last = next(iter(upkeep.last_runs(SWEEP, using=alias)), None)
    if last is None:
        return Finding("sweep", State.UNKNOWN, _("No sweep of the inbox has ended yet."), advice)
    age = max(now() - last.ended_at, timedelta(0))
    sentence = _("The last sweep of the inbox ended %(age)s ago.") % {"age": duration_told(age)}
    if age <= SWEPT_WITHIN:
        return Finding("sweep", State.OK, sentence)
    return Finding("sweep", State.ERROR if age >= STUCK_AFTER else State.WARNING, sentence, advice)


def examine_workers(alias: str) -> Finding:
    """Whether a Celery worker answers, asked over the broker for a second at most."""
    if conf.INGEST != "celery":
        return Finding("workers", State.OK, _("Events are counted inline; no worker is needed."))
    advice = _("See that the broker and a worker run, for instance: celery --app PROJECT worker")
    if not find_spec("celery"):
        return Finding("workers", State.UNKNOWN, _("Celery is not installed here."), _("Install flexmeter[celery]."))
    try:
        answers = import_string("flexmeter.tasks.worker_answers")()
    except Exception as error:  # noqa: BLE001  # every broker's client has errors of its own, whose text may name its password
        sentence = _("The broker cannot be reached from here (%(error)s).") % {"error": type(error).__name__}
        return Finding("workers", State.ERROR, sentence, advice)
    if answers is None:
        return Finding("workers", State.UNKNOWN, _("This process does not know the project's Celery app."), advice)
    if not answers:
        sentence = _("No worker has answered within a second; one that is busy in a pool of its own thread cannot.")
        return Finding("workers", State.WARNING, sentence, advice)
    return Finding("workers", State.OK, _("A worker answers."))


def examine_durability(alias: str) -> Finding:
    """Whether a commit survives what it has to, as the database itself says."""
    found: list[tuple[str, str]] = []
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        if (mode := _ask(alias, "PRAGMA journal_mode")) != "wal":
            wrong = _("SQLite's journal mode is %(mode)s, not wal") % {"mode": mode}
            found.append((wrong, "PRAGMA journal_mode = WAL"))
        if int(_ask(alias, "PRAGMA synchronous")) < 2:
            found.append((_("SQLite may lose the last commits when the power fails"), "PRAGMA synchronous = FULL"))
    elif vendor == "postgresql":
        for name in ("fsync", "synchronous_commit"):
            if _ask(alias, f"SHOW {name}") == "off":
                wrong = _("PostgreSQL's %(name)s is off, so the last commits may be lost in a crash") % {"name": name}
                found.append((wrong, f"{name} = on"))
    elif vendor == "mysql" and (flush := _ask(alias, "SELECT @@innodb_flush_log_at_trx_commit")) not in (1, "1"):
        wrong = _("%(name)s is %(value)s") % {"name": "innodb_flush_log_at_trx_commit", "value": flush}
        found.append((wrong, "innodb_flush_log_at_trx_commit = 1"))
    elif vendor not in ("mysql", "oracle"):
        return Finding("durability", State.UNKNOWN, _("Nothing is known of %(vendor)s.") % {"vendor": vendor})
    if found:
        sentence = "; ".join(what for what, _how in found) + "."
        advice = _("Set: %(settings)s") % {"settings": "; ".join(how for _what, how in found)}
        return Finding("durability", State.WARNING, sentence, advice)
    return Finding("durability", State.OK, _("The database keeps what it has committed."))


def examine_isolation(alias: str) -> Finding:
    """Whether transactions see what was committed before they got a lock."""
    connection: Any = connections[alias]
    if connection.vendor == "sqlite":
        mode = connection.transaction_mode
        if mode != "IMMEDIATE":
            sentence = _("SQLite transactions begin %(mode)s, so writers fail where they could wait.")
            advice = _("Set OPTIONS['transaction_mode'] = 'IMMEDIATE'.")
            return Finding("isolation", State.WARNING, sentence % {"mode": mode or "DEFERRED"}, advice)
        return Finding("isolation", State.OK, _("SQLite transactions take the write lock when they begin."))
    if connection.vendor == "postgresql":
        level = str(_ask(alias, "SHOW transaction_isolation"))
    elif connection.vendor == "mysql":
        level = str(_ask(alias, "SELECT @@tx_isolation" if connection.mysql_is_mariadb else "SELECT @@transaction_isolation"))
    else:
        return Finding("isolation", State.UNKNOWN, _("Nothing is known of %(vendor)s.") % {"vendor": connection.vendor})
    if level.lower().replace("-", " ") != "read committed":
        sentence = _("Transactions run at %(level)s, not READ COMMITTED.") % {"level": level}
        return Finding("isolation", State.ERROR, sentence, _("Use READ COMMITTED, Django's default."))
    return Finding("isolation", State.OK, _("Transactions run at READ COMMITTED."))


def figure_told(figure: Figure) -> str:
    """A count in words: `12,000`, or `10,000 or more`."""
    return _("%(count)s or more") % {"count": f"{figure.count:,}"} if figure.is_capped else f"{figure.count:,}"


def duration_told(age: timedelta) -> str:
    """Hours, minutes and seconds: `0:02:05`."""
    return str(timedelta(seconds=int(age.total_seconds())))


def _ask(alias: str, sql: str) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    shown = ", ".join(names[:NAMED])
    return _("%(names)s and %(rest)s more") % {"names": shown, "rest": f"{rest:,}"} if rest > 0 else shown
