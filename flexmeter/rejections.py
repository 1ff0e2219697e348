"""Events that were taken in but cannot be counted: kept with the reason, tried again when somebody asks."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from flexmeter import metrics, properties
from flexmeter.events import MAX_IDENTIFIER_LENGTH, UsageEvent, format_timestamp, from_json, parse_event
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError, InvalidEvent
from flexmeter.ingest import Ingested, ingest
from flexmeter.models import RejectedEvent, now
from flexmeter.stores.database.transactions import Superseded, in_transaction, write_alias

logger = logging.getLogger("flexmeter.rejections")

RETRYABLE = (OperationalError, InterfaceError, EnvironmentBusy, Superseded, MemoryError)
"""What is no fault of the event: the same may succeed later."""


class Conflict(FlexmeterError):
    """Stored values of the event stand; it can only count with FLEXMETER_REPEATED_EVENT = 'replace'."""


class Uncountable(FlexmeterError):
    """Counting the event failed for a reason that is not in the event; nothing was changed, and the log has the traceback."""


class NotRejected(FlexmeterError):
    """There is no such rejected event: it counts meanwhile, or was discarded."""


def reject(environment: str, body: Any, accepted_at: datetime, error: Exception, *, using: str) -> None:
    """Keep what cannot be counted, in the caller's transaction. Whatever the body is, it can be kept."""
    reason, detail, trace = _told(error)
    transaction.on_commit(lambda: metrics.rejected(reason), using=using, robust=True)
    RejectedEvent.objects.using(using).create(
        environment=environment,
        event_id=_event_id(body),
        body=body if body is not None and properties.fault(body) is None else json.dumps(body, default=str),
        reason=reason,
        detail=detail,
        traceback=trace,
        accepted_at=accepted_at,
    )


def retry(rejected_id: int, *, using: str | None = None) -> bool:
    """Try a rejected event again; True if it counts now. Otherwise it stays, with one attempt more and the new reason.

    Raises what the database raises when it is out of reach, and EnvironmentBusy; then nothing has changed.
    """
    alias = using or write_alias()

    def once_more() -> bool:
        row = RejectedEvent.objects.using(alias).select_for_update().filter(pk=rejected_id).first()
        if row is None:
            return False
        try:
            _count(from_json(row.body), row.environment, alias)
        except RETRYABLE:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it was, the row says so
            row.attempts += 1
            row.reason, row.detail, row.traceback = _told(error)
            row.rejected_at = now()
            row.save(using=alias)
            return False
        row.delete(using=alias)
        return True

    return in_transaction(alias, once_more)


def corrected(row: RejectedEvent, members: Any) -> UsageEvent:
    """The event that a rejected one becomes with the members that somebody has put right.

    When it was accepted stays, so `accepted_at` may be left out but not changed. Its id has to be given: a generated one
    would make it another act. Raises InvalidEvent for the first member that breaks a rule.
    """
    if not isinstance(members, Mapping):
        raise InvalidEvent("The event", "type", "must be a JSON object")
    accepted_at = _accepted_at(row)
    if members.get("accepted_at") not in (None, accepted_at.isoformat(), format_timestamp(accepted_at)):
        raise InvalidEvent("accepted_at", "fixed", f"is {format_timestamp(accepted_at)} and cannot be changed; leave it out")
    if members.get("event_id") in (None, ""):
        raise InvalidEvent("event_id", "required", "is required, or the event would count as another one")
    return parse_event(members, now=accepted_at)


def correct(rejected_id: int, members: Any, *, using: str | None = None) -> Ingested:
    """Count a rejected event with the members that somebody has put right, in its own environment; returns what became
    of it. It is rejected no more.

    Raises InvalidEvent, Conflict, Uncountable or NotRejected, and what the database raises when it is out of reach or
    EnvironmentBusy; then nothing has changed, and the body that was accepted is still there.
    """
    alias = using or write_alias()

    def count_corrected() -> Ingested:
        row = RejectedEvent.objects.using(alias).select_for_update().filter(pk=rejected_id).first()
        if row is None:
            raise NotRejected("This event is rejected no more: it counts meanwhile, or was discarded.")
        event = corrected(row, members)
        try:
            outcome = _count(event, row.environment, alias)
        except (*RETRYABLE, FlexmeterError):
            raise
        except Exception as error:
            logger.exception("The corrected event %s of %s cannot be counted.", event.event_id, row.environment)
            raise Uncountable(f"It cannot be counted: {type(error).__name__}: {_storable(str(error))[:2_000]}") from error
        row.delete(using=alias)
        return outcome

    return in_transaction(alias, count_corrected)


def _count(event: UsageEvent, environment: str, alias: str) -> Ingested:
    with transaction.atomic(using=alias):
        outcome = ingest([event], environment=environment, using=alias)
        if outcome.rejected:
            raise Conflict("An event of this id is stored with other values, and FLEXMETER_REPEATED_EVENT is 'keep'.")
    return outcome


def _accepted_at(row: RejectedEvent) -> datetime:
    """To the microsecond, by which the events of one batch differ; that of the row where the body does not say."""
    given = row.body.get("accepted_at") if isinstance(row.body, dict) else None
    try:
        instant = datetime.fromisoformat(given) if isinstance(given, str) else None
        return row.accepted_at if instant is None or instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return row.accepted_at


def _event_id(body: Any) -> str:
    found = body.get("event_id") if isinstance(body, dict) else None
    if isinstance(found, str) and len(found) <= MAX_IDENTIFIER_LENGTH and properties.text_fault(found) is None:
        return found
    return ""


def _told(error: Exception) -> tuple[str, str, str]:
    """Reason, detail and traceback, as text that every database takes."""
    codes = {InvalidEvent: getattr(error, "code", ""), Conflict: "conflict"}
    reason = codes.get(type(error), "error")
    trace = "".join(traceback.format_exception(error))
    return reason, _storable(str(error))[:2_000], _storable(trace)[-20_000:]


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
