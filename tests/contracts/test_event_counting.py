"""What PostgreSQL counts of events is what Python counts of them, whatever their properties are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from unittest import mock

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.aggregation import AggregationType
from flexmeter.exceptions import InvalidQuery
from flexmeter.metering import MeterRule, filters_of
from flexmeter.models import Event
from flexmeter.properties import loads, rendered
from flexmeter.queries import AnalyticsLine, AnalyticsQuery, Scope, UsageQuery
from flexmeter.stores.database import event_counting
from flexmeter.stores.database.transactions import BACK, GUARD
from flexmeter.usage import analytics, measure, usage_from_events
from flexmeter.windows import Calendar, WindowSize, zone

from tests.contracts.scripts import CUSTOMERS, SOURCES, TOKENS
from tests.contracts.test_analytics import figures
from tests.examples import examples
from tests.factories import make_meter

pytestmark = pytest.mark.only_on("postgresql")

BASE = datetime(2024, 3, 31, 0, 50, tzinfo=UTC)
ODD_TOKENS = [
    "-0", "5e-324", "1E-900", "1.00", "0.10", "-1.50", "123456789.123456789", '"1.0"', '"-0"', '"007"', '"1e-7"', '"7\\t"',
    '"\\n8"', '"\\\\u0000"', '"\\""', '"null"', '"true"', '"[1,2]"', "[1, 2]", '{"a": 1.0, "a": 2}', "[1.50]", "{}", '"{}"',
    f'"{"9" * 60}"', f'"{"9" * 61}"', f'"0.{"1" * 59}"', f'"{"1" * 400}"', "9" * 61, f'"{"x" * 900}"',
]  # fmt: skip
HARD_TOKENS = ['"\\u0031"', '"a\\u0000b"', '"\\u0000"', '"\\u00e9"', f'"{"x" * 999}"', f'"{"y" * 1_001}"']
"""JSON that somebody may have put into the table without flexmeter, which would not have written it so."""
WANTED = ["", "1", "100", "true", "1.0", "-0", "007", "null", "{}", "[1.5]", "1.5", '"', "\\u0000", "a\x00b", "\x00"]
GROUPS = ["source", "properties.n", "properties.u", "properties.nobody has this"]
TYPES = [type for type in AggregationType if type not in (AggregationType.LATEST, AggregationType.WEIGHTED_SUM)]
MOMENTS = st.sampled_from([timedelta(0), timedelta(0), timedelta(microseconds=-1), timedelta(minutes=10), timedelta(hours=26)])
sizes = st.none() | st.sampled_from([WindowSize.HOUR, WindowSize.DAY, WindowSize.MINUTE])


class Asked(NamedTuple):
    ledger: list[tuple[Any, ...]]
    rules: list[MeterRule]
    scopes: list[Scope]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Few values in many events, so that filters find some and groups hold several; and rules and scopes that ask for them."""
    pool = draw(st.sampled_from([TOKENS, ODD_TOKENS, [*TOKENS, *ODD_TOKENS], [*TOKENS, *ODD_TOKENS, *HARD_TOKENS]]))
    tokens = draw(st.lists(st.sampled_from(pool), min_size=2, max_size=6))
    members = st.lists(st.tuples(st.sampled_from("nnuur"), st.sampled_from(tokens)), max_size=4)
    documents = st.none() | members.map(lambda pairs: "{" + ",".join(f'"{key}":{token}' for key, token in pairs) + "}")
    rows = st.tuples(
        st.sampled_from(["tokens", "tokens", "tokens", "Tokens"]),
        st.sampled_from(CUSTOMERS),
        st.sampled_from(SOURCES),
        st.sampled_from(["", "cust_1"]),
        MOMENTS,
        st.integers(0, 2),
        documents,
    )
    wanted = st.lists(st.sampled_from([*WANTED, *(rendered(loads(token)) for token in tokens)]), max_size=4)
    filters = st.dictionaries(st.sampled_from("nur"), wanted, max_size=1).map(filters_of)
    rules = st.builds(
        MeterRule,
        st.just("tokens"),
        st.sampled_from(TYPES),
        st.sampled_from(["n", "n", "u", "absent"]),
        multiplier=st.sampled_from([Decimal(1), Decimal("0.1")]),
        filters=st.just(()) | filters,
        archived_at=st.none() | st.none() | st.just(BASE + timedelta(days=1)),
        count_missing=st.booleans(),
    ) | st.builds(
        MeterRule,
        st.just("tokens"),
        st.just(AggregationType.MAX),
        st.just("n"),
        bucket_size=st.just(WindowSize.HOUR),
        group_by=st.sampled_from(["", "u"]),
    )
    scopes = st.builds(
        Scope,
        st.just("contracts"),
        st.none() | st.none() | st.sampled_from(CUSTOMERS),
        st.none() | st.none() | st.just("cust_1"),
        st.just(()) | st.just(()) | st.just(("", "api")),
        st.just(()) | filters,
    )
    return Asked(
        draw(st.lists(rows, min_size=5, max_size=30)),
        draw(st.lists(rules, min_size=8, max_size=8)),
        draw(st.lists(scopes, min_size=8, max_size=8)),
    )


calendars = st.sampled_from([Calendar(), Calendar(zone("Europe/Berlin")), Calendar(zone("Asia/Kathmandu"))])


def store(ledger: Sequence[tuple[Any, ...]]) -> None:
    """Rows as they might stand there, whoever has written them."""
    Event.objects.all().delete()
    with connection.cursor() as cursor:
        for number, (name, customer, source, customer_id, offset, days, text) in enumerate(ledger):
            cursor.execute(
                """INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source,
                                                timestamp, accepted_at, ingested_at, properties)
                   VALUES ('contracts', %s, %s, %s, %s, %s, %s, %s, %s, %s::json)""",
                [str(number), name, customer, customer_id, source, BASE + offset, BASE + timedelta(days=days), BASE, text],
            )


@contextmanager
def by_python() -> Iterator[None]:
    with mock.patch.object(event_counting, "EVENT_COUNTERS", {}):
        yield


def within_transaction(ask: Any) -> Any:
    with transaction.atomic():
        return ask()


@examples(150)
@given(
    asked=asked(),
    group_by=st.lists(st.sampled_from(GROUPS), max_size=2, unique=True).map(tuple),
    sizes=st.lists(sizes, min_size=8, max_size=8),
    calendar=calendars,
    start=MOMENTS,
    accumulates=st.booleans(),
    with_sources=st.booleans(),
)
def test_the_database_counts_as_python_does(transactional_db, asked, group_by, sizes, calendar, start, accumulates, with_sources):
    ledger, rules, scopes = asked
    store(ledger)
    for rule, scope, size in zip(rules, scopes, sizes, strict=True):
        query = UsageQuery(rule, scope, BASE + start, BASE + timedelta(days=2), size, calendar, accumulates)
        assert_same(lambda query=query: usage_from_events(query))
    lines = [
        AnalyticsLine(
            rule, BASE, BASE + timedelta(days=1 + number % 2), calendar, [None, frozenset({"acme", "Acme"})][number % 3 > 1]
        )
        for number, rule in enumerate(rules)
    ]

    def analytics() -> Any:
        answers = measure(lines, scopes[0], group_by=group_by, window=sizes[0], with_sources=with_sources)
        return [[(item.group, item.sources, *figures(item)) for item in items] for items in answers]

    assert_same(analytics)


def assert_same(ask: Any) -> None:
    with by_python():
        expected = ask()
    assert ask() == expected
    assert within_transaction(ask) == expected


@pytest.mark.parametrize("among", [[*TOKENS, *ODD_TOKENS], [*TOKENS, *ODD_TOKENS, *HARD_TOKENS[:4]]], ids=["odd", "hard"])
def test_every_value_is_filtered_grouped_and_summed_as_python_does(transactional_db, among):
    """Each of them alone, but twice."""
    store(
        [("tokens", "acme", "", "", timedelta(0), 0, f'{{"n":{token},"u":"{place}"}}') for place, token in enumerate(among)] * 2
    )
    for wanted in sorted({*WANTED, *(rendered(loads(token)) for token in among)}):
        scope = Scope("contracts", filters=filters_of({"n": [wanted]}))
        query = UsageQuery(MeterRule("tokens", AggregationType.COUNT), scope, BASE, BASE + timedelta(days=1))
        assert_same(lambda query=query: usage_from_events(query))
    lines = [AnalyticsLine(MeterRule("tokens", type, "n"), BASE, BASE + timedelta(days=1)) for type in TYPES]
    for name in "nu":
        assert_same(
            lambda name=name: [
                [(item.group, *figures(item)) for item in items]
                for items in measure(lines, Scope("contracts"), group_by=(f"properties.{name}",))
            ]
        )


COUNTED = MeterRule("tokens", AggregationType.SUM, "n")
DAY = UsageQuery(COUNTED, Scope("contracts", filters=filters_of({"u": ["a"]})), BASE, BASE + timedelta(days=1))


def event(number: int, properties: str) -> tuple[Any, ...]:
    return "tokens", "acme", "", "", timedelta(minutes=number % 1_000), 0, properties


def queries(ask: Any) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        ask()
    return [
        query["sql"] for query in captured.captured_queries if '"flexmeter_event"' in query["sql"] or "AS counted" in query["sql"]
    ]


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("size", [None, WindowSize.HOUR, WindowSize.MONTH])
def test_no_event_is_read_where_the_database_can_count(db, type, size):
    store([event(1, '{"n":"12.5","u":"a"}'), event(2, '{"n":[],"u":"a"}')])
    query = replace(DAY, rule=MeterRule("tokens", type, "n"), window=size, calendar=Calendar(zone("America/St_Johns")))
    [statement] = queries(lambda: usage_from_events(query))
    assert "event_id" not in statement


@pytest.mark.parametrize(
    "left",
    [
        {"rule": MeterRule("tokens", AggregationType.LATEST, "n")},
        {"rule": MeterRule("tokens", AggregationType.WEIGHTED_SUM, "n")},
        {"window": WindowSize.MINUTE, "end": BASE + timedelta(days=5)},
        {"scope": Scope("contracts", filters=filters_of({"u": ["\ud800", "a"]}))},
        {"scope": Scope("contracts", filters=filters_of({"u\x00": ["", "a"]}))},
    ],
)
def test_what_the_database_cannot_count_is_counted_by_python(db, left):
    store([event(1, '{"n":12.5,"u":"a"}')])
    query = replace(DAY, **left)
    [statement] = queries(lambda: usage_from_events(query))
    assert "event_id" in statement
    assert usage_from_events(query).value > 0


@pytest.mark.parametrize("properties", ['{"n":%d,"u":"a"}', '{"n":"%d.","u":"a"}'])
def test_more_than_can_be_held_is_read_event_by_event(db, monkeypatch, properties):
    monkeypatch.setattr(event_counting, "MOST_ROWS", 10)
    store([event(number, properties % number) for number in range(11)])
    lines = [AnalyticsLine(COUNTED, DAY.start, DAY.end)]

    def ask() -> Any:
        return measure(lines, DAY.scope, group_by=("properties.n",))

    assert [item.total for item in sorted(ask()[0], key=lambda item: item.total)] == list(range(11))
    assert len(queries(ask)) == 2


def test_an_answer_of_many_lines_takes_one_query(db):
    store([event(1, '{"n":12.5,"u":"a"}')])
    lines = [
        AnalyticsLine(MeterRule("tokens", type, field), DAY.start, DAY.end + timedelta(days=days))
        for type in TYPES
        for field in "nu"
        for days in range(5)
    ]
    assert len(queries(lambda: measure(lines, DAY.scope, group_by=("properties.u",)))) == 1
    many = [AnalyticsLine(COUNTED, DAY.start, DAY.end + timedelta(days=days)) for days in range(event_counting.MOST_BRANCHES + 1)]
    [statement] = queries(lambda: measure(many, DAY.scope, group_by=("properties.u",)))
    assert "event_id" in statement


@pytest.mark.parametrize("limit", ["MAX_GROUPS", "MAX_WINDOWS"])
def test_an_answer_has_no_more_groups_and_windows_than_it_may(db, settings, limit):
    lines = [AnalyticsLine(COUNTED, DAY.start, DAY.end)]

    def ask() -> Any:
        if limit == "MAX_GROUPS":
            return measure(lines, DAY.scope, group_by=("properties.r",))
        return usage_from_events(replace(DAY, window=WindowSize.HOUR))

    setattr(settings, f"FLEXMETER_{limit}", 3)
    store([event(number * 90, json.dumps({"n": 1, "u": "a", "r": number})) for number in range(4)])
    with pytest.raises(InvalidQuery):
        ask()
    setattr(settings, f"FLEXMETER_{limit}", 4)
    assert ask()


MANY = """
    INSERT INTO flexmeter_event (environment, event_id, event_name, external_customer_id, customer_id, source, timestamp,
                                 accepted_at, ingested_at, properties)
    SELECT 'default', 'e' || n, 'tokens', 'acme', '', '', at, at, at, '{"u":"a","n":1}'
    FROM generate_series(1, 5000) AS n, (VALUES (%s)) AS moments (at);
    ANALYZE flexmeter_event
"""


@pytest.mark.parametrize("around", [nullcontext, transaction.atomic], ids=["alone", "in a transaction"])
@pytest.mark.django_db(transaction=True)
def test_processes_share_the_work_also_where_pages_are_read_from_disk(around):
    """Which the planner expects to take so long that several processes are hardly faster than one."""
    scope, rule = Scope("default", "acme"), make_meter("SUM", field="n").rule()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE flexmeter_event")  # with the pages that others have filled
        cursor.execute(MANY, [BASE])
        cursor.execute(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET random_page_cost = 200; SET seq_page_cost = 200"
        )
        cursor.execute("SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0")
        try:
            with around():
                with CaptureQueriesContext(connection) as captured:
                    analytics(AnalyticsQuery(scope, (rule,), BASE, BASE + timedelta(days=1), group_by=("properties.w",)))
                cursor.execute("SHOW seq_page_cost")
                assert cursor.fetchone() == ("200",)
            [asked] = [query["sql"] for query in captured if "AS counted" in query["sql"]]
            statements = asked.split(";")
            with transaction.atomic():
                for statement in statements:
                    cursor.execute(f"EXPLAIN {statement}" if "AS counted" in statement else statement)
                    if "AS counted" in statement:
                        plan = "\n".join(line for (line,) in cursor.fetchall())
        finally:
            connection.close()  # with these settings
    assert "Partial HashAggregate" in plan, plan


def test_a_callers_transaction_goes_on_where_the_database_cannot_read_what_is_stored(db):
    def settings_now() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setting FROM pg_settings WHERE name IN ('jit', 'random_page_cost', 'seq_page_cost', 'work_mem')"
            )
            return [value for (value,) in cursor.fetchall()]

    store([event(1, '{"n":12.5,"u":"a"}'), event(2, '{"n":1,"u":"a\\u0000"}')])
    connection.cursor().execute("SET LOCAL work_mem = '7MB'; SET LOCAL jit = on")
    before = settings_now()
    with CaptureQueriesContext(connection) as captured:
        assert usage_from_events(DAY).value == Decimal("12.5")
    first_words = [query["sql"].split(";")[0] for query in captured]
    assert [words for words in first_words if "flexmeter_guard" in words] == [GUARD, BACK.split(";")[0], GUARD]
    assert settings_now() == before


@pytest.mark.django_db(transaction=True)
def test_with_autocommit_off_nothing_is_tried_and_the_callers_settings_stay():
    store([event(1, '{"n":12.5,"u":"a"}'), event(2, '{"n":1,"u":"a\\u0000"}')])
    connection.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as captured:
            assert usage_from_events(DAY).value == Decimal("12.5")
        [counted] = [query["sql"] for query in captured if "AS counted" in query["sql"]]
        assert counted.startswith("SELECT")
        assert "SET LOCAL" not in counted
    finally:
        connection.rollback()
        connection.set_autocommit(True)
