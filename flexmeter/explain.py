"""What became of one event: which meters counted it, with what quantity, and why the others did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from flexmeter import inbox
from flexmeter.aggregation import ZERO, AggregationType
from flexmeter.events import UsageEvent
from flexmeter.metering import MeterRule
from flexmeter.models import Event, Meter
from flexmeter.properties import EXACT, number, plain, rendered
from flexmeter.stores.database.transactions import read_alias
from flexmeter.windows import bucket

SHOWN_CHARACTERS = 80
SHOWN_VALUES = 5


class Outcome(StrEnum):
    COUNTED = "counted"
    FILTERED = "filtered"
    SKIPPED = "skipped"
    ARCHIVED = "archived"


Values = Mapping[str, str | Sequence[str]]
Fill = Callable[[str, Values], str]
"""Puts values, which are data, into a text, which is ours."""


def filled(text: str, values: Values) -> str:
    """Plain text; several values are joined by commas."""
    return text.format(**{name: value if isinstance(value, str) else ", ".join(value) for name, value in values.items()})


class Reason(NamedTuple):
    """A text to be translated when it is read, and what to put into it."""

    text: str | Promise
    values: Values = {}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one meter of the event's name made of it; `sentence` says so in English and UTC.

    `quantity` is what the event contributed (1 for COUNT and COUNT_UNIQUE), `bucket` the start of its rollup bucket;
    both are None unless it was counted.
    """

    meter: Meter
    outcome: Outcome
    reason: Reason
    quantity: Decimal | None = None
    bucket: datetime | None = None
    bucket_length: timedelta = timedelta(0)

    @property
    def sentence(self) -> str:
        with override(None):
            return self.told_in(UTC)

    def told_in(self, zone: tzinfo, fill: Fill = filled) -> str:
        """The sentence in the language of the moment, with its times in a time zone."""
        reason = fill(str(self.reason.text), self.reason.values)
        if self.bucket is not None:
            start, end = self.bucket.astimezone(zone), (self.bucket + self.bucket_length).astimezone(zone)
            times = {"start": f"{_day(start)} {start:%H:%M}", "end": f"{end:%H:%M}", "zone": end.tzname() or ""}
            return fill(gettext("{what} in bucket {start} to {end} {zone}."), {"what": reason, **times})
        if self.outcome is Outcome.ARCHIVED and self.meter.archived_at is not None:
            moment = self.meter.archived_at.astimezone(zone)
            since = f"{_day(moment)} {moment:%H:%M:%S} {moment.tzname()}"
            return fill(gettext("Not counted: the meter has been archived since {since}."), {"since": since})
        return fill(gettext("Not counted: {reason}."), {"reason": reason})


@dataclass(frozen=True, slots=True)
class Explanation:
    """An event as it stands, and a verdict for every meter of its name."""

    event: Event
    verdicts: tuple[Verdict, ...]

    @property
    def counted(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.outcome is Outcome.COUNTED)


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event that was accepted. One that waits is as it will be stored, with `ingested_at` when it was accepted."""

    event: Event
    waits: bool


def find_event(event_id: str, *, environment: str, using: str | None = None) -> Event | None:
    """The stored event of that id, or None."""
    events = Event.objects.using(using or read_alias()).in_environment(environment)
    event: Event | None = events.filter(event_id=event_id).first()
    return event


def look_up(event_id: str, *, environment: str, using: str | None = None) -> FoundEvent | None:
    """The event of that id as it is stored, or else as it waits to be counted; None if it is neither."""
    event = find_event(event_id, environment=environment, using=using)
    if event is not None:
        return FoundEvent(event, waits=False)
    waiting = inbox.find(event_id, environment=environment, using=using)
    return None if waiting is None else FoundEvent(unsaved(waiting, environment), waits=True)


def unsaved(event: UsageEvent, environment: str) -> Event:
    """An event that waits to be stored, as it will be stored; `ingested_at` is when it was accepted."""
    members = {name: getattr(event, name) for name in UsageEvent._fields if name not in ("properties_json", "timestamp_given")}
    return Event(environment=environment, ingested_at=event.accepted_at, **members)


def explain(event: Event, *, using: str | None = None) -> Explanation:
    """Judge an event by every meter of its environment and name."""
    alias = using or read_alias()
    meters = Meter.objects.using(alias).in_environment(event.environment).counting([event.event_name]).order_by("id")
    usage_event = event.as_usage_event()
    return Explanation(event, tuple(verdict(meter, usage_event) for meter in meters))


def contribution(rule: MeterRule, event: UsageEvent) -> Decimal | None:
    """What a matching event is worth to a meter by itself, the multiplier included; None where it is skipped."""
    quantity = rule.quantity(event)
    if quantity is None:
        return None
    if rule.type in (AggregationType.COUNT, AggregationType.COUNT_UNIQUE):
        return Decimal(1)
    return EXACT.multiply(quantity.value, rule.multiplier)


def verdict(meter: Meter, event: UsageEvent) -> Verdict:
    """Judge an event by a meter, which need not be saved; both are of one environment."""
    rule = meter.rule()
    if event.event_name != rule.event_name:
        return Verdict(meter, Outcome.FILTERED, Reason(_("the event has another name")))
    if rule.archived_at is not None and event.accepted_at >= rule.archived_at:
        return Verdict(meter, Outcome.ARCHIVED, Reason(_("the meter is archived")))
    if not rule.matches(event):
        return Verdict(meter, Outcome.FILTERED, _filtered(rule, event.properties or {}))
    worth = contribution(rule, event)
    if worth is None:
        text = _("the expression {source} has no value for this event")
        return Verdict(meter, Outcome.SKIPPED, Reason(text, {"source": _shortened(meter.expression)}))
    start = bucket(event.timestamp, rule.grain)
    return Verdict(meter, Outcome.COUNTED, _counted(rule, event.properties or {}, worth), worth, start, rule.grain)


def _filtered(rule: MeterRule, properties: Mapping[str, Any]) -> Reason:
    """The first filter that the properties do not pass."""
    key, wanted = next((key, wanted) for key, wanted in rule.filters if rendered(properties.get(key)) not in wanted)
    named = [_quoted(value) for value in sorted(wanted)]
    values: Values = {"key": _shortened(key), "found": _quoted(rendered(properties.get(key))), "wanted": named[:SHOWN_VALUES]}
    is_missing, others = key not in properties, len(named) - SHOWN_VALUES
    if others > 0:
        missing = _("filter `{key}` is missing, wanted one of {wanted} or {others} others")
        differs = _("filter `{key}` is {found}, wanted one of {wanted} or {others} others")
        values = {**values, "others": str(others)}
    elif len(named) > 1:
        missing = _("filter `{key}` is missing, wanted one of {wanted}")
        differs = _("filter `{key}` is {found}, wanted one of {wanted}")
    else:
        missing = _("filter `{key}` is missing, wanted {wanted}")
        differs = _("filter `{key}` is {found}, wanted {wanted}")
    return Reason(missing if is_missing else differs, values)


def _counted(rule: MeterRule, properties: Mapping[str, Any], worth: Decimal) -> Reason:
    if rule.type is AggregationType.COUNT:
        return Reason(_("Counted 1"))
    if rule.expression is not None:
        source = _shortened(rule.expression.source)
        return Reason(_("Counted {worth} as {source}"), {"worth": plain(worth), "source": source})
    held = properties.get(rule.field)
    values = {"name": _shortened(rule.field), "worth": plain(worth), "value": _quoted(rendered(held))}
    if rule.type is AggregationType.COUNT_UNIQUE:
        if held is not None:
            return Reason(_("Counted the value {value} of `{name}`"), values)
        if rule.count_missing:
            return Reason(_("Counted the missing `{name}` as a value"), values)
        return Reason(_("Counted no value (`{name}` is missing)"), values)
    if held is None:
        return Reason(_("Counted 0 (`{name}` is missing)"), values)
    if number(held) is None:
        return Reason(_("Counted 0 (`{name}` is {value}, which is no number)"), values)
    if rule.multiplier != 1:
        factors = {"held": plain(number(held) or ZERO), "multiplier": plain(rule.multiplier)}
        return Reason(_("Counted {worth} as `{name}` ({held} × {multiplier})"), {**values, **factors})
    return Reason(_("Counted {worth} as `{name}`"), values)


def _quoted(text: str) -> str:
    return f'"{_shortened(text)}"'


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _day(instant: datetime) -> str:
    return f"{instant.year:04d}-{instant:%m-%d}"
