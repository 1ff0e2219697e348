"""Whatever stands in an address of the admin, the answer is a page, a message or a redirect."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db import connection
from django.urls import reverse
from django.utils.http import urlencode

from flexmeter.models import Event, Meter

from tests.factories import make_event, make_meter

pytestmark = pytest.mark.django_db

BAD = ["a\x00b", "x" * 5_000, "-1", "9" * 40, "٣"]
COMMON = {"environment", "q"}
if connection.vendor == "sqlite":  # these come to no database, so they are tried with one
    BAD += ["[]", "NaN", "2024-13-45T99:99", "%"]
    COMMON |= {"o", "p", "all", "_popup", "_to_field", "e"}
MODELS = [model for model in admin.site._registry if model._meta.app_label in ("flexmeter", "flexmeter_pricing")]


def fields_of(model_admin):
    form = getattr(model_admin, "filter_form", None)
    return sorted(COMMON | set(form.base_fields if form else ()))


@pytest.fixture
def ledger():
    from flexmeter.ingest import ingest

    meter = make_meter("SUM", field="n")
    ingest([make_event("e1", properties={"n": 1})])
    return meter


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_parameters_of_lists(admin_client, ledger, model):
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for name in fields_of(admin.site._registry[model]):
        for value in BAD:
            answer = admin_client.get(f"{address}?{urlencode({name: value})}")
            assert answer.status_code < 500, (name, value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_ids_of_pages(admin_client, ledger, model):
    names = [
        pattern.name
        for pattern in admin.site._registry[model].get_urls()
        if pattern.name and "object_id" in str(pattern.pattern) and "_extra_" not in pattern.name
    ]
    assert names
    for name in names:
        for value in ["\x00", "x" * 300, "9" * 40, "_00", "%"]:
            answer = admin_client.get(reverse(f"admin:{name}", args=[value]))
            assert answer.status_code < 500, (name, value)


@pytest.mark.parametrize("page", ["usage", "usage_download", "events"])
def test_parameters_of_a_meters_usage(admin_client, ledger, page):
    assert Meter.objects.get() == ledger
    address = reverse(f"admin:flexmeter_meter_{page}", args=[ledger.pk])
    for name in ["start", "end", "window", "timezone", "customer", "filters", "anchor", "format", "at", "after", "group"]:
        for value in BAD:
            answer = admin_client.get(f"{address}?{urlencode({name: value})}")
            assert answer.status_code < 500, (name, value)


@pytest.mark.parametrize("page", ["lookup", "body", "live", "live_events"])
def test_parameters_of_the_pages_about_events(admin_client, ledger, page):
    assert Event.objects.get().event_id == "e1"
    address = reverse(f"admin:flexmeter_event_{page}")
    for name in ["environment", "event_id", "name", "customer", "after", "format", "id"]:
        for value in BAD:
            answer = admin_client.get(f"{address}?{urlencode({name: value, 'environment': 'default'} | {name: value})}")
            assert answer.status_code < 500, (name, value)
