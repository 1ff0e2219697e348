"""The door for code: what you record commits and rolls back with the work it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, models
from django.http import HttpRequest
from django.utils.module_loading import import_string

from flexmeter import inbox, metrics, properties
from flexmeter.conf import conf
from flexmeter.events import UsageEvent, parse_event, parse_events
from flexmeter.exceptions import FlexmeterError, InvalidEvent
from flexmeter.ingest import ingest
from flexmeter.models import now
from flexmeter.stores.database.transactions import in_callers_transaction, write_alias

Witness = Callable[[Sequence[UsageEvent], str, str], bool]
witnesses: list[Witness] = []
"""For tests (see `flexmeter.testing`): called with what is accepted, its environment and its database's alias. If the last
one answers True, the events are not stored."""


class OtherDatabase(FlexmeterError):
    """A transaction is open, but not on the database that holds the events: they could not roll back with it."""


def record(
    event_name: str,
    customer: Any,
    properties: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str = "",
    timestamp: datetime | None = None,
    source: str = "",
    environment: str | None = None,
    using: str | None = None,
) -> str:
    """Record one usage event and return its id.

    Inside `atomic()` of the events' database it becomes part of that transaction: never lost after the commit, gone after a
    rollback, counted right after the commit. Outside, it is committed when this returns (with autocommit off: when you
    commit, and counted with the next event or drain). `customer` is an
    external customer id, or anything FLEXMETER_CUSTOMER_ID understands: by default a model instance (its primary key)
    or a request (its user's). Calling again with the same `idempotency_key` counts once.

    Raises InvalidEvent for values that cannot be stored, and OtherDatabase where the promise cannot hold.
    """
    event = parse_event(
        {
            "event_id": idempotency_key,
            "event_name": event_name,
            "external_customer_id": customer_id(customer),
            "timestamp": timestamp,
            "source": source,
            "properties": _normalised(properties),
        },
        now=now(),
    )
    alias = using or write_alias()
    _refuse_other_transaction(alias)
    accept([event], environment=environment or conf.ENVIRONMENT, using=alias)
    return event.event_id


def record_many(events: Iterable[Mapping[str, Any]], *, environment: str | None = None, using: str | None = None) -> list[str]:
    """Record several events, all or none, and return their ids.

    Each has the members of `POST /events`; `external_customer_id` may be anything `record` takes as customer. Raises
    InvalidEvent that names the position, otherwise as `record`.
    """
    members: list[Any] = []
    for index, event in enumerate(events):
        try:
            if not isinstance(event, Mapping):
                raise InvalidEvent("", "type", f"must be a mapping, not {type(event).__name__}")
            customer = customer_id(event.get("external_customer_id"))
            members.append(dict(event, external_customer_id=customer, properties=_normalised(event.get("properties"))))
        except InvalidEvent as error:
            raise error.within(f"events[{index}]") from None
    parsed = parse_events(members, now=now())
    alias = using or write_alias()
    _refuse_other_transaction(alias)
    accept(parsed, environment=environment or conf.ENVIRONMENT, using=alias)
    return [event.event_id for event in parsed]


arecord = sync_to_async(record, thread_sensitive=True)
"""`record` for async code. A transaction of the caller's is joined as Django's async support has it: in the same thread."""
arecord_many = sync_to_async(record_many, thread_sensitive=True)
"""`record_many` for async code."""


def accept(events: Sequence[UsageEvent], *, environment: str, using: str | None = None, commit: bool = False) -> None:
    """Make events durable: in the caller's transaction if there is one, otherwise before this returns.

    In inline mode they are also counted then, or right after the caller's commit. `commit` is for a door that owns the
    connection: with autocommit off it commits, where otherwise the caller would have to, and what comes through it may share
    a transaction.
    """
    alias = using or write_alias()
    kept_elsewhere = [witness(events, environment, alias) for witness in list(witnesses)]
    if kept_elsewhere and kept_elsewhere[-1]:
        return
    commits = commit and not connections[alias].in_atomic_block and not connections[alias].get_autocommit()
    if conf.INGEST == "celery" or (in_callers_transaction(alias) and not commits):
        inbox.put(events, environment=environment, using=alias)
    else:
        began = time.perf_counter()
        done = ingest(events, environment=environment, using=alias, shared=commit)
        metrics.batch_took(time.perf_counter() - began)
        metrics.accepted(len(events))
        metrics.ingested(done.stored, done.replaced, done.repeated)
        inbox.look_after(using=alias)
    if commits:
        connections[alias].commit()


def _refuse_other_transaction(alias: str) -> None:
    if conf.OTHER_DATABASE == "allow" or connections[alias].in_atomic_block:
        return
    for other in connections:
        if other != alias and connections[other].in_atomic_block:
            raise OtherDatabase(
                f"A transaction is open on {other!r}, but events are kept in {alias!r} and would not roll back with it. "
                f"Open one on {alias!r} too, or set FLEXMETER_OTHER_DATABASE = 'allow' to let events commit by themselves."
            )


def customer_id(customer: Any) -> Any:
    """What stands for the customer in an event; strings are taken as they are."""
    return customer if isinstance(customer, str) else import_string(conf.CUSTOMER_ID)(customer)


def customer_id_of(customer: Any) -> str:
    """A model instance's primary key, or that of a request's signed-in user. Raises InvalidEvent for anything else."""
    if isinstance(customer, models.Model):
        if customer.pk is None:
            raise InvalidEvent("external_customer_id", "required", "cannot be told from a model instance that was never saved")
        return str(customer.pk)
    request = getattr(customer, "_request", customer)  # a DRF request wraps Django's
    if isinstance(request, HttpRequest):
        user = getattr(customer, "user", None)
        if user is not None and user.is_authenticated:
            return str(user.pk)
        raise InvalidEvent("external_customer_id", "required", "cannot be told from a request without a signed-in user")
    raise InvalidEvent(
        "external_customer_id",
        "type",
        f"cannot be told from {type(customer).__name__}; pass a string or set FLEXMETER_CUSTOMER_ID",
    )


def _normalised(value: Any) -> Any:
    """Properties as JSON would give them back, so that what is stored is what was counted."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidEvent("properties", "type", "must be a mapping")
    if found := properties.fault(value, "properties"):
        raise InvalidEvent(found[0], "invalid", found[1])
    return properties.loads(properties.dumps(dict(value)))
