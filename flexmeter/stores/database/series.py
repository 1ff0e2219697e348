"""Ids of series, remembered by this process once they are committed, so that ingestion need not look them up.

A series keeps its id as long as it exists, and none is deleted whose meter generation still counts. What is remembered
belongs to one life of an environment: when its row was made. So a database that was emptied is noticed, and with each new
connection everything is forgotten, because that may lead to another database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from flexmeter.metering import SeriesKey

MOST_REMEMBERED = 500_000

_Rule = tuple[str, int]
"""Meter and generation: the first members of a series' key."""


class KnownSeries(Mapping[SeriesKey, int]):
    """Ids of series, kept apart by rule, so that those of one rule are found without making their keys."""

    __slots__ = ("_of",)

    def __init__(self, of: Mapping[_Rule, Mapping[tuple[Any, ...], int]]) -> None:
        self._of = of

    def of(self, meter_id: str, generation: int) -> Mapping[tuple[Any, ...], int]:
        """Ids of a rule's series by the rest of their keys: (customer, group, combination)."""
        return self._of.get((meter_id, generation), {})

    def __getitem__(self, key: SeriesKey) -> int:
        return self._of[key[:2]][key[2:]]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key[2:] in self._of.get(key[:2], ())

    def __iter__(self) -> Iterator[SeriesKey]:
        return (SeriesKey(*rule, *rest) for rule, ids in self._of.items() for rest in ids)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))


_remembered: dict[tuple[str, str, datetime], dict[_Rule, dict[tuple[Any, ...], int]]] = {}


class RememberedSeries:
    """The series of one environment; without `since`, the time its row was made, nothing is remembered."""

    def __init__(self, alias: str, environment: str, since: datetime | None) -> None:
        self._alias = alias
        self._place = None if since is None else (alias, environment, since)

    def known(self) -> KnownSeries:
        """Ids that need not be looked up."""
        return KnownSeries(_remembered.get(self._place, {}) if self._place else {})

    def learn(self, ids: Mapping[SeriesKey, int]) -> None:
        """Remember these once the transaction has committed; some of them may have been made in it."""
        place = self._place
        if place is None or not ids:
            return

        def remember() -> None:
            known = _remembered.get(place, {})
            if sum(map(len, known.values())) + len(ids) > MOST_REMEMBERED:
                known = {}  # another thread may be reading the old one
            for (meter_id, generation, *rest), series_id in ids.items():
                known.setdefault((meter_id, generation), {})[tuple(rest)] = series_id
            _remembered[place] = known

        transaction.on_commit(remember, using=self._alias, robust=True)


def forget(**_: Any) -> None:
    """Forget all; a receiver of `connection_created`."""
    _remembered.clear()
