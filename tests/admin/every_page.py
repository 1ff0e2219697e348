"""Every page of the admin that is about metering, with something on it."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.urls import URLPattern, reverse

from flexmeter.ingest import ingest
from flexmeter.keys import create_key
from flexmeter.models import Event, InboxBatch, Meter, RejectedEvent, now

from tests.factories import make_event, make_meter

WITHOUT_A_PAGE = {
    "event_body", "event_live_events", "event_delete", "event_history", "event_add",
    "meter_usage_download",
    "rejectedevent_body", "rejectedevent_retry", "rejectedevent_add", "rejectedevent_history",
    "inboxbatch_drain", "inboxbatch_add", "inboxbatch_delete", "inboxbatch_history",
    "apikey_delete",
    "health_add", "health_change", "health_delete", "health_history",
}  # fmt: skip
"""Addresses that answer with a file, a redirect, a refusal, or a page that has another address."""


def every_page() -> dict[str, str]:
    """Fill the ledger, and return the address of each page by its name."""
    at = now()
    recent = at - timedelta(minutes=3)
    meter = make_meter("SUM", name="m-total", event_name="m-chat", field="tokens", filters=(("region", ("eu",)),))
    for type, field in (("COUNT", ""), ("MAX", "tokens"), ("COUNT_UNIQUE", "region"), ("AVG", "tokens")):
        make_meter(type, name=f"m-{type.lower()}", event_name="m-chat", field=field)
    ingest([_event("e-1", recent, 3, source="gateway"), _event("e-2", recent, "abc")])
    ingest([_event("e-1", recent, 4, accepted_at=at)])
    for event_id in ("e-1", "e-bad"):
        row = RejectedEvent.objects.create(
            environment="default",
            event_id=event_id,
            body={"event_id": event_id},
            reason="conflict",
            accepted_at=at,
            traceback="e-x",
        )
    batch = InboxBatch.objects.create(
        environment="default", events=[{"event_id": "e-3"}], event_count=1, size=90, attempts=1, accepted_at=at
    )
    key, _secret = create_key("k-backend", environment="default")
    event = Event.objects.get(event_id="e-1")
    arguments = {"event": event.pk, "meter": quote(meter.pk), "rejectedevent": row.pk, "inboxbatch": batch.pk, "apikey": key.pk}
    pages = {}
    for name, pattern in _patterns().items():
        if name not in WITHOUT_A_PAGE:
            needed = [arguments[name.partition("_")[0]]] if "object_id" in str(pattern.pattern) else []
            pages[name] = reverse(f"admin:{pattern.name}", args=needed)
    pages["event_lookup"] += "?environment=default&event_id=e-bad"
    Meter.objects.filter(name="m-max").update(rollups_ready=False, rebuild_done=1, rebuild_total=4)
    return pages


def _patterns() -> dict[str, URLPattern]:
    prefix = "flexmeter_"
    patterns = [pattern for model in admin.site._registry.values() for pattern in model.get_urls()]
    named = {str(pattern.name): pattern for pattern in patterns if isinstance(pattern, URLPattern)}
    mine = {name.removeprefix(prefix): pattern for name, pattern in named.items() if name.startswith(prefix)}
    return {name: pattern for name, pattern in mine.items() if not name.startswith("pricing_") and "_extra_" not in name}


def _event(event_id, at, tokens, **changed):
    given = {"accepted_at": at, **changed}
    properties = {"tokens": tokens, "region": "eu"}
    return make_event(event_id, event_name="m-chat", external_customer_id="c-acme", timestamp=at, properties=properties, **given)
