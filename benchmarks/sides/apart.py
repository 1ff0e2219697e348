"""A meter of the large ledger whose rollups are kept apart by a property, filled by the database as compaction leaves them."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import large
from benchmarks.sides import END, NAME, START, Answer
from benchmarks.sides.ledgers import Chosen

DIMENSION: Final = "model"
MODELS: Final = [f"model-{number}" for number in range(7)]
WANTED: Final = MODELS[:2]
BUCKETS: Final = f"""
    INSERT INTO flexmeter_rollup (part, series_id, slot, count, total)
    SELECT row_number() OVER (), s.id, b.slot, b.count, b.total
    FROM (SELECT external_customer_id AS customer, properties->>%(dimension)s AS value,
                 {large.SLOT.format(instant="timestamp")} AS slot, count(*) AS count,
                 sum((properties->>'tokens')::numeric) AS total
          FROM flexmeter_event WHERE environment = 'default' AND event_name = %(name)s GROUP BY 1, 2, 3) AS b
    JOIN flexmeter_series s ON s.meter_id = %(meter)s AND s.external_customer_id = b.customer AND s.dimension_1 = b.value
    ORDER BY {large.WRITTEN}
"""  # noqa: S608  # made of constants
WHOLE_DAYS: Final = """
    INSERT INTO flexmeter_rollup (part, series_id, slot, count, total)
    SELECT row_number() OVER (), series_id, slot - slot %% 96 + %(later)s, sum(count), sum(total)
    FROM flexmeter_rollup WHERE series_id IN (SELECT id FROM flexmeter_series WHERE meter_id = %(meter)s)
    GROUP BY 2, 3 ORDER BY 3, 2
"""


class Apart:
    """Asks the whole ledger for one customer's days, filtered and grouped by a property: of a meter that keeps it apart, and
    of `plain`, one that does not."""

    def __init__(self, plain: Any) -> None:
        self.plain, self.meter = plain, _filled()

    def filtered(self) -> Answer:
        return self._filtered(self.meter, "rollups")

    def filtered_from_events(self) -> Answer:
        return self._filtered(self.plain, "events")

    def grouped(self) -> Answer:
        return self._grouped(self.meter)

    def grouped_from_events(self) -> Answer:
        return self._grouped(self.plain)

    def _filtered(self, meter: Any, source: str) -> Answer:
        from flexmeter.usage import usage

        result = usage(meter=meter, customer=large.BUSY, start=START, end=END, window="DAY", filters={DIMENSION: WANTED})
        if result.source != source:
            raise RuntimeError(f"An answer from {source} was expected, not from {result.source}.")
        return [tuple(point) for point in result.points]

    def _grouped(self, meter: Any) -> Answer:
        from flexmeter.queries import AnalyticsQuery, Scope
        from flexmeter.usage import analytics
        from flexmeter.windows import WindowSize

        query = AnalyticsQuery(
            Scope("default", large.BUSY), (meter.rule(),), START, END, (f"properties.{DIMENSION}",), WindowSize.DAY
        )
        return [(item.group, point.value, point.event_count) for item in analytics(query) for point in item.points]


def _filled() -> Any:
    from django.db import connections
    from django.test import override_settings

    from flexmeter.metering import NO_GROUP, SeriesKey
    from flexmeter.models import Meter
    from flexmeter.stores.database.native_rollups import rollup_writer

    from tests.factories import make_meter

    alias = Chosen.alias
    with override_settings(FLEXMETER_REBUILD_INLINE_EVENTS=0):
        meter = make_meter("SUM", name="Apart", event_name=NAME, field="tokens", dimensions=(DIMENSION,), using=alias)
    keys = [SeriesKey(meter.pk, meter.generation, name, NO_GROUP.int, (model,)) for name in large.CUSTOMERS for model in MODELS]
    rollup_writer(alias).series_ids("default", keys)
    parameters = {"meter": meter.pk, "name": NAME, "dimension": DIMENSION, **large.slots()}
    with connections[alias].cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(BUCKETS, parameters)
        cursor.execute(WHOLE_DAYS, parameters)
        cursor.execute("RESET synchronous_commit")
        cursor.execute("VACUUM ANALYZE flexmeter_rollup, flexmeter_series")
    Meter.objects.using(alias).filter(pk=meter.pk).update(rollups_ready=True)
    meter.refresh_from_db(using=alias)
    return meter
