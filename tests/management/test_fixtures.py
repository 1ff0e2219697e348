"""Django's own dump of the app is all there is of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from flexmeter.ingest import ingest
from flexmeter.maintenance.verification import verify
from flexmeter.models import Environment, Event, Meter, Rollup, Series, UniqueValue

from tests.factories import NOON, make_event, make_meter

MODELS = (Rollup, UniqueValue, Series, Event, Meter, Environment)


@pytest.mark.django_db
def test_what_was_dumped_can_be_loaded(tmp_path):
    for aggregation_type in ("SUM", "LATEST", "COUNT_UNIQUE"):
        make_meter(aggregation_type, field="n")
    ingest(
        [
            make_event(f"e{number}", timestamp=NOON + timedelta(minutes=7 * number), properties={"n": f"{number}.10"})
            for number in range(5)
        ]
    )
    held = [list(model.objects.order_by("pk").values()) for model in MODELS]
    assert all(held)
    path = tmp_path / "dump.xml"  # in JSON, Django cuts microseconds
    call_command("dumpdata", "flexmeter", format="xml", output=str(path))
    for model in MODELS:
        model.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)
    assert [list(model.objects.order_by("pk").values()) for model in MODELS] == held
    assert list(verify(environment="default")) == []
