"""Random histories of a ledger (what is sent, which meters there are, what is done to them) and questions about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any
from unittest import mock

from django.test import override_settings
from hypothesis import strategies as st

from flexmeter.aggregation import AggregationType
from flexmeter.events import UsageEvent, parse_event
from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.maintenance.rebuild import rebuild, restart
from flexmeter.metering import MeterRule, filters_of
from flexmeter.meters import MeterDefinition, add_filters, archive_meter, create_meter
from flexmeter.models import Meter
from flexmeter.properties import loads
from flexmeter.queries import Scope, UsagePoint, UsageQuery, UsageResult
from flexmeter.windows import Calendar, WindowSize, zone

from tests.contracts import reference
from tests.contracts.reference import Answer, Delivery, Question

PLACES = [
    (datetime(2024, 3, 31, 1, tzinfo=UTC), "Europe/Berlin"),  # forward
    (datetime(2024, 10, 27, 1, tzinfo=UTC), "Europe/Berlin"),  # back
    (datetime(2024, 4, 6, 15, tzinfo=UTC), "Australia/Lord_Howe"),  # back by half an hour
    (datetime(2024, 10, 5, 15, 30, tzinfo=UTC), "Australia/Lord_Howe"),  # forward by half an hour
    (datetime(2024, 3, 10, 5, 30, tzinfo=UTC), "America/St_Johns"),  # forward
    (datetime(2024, 11, 3, 4, 30, tzinfo=UTC), "America/St_Johns"),  # back
    (datetime(2024, 2, 29, 18, 15, tzinfo=UTC), "Asia/Kathmandu"),  # midnight at a leap day's end
    (datetime(1971, 6, 1, 0, 44, 30, tzinfo=UTC), "Africa/Monrovia"),  # midnight, within a rollup bucket
    (datetime(2023, 12, 31, tzinfo=UTC), "UTC"),
]
"""Instants at which something happens to the clocks of a zone."""
TOKENS = [
    "1", "2", "7", "-4", "0", "0.1", "0.2", "2.50", "-0.0", "1e3", "1E+2", "100", "1.0", "12345678901234567890",
    "9007199254740993", "3.14159265358979323846", "1e-7", "1e308", "-1e308", '"5"', '"5.0"', '" 7 "', '"+5"', '"1e3"',
    '"-1.5"', '"1."', '".5"', '"."', '"NaN"', '"-Infinity"', '"abc"', '""', '"1_000"', '"１２"', '"0x10"', '"1e400"',
    '"two words"', '"é"', '"e\\u0301"', '"É"', "true", "false", "null", "[1,2]", '{"a":1}', "[]",
]  # fmt: skip
FILTER_VALUES = ["1", "100", "true", "", "abc", "[1,2]", "5", "é", "1000"]
CUSTOMERS = ["acme", "Acme", "acme "]
SOURCES = ["", "api", "batch"]
DIGITS = Context(prec=34)
EXPRESSIONS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "n + u * 2": lambda n, u: DIGITS.add(n, DIGITS.multiply(u, Decimal(2))),
    "n > u ? n : u": max,
    "n - u": DIGITS.subtract,
    "n / u": DIGITS.divide,
}

METERS: list[dict[str, Any]] = [
    {"aggregation_type": "COUNT"},
    {"aggregation_type": "SUM", "field": "n"},
    {"aggregation_type": "AVG", "field": "n"},
    {"aggregation_type": "MAX", "field": "n"},
    {"aggregation_type": "MIN", "field": "n"},
    {"aggregation_type": "LATEST", "field": "n"},
    {"aggregation_type": "COUNT_UNIQUE", "field": "n"},
    {"aggregation_type": "SUM_WITH_MULTIPLIER", "field": "n", "multiplier": Decimal("0.1")},
    {"aggregation_type": "WEIGHTED_SUM", "field": "n"},
    {"aggregation_type": "SUM", "field": "n", "bucket_size": "HOUR"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "30MIN"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "MINUTE"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "DAY", "group_by": "u"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "MONTH", "group_by": "r"},
    {"aggregation_type": "SUM", "field": "n", "filters": (("u", ("1", "abc", "")),)},
    {"aggregation_type": "COUNT_UNIQUE", "field": "u", "event_name": "Tokens"},
    {"aggregation_type": "LATEST", "field": "u", "filters": (("r", ("5", "é", "true")),)},
    {"aggregation_type": "SUM", "expression": "n + u * 2"},
    {"aggregation_type": "MAX", "expression": "n > u ? n : u"},
    {"aggregation_type": "LATEST", "expression": "n - u"},
    {"aggregation_type": "AVG", "expression": "n / u"},
    {"aggregation_type": "SUM", "field": "n", "dimensions": ("u", "r")},
    {"aggregation_type": "COUNT_UNIQUE", "field": "n", "dimensions": ("u",)},
    {"aggregation_type": "LATEST", "field": "n", "dimensions": ("r", "n", "u"), "filters": (("u", ("1", "abc", "")),)},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "DAY", "group_by": "u", "dimensions": ("u",)},
]
jitters = st.sampled_from(
    [timedelta(0), timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(minutes=7)]
)
offsets = st.builds(
    lambda quarters, more: timedelta(minutes=15 * quarters) + more,
    st.integers(-8, 8) | st.integers(-8, 8) | st.integers(-200, 200),
    jitters,
)
ranges = st.builds(
    lambda before, after, more, less: (-timedelta(minutes=15 * before) + more, timedelta(minutes=15 * after) + less),
    st.integers(0, 10) | st.sampled_from([96, 192, 2000]),
    st.integers(0, 10) | st.sampled_from([96, 192, 2000]),
    jitters,
    jitters,
).map(lambda span: (min(span), max(span)))


@dataclass(frozen=True)
class Sent:
    """One element of a batch, before it is given its time of acceptance."""

    event_id: str
    name: str
    customer: str
    offset: timedelta | None
    properties: Mapping[str, str] | None
    source: str
    customer_id: str

    def text(self, base: datetime) -> str:
        members = [f'"event_id":"{self.event_id}"', f'"event_name":"{self.name}"', f'"external_customer_id":"{self.customer}"']
        if self.offset is not None:
            members.append(f'"timestamp":"{(base + self.offset).isoformat()}"')
        if self.properties is not None:
            inner = ",".join(f'"{key}":{token}' for key, token in self.properties.items())
            members.append(f'"properties":{{{inner}}}')
        members += [f'"source":"{self.source}"', f'"customer_id":"{self.customer_id}"']
        return "{" + ",".join(members) + "}"


properties = st.none() | st.dictionaries(st.sampled_from("nur"), st.sampled_from(TOKENS), max_size=3)


def acts(event_ids: Sequence[str], offsets: st.SearchStrategy[timedelta]) -> st.SearchStrategy[Sent]:
    return st.builds(
        Sent,
        st.sampled_from(event_ids),
        st.sampled_from(["tokens", "tokens", "tokens", " tokens ", "Tokens"]),
        st.sampled_from(CUSTOMERS),
        offsets,
        properties,
        st.sampled_from(SOURCES),
        st.sampled_from(["", "cust_1"]),
    )


MANY_IDS = [f"event_{number}" for number in range(30)]
few_acts = acts(
    ["event_1", "event_2", "event_3", "EVENT_1", "event_1 "],
    st.sampled_from([timedelta(minutes=minutes) for minutes in (0, 0, 0, 7, -1, 15, 24 * 60)]),
)
timeless = few_acts.map(lambda element: replace(element, offset=None))
filters = st.dictionaries(st.sampled_from("nur"), st.lists(st.sampled_from(FILTER_VALUES), max_size=3), max_size=2)
given_filters = st.dictionaries(
    st.sampled_from("ur"), st.lists(st.sampled_from(FILTER_VALUES), min_size=1, max_size=4), min_size=1
)


@dataclass(frozen=True)
class Deliver:
    batch: Sequence[Sent]


@dataclass(frozen=True)
class Again:
    """Deliveries of before once more, as they were (`places` among all so far)."""

    places: Sequence[int]


@dataclass(frozen=True)
class Create:
    definition: Mapping[str, Any]
    built: bool


@dataclass(frozen=True)
class Change:
    """Something done to one of the meters there are."""

    what: str
    place: int
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    chunks: int = 0


creations = st.builds(Create, st.sampled_from(METERS), st.booleans())
few = st.builds(Deliver, st.lists(few_acts, min_size=1, max_size=3))
steps = st.one_of(
    few,
    few,
    few,
    st.builds(Deliver, st.lists(few_acts | timeless, min_size=1, max_size=6)),
    st.builds(Again, st.lists(st.integers(0, 20), min_size=1, max_size=3)),
    creations,
    st.builds(Change, st.just("build"), st.integers(0, 2), chunks=st.sampled_from([1, 1, 2, 1_000])),
    st.builds(Change, st.sampled_from(["restart", "archive"]), st.integers(0, 2)),
    st.builds(Change, st.just("filter"), st.integers(0, 2), given_filters),
    st.just(Change("compact", 0)),
)
places = st.sampled_from(PLACES)
histories = st.builds(
    lambda batch, meters, rest: [batch, *meters, *rest, *(Change("build", place, chunks=1_000) for place in range(9))],
    few,
    st.lists(creations, min_size=1, max_size=2),
    st.lists(steps, min_size=4, max_size=12),
)
"""Much happens to few events and meters; in the end all meters are built."""
holdings = st.builds(
    lambda first, second, then: [first, second, *then],
    st.builds(Deliver, st.lists(acts(MANY_IDS, offsets), min_size=15, max_size=30)),
    st.builds(Deliver, st.lists(acts(MANY_IDS, offsets), min_size=1, max_size=4)),
    st.sampled_from([[], [Change("compact", 0)]]),
)
"""Little happens to many events."""


def every_meter(environment: str) -> list[str]:
    """One meter of each kind."""
    world = World(environment, PLACES[0])
    world.play([Create(definition, built=True) for definition in METERS])
    return world.meters


class Stopped(Exception):
    """A rebuild that is killed after a chunk."""


class World:
    """Carries out steps on the database, and keeps the list of deliveries that the reference needs."""

    def __init__(
        self, environment: str, place: tuple[datetime, str], meters: Sequence[str] = (), dimension_groups: int = 1_000
    ) -> None:
        self.environment = environment
        self.base, self.zone = place
        self.clock = datetime(2025, 1, 1, tzinfo=UTC)
        self.deliveries: list[Delivery] = []
        self.meters = list(meters)
        self.dimension_groups = dimension_groups

    def play(self, history: Sequence[object]) -> None:
        with override_settings(FLEXMETER_MAX_DIMENSION_GROUPS=self.dimension_groups):
            for step in history:
                self.step(step)

    def step(self, step: object) -> None:
        if isinstance(step, Deliver):
            batch = [Delivery(element.text(self.base), self.tick()) for element in step.batch]
            self.deliver(batch)
        elif isinstance(step, Again):
            if self.deliveries:
                self.deliver([self.deliveries[place % len(self.deliveries)] for place in step.places])
        elif isinstance(step, Create):
            with override_settings(FLEXMETER_REBUILD_INLINE_EVENTS=10_000 if step.built else 0):
                definition = MeterDefinition(**{"name": "meter", "event_name": "tokens", **step.definition})
                self.meters.append(create_meter(definition, environment=self.environment).pk)
        elif isinstance(step, Change):
            self.change(step)

    def tick(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def deliver(self, batch: Sequence[Delivery]) -> None:
        self.deliveries += batch
        ingest([parsed(delivery) for delivery in batch], environment=self.environment)

    def change(self, step: Change) -> None:
        if step.what == "compact":
            compact(self.environment)
            return
        if step.place >= len(self.meters):
            return
        meter_id = self.meters[step.place]
        if step.what == "build":
            self.build(meter_id, step.chunks)
        elif step.what == "restart":
            restart(meter_id)
            rebuild(meter_id)
        elif step.what == "filter":
            add_filters(meter_id, list(step.filters.items()), environment=self.environment)
        else:
            with mock.patch("flexmeter.meters.now", self.tick):
                archive_meter(meter_id, environment=self.environment)

    def build(self, meter_id: str, chunks: int) -> None:
        left = chunks

        def report(progress: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Stopped

        with suppress(Stopped):
            rebuild(meter_id, report=report)

    def rows(self) -> list[reference.Row]:
        return reference.ledger(self.deliveries)

    def totals(self) -> Iterator[tuple[UsageQuery, Question]]:
        """What every meter counted ever, for each customer and for all."""
        start, end = self.base - timedelta(days=400), self.base + timedelta(days=4_000)
        for meter in Meter.objects.filter(pk__in=self.meters):
            for customer in (None, *CUSTOMERS):
                question = replace(as_question(meter, start, end), customer=customer)
                yield UsageQuery(meter.rule(), Scope(self.environment, customer), start, end), question


def parsed(delivery: Delivery) -> UsageEvent:
    return parse_event(loads(delivery.text), now=delivery.accepted_at)


@dataclass(frozen=True)
class Asked:
    """A question of random parts; `place` chooses a meter, or with none a rule that no meter has to have.

    Without a zone it is asked in the one where something happens.
    """

    place: int | None
    rule: Mapping[str, Any]
    customer: str | None
    narrowing: Mapping[str, Any]
    window: str
    zone: str | None
    anchor: int
    span: tuple[timedelta, timedelta]
    never_resets: bool

    def of(self, world: World) -> tuple[UsageQuery, Question]:
        """The question as the package and as the reference understand it."""
        start, end = (world.base + offset for offset in self.span)
        scope = Scope(
            world.environment,
            self.customer,
            self.narrowing.get("customer_id"),
            tuple(self.narrowing.get("sources", ())),
            filters_of(self.narrowing.get("filters", {})),
        )
        if self.place is not None:
            meter = Meter.objects.get(pk=world.meters[self.place % len(world.meters)])
            rule, question = meter.rule(), as_question(meter, start, end)
        else:
            definition = dict(self.rule)
            bucket = definition.get("bucket_size", "")
            rule = MeterRule(
                definition.get("event_name", "tokens"),
                AggregationType(definition["aggregation_type"]),
                definition.get("field", ""),
                multiplier=definition.get("multiplier", Decimal(1)),
                bucket_size=WindowSize(bucket) if bucket else None,
                group_by=definition.get("group_by", ""),
            )
            question = Question(
                definition["aggregation_type"], rule.event_name, start, end, rule.field,
                multiplier=Fraction(rule.multiplier), bucket=bucket, group_by=rule.group_by,
            )  # fmt: skip
        question = replace(
            question,
            customer=self.customer,
            customer_id=scope.customer_id,
            sources=scope.sources,
            window=self.window,
            zone=self.zone or world.zone,
            anchor=self.anchor,
            never_resets=self.never_resets,
            filters=(*question.filters, self.narrowing.get("filters", {})),
        )
        window = WindowSize(self.window) if self.window else None
        calendar = Calendar(zone(self.zone or world.zone), anchor_day=self.anchor)
        return UsageQuery(rule, scope, start, end, window, calendar, self.never_resets), question


def as_question(meter: Meter, start: datetime, end: datetime) -> Question:
    return Question(
        meter.aggregation_type,
        meter.event_name,
        start,
        end,
        meter.field,
        expression=expression(meter.expression) if meter.expression else None,
        multiplier=Fraction(meter.multiplier or 1),
        bucket=meter.bucket_size,
        group_by=meter.group_by,
        filters=[{entry["key"]: entry["values"]} for entry in meter.filters],
        archived_at=meter.archived_at,
    )


def expression(text: str) -> Any:
    """The meter's expression in Python: a missing property is 0, one that is no number skips the event."""

    def evaluate(row: reference.Row) -> Fraction | None:
        values = []
        for name in ("n", "u"):
            value = row.get(name)
            number = Fraction(0) if value is None else reference.number(value)
            if number is None:
                return None
            values.append(DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator)))
        try:
            result = EXPRESSIONS[text](*values)
        except ArithmeticError:
            return None
        return Fraction(result) if abs(result) <= reference.LARGEST else None

    return evaluate


AD_HOC = [rule for rule in METERS if not {"expression", "filters", "dimensions"} & rule.keys()]
bounds = st.sampled_from([1_000, 1_000, 1_000, 0, 1, 3])
"""How many combinations of dimensions' values are kept apart."""
narrowings = st.fixed_dictionaries(
    {},
    optional={
        "customer_id": st.just("cust_1"),
        "sources": st.lists(st.sampled_from(SOURCES), min_size=1, max_size=2),
        "filters": filters,
    },
)
questions = st.builds(
    Asked,
    st.integers(0, len(METERS) - 1) | st.integers(0, len(METERS) - 1) | st.none(),
    st.sampled_from(AD_HOC),
    st.none() | st.none() | st.sampled_from(CUSTOMERS),
    st.one_of([st.just({})] * 6 + [narrowings]),
    st.sampled_from(["", "", "", "DAY", "DAY", *reference.ORDER]),
    st.sampled_from([None, None, "UTC", "UTC", "Asia/Kathmandu"]),
    st.sampled_from([1, 10, 29, 30, 31]),
    ranges,
    st.one_of([st.just(False)] * 4 + [st.just(True)]),
)


def holds(result: UsageResult, answer: Answer) -> bool:
    return says(result.type, result.value, result.event_count, result.points, answer)


def says(type: str, value: Decimal, count: int, points: Sequence[UsagePoint], answer: Answer) -> bool:
    """Whether a result is the reference's answer, down to the last digit unless it is a quotient."""
    exact = type not in ("AVG", "WEIGHTED_SUM")
    return (
        same(value, answer.value, exact)
        and count == answer.count
        and len(points) == len(answer.points)
        and all(
            (point.start, point.event_count) == (start, events) and same(point.value, figure, exact)
            for point, (start, figure, events) in zip(points, answer.points, strict=True)
        )
    )


def same(figure: Decimal, expected: Fraction, exact: bool) -> bool:
    difference = abs(Fraction(figure) - expected)
    return not difference if exact else difference <= abs(expected) / 10**45
