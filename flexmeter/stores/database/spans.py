"""Which of the spans between instants, or between numbers, a time or a number lies in, as PostgreSQL finds it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from flexmeter.stores.database.arrays import array


class Spans(NamedTuple):
    """The number of the span, from 1 on, as an expression with its parameters."""

    expression: str
    parameters: dict[str, Any]

    def of(self, column: str) -> str:
        """The expression for a column that holds nothing before the first span and from the end of the last one on."""
        return self.expression.format(column=column)


@lru_cache(maxsize=16)
def spanning(edges: tuple[datetime, ...]) -> Spans:
    """The spans between these instants, two or more, which ascend and are whole seconds."""
    lengths = [later - earlier for earlier, later in pairwise(edges)]
    if _are_alike(lengths):
        # Exact: whole seconds are, and a quotient of two is much nearer to the true one than that is to the next whole number.
        expression = "floor((date_part('epoch', {column}) - %(first)s::float8) / %(length)s::float8)::integer + 1"
        return Spans(expression, {"first": edges[0].timestamp(), "length": lengths[0].total_seconds()})
    return Spans("width_bucket({column}, %(edges)s::timestamptz[])", {"edges": array(edges)})


@lru_cache(maxsize=16)
def spanning_numbers(edges: tuple[int, ...]) -> Spans:
    """The spans between these whole numbers, two or more, which ascend."""
    lengths = [later - earlier for earlier, later in pairwise(edges)]
    if _are_alike(lengths):
        return Spans("({column} - %(first)s::bigint) / %(length)s::bigint + 1", {"first": edges[0], "length": lengths[0]})
    return Spans("width_bucket({column}::bigint, %(edges)s::bigint[])", {"edges": array(edges)})


def _are_alike(lengths: Sequence[Any]) -> bool:
    """Whether all are of one length, but for the last, which may be shorter."""
    return all(length == lengths[0] for length in lengths[:-1]) and bool(lengths[-1] <= lengths[0])
