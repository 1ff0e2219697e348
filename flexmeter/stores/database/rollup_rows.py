"""Rollup rows: what they hold of partials, as values and as lines of PostgreSQL's COPY."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from flexmeter.aggregation import Latest, Measure, Partial
from flexmeter.models import Rollup
from flexmeter.slots import new_part, position
from flexmeter.stores.database.copying import NULL, line

SUMMED = frozenset({Measure.TOTAL})
"""What rows of SUMS measure, besides counting."""
_NOTHING_ELSE = "\t".join([NULL] * 7) + "\n"


class Row(NamedTuple):
    """A rollup row to be: what a bucket of a series holds, of which `measures` are kept."""

    series_id: int
    bucket: datetime
    partial: Partial
    measures: frozenset[Measure]


class Lines(NamedTuple):
    """Rollup rows as lines of COPY's text format, with the statement that takes them."""

    statement: str = ""
    lines: Sequence[str] = ()


def as_lines(rows: Iterable[Row], level: Rollup.Level) -> Iterator[str]:
    """Rows as lines for ROLLUPS."""
    contents: dict[tuple[int, frozenset[Measure]], str] = {}  # meters that count alike share their partials
    for (part, series_id, slot), (_, _, partial, measures) in _keyed(rows, level):
        content = contents.get((id(partial), measures))
        if content is None:
            content = contents[id(partial), measures] = ending(partial, measures)
        yield f"{part}\t{series_id}\t{slot}\t{content}"


def as_values(rows: Iterable[Row], level: Rollup.Level) -> Iterator[tuple[Any, ...]]:
    """Rows as values for ROLLUPS."""
    return ((*key, *_values(row.partial, row.measures)) for key, row in _keyed(rows, level))


def as_sums(rows: Iterable[Row], level: Rollup.Level) -> Iterator[tuple[Any, ...]]:
    """The same for SUMS."""
    return ((*key, row.partial.count, row.partial.total if row.measures else None) for key, row in _keyed(rows, level))


def _keyed(rows: Iterable[Row], level: Rollup.Level) -> Iterator[tuple[tuple[int, int, int], Row]]:
    """Rows with their keys: (part, series id, slot)."""
    for number, row in zip(count(new_part()), rows):
        slot, part = position(level, row.bucket)
        yield (part + number, row.series_id, slot), row


def numbered(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows with a number that is nobody else's before their columns."""
    return ((part, *row) for part, row in zip(count(new_part()), rows))


def ending(partial: Partial, measures: frozenset[Measure]) -> str:
    """The end of such a line: the measures."""
    if measures <= SUMMED:
        return f"{partial.count}\t{partial.total if measures else NULL}\t{_NOTHING_ELSE}"
    return line(_values(partial, measures))


def short_ending(partial: Partial, measures: frozenset[Measure]) -> str:
    """The same for SUMS."""
    return f"{partial.count}\t{partial.total if measures else NULL}\n"


def partial_of(values: Sequence[Any]) -> Partial:
    """The partial a row holds, given its MEASURE_COLUMNS."""
    count, total, moment, minimum, maximum, latest, latest_at, latest_accepted_at, latest_event_id = values
    partial = Partial(count=count, minimum=minimum, maximum=maximum)
    if total is not None:
        partial.total = total
    if moment is not None:
        partial.moment = moment
    if latest is not None:
        partial.latest = Latest(latest_at, latest_accepted_at, latest_event_id, latest)
    return partial


def _values(partial: Partial, measures: frozenset[Measure]) -> tuple[Any, ...]:
    latest = partial.latest if Measure.LATEST in measures else None
    return (
        partial.count,
        partial.total if Measure.TOTAL in measures else None,
        partial.moment if Measure.MOMENT in measures else None,
        partial.minimum if Measure.MINIMUM in measures else None,
        partial.maximum if Measure.MAXIMUM in measures else None,
        latest.value if latest else None,
        latest.timestamp if latest else None,
        latest.accepted_at if latest else None,
        latest.event_id if latest else None,
    )
