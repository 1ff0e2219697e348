"""metering() around any block of code, and meter_task below any Celery task."""

import logging

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from flexmeter.blocks import metering
from flexmeter.decorators import DURATION_MS, meter_task
from flexmeter.exceptions import InvalidEvent
from flexmeter.failures import failures
from flexmeter.models import Event

from tests.decorators.shapes import BrokenView
from tests.requirements import requires

pytestmark = pytest.mark.django_db


def test_a_block_is_metered_when_it_ends_with_what_it_has_set(usage_capture):
    with metering("report", "acme", {"format": "pdf"}, measure=[DURATION_MS], source="cli") as usage:
        usage["pages"] = 3
        usage_capture.assert_not_metered()
    [event] = usage_capture.assert_metered("report", customer="acme", count=1, properties={"pages": 3, "format": "pdf"})
    assert (event.event_id, event.source) == (usage.event_id, "cli")
    assert event.properties[DURATION_MS] >= 0


def test_an_async_block_is_metered_without_touching_the_database_in_the_loop(transactional_db):
    async def work():
        async with metering("report", "acme") as usage:
            usage["pages"] = 3

    async_to_sync(work)()
    assert Event.objects.get().properties == {"pages": 3}


def test_a_block_that_raises_is_not_metered(usage_capture):
    with pytest.raises(BrokenView), metering("report", "acme"):
        raise BrokenView
    usage_capture.assert_not_metered()


def test_a_block_that_raises_is_metered_on_demand(usage_capture):
    def work():
        with metering("report", "acme", on_exception=True) as usage:
            usage["pages"] = 1
            raise BrokenView

    with pytest.raises(BrokenView):
        work()
    usage_capture.assert_metered("report", count=1, properties={"pages": 1})


def test_a_block_belongs_to_the_transaction_around_it(transactional_db):
    def work():
        with transaction.atomic():
            with metering("report", "acme"):
                pass
            raise BrokenView

    with pytest.raises(BrokenView):
        work()
    assert not Event.objects.exists()
    with transaction.atomic(), metering("report", "acme"):
        pass
    assert Event.objects.count() == 1


def test_a_block_raises_what_recording_raises_unless_told_not_to(usage_capture, caplog):
    with pytest.raises(InvalidEvent), metering("report", ""):
        pass
    before = failures.total
    with metering("report", "", strict=False):
        pass
    assert failures.total == before + 1
    assert any(entry.levelno == logging.ERROR for entry in caplog.records)


def test_the_exception_of_a_block_is_not_hidden_by_one_of_recording(usage_capture):
    with pytest.raises(BrokenView), metering("report", "", on_exception=True):
        raise BrokenView


def test_a_block_can_measure_only_its_duration():
    with pytest.raises(ValueError, match="Nothing measures 'status'"):
        metering("report", "acme", measure=["status"])


def test_outside_of_a_worker_each_call_of_a_task_counts(usage_capture):
    @meter_task("report", customer=lambda arguments, result: arguments["account"], quantity=lambda arguments, result: result)
    def report(account, pages=2):
        return pages

    assert [report("zoe"), report("zoe", pages=5)] == [2, 5]
    assert [event.properties for event in usage_capture.assert_metered("report", customer="zoe", count=2)] == [
        {"quantity": 2}, {"quantity": 5},
    ]  # fmt: skip


def test_a_task_whose_metering_fails_keeps_its_result(usage_capture, caplog):
    before = failures.total
    assert meter_task("report", customer=lambda arguments, result: 1 / 0)(lambda: 5)() == 5
    assert failures.total == before + 1
    with pytest.raises(ZeroDivisionError):
        meter_task("report", customer=lambda arguments, result: 1 / 0, strict=True)(lambda: 5)()


def test_a_task_for_nobody_is_not_metered(usage_capture):
    assert meter_task("report", customer=lambda arguments, result: None)(lambda: 5)() == 5
    usage_capture.assert_not_metered()


def numbered(number):
    """Celery takes no lambda."""


@pytest.fixture
def app():
    from celery import Celery

    app = Celery("tests", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    app.close()


@requires("celery")
def test_a_task_that_is_delivered_again_counts_once(app, transactional_db):
    @app.task(shared=False, name="report")
    @meter_task("report", customer="acme", measure=[DURATION_MS])
    def report():
        return 5

    for _ in range(2):
        assert report.apply(task_id="one").get() == 5
    report.apply(task_id="another")
    assert sorted(Event.objects.values_list("event_id", flat=True)) == ["report:another", "report:one"]


@requires("celery")
def test_a_bound_task_that_is_retried_counts_once_when_it_succeeds(app, transactional_db):
    @app.task(shared=False, name="report", bind=True, max_retries=3, default_retry_delay=0)
    @meter_task("report", customer=lambda arguments, result: arguments["account"], quantity=lambda arguments, result: result)
    def report(self, account):
        if self.request.retries < 2:
            raise self.retry()
        return self.request.retries

    assert report.apply(args=["zoe"], task_id="one").get() == 2
    event = Event.objects.get()
    assert (event.event_id, event.external_customer_id, event.properties) == ("report:one", "zoe", {"quantity": 2})


@requires("celery")
def test_a_task_that_retries_by_itself_counts_once(app, transactional_db):
    attempts = []

    @app.task(shared=False, name="report", autoretry_for=[BrokenView], retry_backoff=False, default_retry_delay=0)
    @meter_task("report", customer="acme")
    def report():
        attempts.append(1)
        if len(attempts) < 3:
            raise BrokenView

    report.apply(task_id="one").get()
    assert (len(attempts), Event.objects.count()) == (3, 1)


@requires("celery")
def test_a_task_that_fails_is_not_metered_unless_asked(app, usage_capture):
    def fail():
        raise BrokenView

    app.task(shared=False, name="a")(meter_task("report", customer="acme")(fail)).apply()
    usage_capture.assert_not_metered()
    app.task(shared=False, name="b")(meter_task("report", customer="acme", on_exception=True)(fail)).apply()
    usage_capture.assert_metered("report", count=1)


@requires("celery")
def test_a_key_of_its_own_replaces_the_tasks(app, usage_capture):
    metered = meter_task("report", customer="acme", idempotency_key=lambda arguments, result: f"report-{arguments['number']}")
    app.task(shared=False, name="report")(metered(numbered)).apply(args=[7])
    assert [event.event_id for event in usage_capture] == ["report-7"]


@requires("celery")
def test_a_long_name_still_makes_an_id_that_can_be_stored(app, usage_capture):
    app.task(shared=False, name="report")(meter_task("r" * 254, customer="acme")(numbered)).apply(args=[7], task_id="one")
    [event] = usage_capture
    assert event.event_id.startswith("task_")


@requires("celery")
def test_meter_task_above_the_task_is_told_at_once(app):
    with pytest.raises(TypeError, match="goes below"):
        meter_task("report", customer="acme")(app.task(shared=False, name="report")(numbered))
