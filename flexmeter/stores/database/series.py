"""Ids of series, remembered by this process once they are committed, so that ingestion need not look them up.

A series keeps its id as long as it exists, and none is deleted whose meter generation still counts. What is remembered
belongs to one life of an environment: when its row was made. So a database that was emptied is noticed, and with each new
connection everything is forgotten, because that may lead to another database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from flexmeter.metering import SeriesKey

MOST_REMEMBERED = 500_000

_remembered: dict[tuple[str, str, datetime], dict[SeriesKey, int]] = {}


class RememberedSeries:
    """The series of one environment; without `since`, the time its row was made, nothing is remembered."""

    def __init__(self, alias: str, environment: str, since: datetime | None) -> None:
        self._alias = alias
        self._place = None if since is None else (alias, environment, since)

    def known(self) -> Mapping[SeriesKey, int]:
        """Ids that need not be looked up."""
        return _remembered.get(self._place, {}) if self._place else {}

    def learn(self, ids: Mapping[SeriesKey, int]) -> None:
        """Remember these once the transaction has committed; some of them may have been made in it."""
        place = self._place
        if place is None or not ids:
            return

        def remember() -> None:
            known = _remembered.get(place, {})
            if len(known) + len(ids) > MOST_REMEMBERED:
                known = {}  # another thread may be reading the old one
            known.update(ids)
            _remembered[place] = known

        transaction.on_commit(remember, using=self._alias, robust=True)


def forget(**_: Any) -> None:
    """Forget all; a receiver of `connection_created`."""
    _remembered.clear()
