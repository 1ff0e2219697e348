"""record(): what it takes, and that it commits and rolls back with the caller's work."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from rest_framework.request import Request

from flexmeter import inbox
from flexmeter.exceptions import InvalidEvent
from flexmeter.models import Event, InboxBatch
from flexmeter.recording import OtherDatabase, arecord, arecord_many, record, record_many

from tests.factories import make_meter
from tests.inbox.ledger import assert_exact, counted, waiting
from tests.requirements import only_on

pytestmark = pytest.mark.django_db(transaction=True)


class Abandoned(Exception):
    pass


@contextmanager
def rolled_back(using=None):
    """A transaction that an error ends."""
    try:
        with transaction.atomic(using=using):
            yield
            raise Abandoned
    except Abandoned:
        pass


# ------------------------------------------------------------------------------------------------ transactions


def test_outside_a_transaction_an_event_is_counted_when_record_returns():
    make_meter()
    event_id = record("tokens", "acme", {"n": 1})
    assert counted() == [event_id]
    assert_exact(1)


def test_outside_a_transaction_the_inbox_takes_it_in_celery_mode(settings, monkeypatch):
    settings.FLEXMETER_INGEST = "celery"
    rung = []
    monkeypatch.setattr(inbox, "ring", rung.append)
    record("tokens", "acme")
    assert (counted(), waiting(), rung) == ([], 1, ["default"])


def test_an_event_counts_right_after_the_commit():
    make_meter()
    with transaction.atomic():
        record("tokens", "acme", idempotency_key="sale-1")
        assert (counted(), waiting()) == ([], 1)
    assert counted() == ["sale-1"]
    assert_exact(1)


def test_a_rollback_takes_the_event_with_it():
    with rolled_back():
        Group.objects.create(name="sale")
        record("tokens", "acme")
    assert not Group.objects.exists()
    assert_exact(0)


def test_a_savepoint_rolls_back_its_own_events_only():
    with transaction.atomic():
        record("tokens", "acme", idempotency_key="before")
        with rolled_back():
            record("tokens", "acme", idempotency_key="inside")
        with transaction.atomic():
            record("tokens", "acme", idempotency_key="kept")
        record("tokens", "acme", idempotency_key="after")
    assert counted() == ["after", "before", "kept"]
    assert_exact(3)


def test_an_outer_rollback_takes_the_events_of_inner_blocks():
    with rolled_back(), transaction.atomic(), transaction.atomic(savepoint=False):
        record("tokens", "acme")
    assert_exact(0)


def test_a_durable_block_takes_events_and_counts_them_after_its_commit():
    with transaction.atomic(durable=True):
        record("tokens", "acme", idempotency_key="sale-1")
    assert counted() == ["sale-1"]


def test_set_rollback_takes_the_event_with_it():
    with transaction.atomic():
        record("tokens", "acme")
        transaction.set_rollback(True)
    assert_exact(0)


def test_in_a_transaction_that_is_already_broken_record_raises_instead_of_pretending():
    Group.objects.create(name="taken")
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            Group.objects.create(name="taken")
        with pytest.raises(transaction.TransactionManagementError):
            record("tokens", "acme")
    assert_exact(0)


def test_a_value_that_cannot_be_stored_leaves_the_transaction_usable():
    with transaction.atomic():
        with pytest.raises(InvalidEvent):
            record("tokens", "acme", {"n": float("nan")})
        Group.objects.create(name="goes on")
    assert Group.objects.filter(name="goes on").exists()


def refused(monkeypatch):
    """Record an event that the database does not take."""
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "INSERT", "INSERT INTO nowhere VALUES (%s, %s, %s, %s, %s, %s)")
        with pytest.raises(DatabaseError, match="nowhere"):
            record("tokens", "acme")


def test_an_event_that_the_database_refuses_leaves_the_transaction_usable(monkeypatch):
    with transaction.atomic():
        record("tokens", "acme", idempotency_key="before")
        Group.objects.create(name="before")
        refused(monkeypatch)
        Group.objects.create(name="goes on")
        record("tokens", "acme", idempotency_key="after")
    assert set(Group.objects.values_list("name", flat=True)) == {"before", "goes on"}
    assert counted() == ["after", "before"]


@only_on("postgresql")
def test_inside_a_transaction_an_event_takes_one_message(django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(1):
        record("tokens", "acme", idempotency_key="sale-1")
    assert counted() == ["sale-1"]


@only_on("postgresql")
def test_what_the_database_has_broken_off_is_not_taken_up_again(monkeypatch):
    with transaction.atomic():
        refused(monkeypatch)
        Group.objects.create(name="lost")
        with connection.cursor() as cursor, suppress(DatabaseError):
            cursor.execute("SELECT 1 / 0")
        with pytest.raises(DatabaseError):
            record("tokens", "acme")
    assert not Group.objects.exists()
    assert_exact(0)


def test_an_event_recorded_by_an_on_commit_hook_counts():
    with transaction.atomic():
        transaction.on_commit(lambda: record("tokens", "acme", idempotency_key="hook"))
    assert counted() == ["hook"]


def test_with_autocommit_off_the_event_belongs_to_what_is_committed_next():
    make_meter()
    transaction.set_autocommit(False)
    try:
        record("tokens", "acme", idempotency_key="gone")
        transaction.rollback()
        record("tokens", "acme", idempotency_key="kept")
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    inbox.drain()
    assert counted() == ["kept"]
    assert_exact(1)


def test_many_events_of_one_call_are_one_row_and_one_ring(monkeypatch):
    rung = []
    monkeypatch.setattr(inbox, "ring", rung.append)
    with transaction.atomic():
        record_many([{"event_name": "tokens", "external_customer_id": "acme"}] * 1_000)
    assert (waiting(), len(rung)) == (1, 1)


def test_a_failing_drain_after_the_commit_is_no_concern_of_the_caller(monkeypatch):
    def fail(**kwargs):
        raise Abandoned

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "drain", fail)
        with transaction.atomic():
            record("tokens", "acme", idempotency_key="sale-1")
    assert (counted(), waiting()) == ([], 1)
    inbox.drain()
    assert counted() == ["sale-1"]


def test_what_a_killed_process_left_waiting_is_counted_with_a_later_event(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(inbox, "ring", lambda alias: None)  # as if killed between commit and drain
        with transaction.atomic():
            record("tokens", "acme", idempotency_key="left")
    monkeypatch.setattr(inbox, "FORGOTTEN_AFTER", datetime.resolution * 0)
    monkeypatch.setattr(inbox._Watch, "looked_at", float("-inf"))
    record("tokens", "acme", idempotency_key="later")
    assert counted() == ["later", "left"]


# ------------------------------------------------------------------------------------------------ requests


def metered_view(request):
    record("tokens", "acme", idempotency_key=request.GET["id"])
    Group.objects.create(name=request.GET["id"])
    if "fail" in request.GET:
        raise Abandoned
    return HttpResponse(f"{Event.objects.count()}")


urlpatterns = [path("metered", metered_view)]


@pytest.mark.urls(__name__)
def test_with_atomic_requests_the_event_is_the_requests(client, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.raise_request_exception = False
    assert client.get("/metered", {"id": "ok"}).content == b"0"  # not counted before the commit
    assert client.get("/metered", {"id": "bad", "fail": 1}).status_code == 500
    assert counted() == ["ok"]
    assert_exact(1)


# ------------------------------------------------------------------------------------------------ several databases


class MeteringRouter:
    """Keeps flexmeter's tables in the other database."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "flexmeter" else None

    db_for_write = db_for_read


@pytest.fixture
def metering_elsewhere(other_database, settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.MeteringRouter"]
    return other_database


def test_events_go_where_the_router_says(metering_elsewhere):
    event_id = record("tokens", "acme")
    assert Event.objects.using(metering_elsewhere).get().event_id == event_id
    assert not Event.objects.using("default").exists()


def test_a_transaction_of_another_database_alone_is_refused_with_the_way_out(metering_elsewhere):
    with transaction.atomic(), pytest.raises(OtherDatabase, match=r"'default'.*'other'.*FLEXMETER_OTHER_DATABASE"):
        record("tokens", "acme")
    with transaction.atomic(), pytest.raises(OtherDatabase):
        record_many([{"event_name": "tokens", "external_customer_id": "acme"}])
    assert not Event.objects.using(metering_elsewhere).exists()
    assert not InboxBatch.objects.using(metering_elsewhere).exists()


def test_a_transaction_of_another_database_is_ignored_where_that_is_wanted(metering_elsewhere, settings):
    settings.FLEXMETER_OTHER_DATABASE = "allow"
    with rolled_back():
        record("tokens", "acme")
    assert Event.objects.using(metering_elsewhere).count() == 1


def test_transactions_of_both_databases_hold_the_event_in_its_own(metering_elsewhere):
    with transaction.atomic(), rolled_back(metering_elsewhere):
        record("tokens", "acme")
    assert not Event.objects.using(metering_elsewhere).exists()
    with transaction.atomic(), transaction.atomic(using=metering_elsewhere):
        record("tokens", "acme")
    assert Event.objects.using(metering_elsewhere).count() == 1
    assert not InboxBatch.objects.using(metering_elsewhere).exists()


def test_a_database_named_by_the_caller_is_used(other_database):
    with transaction.atomic(using=other_database):
        record("tokens", "acme", using=other_database)
    assert Event.objects.using(other_database).count() == 1
    assert not Event.objects.exists()


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (Decimal("0.1"), Decimal("0.1")),
        (Decimal("123456789012345678901234567890.123456789"), Decimal("123456789012345678901234567890.123456789")),
        (Decimal("1E+3"), Decimal(1000)),
        (Decimal("-0.000000000000000000000000001"), Decimal("-0.000000000000000000000000001")),
        (10**40, Decimal(10**40)),
        (0.1, Decimal("0.1")),
        (True, None),
    ],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_numbers_are_counted_to_the_last_digit(given, stored, in_transaction):
    meter = make_meter("SUM", field="n")
    if in_transaction:
        with transaction.atomic():
            record("tokens", "acme", {"n": given})
    else:
        record("tokens", "acme", {"n": given})
    assert Event.objects.get().as_usage_event().properties.keys() == {"n"}
    totals = list(meter.series.get().rollup_set.values_list("total", flat=True)) if stored is not None else []
    assert totals == ([stored] if stored is not None else [])
    assert not inbox.backlog().batches


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({"n": Decimal("NaN")}, "properties.n"),
        ({"n": Decimal("Infinity")}, "properties.n"),
        ({"n": Decimal("1E+9999")}, "properties.n"),
        ({"n": float("inf")}, "properties.n"),
        ({"at": datetime(2024, 1, 1, tzinfo=UTC)}, "properties.at"),
        ({"a": [{"b": {1, 2}}]}, "properties.a[0].b"),
        ({1: "x"}, "properties"),
        ({"a": "\x00"}, "properties.a"),
        ({"a": "\ud800"}, "properties.a"),
        ([("a", 1)], "properties"),
        ("text", "properties"),
    ],
)
def test_properties_that_cannot_be_stored_are_refused_by_name(properties, field):
    with pytest.raises(InvalidEvent) as caught:
        record("tokens", "acme", properties)
    assert caught.value.field == field
    assert_exact(0)


def test_properties_may_be_any_mapping_and_are_stored_as_json_has_them():
    record("tokens", "acme", MappingProxyType({"a": (1, 2), "b": MappingProxyType({"c": None})}))
    assert Event.objects.get().properties == {"a": [1, 2], "b": {"c": None}}


def test_properties_changed_after_the_call_do_not_change_the_event():
    properties = {"a": [1]}
    with transaction.atomic():
        record("tokens", "acme", properties)
        properties["a"].append(2)
    assert Event.objects.get().properties == {"a": [1]}


def test_a_naive_timestamp_is_refused_and_any_zone_taken():
    with pytest.raises(InvalidEvent) as caught:
        record("tokens", "acme", timestamp=datetime(2024, 3, 10, 12))
    assert caught.value.field == "timestamp"
    record("tokens", "acme", timestamp=datetime.fromisoformat("2024-03-10T12:00:00.123456+05:45"))
    assert Event.objects.get().timestamp == datetime(2024, 3, 10, 6, 15, 0, 123456, tzinfo=UTC)


def test_an_idempotency_key_counts_once_however_it_comes():
    make_meter()
    assert record("tokens", "acme", idempotency_key="sale-1") == "sale-1"
    with transaction.atomic():
        record("tokens", "acme", idempotency_key="sale-1")
        record("tokens", "acme", idempotency_key="sale-1")
    record_many([{"event_name": "tokens", "external_customer_id": "acme", "event_id": "sale-1"}] * 2)
    assert_exact(1)


def test_the_same_key_in_another_environment_is_another_event():
    record("tokens", "acme", idempotency_key="sale-1")
    record("tokens", "acme", idempotency_key="sale-1", environment="staging")
    assert sorted(Event.objects.values_list("environment", flat=True)) == ["default", "staging"]


def test_the_environment_comes_from_the_setting(settings):
    settings.FLEXMETER_ENVIRONMENT = "staging"
    with transaction.atomic():
        record("tokens", "acme")
    assert Event.objects.get().environment == "staging"


def test_many_are_all_or_none_and_the_fault_is_named_with_its_position():
    good = {"event_name": "tokens", "external_customer_id": "acme"}
    for bad, field in [
        ({"event_name": "tokens"}, "events[1].external_customer_id"),
        ({**good, "properties": {"n": float("nan")}}, "events[1].properties.n"),
        ({**good, "event_name": " "}, "events[1].event_name"),
        ("text", "events[1]"),
    ]:
        with pytest.raises(InvalidEvent) as caught:
            record_many([good, bad])
        assert caught.value.field == field
    assert record_many([]) == []
    assert_exact(0)


def test_many_more_than_fit_into_one_batch_are_still_all_or_none():
    make_meter()
    events = [{"event_name": "tokens", "external_customer_id": "acme", "properties": {"n": n}} for n in range(2_500)]
    with rolled_back():
        record_many(events)
    assert_exact(0)
    with transaction.atomic():
        assert len(set(record_many(events))) == 2_500
        assert waiting() == 3
    assert_exact(2_500)


# ------------------------------------------------------------------------------------------------ customers


def request_of(user):
    request = RequestFactory().get("/")
    request.user = user
    return request


def test_a_customer_may_be_a_model_instance_or_a_request_of_a_signed_in_user():
    user = User.objects.create(username="ada")
    for customer in (user, request_of(user), "plain"):
        record("tokens", customer)
    drf_request = Request(RequestFactory().get("/"))
    drf_request.user = user
    record("tokens", drf_request)
    customers = sorted(Event.objects.values_list("external_customer_id", flat=True))
    assert customers == sorted([str(user.pk)] * 3 + ["plain"])


@pytest.mark.parametrize("customer", [None, 42, User(username="unsaved"), request_of(AnonymousUser()), RequestFactory().get("/")])
def test_a_customer_that_cannot_be_told_is_refused(customer):
    with pytest.raises(InvalidEvent) as caught:
        record("tokens", customer)
    assert caught.value.field == "external_customer_id"
    assert_exact(0)


def by_name(customer):
    return f"user:{customer.username}"


def test_a_setting_says_how_a_customer_is_told(settings):
    settings.FLEXMETER_CUSTOMER_ID = f"{__name__}.by_name"
    record("tokens", User(username="ada"))
    record("tokens", "as it is")
    assert sorted(Event.objects.values_list("external_customer_id", flat=True)) == ["as it is", "user:ada"]


# ------------------------------------------------------------------------------------------------ async


def test_async_code_records_without_blocking_its_loop():
    async def work():
        one = await arecord("tokens", "acme", {"n": 1})
        many = await arecord_many([{"event_name": "tokens", "external_customer_id": "acme"}] * 2)
        return [one, *many]

    assert sorted(async_to_sync(work)()) == counted()
    assert_exact(3)


def test_arecord_joins_the_transaction_of_the_sync_code_that_called_the_async_code():
    with rolled_back():
        async_to_sync(arecord)("tokens", "acme")
        assert (counted(), waiting()) == ([], 1)
    assert_exact(0)


def test_record_in_a_sync_block_of_async_code_is_in_that_blocks_transaction():
    def sale(fail):
        with transaction.atomic():
            record("tokens", "acme")
            if fail:
                raise Abandoned

    async def work():
        with pytest.raises(Abandoned):
            await sync_to_async(sale)(True)
        await sync_to_async(sale)(False)

    async_to_sync(work)()
    assert_exact(1)


def test_many_tasks_record_at_once():
    make_meter()

    async def work():
        await asyncio.gather(*(arecord("tokens", f"customer {n % 3}") for n in range(30)))

    async_to_sync(work)()
    assert_exact(30)


def test_threads_record_in_transactions_of_their_own():
    make_meter()
    barrier = threading.Barrier(4)

    def work(number):
        try:
            barrier.wait(180)
            for turn in range(5):
                try:
                    with transaction.atomic():
                        record("tokens", "acme", idempotency_key=f"{number}-{turn}")
                        if turn % 2:
                            raise Abandoned
                except Abandoned:
                    pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inbox.drain()  # what one thread's drain had locked when another's passed by
    assert_exact(12)
