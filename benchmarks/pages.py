"""The admin's pages on ten million events of PostgreSQL, through the whole of Django, without a network.

Aims, each at the median: the event list's first page and any of its filters below 100 ms, an event's page below 50 ms, a
meter's chart over 30 days below 100 ms. Run: python -m benchmarks.pages
"""

from __future__ import annotations

import os
from datetime import timedelta
from urllib.parse import urlencode

from benchmarks import large
from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, medians, report, set_up

ROUNDS = 9


def main() -> None:
    with start_postgres() as postgres:
        os.environ |= {"DATABASE_URL": postgres.url}
        set_up()
        large.fill()
        report(*outcomes())


def outcomes() -> list[Outcome]:
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    from flexmeter.models import Event, Meter

    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    events = reverse("admin:flexmeter_event_changelist")
    event = Event.objects.filter(external_customer_id=large.BUSY).order_by("-pk")[:1].get()
    meter = Meter.objects.get(event_name="name_0", aggregation_type="SUM")
    start, end = large.END - timedelta(days=30), large.END
    range_ = {"start": f"{start:%Y-%m-%dT%H:%M}", "end": f"{end:%Y-%m-%dT%H:%M}"}
    usage = reverse("admin:flexmeter_meter_usage", args=[meter.pk])
    pages = {
        "event list": (events, 0.1),
        "event list, by id": (f"{events}?{urlencode({'event_id': event.event_id})}", 0.1),
        "event list, by customer": (f"{events}?{urlencode({'customer': 'customer_99'})}", 0.1),
        "event list, by name": (f"{events}?{urlencode({'name': 'name_4'})}", 0.1),
        "event list, by time": (f"{events}?{urlencode(range_)}", 0.1),
        "event page": (reverse("admin:flexmeter_event_change", args=[event.pk]), 0.05),
        "meter chart, 30 days": (f"{usage}?{urlencode(range_ | {'window': 'DAY'})}", 0.1),
        "meter chart of one customer": (f"{usage}?{urlencode(range_ | {'window': 'DAY', 'customer': large.BUSY})}", 0.1),
    }

    def open_page(url: str) -> None:
        answer = client.get(url)
        if answer.status_code != 200:
            raise RuntimeError(f"{url} answered {answer.status_code}.")

    found = []
    for name, (url, aim) in pages.items():
        [taken] = medians(lambda url=url: open_page(url), rounds=ROUNDS)  # type: ignore[misc]
        found.append(
            Outcome(
                f"page, {name}",
                f"{taken * 1e3:.0f} ms on {large.EVENTS:,} events",
                f"below {aim * 1e3:.0f} ms",
                taken < aim,
                {"seconds": taken, "events": large.EVENTS, "url": url},
            )
        )
    return found


if __name__ == "__main__":
    main()
