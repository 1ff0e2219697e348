"""Pages of events: by offset, or from a cursor on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from flexmeter.aggregation import EPOCH, microseconds
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidQuery
from flexmeter.http import members
from flexmeter.http.errors import ApiError, InvalidPayload
from flexmeter.http.members import Members, Range
from flexmeter.http.shapes import EVENT_COLUMNS, event_shape
from flexmeter.measuring import refuse_pruned
from flexmeter.metering import Filters, passes
from flexmeter.models import Event
from flexmeter.stores.database.counting import count_events
from flexmeter.stores.database.extents import LAST_INSTANT, Extent, ListedEvent, just_after
from flexmeter.stores.database.transactions import read_alias

SORTS = ("timestamp", "event_name")
ORDERS = ("asc", "desc")
DEFAULT_PAGE_SIZE = 50
EXACT_FILTERS = ("external_customer_id", "event_name", "event_id", "source")
_MAX_MICROSECONDS = 253_402_300_799_999_999
_OF_AN_EXTENT = {"external_customer_id", "event_name"}


@dataclass(frozen=True, slots=True)
class EventListing:
    """Which events, in which order, and which page of them. Both ends of `range` are inclusive."""

    environment: str
    range: Range
    exact: dict[str, str]
    filters: Filters
    page_size: int
    offset: int
    first_key: str
    last_key: str
    sort: str = "timestamp"
    order: str = "desc"

    @classmethod
    def of(cls, environment: str, body: Members) -> EventListing:
        """The listing a request asks for. Raises InvalidPayload, or ApiError for an unknown sort or order."""
        page_size = members.integer(body, "page_size", DEFAULT_PAGE_SIZE)
        return cls(
            environment=environment,
            range=members.time_range(body),
            exact={name: value for name in EXACT_FILTERS if (value := members.text(body, name))},
            filters=members.property_filters(body, "property_filters"),
            page_size=min(page_size, conf.MAX_PAGE_SIZE) if page_size > 0 else DEFAULT_PAGE_SIZE,
            offset=max(members.integer(body, "offset", 0), 0),
            first_key=members.text(body, "iter_first_key"),
            last_key=members.text(body, "iter_last_key"),
            sort=_choice(body, "sort", SORTS, "invalid sort field"),
            order=_choice(body, "order", ORDERS, "invalid order by value"),
        )

    def page(self) -> dict[str, Any]:
        """The answer's members."""
        rows = self._matching()
        if self.first_key or self.last_key:
            return self._cursor_page(rows)
        return self._offset_page(rows)

    def _matching(self) -> QuerySet[Event]:
        alias = read_alias()
        refuse_pruned(self.environment, self.range.start, self.range.end, alias)
        rows = Event.objects.using(alias).in_environment(self.environment).filter(**self.exact).only(*EVENT_COLUMNS)
        rows = rows.filter(timestamp__gte=self.range.start, timestamp__lte=self.range.end)
        return rows.order_by(*self._ordering())

    def _ordering(self) -> list[str]:
        sign = "-" if self.order == "desc" else ""
        columns = ["timestamp", "event_id"] if self.sort == "timestamp" else ["event_name", "event_id"]
        return [sign + column for column in columns]

    def _offset_page(self, rows: QuerySet[Event]) -> dict[str, Any]:
        if self.filters:
            found = _Filtered(rows, self.filters).slice(self.offset, self.page_size)
            events: Sequence[Event | ListedEvent] = found.events
            total = found.total
        else:
            names = self._names(rows.db)
            total = self._count(rows, names)
            end = min(self.offset + self.page_size, total)
            events = self._first(rows, end, names) if self.offset < end else []
        return _answer(events, total, has_more=self.offset + self.page_size < total, offset=self.offset + self.page_size)

    def _cursor_page(self, rows: QuerySet[Event]) -> dict[str, Any]:
        cursor = _Cursor.parse(self.first_key or self.last_key, "iter_first_key" if self.first_key else "iter_last_key")
        onward = (self.order == "desc") != bool(self.first_key)  # towards smaller keys
        beyond = rows.filter(self._beyond(cursor, smaller=onward))
        if self.filters:
            total = _Filtered(rows, self.filters).slice(0, 0).total
            events = _Filtered(beyond, self.filters).slice(0, self.page_size + 1, count=False).events
        else:
            names = self._names(rows.db)
            total = self._count(rows, names)
            events = list(self._near(beyond, self.page_size + 1, names, cursor)[: self.page_size + 1])
        has_more = len(events) > self.page_size
        answer = _answer(events[: self.page_size], total, has_more=has_more, offset=None)
        if not has_more:
            answer["iter_last_key"] = None
        return answer

    def _extent(self) -> Extent | None:
        """What is listed, if an extent says it all."""
        if not self.exact.keys() <= _OF_AN_EXTENT:
            return None
        return Extent(self.environment, self.range.start, just_after(self.range.end), **self.exact)

    def _count(self, rows: QuerySet[Event], names: Sequence[str] | None) -> int:
        extent = self._extent()
        return rows.count() if extent is None else count_events(extent, rows.db, names)

    def _names(self, alias: str) -> list[str] | None:
        """The event names by which an index finds a customer's events."""
        extent = self._extent()
        return extent.names(alias) if extent is not None and extent.external_customer_id else None

    def _first(self, rows: QuerySet[Event], end: int, names: Sequence[str] | None) -> Sequence[Event | ListedEvent]:
        """The events from the offset up to `end`."""
        extent = self._extent()
        if extent is not None and names and self.sort == "timestamp":
            found = extent.first_events(end, self.offset, names, rows.db, newest_first=self.order == "desc")
            if found is not None:
                return found
        return list(self._near(rows, end, names)[self.offset : end])

    def _near(
        self, rows: QuerySet[Event], number: int, names: Sequence[str] | None, cursor: _Cursor | None = None
    ) -> QuerySet[Event]:
        """Of a customer's `rows` those up to the time of the last of the first `number`, as an index finds them.

        They lie on either side of the cursor or, with none, are all there are.
        """
        extent = self._extent()
        if extent is None or not names or self.sort != "timestamp":
            return rows
        descending = self.order == "desc"
        if cursor is not None and not self.first_key:  # where `rows` begin
            if descending:
                extent = replace(extent, end=min(cursor.timestamp, extent.end or LAST_INSTANT))
            else:
                extent = replace(extent, start=max(just_after(cursor.timestamp) or LAST_INSTANT, extent.start))
        edge = extent.time_of(number - 1, names, rows.db, newest_first=descending)
        if edge is not None:
            rows = rows.filter(**{"timestamp__gte" if descending else "timestamp__lte": edge})
        # The expression keeps planners from reading all customers' events in the order of time.
        moment = Coalesce(F("timestamp"), F("timestamp"))
        order: list[Any] = [moment.desc(), "-event_id"] if descending else [moment.asc(), "event_id"]
        return rows.filter(event_name__in=names).order_by(*order)

    def _beyond(self, cursor: _Cursor, *, smaller: bool) -> Q:
        compare = "lt" if smaller else "gt"
        if self.sort == "timestamp":
            key: Any = cursor.timestamp
            column = "timestamp"
        else:
            key = self._name_at(cursor)
            column = "event_name"
        behind = Q(**{f"{column}__{compare}": key}) | Q(**{column: key, f"event_id__{compare}": cursor.event_id})
        return behind & Q(**{f"{column}__{compare}e": key})  # of an alternative no index knows where to begin

    def _name_at(self, cursor: _Cursor) -> str:
        events = Event.objects.using(read_alias()).in_environment(self.environment).filter(event_id=cursor.event_id)
        name = events.values_list("event_name", flat=True).first()
        if name is None:
            raise InvalidQuery("Invalid cursor key format", {"cursor": "its event is not there any more; start over"})
        return name


class _Cursor(NamedTuple):
    timestamp: datetime
    event_id: str

    @classmethod
    def parse(cls, key: str, member: str) -> _Cursor:
        nanoseconds, separator, event_id = key.partition("::")
        if not separator:
            raise InvalidQuery("Invalid cursor key format", {member: key})
        digits = nanoseconds.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 21):
            raise InvalidQuery("Invalid timestamp while parsing cursor", {member: key})
        whole, rest = divmod(int(nanoseconds), 1_000)
        if rest:  # between two storable instants: just before the later one, whatever the id
            whole, event_id = whole + 1, ""
        if not -30_610_224_000_000_000 <= whole <= _MAX_MICROSECONDS:
            raise InvalidQuery("Invalid timestamp while parsing cursor", {member: key})
        return cls(EPOCH + timedelta(microseconds=whole), event_id)


class _Page(NamedTuple):
    events: list[Event]
    total: int


class _Filtered:
    """Rows that pass property filters, found by reading them all in order."""

    def __init__(self, rows: QuerySet[Event], filters: Filters) -> None:
        self.rows, self.filters = rows, filters

    def slice(self, offset: int, size: int, *, count: bool = True) -> _Page:
        """Rows `offset` to `offset + size`, and with `count` how many there are in all."""
        chosen: list[Event] = []
        total = 0
        for event in self.rows.iterator(chunk_size=2_000):
            if not passes(self.filters, event.properties):
                continue
            if offset <= total < offset + size:
                chosen.append(event)
            total += 1
            if not count and len(chosen) == size:
                break
        return _Page(chosen, total)


def _answer(events: Sequence[Event | ListedEvent], total: int, *, has_more: bool, offset: int | None) -> dict[str, Any]:
    return {
        "events": [event_shape(event) for event in events],
        "has_more": has_more,
        "iter_first_key": _key(events[0]) if events else None,
        "iter_last_key": _key(events[-1]) if events else None,
        "total_count": total,
        "offset": offset,
    }


def _key(event: Event | ListedEvent) -> str:
    return f"{microseconds(event.timestamp) * 1_000}::{event.event_id}"


def _choice(body: Members, name: str, allowed: tuple[str, ...], fault: str) -> str:
    value = body.get(name)
    if value is None:
        return allowed[0] if name == "sort" else "desc"
    if not isinstance(value, str):
        raise InvalidPayload(name, "must be a string")
    if value not in allowed:
        message = f"Request validation failed due to {fault}"
        raise ApiError(400, "validation_error", message, {name: value, "allowed_values": list(allowed)})
    return value
