"""Usage as a file, for a spreadsheet or a program."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from flexmeter.events import format_timestamp
from flexmeter.models import Meter
from flexmeter.properties import plain
from flexmeter.queries import UsagePoint, UsageQuery, UsageResult
from flexmeter.usage import cell_size
from flexmeter.windows import following

_BEGINS_A_FORMULA = re.compile(r"""^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=(?:[^\S\r\n]|")*[=+\-@＝＋－＠])""")
"""Where a spreadsheet would begin to compute: at the beginning, but for white space that some of them drop, and after what
some of them take for the end of a cell or of a line, whatever the quotes around it."""


class Row(NamedTuple):
    """A window's usage; `start` and `end` are within the range that was asked for."""

    window: datetime
    start: datetime
    end: datetime
    point: UsagePoint


def rows_of(query: UsageQuery, points: Sequence[UsagePoint]) -> Iterator[Row]:
    """The windows of an answer, cut to the range that was asked for."""
    size = cell_size(query)
    for point in points:
        end = query.end if size is None else min(following(point.start, size, query.calendar), query.end)
        yield Row(point.start, max(point.start, query.start), end, point)


def as_csv(meter: Meter, query: UsageQuery, result: UsageResult, zone: tzinfo) -> str:
    """A line for each window that holds events; times are those of the zone, with their offset."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["meter_id", "meter", "customer", "start", "end", "usage", "events"])
    texts = [safe_cell(text) for text in (meter.pk, meter.name, query.scope.external_customer_id or "")]
    for row in rows_of(query, result.points):
        times = [instant.astimezone(zone).isoformat() for instant in (row.start, row.end)]
        writer.writerow([*texts, *times, plain(row.point.value), row.point.event_count])
    return file.getvalue()


def as_json(meter: Meter, query: UsageQuery, result: UsageResult, zone_name: str) -> str:
    """The question and its answer; figures are strings, which keep every digit."""
    return json.dumps(
        {
            "meter": {
                "id": meter.pk,
                "name": meter.name,
                "environment": meter.environment,
                "event_name": meter.event_name,
                "aggregation_type": meter.aggregation_type,
            },
            "customer": query.scope.external_customer_id,
            "filters": [{"key": key, "values": sorted(values)} for key, values in query.scope.filters],
            "start": format_timestamp(query.start),
            "end": format_timestamp(query.end),
            "timezone": zone_name,
            "window": cell_size(query),
            "source": result.source,
            "points": [
                {
                    "start": format_timestamp(row.start),
                    "end": format_timestamp(row.end),
                    "usage": plain(row.point.value),
                    "events": row.point.event_count,
                }
                for row in rows_of(query, result.points)
            ],
        },
        ensure_ascii=False,
        indent=1,
    )


def safe_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, nor a part of it."""
    return _BEGINS_A_FORMULA.sub("'", text)
