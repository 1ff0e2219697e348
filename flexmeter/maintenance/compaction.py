"""Merging the rollup rows that ingestion appended, so that questions have fewer rows to add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.db.models import Count

from flexmeter.models import Meter, Rollup, Series
from flexmeter.stores.database.levels import of_levels
from flexmeter.stores.database.native_rollups import rollup_writer
from flexmeter.stores.database.transactions import in_transaction, write_alias

SERIES_AT_ONCE = 100
ROWS_AT_ONCE = 20_000


def compact(environment: str | None = None, *, using: str | None = None) -> int:
    """Merge what was appended to a series into one row for each bucket and one for each UTC day; returns how many rows
    were merged.

    Figures stay the same throughout, and ingestion goes on: each transaction holds one meter's row lock and replaces
    the rows it has read. Killed or run twice it does no harm.
    """
    alias = using or write_alias()
    meters = Meter.objects.using(alias).order_by("id")
    if environment is not None:
        meters = meters.in_environment(environment)
    return sum(_compact_meter(meter_id, alias) for meter_id in meters.values_list("id", flat=True))


def _compact_meter(meter_id: str, alias: str) -> int:
    rollups = rollup_writer(alias)

    def merge(series_ids: list[int]) -> int:
        meter = rollups.lock_meter(meter_id)
        return rollups.merge_rows(meter.rule(), series_ids) if meter is not None else 0

    return sum(
        in_transaction(alias, lambda chosen=chosen: merge(chosen))  # type: ignore[misc]
        for chosen in _chunks(_to_be_merged(meter_id, alias))
    )


def _to_be_merged(meter_id: str, alias: str) -> dict[int, int]:
    """Series of a meter that rows were appended to, and how many of each; unique values are added with such rows alone."""
    of_meter = Series.objects.filter(meter_id=meter_id)
    appended = Rollup.objects.using(alias).filter(of_levels(Rollup.Level.APPENDED), series__in=of_meter).order_by()
    return dict(appended.values("series_id").annotate(rows=Count("*")).values_list("series_id", "rows"))


def _chunks(rows: Mapping[int, int]) -> Iterator[list[int]]:
    """Series to be merged in one transaction: a bounded number, with a bounded number of rows unless it is one."""
    chosen: list[int] = []
    held = 0
    for series_id in sorted(rows):
        if chosen and (len(chosen) == SERIES_AT_ONCE or held + rows[series_id] > ROWS_AT_ONCE):
            yield chosen
            chosen, held = [], 0
        chosen.append(series_id)
        held += rows[series_id]
    if chosen:
        yield chosen
