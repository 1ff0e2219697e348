"""Events are stored and counted the same one by one and in batches, whatever is remembered of their meters."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.exceptions import InvalidEvent
from flexmeter.ingest import Ingested, ingest
from flexmeter.maintenance.retention import prune
from flexmeter.maintenance.verification import verify
from flexmeter.meters import add_filters, archive_meter, create_meter, delete_meter
from flexmeter.models import Environment, Event, Meter, Rollup
from flexmeter.queries import Scope, UsageQuery
from flexmeter.stores.database import rules, series
from flexmeter.stores.database.locks import meter_lock
from flexmeter.stores.database.native_writers import PostgresWriter
from flexmeter.usage import usage

from tests.examples import examples
from tests.factories import NOON, make_definition, make_event, make_meter
from tests.polling import eventually

pytestmark = pytest.mark.django_db(transaction=True)
on_postgresql = pytest.mark.only_on("postgresql")
TYPES = ("COUNT", "SUM", "MAX", "LATEST", "COUNT_UNIQUE")
numbers = count()


def figures(environment="default"):
    """Value and events of every meter; rollups and events agree."""
    assert list(verify(environment=environment)) == []
    found = []
    for meter in Meter.objects.filter(environment=environment).exclude(status="deleted").order_by("id"):
        for customer in ("acme", "globex"):
            span = NOON - timedelta(days=2), NOON + timedelta(days=2)
            answer = usage(UsageQuery(meter.rule(), Scope(environment, customer), *span))
            found.append((meter.aggregation_type, customer, answer.value, answer.event_count))
    return found


def ledger(environment):
    columns = ("event_id", "external_customer_id", "timestamp", "accepted_at", "repeated_at", "properties", "sender", "source")
    return sorted(map(str, Event.objects.filter(environment=environment).values_list(*columns)))


def built(event_id, customer, minutes, later, value, sender):
    return make_event(
        event_id,
        external_customer_id=customer,
        timestamp=NOON + timedelta(minutes=minutes),
        accepted_at=NOON + timedelta(days=1, minutes=later),
        properties=None if value is None else {"n": value, "w": str(value)},
        sender=sender,
    )


def events_with(ids):
    return st.builds(
        built,
        ids,
        st.sampled_from(["acme", "globex"]),
        st.integers(-40, 40),
        st.integers(0, 5),
        st.none() | st.integers(-2, 3) | st.sampled_from(["1.50", "x\t\\'%s é"]),
        st.sampled_from(["", "fm_123"]),
    )


events = events_with(st.integers(0, 6).map("e{}".format))
several = st.lists(  # texts that an array would take for something else
    events_with(
        st.integers(0, 500).map("e{}".format) | st.sampled_from(["NULL", "null", '"', "\\", "a,b", "{}", "'", " ", "%s", "é\t"])
    ),
    min_size=2,
    max_size=12,
    unique_by=lambda event: event.event_id,
)
changes = st.sampled_from(["create", "narrow", "archive", "delete", "update"])


def change(name, environment, by):
    """Change a meter of the environment; by the services or, for "update", behind their back."""
    meters = Meter.objects.filter(environment=environment, status="published").order_by("id")
    meter = meters.first()
    if name == "create" or meter is None:
        create_meter(make_definition(TYPES[by % len(TYPES)], field="" if by % len(TYPES) == 0 else "n"), environment=environment)
    elif name == "narrow":
        add_filters(meter.pk, [("w", ["1", "1.50"])], environment=environment)
    elif name == "archive":
        archive_meter(meter.pk, environment=environment)
    elif name == "delete":
        delete_meter(meter.pk, environment=environment)
    else:
        meters.filter(pk=meter.pk).update(name="another name")


def assert_memory_makes_no_difference(steps):
    """Steps are batches, or changes of a meter."""
    number = next(numbers)
    found = []
    for environment, remembers in ((f"with{number}", True), (f"without{number}", False)):
        for position, type in enumerate(TYPES[:3]):
            make_meter(type, environment=environment, field="n" if position else "")
        outcomes = []
        for position, step in enumerate(steps):
            if not remembers:
                rules.forget()
            outcomes.append(
                change(step, environment, position) if isinstance(step, str) else ingest(step, environment=environment)
            )
        found.append((outcomes, ledger(environment), figures(environment)))
    assert found[0] == found[1]


@examples(25)
@given(steps=st.lists(events.map(lambda event: [event]) | changes, min_size=3, max_size=14))
def test_one_by_one_with_a_memory_and_without_come_to_the_same(steps):
    assert_memory_makes_no_difference(steps)


@on_postgresql
def test_an_event_of_a_kind_that_came_before_is_one_statement(django_assert_num_queries):
    for type in TYPES:
        make_meter(type, field="" if type == "COUNT" else "n")
    ingest([make_event("e1", properties={"n": 1})])
    with django_assert_num_queries(1):
        assert ingest([make_event("e2", properties={"n": 2}, sender="fm_1", source="api")]) == Ingested(stored=1)
    assert [value for _, customer, value, _ in figures() if customer == "acme"] == [2, 3, 2, 2, 2]
    assert Event.objects.get(event_id="e2").sender == "fm_1"


def test_a_repeat_is_none_the_less_a_repeat():
    make_meter("SUM", field="n")
    event = make_event("e1", properties={"n": 1})
    later = {"accepted_at": event.accepted_at + timedelta(minutes=1)}
    ingest([event])
    assert ingest([event]) == Ingested(repeated=1)
    assert ingest([make_event("e1", properties={"n": 5}, **later)]) == Ingested(replaced=1)
    assert figures()[0][2:] == (5, 1)


def test_a_meter_changed_behind_the_services_back_counts_by_its_new_rule():
    meter = make_meter("COUNT")
    ingest([make_event("e1")])
    Meter.objects.filter(pk=meter.pk).update(event_name="other", generation=2)
    ingest([make_event("e2")])
    ingest([make_event("e3", event_name="other")])
    assert list(Rollup.objects.order_by("series").values_list("series__generation", "count")) == [(1, 1), (2, 1)]


def test_a_meter_that_was_changed_twice_in_one_transaction_with_an_event_between_counts_by_its_last_rule():
    meter = make_meter("SUM", field="n")
    properties = {"n": 1, "m": 10}
    ingest([make_event("e1", properties=properties)])
    with transaction.atomic():
        Meter.objects.filter(pk=meter.pk).update(name="changed")
        ingest([make_event("e2", properties=properties)])
        Meter.objects.filter(pk=meter.pk).update(field="m", generation=2)
    ingest([make_event("e3", properties=properties)])
    assert Rollup.objects.order_by("series").last().total == 10


def test_what_counts_as_missing_follows_the_settings(settings):
    make_meter("COUNT_UNIQUE", field="n")
    ingest([make_event("e1", properties={"n": 1})])
    settings.FLEXMETER_COUNT_UNIQUE_MISSING = "count"
    ingest([make_event("e2", properties={})])
    assert figures()[0][2] == 2


def test_a_floor_that_was_moved_meanwhile_holds():
    make_meter("COUNT")
    ingest([make_event("e1")])
    next_day = NOON + timedelta(days=1)
    prune(next_day, environment="default")
    for event_id in ("e2", "e3"):  # the floor is new, and known
        with pytest.raises(InvalidEvent, match="retained"):
            ingest([make_event(event_id)])
        ingest([make_event(f"{event_id} later", timestamp=next_day)])
    assert set(Event.objects.values_list("event_id", flat=True)) == {"e2 later", "e3 later"}


def test_an_environment_that_was_made_anew_is_noticed():
    make_meter("COUNT")
    ingest([make_event("e1")])
    Environment.objects.all().delete()
    ingest([make_event("e2")])
    assert Environment.objects.count() == 1
    assert figures()[0][2] == 2


def test_in_a_transaction_an_event_goes_with_it():
    make_meter("COUNT")
    ingest([make_event("e1")])
    with transaction.atomic():
        ingest([make_event("e2")])
        transaction.set_rollback(True)
    assert figures()[0][2] == 1


@on_postgresql
def test_names_without_meters_are_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(rules, "MOST_REMEMBERED", 3)
    for number in range(10):
        ingest([make_event(f"e{number}", event_name=f"name{number}")])
    assert len(rules._remembered) <= 3


@on_postgresql
def test_an_event_that_waited_for_a_change_counts_by_the_rule_that_came_of_it(monkeypatch):
    meter = make_meter("COUNT")
    ingest([make_event("e1")])
    statements = []

    def send():
        try:
            with CaptureQueriesContext(connections["default"]) as captured:
                ingest([make_event("e2", properties={"w": "other"})])
                ingest([make_event("e3", properties={"w": "wanted"})])
            statements.extend(query["sql"] for query in captured)
        finally:
            connections["default"].close()

    # A connection of another thread makes it forget the series, which is not what this is about.
    monkeypatch.setattr(series, "_remembered", _Unforgetting(series._remembered))
    sender = threading.Thread(target=send)
    with transaction.atomic():
        meter_lock("default").exclude("default")
        Meter.objects.filter(pk=meter.pk).update(filters=[{"key": "w", "values": ["wanted"]}], generation=2)
        sender.start()
        eventually(lambda: waiting_for_the_lock() == 1)
    sender.join()
    assert "WITH agreed" in statements[0], "the event did not take the short way"
    assert list(Rollup.objects.order_by("series").values_list("series__generation", "count")) == [(1, 1), (2, 1)]
    assert Event.objects.count() == 3


class _Unforgetting(dict):
    def clear(self):
        """Keep what is remembered."""


def waiting_for_the_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchone()[0]


@on_postgresql
def test_what_may_pass_is_tried_the_usual_way(monkeypatch):
    make_meter("COUNT")
    ingest([make_event("e1")])
    monkeypatch.setattr("flexmeter.stores.database.few.is_transient", lambda error: True)
    with connection.execute_wrapper(Failing("WITH agreed")):
        assert ingest([make_event("e2")]) == Ingested(stored=1)
    assert figures()[0][2] == 2


class Failing:
    """An execute wrapper: statements with these words meet a lock that is not to be had."""

    def __init__(self, words):
        self.words = words

    def __call__(self, execute, sql, params, many, context):
        if self.words in sql:
            raise OperationalError
        return execute(sql, params, many, context)


@examples(25)
@given(steps=st.lists(st.lists(events, min_size=2, max_size=30) | changes, min_size=3, max_size=10))
def test_batches_with_remembered_rules_and_without_come_to_the_same(steps):
    assert_memory_makes_no_difference(steps)


def a_batch(first, name="tokens", **members):
    return [make_event(f"e{number}", event_name=name, properties={"n": 1}, **members) for number in range(first, first + 30)]


@examples(25)
@given(steps=st.lists(several | changes, min_size=3, max_size=10))
def test_several_at_a_time_with_a_memory_and_without_come_to_the_same(steps):
    PostgresWriter._to_be_looked_up.clear()
    assert_memory_makes_no_difference(steps)


@on_postgresql
def test_several_of_a_kind_that_came_before_are_one_statement(django_assert_num_queries):
    meters = [make_meter(type, event_name=name, field="" if type == "COUNT" else "n") for type in TYPES for name in ("a", "b")]
    ingest([make_event(f"{name}1", event_name=name, properties={"n": 1}) for name in "ba"])
    sent = [
        make_event("b2", event_name="b", properties={"n": 2}, sender="fm_1", customer_id="c"),
        make_event("NULL", event_name="a", properties={"n": 3}, source='{"},\\'),
        make_event("a3", event_name="a", properties=None, timestamp=NOON + timedelta(hours=1)),
    ]
    with django_assert_num_queries(1):
        assert ingest(sent) == Ingested(stored=3)
    values = {(meter.event_name, meter.aggregation_type): meter_value(meter) for meter in meters}
    assert [values["a", type] for type in TYPES] == [3, 4, 3, 0, 2]  # the last has no "n"
    assert [values["b", type] for type in TYPES] == [2, 3, 2, 2, 2]
    columns = ("event_id", "sender", "source", "customer_id", "properties")
    assert set(map(str, Event.objects.exclude(event_id__in=["a1", "b1"]).values_list(*columns))) == {
        str(("b2", "fm_1", "", "c", {"n": 2})),
        str(("NULL", None, '{"},\\', "", {"n": 3})),
        str(("a3", None, "", "", None)),
    }
    assert list(verify()) == []


def meter_value(meter):
    span = NOON - timedelta(days=2), NOON + timedelta(days=2)
    return usage(UsageQuery(meter.rule(), Scope("default", "acme"), *span)).value


@on_postgresql
def test_several_of_which_one_is_stored_are_stored_and_counted_once_and_the_next_are_looked_up():
    make_meter("SUM", field="n")
    ingest(a_batch(0))
    for first, outcome, ways in (
        (29, Ingested(stored=29, repeated=1), ["stored", "copied"]),
        (58, Ingested(stored=29, repeated=1), ["copied"]),
        *((88 + 30 * number, Ingested(stored=30), ["copied"]) for number in range(PostgresWriter.LOOKED_UP_AFTER_REPEAT)),
        (1_000, Ingested(stored=30), ["stored"]),
    ):
        with CaptureQueriesContext(connection) as queries:
            assert ingest(a_batch(first)) == outcome
        begun = [query["sql"] for query in queries if "pg_advisory_xact_lock_shared" in query["sql"]]
        assert ["stored" if "WITH agreed" in sql or "EXECUTE" in sql else "copied" for sql in begun] == ways
    assert list(verify()) == []


@on_postgresql
def test_few_with_repeats_are_looked_up_for_a_while():
    make_meter("COUNT")
    ingest(a_batch(0)[:5])
    assert ingest(a_batch(4)[:5]) == Ingested(stored=4, repeated=1)
    for number in range(PostgresWriter.LOOKED_UP_AFTER_REPEAT):
        assert PostgresWriter.expects_repeats("default", "default")
        ingest(a_batch(100 + 10 * number)[:5])
    assert not PostgresWriter.expects_repeats("default", "default")
    assert list(verify()) == []


@on_postgresql
def test_several_below_the_floor_or_with_one_id_twice_are_treated_as_ever():
    make_meter("COUNT")
    next_day = NOON + timedelta(days=1)
    ingest([make_event("e1", timestamp=next_day)])
    again = make_event("e2", timestamp=next_day)
    assert ingest([again, again]) == Ingested(stored=1, repeated=1)
    prune(next_day, environment="default")
    ingest([make_event("e3", timestamp=next_day)])
    with pytest.raises(InvalidEvent, match=r"events\[1\].*retained"):
        ingest([make_event("e4", timestamp=next_day), make_event("e5")])
    assert Event.objects.count() == 3
    assert list(verify()) == []


@on_postgresql
def test_a_batch_of_a_kind_that_came_before_asks_for_versions_alone(copied):
    for type in TYPES:
        make_meter(type, field="" if type == "COUNT" else "n")
    ingest(a_batch(0))
    with CaptureQueriesContext(connection) as queries:
        assert ingest(a_batch(30)) == Ingested(stored=30)
    asked = [query["sql"] for query in queries if "flexmeter_meter" in query["sql"]]
    assert len(asked) == 1
    assert "string_agg" in asked[0]
    assert not [query for query in queries if "SAVEPOINT" in query["sql"]]
    assert [value for _, customer, value, _ in figures() if customer == "acme"] == [60, 60, 1, 1, 1]


@on_postgresql
def test_a_batch_of_several_names_counts_each_by_its_rules(copied):
    counted, summed = make_meter("COUNT"), make_meter("SUM", event_name="other", field="n")
    for first in (0, 60):
        ingest([*a_batch(first), *a_batch(first + 30, "other")])
    for meter in (counted, summed):
        assert Rollup.objects.filter(series__meter=meter).aggregate(events=Sum("count"))["events"] == 60
    assert list(verify(environment="default")) == []


@on_postgresql
def test_a_meter_changed_twice_in_the_callers_transaction_counts_batches_by_its_last_rule(copied):
    meter = make_meter("COUNT")
    ingest(a_batch(0))
    with transaction.atomic():
        Meter.objects.filter(pk=meter.pk).update(event_name="other", generation=2)
        ingest(a_batch(30))
        Meter.objects.filter(pk=meter.pk).update(event_name="tokens", generation=3)
        ingest(a_batch(60))
    ingest(a_batch(90))
    counts = Rollup.objects.values("series__generation").annotate(events=Sum("count")).order_by("series__generation")
    assert [(row["series__generation"], row["events"]) for row in counts] == [(1, 30), (3, 60)]


@on_postgresql
def test_a_batch_with_repeats_starts_over_without_a_pause_and_once(copied):
    make_meter("COUNT")
    ingest(a_batch(0))
    with CaptureQueriesContext(connection) as queries:
        assert ingest([*a_batch(15), *a_batch(0)[:15]]) == Ingested(stored=15, repeated=30)
    begun = [query for query in queries if "pg_advisory_xact_lock_shared" in query["sql"]]
    assert len(begun) == 2
    with CaptureQueriesContext(connection) as queries:  # senders that repeat themselves do so for a while
        assert ingest([*a_batch(30), *a_batch(60)]) == Ingested(stored=45, repeated=15)
    assert len([query for query in queries if "pg_advisory_xact_lock_shared" in query["sql"]]) == 1
    assert list(verify(environment="default")) == []


@on_postgresql
def test_writers_of_the_same_events_in_opposite_orders_of_time_get_out_of_each_others_way():
    make_meter("COUNT")
    forth = [make_event(f"e{number:04}", timestamp=NOON + timedelta(milliseconds=number)) for number in range(2_000)]
    back = [event._replace(timestamp=NOON - timedelta(milliseconds=number)) for number, event in enumerate(forth)]
    ready = threading.Barrier(2, timeout=60)

    def send(batch):
        try:
            ready.wait()
            return ingest(batch)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(send, [forth, back]), Ingested()) == Ingested(stored=2_000, repeated=2_000)
    assert Event.objects.count() == 2_000
    assert list(verify(environment="default")) == []
