"""What the page of one event tells: what was sent and when, what every meter made of it, what replaced it, what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.contrib.admin.sites import AdminSite
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from flexmeter import inbox, pricebook
from flexmeter.admin.base import admin_url
from flexmeter.admin.json_text import PrettyJson, pretty
from flexmeter.admin.text import duration, isolated
from flexmeter.explain import Explanation, FoundEvent, Outcome, Verdict, explain
from flexmeter.models import ApiKey, Event, EventRevision, Meter, RejectedEvent
from flexmeter.pricebook import EventCost

REVISIONS_SHOWN = 10
REJECTED_SHOWN = 10
OLD_CHARACTERS = 4_000
HOUR = timedelta(hours=1)
COMPARED = {
    "event_name": _("Event name"),
    "external_customer_id": _("Customer id"),
    "customer_id": _("Internal customer id"),
    "source": _("Source"),
    "timestamp": _("Happened"),
}


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A meter's verdict, and what the event costs by it."""

    verdict: Verdict
    sentence: str
    url: str
    usage_url: str
    costs: Sequence[EventCost]

    @property
    def is_counted(self) -> bool:
        return self.verdict.outcome is Outcome.COUNTED


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """Values that were replaced: those that differ from what came next, with their labels, and their properties."""

    revision: EventRevision
    sender: SafeString
    changed: Sequence[tuple[Any, Any]]
    properties: PrettyJson | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    rejected: RejectedEvent
    body: PrettyJson
    url: str


class EventPage:
    """Everything that is known of one event id in one environment; `event` is None where it was only ever rejected."""

    def __init__(self, environment: str, event_id: str, found: FoundEvent | None, site: AdminSite) -> None:
        self.environment, self.event_id, self.site = environment, event_id, site
        self.event: Event | None = None if found is None else found.event
        self.waits = found is not None and found.waits

    @cached_property
    def explanation(self) -> Explanation | None:
        return None if self.event is None or self.waits else explain(self.event)

    @cached_property
    def meters(self) -> list[MeterRow]:
        if self.explanation is None or self.event is None:
            return []
        counted = [(verdict.meter, verdict.quantity) for verdict in self.explanation.counted if verdict.quantity is not None]
        costs: dict[str, list[EventCost]] = {}
        for cost in pricebook.current().costs_of_event(self.event, counted) if counted else ():
            costs.setdefault(cost.meter_id, []).append(cost)
        zone = timezone.get_current_timezone()
        return [
            MeterRow(
                verdict,
                verdict.told_in(zone, isolated),
                self._url_of(verdict.meter),
                self._usage_url(verdict.meter),
                costs.get(verdict.meter.pk, []),
            )
            for verdict in self.explanation.verdicts
        ]

    @property
    def is_priced(self) -> bool:
        return any(row.costs for row in self.meters)

    @property
    def is_counted(self) -> bool:
        return any(row.is_counted for row in self.meters)

    @cached_property
    def summary(self) -> str:
        """What happened to it, in one sentence."""
        if self.waits:
            return gettext("It was accepted and waits in the inbox to be counted.")
        if self.event is None:
            if self.rejected:
                return gettext("It was accepted and could not be counted: see the reason below.")
            return gettext("No event of this id is known in this environment: it was never accepted here, or it was pruned.")
        if not self.meters:
            return gettext("It is stored, and no meter counts events of its name.")
        counted = sum(row.is_counted for row in self.meters)
        if not counted:
            return gettext("It is stored, and no meter counts it: each says below why not.")
        told = ngettext("{counted} of {all} meter counts it.", "{counted} of {all} meters count it.", len(self.meters))
        return told.format(counted=counted, all=len(self.meters))

    @cached_property
    def waiting_repeat(self) -> Event | None:
        """Other values of a stored event that wait to be counted."""
        if self.event is None or self.waits:
            return None
        waiting = inbox.find(self.event_id, environment=self.environment)
        return None if waiting is None else Event(timestamp=waiting.timestamp, accepted_at=waiting.accepted_at)

    @property
    def steps(self) -> list[tuple[str, datetime, str]]:
        """What happened to it when, and how long after the step before."""
        if self.event is None:
            return []
        steps = [(gettext("Happened"), self.event.timestamp), (gettext("Accepted"), self.event.accepted_at)]
        if self.revisions:
            steps.append((gettext("Counted as it is now"), self.revisions[0].revision.replaced_at))
        elif not self.waits:
            steps.append((gettext("Stored and counted"), self.event.ingested_at))
        told = [(*steps[0], "")]
        for (_label, before), (label, instant) in pairwise(steps):
            told.append((label, instant, _lag(before, instant)))
        if self.revisions:
            told.insert(1, (gettext("First stored"), self.event.ingested_at, ""))
        if self.event.repeated_at is not None:
            told.append((gettext("Sent again without a change"), self.event.repeated_at, ""))
        return told

    @cached_property
    def body(self) -> PrettyJson | None:
        if self.event is None or self.event.properties is None:
            return None
        return pretty(self.event.properties)

    @property
    def body_url(self) -> str:
        return admin_url(Event, "body", query=self._identity, site=self.site.name)

    @cached_property
    def revisions(self) -> list[RevisionRow]:
        """What stood here before, the newest first."""
        if self.event is None or self.waits:
            return []
        rows = EventRevision.objects.filter(environment=self.environment, event_id=self.event_id)
        revisions = list(rows.order_by("-replaced_at", "-id")[:REVISIONS_SHOWN])
        names = _names_of({self.event.sender, *(revision.sender for revision in revisions)})
        told = []
        successor: Event | EventRevision = self.event
        for revision in revisions:
            pairs = [(label, getattr(revision, name), getattr(successor, name)) for name, label in COMPARED.items()]
            changed = [(label, value) for label, value, following in pairs if value != following]
            same = revision.properties == successor.properties
            body = None if same else pretty(revision.properties, OLD_CHARACTERS)
            told.append(RevisionRow(revision, _sender_told(revision, names), changed, body))
            successor = revision
        return told

    @cached_property
    def sender(self) -> SafeString:
        """Who sent it as it is now."""
        return _sender_told(self.event, _names_of({self.event.sender})) if self.event else SafeString()

    @cached_property
    def rejected(self) -> list[RejectedRow]:
        """What was refused under this id, the newest first."""
        rows = RejectedEvent.objects.filter(environment=self.environment, event_id=self.event_id).defer("traceback")
        return [
            RejectedRow(row, pretty(row.body, OLD_CHARACTERS), self._url_of(row))
            for row in rows.order_by("-rejected_at", "-id")[:REJECTED_SHOWN]
        ]

    @property
    def links(self) -> list[tuple[str, str]]:
        """Where to look next: label and address."""
        if self.event is None:
            return [(gettext("Events of this environment"), self._list())]
        around = _hour_of(self.event)
        customer = {"customer": self.event.external_customer_id}
        return [
            (gettext("Events of this customer"), self._list(customer)),
            (gettext("Of this customer in the same hour"), self._list(customer | around)),
            (gettext("Of this name in the same hour"), self._list({"name": self.event.event_name} | around)),
        ]

    @property
    def _identity(self) -> dict[str, str]:
        return {"environment": self.environment, "event_id": self.event_id}

    def _list(self, filters: Mapping[str, str] | None = None) -> str:
        query = {"environment": self.environment, **(filters or {})}
        return admin_url(Event, "changelist", query=query, site=self.site.name)

    def _usage_url(self, meter: Meter) -> str:
        """The address of what the customer used by a meter in the hour of the event."""
        if self.event is None or not self.site.is_registered(Meter):
            return ""
        query = {"customer": self.event.external_customer_id, **_hour_of(self.event)}
        return admin_url(Meter, "usage", quote(meter.pk), query=query, site=self.site.name)

    def _url_of(self, row: Model) -> str:
        """The address of a row's own page, or "" where the admin has none."""
        if not self.site.is_registered(type(row)):
            return ""
        return admin_url(type(row), "change", quote(row.pk), site=self.site.name)


def event_url(environment: str, event_id: str, *, site: str = "admin") -> str:
    """The address of an event's page by its id, stored or not."""
    return admin_url(Event, "lookup", query={"environment": environment, "event_id": event_id}, site=site)


def _hour_of(event: Event) -> dict[str, str]:
    """The hour of an event on the clock of who looks, as members of a query."""
    hour = timezone.localtime(event.timestamp).replace(minute=0, second=0, microsecond=0)
    return {"start": hour.isoformat(), "end": (hour.astimezone(UTC) + HOUR).isoformat()}


def _names_of(senders: Iterable[str | None]) -> dict[str, str]:
    """Names of the API keys among the senders."""
    prefixes = [sender for sender in senders if sender]
    return dict(ApiKey.objects.filter(prefix__in=prefixes).values_list("prefix", "name")) if prefixes else {}


def _sender_told(event: Event | EventRevision, names: Mapping[str, str]) -> SafeString:
    """Whom an event came from."""
    if not event.sender:
        return isolated(gettext("Recorded by the application itself"), {})
    name = names.get(event.sender)
    if name is None:
        return isolated(gettext("Sent by {sender}"), {"sender": event.sender})
    return isolated(gettext("Sent with the API key {name} ({prefix})"), {"name": name, "prefix": event.sender})


def _lag(before: datetime, after: datetime) -> str:
    if after >= before:
        return gettext("{duration} later").format(duration=duration(after - before))
    return gettext("{duration} earlier").format(duration=duration(before - after))
