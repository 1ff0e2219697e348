"""Counting events inside the database, where that comes to just what counting them one by one does.

PostgreSQL adds up what it surely reads as `flexmeter.properties` does: numbers of plain digits, and texts. What the rest
means is told by Python: property values that events are kept apart by come back as JSON, and events with a value in doubt
with all their properties.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

from django.db import DataError, connections

from flexmeter.aggregation import ZERO, Measure, Partial
from flexmeter.events import UsageEvent
from flexmeter.metering import Filters, MeterRule, passes
from flexmeter.properties import EXACT, loads, text_fault
from flexmeter.queries import Scope
from flexmeter.stores.database.transactions import can_read_apart, read_apart
from flexmeter.windows import Calendar, WindowSize, axis, count_at_most

MOST_WINDOWS: Final = 5_000
MOST_BRANCHES: Final = 50
MOST_ROWS: Final = 100_000
LONGEST_TEXT: Final = 1_000
_SOURCE: Final = "source"
_PROPERTY: Final = "properties."
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Slice(NamedTuple):
    """What a rule counts of [start, end), of these customers or of all, by window; `apart` says what else to keep apart:
    "source" or "properties.<name>"."""

    rule: MeterRule
    start: datetime | None
    end: datetime
    size: WindowSize | None
    calendar: Calendar
    customers: frozenset[str] | None
    apart: tuple[str, ...] = ()


class Portion(NamedTuple):
    """What events together contribute that share window, group and whatever else is kept apart.

    `like` is as any of them in that: its timestamp is where the window begins, other members say nothing.
    """

    like: UsageEvent
    partial: Partial


class EventCounter:
    """Leaves counting to Python."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def count(self, scope: Scope, slices: Sequence[Slice]) -> list[Iterable[Portion] | None]:
        """The portions of each slice, all of one snapshot; None for what is to be counted event by event.

        Slices of one rule are counted together or not at all. At most one query, and a second where somebody else has
        stored JSON that holds no text.
        """
        return [None] * len(slices)


class PostgresEventCounter(EventCounter):
    """Counts what needs no more than sums, extremes and distinct values of properties, in windows that can be listed."""

    COUNTED: ClassVar[str] = "SELECT * FROM ({branches}) AS counted LIMIT {limit}"
    IN_MEMORY: ClassVar[Sequence[str]] = (
        "SET LOCAL jit = off",
        "SELECT set_config('seq_page_cost', (current_setting('seq_page_cost')::float8 / 10)::text, true)",
        "SELECT set_config('random_page_cost', (current_setting('random_page_cost')::float8 / 10)::text, true)",
    )
    """The planner expects the disk to take most of the time, which several processes do not share, and finds those hardly faster
    than one. Where pages are in memory, as recent ones are, what takes long is reading JSON. Nor does it know how long a compiler
    takes."""

    def count(self, scope: Scope, slices: Sequence[Slice]) -> list[Iterable[Portion] | None]:
        branches, of_slice = self._branches(scope, slices)
        rows = self._rows(branches) if branches else []
        if rows is None or any(row.is_cut for row in rows):
            return [None] * len(slices)
        portions: list[list[Portion]] = [[] for _ in slices]
        for row in rows:
            branch = branches[row.branch]
            like = branch.event_like(row)
            for place, rule in of_slice[row.branch]:
                if (partial := branch.partial(row, like, rule)) is not None:
                    portions[place].append(Portion(like, partial))
        counted = {place for places in of_slice for place, _ in places}
        return [found if place in counted else None for place, found in enumerate(portions)]

    def _branches(self, scope: Scope, slices: Sequence[Slice]) -> tuple[list[_Branch], list[list[tuple[int, MeterRule]]]]:
        """Parts of one statement, each with the slices it counts."""
        if not _are_texts(scope.filters):
            return [], []
        left = {each.rule for each in slices if not _can_be_counted(each)}
        branches: dict[tuple[Any, ...], _Branch] = {}
        of_slice: dict[tuple[Any, ...], list[tuple[int, MeterRule]]] = {}
        for place, each in enumerate(slices):
            rule = each.rule
            if rule in left:
                continue
            apart = _apart(each)
            key = (rule.event_name, rule.filters, rule.archived_at, apart, *each[1:6])
            if key not in branches:
                branches[key] = _Branch(len(branches), scope, each, apart)
            branches[key].add(rule)
            of_slice.setdefault(key, []).append((place, rule))
        if len(branches) > MOST_BRANCHES:
            return [], []
        return list(branches.values()), list(of_slice.values())

    def _rows(self, branches: Sequence[_Branch]) -> list[_Row] | None:
        """None where there are too many."""
        if can_read_apart(self.alias):
            try:
                return self._asked(branches, guarded=False)
            except DataError:
                pass  # nothing is lost by trying, which is cheaper than to look at every event
        return self._asked(branches, guarded=True)

    def _asked(self, branches: Sequence[_Branch], *, guarded: bool) -> list[_Row] | None:
        parameters: dict[str, Any] = {}
        parts = " UNION ALL ".join(branch.sql(parameters, guarded=guarded) for branch in branches)
        sql = self.COUNTED.format(branches=parts, limit=MOST_ROWS + 1)
        rows = read_apart(self.alias, sql, parameters, settings=self.IN_MEMORY)
        return None if len(rows) > MOST_ROWS else [branches[number].row(*values) for number, *values in rows]


class _Row(NamedTuple):
    """Events of a branch that share span, source and texts; `doubted` are the properties of those that are no sure case.

    `figures` follow the branch's, or say nothing where there is doubt.
    """

    branch: int
    span: int
    source: str
    texts: Sequence[str | None]
    doubted: str | None
    events: int
    figures: Sequence[Decimal | None]

    @property
    def is_cut(self) -> bool:
        """Whether a text was longer than it may be."""
        return any(len(text) > LONGEST_TEXT for text in (self.doubted, *self.texts) if text is not None)


@dataclass(slots=True)
class _Branch:
    """A part of the statement: events that the rules added to it match, by span and by what is kept apart."""

    number: int
    scope: Scope
    slice: Slice
    apart: tuple[str, ...]
    figures: list[tuple[str, Measure]] = field(default_factory=list)
    begins: Sequence[datetime] = field(init=False)

    SUSPECT: ClassVar[str] = "strpos(properties::text, chr(92) || 'u') > 0"
    """Escaped characters, of which some cannot be read as text."""
    SELECTED: ClassVar[str] = """
        (SELECT {number} AS branch, keys, count(*) AS events, {figures} AS figures
        FROM (
            SELECT {keys} AS keys{numbers}
            FROM (SELECT timestamp, source, properties{read} FROM flexmeter_event WHERE {conditions} {once}) AS events {once}
        ) AS events GROUP BY keys)
    """
    """The keys are one value: of several, the planner expects so many groups that it does not share the work among processes."""
    ONCE: ClassVar[str] = "OFFSET bigint '0'"
    """Has PostgreSQL find once what is used twice: the texts of numbers, each of which reads the JSON, and the doubt. Were it
    a plain 0, it would not see before it plans the rest that nothing is skipped, and that processes may share the work."""
    FUNCTIONS: ClassVar[Mapping[Measure, str]] = {Measure.TOTAL: "sum", Measure.MINIMUM: "min", Measure.MAXIMUM: "max"}

    def __post_init__(self) -> None:
        self.begins = _begins(self.slice) or ()

    def add(self, rule: MeterRule) -> None:
        """Have it find what that rule measures too."""
        for measure in sorted(rule.measures & self.FUNCTIONS.keys(), key=lambda measure: measure.value):
            if (rule.field, measure) not in self.figures:
                self.figures.append((rule.field, measure))

    def sql(self, parameters: dict[str, Any], *, guarded: bool) -> str:
        names: dict[str, str] = {}

        def value(given: Any) -> str:
            name = f"p{len(parameters)}"
            parameters[name] = given
            return f"%({name})s"

        def text_of(name: str) -> str:
            names.setdefault(name, value(name))
            return f'(properties ->> {names[name]}::text) COLLATE "C"'

        def json_of(name: str) -> str:
            names.setdefault(name, value(name))
            return f'left((properties -> {names[name]}::text)::text, {LONGEST_TEXT + 1}) COLLATE "C"'

        def unless_suspect(text: str) -> str:
            return f"CASE WHEN {self.SUSPECT} THEN NULL ELSE {text} END" if guarded else text

        filters = [(text_of(key), value(sorted(wanted)), wanted) for key, wanted in self._filters]
        doubts = [_unsure_match(text) for text, _, wanted in filters if _may_be_no_text(wanted)]
        sure = [_match(text, listed, wanted) for text, listed, wanted in filters]
        numbers = {name: f"number_{place}" for place, name in enumerate(dict.fromkeys(name for name, _ in self.figures))}
        doubts += [_unsure_number(column) for column in numbers.values()]
        read = [f", {unless_suspect(text_of(name))} AS {column}" for name, column in numbers.items()]
        texts = [unless_suspect(json_of(entry.removeprefix(_PROPERTY))) for entry in self.apart if entry != _SOURCE]
        suspects = [self.SUSPECT] if guarded and names else []
        matches = " AND ".join(f"({each})" for each in sure)
        if suspects and matches:
            matches = f"CASE WHEN {self.SUSPECT} THEN true ELSE {matches} END"
        conditions = [*self._conditions(value), *([matches] if matches else [])]
        keys = [f"width_bucket(timestamp, {value(list(self.begins))}::timestamptz[])::text"] if self.begins else []
        keys += [_SOURCE, *texts] if _SOURCE in self.apart else texts
        keys.append(_doubted([*suspects, *doubts]))
        figures = [
            f"{self.FUNCTIONS[measure]}(CASE WHEN keys[{len(keys)}] IS NULL THEN coalesce({numbers[name]}::numeric, 0) END)"
            for name, measure in self.figures
        ]
        return self.SELECTED.format(
            number=self.number,
            once=self.ONCE,
            keys=f'ARRAY[{", ".join(keys)}]::text[] COLLATE "C"',
            numbers="".join(f", {column}" for column in numbers.values()),
            read="".join(read),
            figures=f"ARRAY[{', '.join(figures)}]::numeric[]",
            conditions=" AND ".join(conditions),
        )

    def row(self, keys: Sequence[str | None], events: int, figures: Sequence[Decimal | None]) -> _Row:
        """A row of the statement, given without the branch."""
        *rest, doubted = keys
        span = int(rest.pop(0) or 1) if self.begins else 1
        source = (rest.pop(0) or "") if _SOURCE in self.apart else ""
        return _Row(self.number, span, source, rest, doubted, events, figures)

    @property
    def _filters(self) -> Filters:
        return (*self.scope.filters, *self.slice.rule.filters)

    def _conditions(self, value: Callable[[Any], str]) -> Iterator[str]:
        scope, (rule, start, end, _, _, customers, _) = self.scope, self.slice
        yield f"environment = {value(scope.environment)}"
        yield f"event_name = {value(rule.event_name)}"
        yield f"timestamp < {value(end)}"
        if start is not None:
            yield f"timestamp >= {value(start)}"
        if scope.external_customer_id is not None:
            yield f"external_customer_id = {value(scope.external_customer_id)}"
        if customers is not None:
            yield f"external_customer_id = ANY({value(sorted(customers))}::text[])"
        if scope.customer_id:
            yield f"customer_id = {value(scope.customer_id)}"
        if scope.sources:
            yield f"source = ANY({value(sorted(scope.sources))}::text[])"
        if rule.archived_at is not None:
            yield f"accepted_at < {value(rule.archived_at)}"

    def event_like(self, row: _Row) -> UsageEvent:
        """An event as those of the row are."""
        if row.doubted is not None:
            properties = loads(row.doubted)
        else:
            names = (entry.removeprefix(_PROPERTY) for entry in self.apart if entry != _SOURCE)
            properties = {name: loads(text) for name, text in zip(names, row.texts, strict=True) if text is not None}
        moment = self.begins[row.span - 1] if self.begins else self.slice.start or _LONG_AGO
        return UsageEvent("", self.slice.rule.event_name, "", moment, _LONG_AGO, properties, None, row.source)

    def partial(self, row: _Row, like: UsageEvent, rule: MeterRule) -> Partial | None:
        """What the row's events contribute to the rule; None if it does not match them."""
        if not row.events:
            return None
        if row.doubted is not None:
            return _multiplied(like, row.events, rule) if passes(self._filters, like.properties) else None
        figures = {measure: row.figures[place] for place, (name, measure) in enumerate(self.figures) if name == rule.field}
        partial = Partial(row.events)
        if Measure.TOTAL in rule.measures:
            partial.total = figures[Measure.TOTAL] or ZERO
        if Measure.MINIMUM in rule.measures:
            partial.minimum = figures[Measure.MINIMUM]
        if Measure.MAXIMUM in rule.measures:
            partial.maximum = figures[Measure.MAXIMUM]
        if Measure.UNIQUES in rule.measures:
            partial.uniques = _multiplied(like, 1, rule).uniques
        return partial


def _multiplied(event: UsageEvent, count: int, rule: MeterRule) -> Partial:
    """What so many events like this one contribute."""
    quantity = rule.quantity(event)
    partial = Partial()
    if quantity is not None:
        partial.fold(quantity, rule.measures)
        partial.count, partial.total = count, EXACT.multiply(partial.total, Decimal(count))
    return partial


COUNTABLE: Final = frozenset({*_Branch.FUNCTIONS, Measure.UNIQUES})


def _can_be_counted(each: Slice) -> bool:
    rule = each.rule
    return (
        rule.expression is None
        and rule.measures <= COUNTABLE
        and _begins(each) is not None
        and _are_texts(rule.filters)
        and not any(map(text_fault, (rule.field, *_apart(each))))
    )


def _are_texts(filters: Filters) -> bool:
    """Whether the database can be asked for these; if not it holds none of them, but somebody may ask."""
    return not any(text_fault(text) for key, wanted in filters for text in (key, *wanted))


def _apart(each: Slice) -> tuple[str, ...]:
    """All that a slice's events are kept apart by: its rule may group too, and distinct values are told apart by Python."""
    entries = [*each.apart]
    if each.rule.group_by:
        entries.append(_PROPERTY + each.rule.group_by)
    if Measure.UNIQUES in each.rule.measures:
        entries.append(_PROPERTY + each.rule.field)
    return tuple(dict.fromkeys(entries))


def _begins(each: Slice) -> Sequence[datetime] | None:
    """Where the windows begin that have a part in the slice; none where it has no windows, None where they are too many."""
    if each.size is None:
        return ()
    return None if each.start is None else _listed(each.start, each.end, each.size, each.calendar)


@lru_cache(maxsize=64)
def _listed(start: datetime, end: datetime, size: WindowSize, calendar: Calendar) -> Sequence[datetime] | None:
    return None if count_at_most(start, end, size) > MOST_WINDOWS else tuple(axis(start, end, size, calendar))


def _match(text: str, values: str, wanted: Collection[str]) -> str:
    """That a property, as text, is one of the values; what is missing is the empty text."""
    known = f"coalesce({text}, '')" if "" in wanted else text
    match = f"{known} = ANY({values}::text[])"
    return f"{match} OR {_unsure_match(text)}" if _may_be_no_text(wanted) else match


def _may_be_no_text(wanted: Iterable[str]) -> bool:
    """Whether a number, an object or an array may be rendered as one of these, in which case JSON has other forms of it."""
    return any(value and value[0] in "-0123456789[{" for value in wanted)


def _unsure_match(text: str) -> str:
    """That it takes a look at the JSON to know what a property is rendered as. Whole numbers are in no doubt."""
    return f"({text} ~ '^[-0-9[{{]' AND {text} !~ '^(0|-?[1-9][0-9]*)$')"


def _unsure_number(text: str) -> str:
    """That a property, as text, is something else than a number of at most 60 plain characters."""
    return f"overlay({text} PLACING 'x' FROM 61 FOR 0) !~ '^-?[0-9]+([.][0-9]+)?x$'"


def _doubted(doubts: Sequence[str]) -> str:
    """The properties where one of the doubts holds, which are asked one after the other."""
    cut = f'left(properties::text, {LONGEST_TEXT + 1}) COLLATE "C"'
    return f"CASE {' '.join(f'WHEN {doubt} THEN {cut}' for doubt in doubts)} END" if doubts else "NULL::text"


EVENT_COUNTERS: dict[str, type[EventCounter]] = {"postgresql": PostgresEventCounter}


def event_counter(alias: str) -> EventCounter:
    """What counts events in the database behind `alias`."""
    return EVENT_COUNTERS.get(connections[alias].vendor, EventCounter)(alias)
