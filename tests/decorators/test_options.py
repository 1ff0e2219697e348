"""What the options of meter_view do, and what happens when metering itself goes wrong."""

import logging
from threading import Thread

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.views import View

from flexmeter.decorators import DURATION_MS, METHOD, REQUEST_BYTES, RESPONSE_BYTES, ROUTE, meter_view
from flexmeter.exceptions import InvalidEvent
from flexmeter.failures import failures
from flexmeter.models import Event

from tests.decorators.shapes import BrokenView, answer

pytestmark = pytest.mark.django_db


def request(method="GET", path="/", **options):
    return RequestFactory().generic(method, path, **options)


def metered(event_name="call", view=lambda request: HttpResponse("four"), **options):
    return meter_view(event_name, **{"customer": "acme"} | options)(view)


def test_without_a_capture_the_event_is_in_the_ledger(transactional_db):
    metered(measure=[RESPONSE_BYTES])(request())
    event = Event.objects.get()
    assert (event.event_name, event.external_customer_id, event.properties) == ("call", "acme", {RESPONSE_BYTES: 4})


def test_every_value_may_be_a_function_of_request_and_response(usage_capture):
    metered(
        lambda request, response: f"call.{request.method}",
        customer=lambda request, response: request.GET["who"],
        properties={"status": lambda request, response: response.status_code, "plan": "free"},
        quantity=lambda request, response: len(response.content),
        source=lambda request, response: "web",
        environment=lambda request, response: "staging",
        idempotency_key=lambda request, response: "once",
    )(request(path="/?who=zoe"))
    [event] = usage_capture.assert_metered("call.GET", customer="zoe", count=1, environment="staging")
    assert (event.event_id, event.source) == ("once", "web")
    assert event.properties == {"status": 200, "plan": "free", "quantity": 4}


def test_all_properties_may_come_from_one_function(usage_capture):
    metered(properties=lambda request, response: {"size": len(response.content)})(request())
    usage_capture.assert_metered("call", properties={"size": 4})


def test_a_function_may_be_async_even_for_a_sync_view(usage_capture):
    async def size(request, response):
        return len(response.content)

    metered(quantity=size)(request())
    usage_capture.assert_metered("call", properties={"quantity": 4})


def test_the_customer_is_by_default_the_one_who_is_signed_in(usage_capture, django_user_model):
    asking = request()
    asking.user = django_user_model.objects.create(username="zoe")
    metered(customer=None)(asking)
    usage_capture.assert_metered("call", customer=str(asking.user.pk))


def test_a_customer_function_that_answers_none_leaves_the_request_unmetered(usage_capture):
    before = failures.total
    assert metered(customer=lambda request, response: None)(request()).status_code == 200
    usage_capture.assert_not_metered()
    assert failures.total == before


@pytest.mark.parametrize(("counts", "status", "times"), [
    (range(200, 500), 404, 1), ({200}, 201, 0), (lambda request, response: response.status_code == 503, 503, 1),
    (lambda request, response: False, 200, 0),
])  # fmt: skip
def test_what_counts_may_be_said_by_statuses_or_by_a_function(counts, status, times, usage_capture):
    metered(view=lambda request: HttpResponse(status=status), counts=counts)(request())
    assert len(usage_capture) == times


def test_method_route_and_request_size_need_no_code(usage_capture, client):
    client.post("/echo/", b"seven b", content_type="text/plain", headers={"X-Token": "acme"})
    usage_capture.assert_metered("call", properties={REQUEST_BYTES: 7})
    metered(measure=[METHOD, ROUTE])(request("PUT"))
    assert usage_capture.events[-1].properties == {METHOD: "PUT"}, "no URL was resolved, so there is no route"


def test_a_head_request_is_answered_with_no_bytes(usage_capture):
    metered(measure=[RESPONSE_BYTES])(request("HEAD"))
    usage_capture.assert_metered("call", properties={RESPONSE_BYTES: 0})


def test_a_view_that_raises_is_metered_on_demand_without_a_response(usage_capture):
    seen = []
    view = metered(
        view=lambda request: answer("exception"),
        on_exception=True,
        measure=[DURATION_MS, RESPONSE_BYTES, "status"],
        properties=lambda request, response: seen.append(response) or {"failed": True},
    )
    with pytest.raises(BrokenView):
        view(request())
    [event] = usage_capture.assert_metered("call", count=1)
    assert seen == [None]
    assert set(event.properties) == {"failed", DURATION_MS}


def test_an_exception_of_the_view_is_never_replaced_by_one_of_metering(usage_capture):
    view = metered(view=lambda request: answer("exception"), on_exception=True, strict=True, quantity=lambda *both: 1 / 0)
    with pytest.raises(BrokenView):
        view(request())


@pytest.mark.parametrize("broken", [
    {"customer": lambda request, response: 1 / 0}, {"customer": ""}, {"properties": {"odd": object()}},
    {"quantity": lambda request, response: 1 / 0}, {"counts": lambda request, response: 1 / 0},
    {"idempotency_key": "x" * 300},
])  # fmt: skip
def test_when_metering_fails_the_answer_stands_and_the_failure_is_logged_and_counted(broken, usage_capture, caplog):
    before = failures.by_event_name().get("call", 0)
    assert metered(**broken)(request()).content == b"four"
    assert failures.by_event_name()["call"] == before + 1
    [entry] = [entry for entry in caplog.records if entry.name == "flexmeter.metering"]
    assert (entry.levelno, "'call'" in entry.message) == (logging.ERROR, True)
    assert entry.exc_info
    usage_capture.assert_not_metered()


def test_a_strict_view_raises_what_metering_raises(usage_capture):
    before = failures.total
    with pytest.raises(InvalidEvent, match="external_customer_id"):
        metered(customer="", strict=True)(request())
    assert failures.total == before + 1


def test_a_visitor_who_is_nobody_is_a_failure_unless_a_customer_function_says_otherwise(usage_capture, caplog):
    metered(customer=None)(request())
    assert "without a signed-in user" in caplog.text


def test_a_request_counts_once_under_a_name_however_often_it_is_decorated(usage_capture):
    @meter_view("call", customer="outer")
    class Twice(View):
        @meter_view("call", customer="inner")
        @meter_view("other", customer="inner")
        def get(self, request):
            return HttpResponse()

    metered(view=Twice.as_view(), customer="outermost")(request())
    usage_capture.assert_metered("call", customer="inner", count=1)
    usage_capture.assert_metered("other", count=1)
    assert len(usage_capture) == 2


def test_a_child_class_that_is_metered_like_its_parent_counts_once(usage_capture):
    @meter_view("call", customer="acme")
    class Parent(View):
        def get(self, request):
            return HttpResponse()

    @meter_view("call", customer="acme")
    class Child(Parent):
        pass

    Child.as_view()(request())
    usage_capture.assert_metered("call", count=1)


def test_an_outer_decorator_counts_what_the_inner_one_left(usage_capture):
    inner = metered(view=lambda request: HttpResponse(status=404))
    meter_view("call", customer="outer", counts={404})(inner)(request())
    usage_capture.assert_metered("call", customer="outer", count=1)


def test_decorating_leaves_the_parent_class_alone(usage_capture):
    class Parent(View):
        def get(self, request):
            return HttpResponse()

    meter_view("call", customer="acme")(type("Child", (Parent,), {}))
    Parent.as_view()(request())
    usage_capture.assert_not_metered()


def test_one_decorated_view_serves_many_threads(usage_capture):
    view = metered(customer=lambda request, response: request.GET["who"])
    threads = [Thread(target=view, args=[request(path=f"/?who=customer-{number}")]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.external_customer_id for event in usage_capture) == sorted(f"customer-{n}" for n in range(20))


def test_what_is_no_view_is_told_at_once():
    with pytest.raises(TypeError, match="Thing: it has no dispatch"):
        meter_view("call")(type("Thing", (), {}))
    with pytest.raises(TypeError, match="neither of the first two arguments is a request"):
        metered()(5)
    with pytest.raises(TypeError, match="a response was expected, not str"):
        metered(view=lambda request: "text")(request())
    with pytest.raises(ValueError, match="Nothing measures 'weight'"):
        meter_view("call", measure=["weight"])
