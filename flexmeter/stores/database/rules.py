"""The rules of meters, as they are stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db import connections
from django.db.models.expressions import RawSQL

from flexmeter.metering import MeterRule
from flexmeter.models import Meter

VERSION = "flexmeter_meter.id || ' ' || flexmeter_meter.xmin::text"
"""PostgreSQL says which transaction wrote a row, however that was done."""
VERSIONS = f"coalesce(string_agg({VERSION}, ',' ORDER BY id), '')"


class Rulebook(NamedTuple):
    """Rules, and the versions of the rows they were read from: others after any change. "" where the database tells none."""

    rules: list[MeterRule]
    versions: str


def rules_for(environment: str, event_names: Collection[str], alias: str) -> Rulebook:
    """The rules of all meters that may count events of these names."""
    meters = Meter.objects.using(alias).in_environment(environment).counting(event_names).order_by("id")
    if connections[alias].vendor != "postgresql":
        return Rulebook([meter.rule() for meter in meters], "")
    versions = []
    rules = []
    for meter in meters.annotate(version=RawSQL(VERSION, ())):  # noqa: S611  # a constant
        rules.append(meter.rule())
        versions.append(meter.version)
    return Rulebook(rules, ",".join(versions))
