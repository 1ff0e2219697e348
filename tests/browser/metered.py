"""Events of the last days, for pages that look back from now."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flexmeter.ingest import ingest
from flexmeter.models import now

from tests.browser.driving import Look
from tests.factories import make_event
from tests.polling import within_one_hour

in_two_looks = pytest.mark.parametrize("browser", [Look(1280), Look(390, dark=True)], indirect=True, ids=str)
"""Run a test at both widths and in both schemes, though not in all four pairs of them."""

CUSTOMERS = ["acme", "globex", "initech", "umbrella"]


def recent_events(days: int = 30) -> None:
    """Some events of each day, more on working days, of a few customers and models."""
    within_one_hour()
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    events = []
    for day in range(days):
        for place in range(1 + (day * 7) % 5 + (3 if day % 7 < 5 else 0)):
            at = midnight - timedelta(days=day) + timedelta(minutes=7 * place)
            if at > now():
                continue
            events.append(
                make_event(
                    f"request_{day}_{place}",
                    event_name="llm_request",
                    external_customer_id=CUSTOMERS[place % len(CUSTOMERS)],
                    timestamp=at,
                    accepted_at=at,
                    properties={
                        "tokens": 120 + (day * 37 + place * 101) % 900,
                        "model": "small" if place % 3 else "large",
                        "host": f"host-{place % 3}",
                    },
                )
            )
    ingest(events)
