"""Under ATOMIC_REQUESTS the event is part of the request's transaction."""

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from flexmeter.decorators import RESPONSE_BYTES, meter_view
from flexmeter.models import Event, InboxBatch

from tests.decorators.shapes import BrokenView

pytestmark = pytest.mark.django_db(transaction=True)

waiting_in_view: list[int] = []


@meter_view("call", customer="acme")
def committing(request):
    Group.objects.create(name="work")
    return HttpResponse()


def observed(request):
    """Meters its inside, and looks at the inbox before its own transaction ends."""
    response = committing(request)
    waiting_in_view.append(InboxBatch.objects.count())
    return response


def failing_after(request):
    committing(request)
    raise BrokenView


def rolling_back(request):
    response = committing(request)
    transaction.set_rollback(True)
    return response


@meter_view("call", customer="acme", counts=range(100, 600))
@api_view(["POST"])
def refused(request):
    Group.objects.create(name="work")
    raise ValidationError("DRF answers this and rolls back")


@meter_view("call", customer="acme", on_exception=True)
def raising(request):
    Group.objects.create(name="work")
    raise BrokenView


@meter_view("call", customer="acme", quantity=lambda request, response: connection.cursor().execute("SELECT nonsense"))
def badly_metered(request):
    Group.objects.create(name="before")
    return HttpResponse("answered")


def badly_metered_inside(request):
    response = badly_metered(request)
    Group.objects.create(name="after")
    return response


@meter_view("call", customer="acme", measure=[RESPONSE_BYTES])
def rendered_late(request):
    Group.objects.create(name="work")
    return TemplateResponse(request, engines["django"].from_string("four"))


@meter_view("call", customer="acme", measure=[RESPONSE_BYTES])
@api_view(["POST"])
def api(request):
    Group.objects.create(name="work")
    return Response("four")


VIEWS = [committing, observed, failing_after, rolling_back, raising, badly_metered_inside, rendered_late]
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS] + [path("refused/", refused), path("api/", api)]


@pytest.fixture(autouse=True)
def _atomic_requests(settings, _shapes, monkeypatch):
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    waiting_in_view.clear()


def standing():
    return Group.objects.count(), Event.objects.count(), InboxBatch.objects.count()


def test_the_event_is_committed_with_the_view_and_counted_then(client):
    client.post("/committing/")
    assert standing() == (1, 1, 0)


def test_until_the_commit_it_waits_in_the_views_transaction(client):
    client.post("/observed/")
    assert waiting_in_view == [1]
    assert standing() == (1, 1, 0)


def test_it_goes_with_a_rollback_by_an_exception(client):
    with pytest.raises(BrokenView):
        client.post("/failing_after/")
    assert standing() == (0, 0, 0)


def test_it_goes_with_a_rollback_on_demand(client):
    client.post("/rolling_back/")
    assert standing() == (0, 0, 0)


def test_a_refusal_that_drf_rolls_back_takes_its_event_along_without_a_failure(client, caplog):
    assert client.post("/refused/").status_code == 400
    assert standing() == (0, 0, 0)
    assert "could not be metered" not in caplog.text


def test_an_exception_that_counts_still_rolls_its_event_back(client):
    with pytest.raises(BrokenView):
        client.post("/raising/")
    assert standing() == (0, 0, 0)


def test_a_failing_query_of_metering_leaves_the_transaction_usable(client, caplog):
    response = client.post("/badly_metered_inside/")
    assert (response.status_code, response.content) == (200, b"answered")
    assert standing() == (2, 0, 0)
    assert DatabaseError.__name__ in caplog.text or "nonsense" in caplog.text


@pytest.mark.parametrize("url", ["/rendered_late/", "/api/"])
def test_what_is_rendered_after_the_transaction_is_recorded_after_it(url, client):
    size = len(client.post(url).content)
    assert standing() == (1, 1, 0)
    assert Event.objects.get().properties == {RESPONSE_BYTES: size}
