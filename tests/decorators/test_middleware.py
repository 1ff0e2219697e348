"""MeterMiddleware meters by URL, and MeteredViewMixin by inheritance."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.views import View

from flexmeter.middleware import MeterMiddleware
from flexmeter.mixins import MeteredViewMixin
from flexmeter.models import Event

from tests.decorators.shapes import TEXT, customer

pytestmark = pytest.mark.django_db


@pytest.fixture
def metered_urls(settings, _shapes):
    settings.MIDDLEWARE = ["flexmeter.middleware.MeterMiddleware"]

    def set_to(*rules):
        settings.FLEXMETER_METERED_URLS = [{"customer": customer, "event_name": "call"} | rule for rule in rules]

    return set_to


@pytest.mark.parametrize("shape", ["unmetered", "async-unmetered"])
def test_a_path_that_matches_is_metered(shape, asks, usage_capture, metered_urls):
    metered_urls({"path": r"^/(async-)?unmetered/", "measure": ["response_bytes", "route"]})
    assert asks(f"/{shape}/success/").body == TEXT
    usage_capture.assert_metered(
        "call", customer="acme", count=1, properties={"response_bytes": len(TEXT), "route": f"{shape}/<behaviour>/"}
    )


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("shape", ["unmetered", "async-unmetered"])
def test_a_stream_that_matches_is_metered_at_its_end(shape, asks, usage_capture, metered_urls):
    metered_urls({"path": r"", "route": shape, "measure": ["response_bytes"]})
    assert asks(f"/{shape}/stream/").body == TEXT
    usage_capture.assert_metered("call", count=1, properties={"response_bytes": len(TEXT)})


def test_other_paths_methods_and_answers_are_not_metered(client, usage_capture, metered_urls):
    metered_urls({"path": "^/elsewhere/"}, {"route": "unmetered", "methods": ["post"]})
    client.get("/unmetered/success/")
    client.post("/unmetered/error/")
    client.get("/nowhere/")
    usage_capture.assert_not_metered()
    client.post("/unmetered/success/", headers={"X-Token": "acme"})
    usage_capture.assert_metered("call", count=1)


def test_a_route_is_named_with_its_namespace(client, usage_capture, metered_urls):
    metered_urls({"route": "nested:inner"})
    client.get("/nested/inner/success/", headers={"X-Token": "acme"})
    client.get("/unmetered/success/", headers={"X-Token": "acme"})
    usage_capture.assert_metered("call", count=1)


def test_the_first_rule_that_matches_applies(client, usage_capture, metered_urls):
    metered_urls({"route": "unmetered", "event_name": "special"}, {"path": "/", "event_name": "general"})
    client.get("/unmetered/success/", headers={"X-Token": "acme"})
    usage_capture.assert_metered("special", count=1)
    usage_capture.assert_not_metered("general")


def test_an_answer_to_an_exception_can_be_counted(client, usage_capture, metered_urls):
    metered_urls({"path": "/", "counts": range(100, 600), "measure": ["status"]})
    client.raise_request_exception = False
    assert client.get("/unmetered/exception/", headers={"X-Token": "acme"}).status_code == 500
    usage_capture.assert_metered("call", count=1, properties={"status": 500})


def test_a_view_that_meters_itself_under_the_same_name_counts_once(client, usage_capture, metered_urls):
    metered_urls({"path": "/", "source": "middleware"})
    client.get("/function/success/", headers={"X-Token": "acme"})
    [event] = usage_capture.assert_metered("call", count=1)
    assert event.source == ""


def test_functions_may_be_named_by_their_path(client, usage_capture, metered_urls):
    metered_urls({"path": "/", "customer": "tests.decorators.shapes.customer"})
    client.get("/unmetered/success/", headers={"X-Token": "zoe"})
    usage_capture.assert_metered("call", customer="zoe")


@pytest.mark.django_db(transaction=True)
def test_an_event_of_the_middleware_outlives_the_views_rollback(client, metered_urls, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    metered_urls({"path": "/", "counts": range(100, 600)})
    client.raise_request_exception = False
    client.get("/unmetered/exception/", headers={"X-Token": "acme"})
    assert Event.objects.get().external_customer_id == "acme"


@pytest.mark.parametrize(("rule", "told"), [
    ({"path": "/"}, "'event_name' is missing"),
    ({"event_name": "call"}, "'path' or 'route' must say"),
    ({"event_name": "call", "path": "("}, "unterminated subpattern"),
    ({"event_name": "call", "path": "/", "custommer": "x"}, "'custommer' is no option"),
    ({"event_name": "call", "path": "/", "measure": ["weight"]}, "Nothing measures 'weight'"),
    ({"event_name": "call", "path": "/", "customer": "no.such.module"}, "No module named 'no'"),
])  # fmt: skip
def test_a_wrong_rule_is_told_at_start(rule, told, settings):
    settings.FLEXMETER_METERED_URLS = [{"event_name": "call", "path": "/"}, rule]
    with pytest.raises(ImproperlyConfigured, match=r"FLEXMETER_METERED_URLS\[1\]") as raised:
        MeterMiddleware(lambda request: HttpResponse())
    assert told in str(raised.value)


def test_a_mixin_is_told_everything_by_methods(usage_capture):
    class Report(MeteredViewMixin, View):
        meter_event_name = "report"
        meter_statuses = {201}
        meter_source = "web"

        def meter_customer(self, request, response):
            return self.kwargs["account"]

        def meter_properties(self, request, response):
            return {"method": request.method}

        def meter_quantity(self, request, response):
            return len(response.content)

        def meter_idempotency_key(self, request, response):
            return "once"

        def get(self, request, account):
            return HttpResponse("four", status=int(request.GET["status"]))

    for status in (200, 201):
        Report.as_view()(RequestFactory().get(f"/?status={status}"), account="zoe")
    [event] = usage_capture.assert_metered("report", customer="zoe", count=1)
    assert event.properties == {"method": "GET", "quantity": 4}
    assert (event.event_id, event.source) == ("once", "web")
