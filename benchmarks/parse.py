"""Reading and checking a bulk request of 1,000 events, against DRF's Serializer(many=True) on the same body.

Aim: below 10 ms. Run: python -m benchmarks.parse
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import django
from django.conf import settings

settings.configure(USE_TZ=True, INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
django.setup()

from rest_framework import serializers  # noqa: E402

from benchmarks.rounds import Outcome, medians, report  # noqa: E402
from flexmeter import properties  # noqa: E402
from flexmeter.events import parse_events  # noqa: E402

EVENTS = 1_000
AIM_SECONDS = 0.010
BODY = json.dumps(
    {
        "events": [
            {
                "event_id": f"request-{number:08d}",
                "event_name": "llm_request",
                "external_customer_id": f"customer-{number % 100}",
                "timestamp": f"2026-03-20T15:{number % 60:02d}:05.123Z",
                "properties": {
                    "prompt_tokens": str(number),
                    "completion_tokens": number % 500,
                    "model": "chat-1",
                    "region": "eu",
                },
                "source": "gateway",
            }
            for number in range(EVENTS)
        ]
    }
).encode()


class EventSerializer(serializers.Serializer):
    event_id = serializers.CharField(required=False, max_length=255)
    event_name = serializers.CharField(max_length=255)
    external_customer_id = serializers.CharField(max_length=255)
    timestamp = serializers.DateTimeField(required=False)
    properties = serializers.DictField(required=False)
    source = serializers.CharField(required=False, max_length=255)


def ours() -> None:
    events = parse_events(properties.loads(BODY)["events"], now=datetime.now(UTC))
    assert len(events) == EVENTS  # noqa: S101  # a benchmark of the wrong work is worth nothing


def serializer() -> None:
    form = EventSerializer(data=json.loads(BODY)["events"], many=True)
    form.is_valid(raise_exception=True)
    assert len(form.validated_data) == EVENTS  # noqa: S101


if __name__ == "__main__":
    candidate, baseline = medians(ours, serializer, rounds=15, clock=time.process_time)
    report(
        Outcome(
            "parse",
            f"{candidate * 1e3:.1f} ms of processor time for {EVENTS} events, {baseline / candidate:.1f} times as fast as DRF's "
            f"serializer ({baseline * 1e3:.1f} ms)",
            f"below {AIM_SECONDS * 1e3:.0f} ms",
            candidate < AIM_SECONDS,
            {"seconds": candidate, "baseline_seconds": baseline, "events": EVENTS},
        )
    )
