"""Appended rollup rows merged inside PostgreSQL, as `RollupWriter` does it row by row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from django.db import connections

from flexmeter.aggregation import Measure
from flexmeter.models import Rollup
from flexmeter.slots import DAY_SLOTS, LEVEL_SLOTS, MINUTE_BITS, began, new_part

# Rows are deleted and written by one statement, hence of one snapshot: what is appended meanwhile is neither read nor lost.
# Those of a series are written side by side, and where a day begins for it, those of its day before are written again: by
# then they lie wherever each compaction of that day has put one or two, and a question would read a page for every row.
# Slots and days are those of the level of what is appended, which is the first; those of the others lie `bucket` and `day` later.
_MERGED: Final = """
    WITH appended AS (
        DELETE FROM flexmeter_rollup WHERE series_id = ANY(%(series)s) AND slot < %(bucket)s
        RETURNING series_id, slot, part >> {minute} AS minute, slot - slot %% {day_slots} AS day, {columns}
    ), held_days AS (
        DELETE FROM flexmeter_rollup held USING (SELECT DISTINCT series_id, day FROM appended) AS at
        WHERE held.series_id = ANY(%(series)s)
          AND held.slot >= (SELECT min(day) FROM appended) + %(day)s AND held.slot <= (SELECT max(day) FROM appended) + %(day)s
          AND held.series_id = at.series_id AND held.slot = at.day + %(day)s
        RETURNING held.series_id, held.slot, 0::bigint, {held}
    ), ended AS (
        SELECT begun.series_id, before.slot - %(day)s AS day
        FROM (
            SELECT series_id, min(day) AS day FROM appended
            WHERE (series_id, day + %(day)s) NOT IN (SELECT series_id, slot FROM held_days)
            GROUP BY series_id
        ) AS begun
        CROSS JOIN LATERAL (
            SELECT slot FROM flexmeter_rollup
            WHERE series_id = begun.series_id AND slot >= %(day)s AND slot < begun.day + %(day)s
            ORDER BY series_id, slot DESC LIMIT 1
        ) AS before
    ), held_scattered AS (
        DELETE FROM flexmeter_rollup held USING ended
        WHERE held.series_id = ended.series_id
          AND held.slot >= ended.day + %(bucket)s AND held.slot < ended.day + %(bucket)s + {day_slots}
        RETURNING held.series_id, held.slot, held.part >> {minute}, {held}
    ), held_buckets AS (
        DELETE FROM flexmeter_rollup held USING (
            SELECT DISTINCT series_id, slot FROM appended WHERE (series_id, day) NOT IN (SELECT series_id, day FROM ended)
        ) AS at
        WHERE held.series_id = ANY(%(series)s)
          AND held.slot >= (SELECT min(slot) FROM appended) + %(bucket)s
          AND held.slot <= (SELECT max(slot) FROM appended) + %(bucket)s
          AND held.series_id = at.series_id AND held.slot = at.slot + %(bucket)s
        RETURNING held.series_id, held.slot, held.part >> {minute}, {held}
    ), merged AS (
        INSERT INTO flexmeter_rollup (series_id, slot, part, {columns})
        SELECT series_id, slot, (minute << {minute}) + %(part)s + row_number() OVER ({written}), {figures}
        FROM (
            SELECT series_id, slot + %(bucket)s AS slot, minute, {columns} FROM appended
            UNION ALL SELECT * FROM held_buckets
            UNION ALL SELECT * FROM held_scattered
            UNION ALL SELECT series_id, day + %(day)s, 0, {columns} FROM appended
            UNION ALL SELECT * FROM held_days
        ) AS held
        GROUP BY series_id, slot, minute
        HAVING sum(count) <> 0 OR sum(total) <> 0 OR sum(moment) <> 0
            OR count(minimum) > 0 OR count(maximum) > 0 OR count(latest) > 0
        {written}
    )
    SELECT series_id, day, count(*) FROM appended GROUP BY series_id, day
"""
_WRITTEN: Final = "ORDER BY slot >= %(day)s, series_id, slot, minute"
_LATEST: Final = "(array_agg({column} ORDER BY latest_at DESC NULLS LAST, latest_accepted_at DESC, latest_event_id DESC))[1]"
_FIGURES: Final[dict[str, tuple[Measure | None, str]]] = {
    "count": (None, "sum(count)"),
    "total": (Measure.TOTAL, "coalesce(sum(total), 0)"),
    "moment": (Measure.MOMENT, "coalesce(sum(moment), 0)"),
    "minimum": (Measure.MINIMUM, "min(minimum)"),
    "maximum": (Measure.MAXIMUM, "max(maximum)"),
    **{
        column: (Measure.LATEST, _LATEST.format(column=column))
        for column in ("latest", "latest_at", "latest_accepted_at", "latest_event_id")
    },
}
_REPEATED: Final = """
    DELETE FROM flexmeter_uniquevalue AS again USING (
        SELECT v.*, row_number() OVER (PARTITION BY v.series_id, v.day, v.value ORDER BY v.part) AS place
        FROM unnest(%s::integer[], %s::timestamptz[]) AS merged (series_id, day)
        JOIN flexmeter_uniquevalue v ON v.series_id = merged.series_id AND v.day = merged.day
    ) AS listed
    WHERE listed.place > 1 AND again.series_id = listed.series_id AND again.day = listed.day
      AND again.value = listed.value AND again.part = listed.part
"""


def merge_rollups(alias: str, measures: Collection[Measure], series_ids: Sequence[int]) -> dict[tuple[int, datetime], int]:
    """Merge the appended rows of these series, of which `measures` are kept; how many there were, by series and UTC day."""
    parameters: dict[str, Any] = {
        "series": list(series_ids),
        "bucket": Rollup.Level.BUCKET * LEVEL_SLOTS,
        "day": Rollup.Level.DAY * LEVEL_SLOTS,
        "part": new_part(),
    }
    with connections[alias].cursor() as cursor:
        cursor.execute(_merged(frozenset(measures)), parameters)
        return {(series_id, began(day, 0)): count for series_id, day, count in cursor.fetchall()}


def merge_uniques(alias: str, days: Collection[tuple[int, datetime]]) -> int:
    """Remove values that are listed again for a series and UTC day; returns how many there were."""
    with connections[alias].cursor() as cursor:
        cursor.execute(_REPEATED, [[series_id for series_id, _ in days], [day for _, day in days]])
        return int(cursor.rowcount)


@lru_cache
def _merged(measures: frozenset[Measure]) -> str:
    kept = [figure if measure is None or measure in measures else "NULL" for measure, figure in _FIGURES.values()]
    return _MERGED.format(
        minute=MINUTE_BITS,
        day_slots=DAY_SLOTS,
        written=_WRITTEN,
        columns=", ".join(_FIGURES),
        held=", ".join(f"held.{column}" for column in _FIGURES),
        figures=", ".join(kept),
    )
