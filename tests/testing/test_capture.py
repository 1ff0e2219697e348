"""The helpers for a host project's tests: they see what is there, and say so when it is not."""

from datetime import timedelta
from threading import Thread

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import SimpleTestCase, TestCase

from flexmeter.models import Event, InboxBatch
from flexmeter.queries import Scope, UsageQuery
from flexmeter.recording import arecord, record, record_many
from flexmeter.testing import assert_metered, assert_not_metered, capture_usage, make_event, usage_capture
from flexmeter.usage import usage

from tests.factories import make_meter

__all__ = ["usage_capture"]


class InTestCase(TestCase):
    def test_what_is_recorded_is_captured_and_not_stored(self):
        with capture_usage() as captured:
            event_id = record("report", "acme", {"pages": 3})
        [event] = captured.assert_metered("report", customer="acme", count=1, properties={"pages": 3})
        assert event.event_id == event_id
        assert not InboxBatch.objects.exists()
        assert not Event.objects.exists()

    def test_what_is_rolled_back_was_not_metered(self):
        with capture_usage() as captured, transaction.atomic():
            record("kept", "acme")
            with transaction.atomic():
                record("gone", "acme")
                transaction.set_rollback(True)
        assert [event.event_name for event in captured] == ["kept"]

    def test_several_threads_are_captured(self):
        with capture_usage() as captured:
            threads = [Thread(target=record, args=["report", f"customer-{number}"]) for number in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        captured.assert_metered("report", count=10)

    def test_with_count_usage_can_be_asked_for(self):
        meter = make_meter("COUNT", event_name="report")
        with capture_usage(count=True) as captured:
            record("report", "acme")
            record("report", "acme")
        captured.assert_metered("report", count=2)
        [stored, _] = Event.objects.order_by("id")
        query = UsageQuery(meter.rule(), Scope("default", "acme"), stored.timestamp, stored.timestamp + timedelta(days=1))
        assert usage(query).value == 2

    def test_with_count_what_is_rolled_back_is_neither_captured_nor_stored(self):
        with capture_usage(count=True) as captured, transaction.atomic():
            record("report", "acme")
            transaction.set_rollback(True)
        captured.assert_not_metered()
        assert not Event.objects.exists()

    @capture_usage()
    def test_as_a_decorator_it_is_asked_by_the_functions(self):
        record("report", "acme")
        assert_metered("report", customer="acme", count=1)
        assert_not_metered("other")

    @capture_usage()
    async def test_an_async_test_is_decorated_alike(self):
        await arecord("report", "acme")
        assert_metered("report", count=1)

    async def test_an_async_block_captures_alike(self):
        async with capture_usage(count=True) as captured:
            await arecord("report", "acme")
        captured.assert_metered("report", count=1)
        assert await Event.objects.acount() == 1

    def test_without_a_capture_the_ledger_is_asked_with_what_waits(self):
        make_event("report", "acme")
        record("report", "acme")
        assert_metered("report", customer="acme", count=2)
        assert_not_metered(customer="zoe")


@capture_usage()
class Decorated(TestCase):
    def test_each_test_starts_with_nothing_captured(self):
        assert_not_metered()
        record("report", "acme")
        assert_metered("report", count=1)

    test_again = test_each_test_starts_with_nothing_captured


class WithoutDatabase(SimpleTestCase):
    @capture_usage()
    def test_no_database_is_needed(self):
        record_many([{"event_name": "report", "external_customer_id": "acme"}] * 2)
        assert_metered("report", count=2)


def test_the_fixture_captures(usage_capture, db):
    record("report", "acme")
    usage_capture.assert_metered("report", count=1)
    usage_capture.clear()
    usage_capture.assert_not_metered()


def test_outside_of_transactions_a_rolled_back_one_is_not_captured(usage_capture, transactional_db):
    with transaction.atomic():
        record("report", "acme")
        transaction.set_rollback(True)
    with transaction.atomic():
        record("kept", "acme")
    assert [event.event_name for event in usage_capture] == ["kept"]


def test_after_a_capture_events_are_stored_again(transactional_db):
    with capture_usage():
        record("report", "acme")
    record("report", "acme")
    assert Event.objects.count() == 1


def test_nested_captures_all_capture_and_the_innermost_decides_what_is_stored(transactional_db):
    with capture_usage() as outer, capture_usage(count=True) as inner:
        record("report", "acme")
    assert (len(outer), len(inner), Event.objects.count()) == (1, 1, 1)


def test_a_customer_is_given_as_to_record(usage_capture, db):
    group = Group.objects.create(name="acme")
    record("report", group)
    usage_capture.assert_metered("report", customer=group)


@pytest.mark.parametrize("wrong", [
    {"event_name": "reports"}, {"customer": "Acme"}, {"count": 1}, {"count": 0}, {"count": 3}, {"properties": {"pages": 4}},
    {"properties": {"pages": "3"}}, {"properties": {"page": 3}}, {"properties": {"pages": lambda pages: pages > 3}},
    {"environment": "staging"},
])  # fmt: skip
def test_a_wrong_expectation_fails_and_lists_what_there_is(wrong, usage_capture, db):
    for _ in range(2):
        record("report", "acme", {"pages": 3})
    with pytest.raises(AssertionError, match=r"'report' customer='acme' properties=\{\"pages\":3\}"):
        usage_capture.assert_metered(**{"event_name": "report"} | wrong)
    with pytest.raises(AssertionError):
        assert_metered(**{"event_name": "report"} | wrong)


@pytest.mark.parametrize("wrong", [
    {}, {"event_name": "report"}, {"customer": "acme"}, {"event_name": "report", "properties": {"pages": 3}},
])  # fmt: skip
def test_a_wrong_claim_of_absence_fails(wrong, usage_capture, db):
    record("report", "acme", {"pages": 3})
    with pytest.raises(AssertionError, match="Expected 0 events"):
        usage_capture.assert_not_metered(**wrong)
    with pytest.raises(AssertionError, match="Expected 0 events"):
        assert_not_metered(**wrong)


def test_a_right_expectation_holds(usage_capture, db):
    record("report", "acme", {"pages": 3, "price": 1.5})
    usage_capture.assert_metered("report", properties={"pages": lambda pages: pages > 2, "price": 1.5}, environment="default")
    usage_capture.assert_not_metered("report", properties={"pages": 4})


def test_what_cannot_be_recorded_is_not_captured(usage_capture, db):
    with pytest.raises(Exception, match="external_customer_id"):
        record("report", "")
    usage_capture.assert_not_metered()


def test_an_event_can_be_made_without_storing_it(db):
    event = make_event("report", "acme", {"pages": 3}, stored=False)
    assert (event.event_name, event.properties_json) == ("report", '{"pages":3}')
    assert not Event.objects.exists()


def test_a_made_event_counts_at_once(db):
    meter = make_meter("SUM", event_name="report", field="pages")
    event = make_event("report", "acme", {"pages": 3})
    query = UsageQuery(meter.rule(), Scope("default", "acme"), event.timestamp, event.timestamp + timedelta(days=1))
    assert usage(query).value == 3
