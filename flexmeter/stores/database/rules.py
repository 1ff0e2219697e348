"""The rules of meters, as they are stored, remembered by this process where the database tells whether they still are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

from django.db.models.expressions import RawSQL

from flexmeter.conf import conf
from flexmeter.metering import MeterRule
from flexmeter.models import Meter
from flexmeter.querysets import MeterQuerySet
from flexmeter.stores.database.locks import PostgresMeterLock, Terms, meter_lock

MOST_REMEMBERED = 10_000
VERSION = "flexmeter_meter.id || ' ' || flexmeter_meter.xmin::text"
"""PostgreSQL says which transaction wrote a row, however that was done."""
VERSIONS = f"coalesce(string_agg({VERSION}, ',' ORDER BY id), '')"
VERSIONS_BY_NAME = f"""
    SELECT event_name, {VERSIONS} FROM flexmeter_meter
    WHERE environment = %s AND event_name = ANY(%s) AND status <> 'deleted' GROUP BY event_name
"""  # noqa: S608  # made of constants

_Place = tuple[str, str, str, str]


class Rulebook(NamedTuple):
    """The rules for events of one name, and the versions of the rows they were read from: others after any change."""

    rules: list[MeterRule]
    versions: str


_remembered: dict[_Place, Rulebook] = {}


def rules_for(environment: str, event_names: Collection[str], alias: str) -> list[MeterRule]:
    """The rules of all meters that may count events of these names."""
    return [meter.rule() for meter in _meters(environment, alias).counting(event_names)]


def terms_and_rules(
    environment: str, event_names: Collection[str], alias: str, *, remembering: bool
) -> tuple[Terms, list[MeterRule]]:
    """Keep the meters as they are until the transaction ends; on what terms events are taken, and the rules for these names.

    Of rules that are remembered, PostgreSQL is only asked whether they still hold. That may be done by a transaction that
    changes no meters: it would not tell apart two changes of its own.
    """
    lock = meter_lock(alias)
    if not remembering or not isinstance(lock, PostgresMeterLock):
        return lock.share(environment), rules_for(environment, event_names, alias)
    terms, versions = lock.share_and_ask(environment, VERSIONS_BY_NAME, [environment, list(event_names)])
    return terms, _still_holding(environment, event_names, alias, dict(versions))


def _still_holding(environment: str, event_names: Collection[str], alias: str, versions: Mapping[str, str]) -> list[MeterRule]:
    books = {name: remembered(environment, name, alias) for name in event_names}
    held = {name: book for name, book in books.items() if book is not None and book.versions == versions.get(name, "")}
    if len(held) < len(books):
        held |= _learnt(environment, books.keys() - held.keys(), alias)
    return _rules_of(held.values())


def remembered(environment: str, event_name: str, alias: str) -> Rulebook | None:
    """What is remembered of the rules for events of a name, whether they still hold or not."""
    return _remembered.get(_place(environment, event_name, alias))


def remembered_together(environment: str, event_names: Iterable[str], alias: str) -> Rulebook | None:
    """The same for events of several names; None unless all are remembered."""
    books = [remembered(environment, name, alias) for name in event_names]
    known = [book for book in books if book is not None]
    if len(known) < len(books):
        return None
    if len(known) == 1:
        return known[0]
    versions = [version for book in known for version in book.versions.split(",") if version]
    return Rulebook(_rules_of(known), ",".join(sorted(versions, key=lambda version: version.rpartition(" ")[0])))


def _rules_of(books: Collection[Rulebook]) -> list[MeterRule]:
    if len(books) == 1:
        [book] = books
        return book.rules
    return sorted((rule for book in books for rule in book.rules), key=attrgetter("meter_id"))


def forget() -> None:
    """Forget all."""
    _remembered.clear()


def _meters(environment: str, alias: str) -> MeterQuerySet[Meter]:
    return Meter.objects.using(alias).in_environment(environment).order_by("id")


def _learnt(environment: str, event_names: Iterable[str], alias: str) -> Mapping[str, Rulebook]:
    books: dict[str, Rulebook] = {}
    read: dict[str, list[Meter]] = {name: [] for name in event_names}
    for meter in _meters(environment, alias).counting(read).annotate(version=RawSQL(VERSION, ())):  # noqa: S611  # a constant
        read[meter.event_name].append(meter)
    if len(_remembered) + len(read) > MOST_REMEMBERED:
        forget()  # names are the senders' to choose
    for name, found in read.items():
        versions = ",".join(meter.version for meter in found)  # type: ignore[attr-defined]  # annotated
        books[name] = _remembered[_place(environment, name, alias)] = Rulebook([meter.rule() for meter in found], versions)
    return books


def _place(environment: str, event_name: str, alias: str) -> _Place:
    return alias, environment, event_name, conf.COUNT_UNIQUE_MISSING  # which is part of a rule
