"""Who had most is the same, whichever way the database finds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.ingest import ingest
from flexmeter.maintenance.compaction import compact
from flexmeter.queries import Scope, UsageQuery
from flexmeter.stores.database.summaries import RANKINGS, PostgresRanking, Ranking, customers_with_most, ranks_by_usage
from flexmeter.usage import usage_from_events

from tests.examples import examples
from tests.factories import make_event, make_meter

MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
CUSTOMERS = ["acme", "Acme", "blue sky", "globex", "é"]
KINDS = [
    {"aggregation_type": "COUNT"},
    {"aggregation_type": "SUM", "field": "n"},
    {"aggregation_type": "SUM_WITH_MULTIPLIER", "field": "n", "multiplier": Decimal("0.5")},
    {"aggregation_type": "MAX", "field": "n"},
    {"aggregation_type": "MIN", "field": "n"},
    {"aggregation_type": "COUNT_UNIQUE", "field": "n"},
    {"aggregation_type": "AVG", "field": "n"},
    {"aggregation_type": "MAX", "field": "n", "bucket_size": "DAY"},
]
quarters = st.integers(-10, 3 * 96)
sent = st.lists(st.tuples(st.sampled_from(CUSTOMERS), quarters, st.integers(-3, 9)), max_size=20)


@pytest.fixture
def meters(db):
    return [make_meter(**kind) for kind in KINDS]


def test_each_database_ranks_in_its_own_way():
    expected = PostgresRanking if connection.vendor == "postgresql" else Ranking
    assert RANKINGS.get(connection.vendor, Ranking) is expected


@examples(40)
@given(sent=sent, compacted=st.booleans(), days=st.tuples(st.integers(0, 2), st.integers(1, 2)), limit=st.integers(1, 6))
def test_customers_are_ranked_by_what_their_events_say(meters, sent, compacted, days, limit):
    with transaction.atomic():
        for number, (customer, quarter, n) in enumerate(sent):
            moment = MONDAY + quarter * timedelta(minutes=15)
            ingest([make_event(f"event_{number}", external_customer_id=customer, timestamp=moment, properties={"n": n})])
        if compacted:
            compact()
        start = MONDAY + timedelta(days=days[0])
        end = start + timedelta(days=days[1])
        for meter in meters:
            rule = meter.rule()
            answers = {
                customer: usage_from_events(UsageQuery(rule, Scope("default", customer), start, end)) for customer in CUSTOMERS
            }
            present = [customer for customer in CUSTOMERS if answers[customer].event_count]
            if ranks_by_usage(rule):
                ranked = sorted(present, key=lambda customer: (-answers[customer].value, customer))
            else:
                ranked = sorted(present, key=lambda customer: (-answers[customer].event_count, customer))
            found = customers_with_most(rule, "default", start, end, limit=limit, alias="default")
            assert found == ranked[:limit], rule
            assert Ranking("default").customers(rule, "default", start, end, limit) == found
        transaction.set_rollback(True)
