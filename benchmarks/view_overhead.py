"""What metering adds to a request: meter_view with the inbox, against drf-api-tracking's mixin, on PostgreSQL.

Both decorate the same DRF view, which answers a small JSON object; what the bare view takes is subtracted from each. Aim:
at most 0.35 of the mixin's overhead at the median. Run: python -m benchmarks.view_overhead
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.machine import start_postgres
from benchmarks.rounds import Outcome, report, set_up

from tests.databases import start_redis

REQUESTS = 600
ROUNDS = 5
AIM = 0.35


def main() -> None:
    with start_postgres() as postgres, start_redis() as redis:
        os.environ |= {"DATABASE_URL": postgres.url, "CELERY_BROKER_URL": redis.url, "FLEXMETER_INGEST": "celery"}
        set_up("rest_framework_tracking")
        measure()


def measure() -> None:
    from django.contrib.auth.models import User
    from django.db import connection
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory, force_authenticate
    from rest_framework.views import APIView
    from rest_framework_tracking.mixins import LoggingMixin
    from rest_framework_tracking.models import APIRequestLog

    from flexmeter import batches, inbox
    from flexmeter.decorators import meter_view
    from flexmeter.models import now

    class Bare(APIView):
        def post(self, request: Any) -> Response:
            return Response({"answer": 42})

    @meter_view("answer_given", properties={"plan": "pro"}, quantity=1)
    class Metered(Bare):
        pass

    class Tracked(LoggingMixin, Bare):
        pass

    user = User.objects.create_user("caller")
    factory = APIRequestFactory()

    def median_seconds(view: Callable[..., Any]) -> float:
        taken = []
        for _ in range(REQUESTS):
            request = factory.post("/answers", {"question": "life"}, format="json")
            force_authenticate(request, user)
            start = time.perf_counter()
            response = view(request)
            response.render()
            taken.append(time.perf_counter() - start)
            if response.status_code != 200:
                raise RuntimeError(f"The view answered {response.status_code}.")
        return statistics.median(taken)

    def median_insert() -> float:
        """What the database alone takes to keep one waiting event."""
        taken = []
        row = batches.Row("elsewhere", "[]", 0, 0, "", now())
        for _ in range(REQUESTS):
            start = time.perf_counter()
            with connection.cursor() as cursor:
                cursor.execute(batches.INSERT, row.parameters("default"))
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    views = {"bare": Bare.as_view(), "metered": Metered.as_view(), "tracked": Tracked.as_view()}
    medians: dict[str, list[float]] = {name: [] for name in (*views, "insert")}
    for number in range(ROUNDS + 1):
        for name, view in views.items():
            seconds = median_seconds(view)
            if number:  # the first round warms up
                medians[name].append(seconds)
        medians["insert"].append(median_insert())
    bare, metered, tracked, insert = (statistics.median(taken) for taken in medians.values())
    expected = REQUESTS * (ROUNDS + 1)
    if (waiting := inbox.backlog().events) != expected or APIRequestLog.objects.count() != expected:
        raise RuntimeError(f"{expected} requests left {waiting} events waiting; each should have left one.")
    share = (metered - bare) / (tracked - bare)
    report(
        Outcome(
            "view_overhead",
            f"{(metered - bare) * 1e3:.2f} ms more than the bare view's {bare * 1e3:.2f} ms, {share:.2f} of what the mixin adds "
            f"({(tracked - bare) * 1e3:.2f} ms); to commit one small row alone takes the database {insert * 1e3:.2f} ms",
            f"at most {AIM} of the mixin's",
            share <= AIM,
            {
                "share": share,
                "bare_seconds": bare,
                "metered_seconds": metered,
                "tracked_seconds": tracked,
                "insert_seconds": insert,
                "requests": REQUESTS,
            },
        )
    )


if __name__ == "__main__":
    main()
