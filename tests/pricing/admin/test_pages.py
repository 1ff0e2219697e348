"""The admin of pricing: what pages show, what forms refuse and in which words, and who may do what."""

from __future__ import annotations

from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from flexmeter.ingest import ingest
from flexmeter.pricing.catalog import find_customer, save
from flexmeter.pricing.models import Coupon, Customer, Feature, LineItem, Plan, Price, Subscription
from flexmeter.pricing.subscriptions import subscribe

from tests.admin.pages import Page, read
from tests.factories import at
from tests.factories import make_event as usage_event
from tests.pricing.factories import (
    MAIN,
    leave_open,
    line_item,
    make_coupon,
    make_customer,
    make_feature,
    make_meter,
    make_plan,
    make_price,
    make_subscription,
    tiered,
)
from tests.requirements import only_on

pytestmark = [pytest.mark.django_db, only_on("sqlite", "postgresql")]  # forms; what they save, tests/pricing/http saves too

ROOT = "/admin/flexmeter_pricing"
MODELS = {model._meta.model_name: model for model in (Customer, Feature, Plan, Price, Subscription, Coupon)}
HERE = {"environment": MAIN}


@pytest.fixture
def viewer(db: None) -> Client:
    """Somebody who may look at everything of pricing, and do nothing."""
    user = User.objects.create_user("pricing viewer", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="flexmeter_pricing", codename__startswith="view_")
    )
    client = Client()
    client.force_login(user)
    return client


def make_one_of_everything() -> Subscription:
    meter = make_meter()
    make_feature(meter)
    make_coupon()
    return make_subscription(meter, display_name="Requests")


def form_of(page: Page) -> dict[str, str]:
    """What the form of a page would send as it stands."""
    sent: dict[str, str] = {}
    for tag, attributes in page.tags:
        name = attributes.get("name")
        if name and tag == "input" and attributes.get("type") not in ("submit", "checkbox", "button"):
            sent[name] = attributes.get("value") or ""
    selects = page.content.split("<select ")[1:]
    for select in selects:
        name = select.partition('name="')[2].partition('"')[0]
        for option in select.partition("</select>")[0].split("<option ")[1:]:
            if " selected" in option.partition(">")[0]:
                sent[name] = option.partition('value="')[2].partition('"')[0]
    for area in page.content.split("<textarea ")[1:]:
        name = area.partition('name="')[2].partition('"')[0]
        sent[name] = unescape(area.partition(">")[2].partition("</textarea>")[0]).removeprefix("\n").removeprefix("\r\n")
    sent.pop("csrfmiddlewaretoken", None)
    return sent


def saved(client: Client, path: str, **changed: Any) -> None:
    sent = form_of(read(client, path)) | changed
    response = client.post(path, {name: value for name, value in sent.items() if value is not None})
    if response.status_code == 200:
        raise AssertionError(Page(response.content.decode()).text)
    assert response.status_code == 302


def refused(client: Client, path: str, **changed: Any) -> str:
    response = client.post(path, form_of(read(client, path)) | changed)
    assert response.status_code == 200
    return Page(response.content.decode()).text


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_pages_open_for_who_may_look(viewer: Client, model: str):
    make_one_of_everything()
    assert "1 " in read(viewer, f"{ROOT}/{model}/", HERE).text
    row = MODELS[model].objects.get()
    page = read(viewer, f"{ROOT}/{model}/{row.pk}/change/")
    assert 'name="_save"' not in page.content
    assert "Archive" not in page.text
    for path in ("add/", f"{row.pk}/delete/", f"{row.pk}/archive/"):
        assert viewer.get(f"{ROOT}/{model}/{path}").status_code in (403, 404)
    assert viewer.post(f"{ROOT}/{model}/{row.pk}/archive/").status_code in (403, 404)
    assert viewer.post(f"{ROOT}/{model}/{row.pk}/change/", {"status": "archived"}).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_who_may_not_look_sees_nothing(client: Client, model: str):
    client.force_login(User.objects.create_user("staff", password="x", is_staff=True))
    assert client.get(f"{ROOT}/{model}/").status_code == 403


# The session, the user, environments (twice), the count and the rows.
LIST_QUERIES = 6


@pytest.mark.parametrize("model", MODELS)
def test_a_list_takes_as_many_queries_whatever_it_holds(admin_client: Client, model: str, django_assert_num_queries: Any):
    for n in range(4):
        meter = make_meter(name=f"meter {n}")
        make_feature(meter)
        make_coupon()
        make_subscription(meter, customer=f"customer {n}")
    with django_assert_num_queries(LIST_QUERIES):
        assert "4 " in read(admin_client, f"{ROOT}/{model}/", HERE).text


def test_a_customer_is_added_changed_and_found(admin_client: Client):
    saved(
        admin_client, f"{ROOT}/customer/add/", environment=MAIN, external_id="acme", timezone="Asia/Tokyo", metadata='{"a":"b"}'
    )
    customer = find_customer("acme", environment=MAIN)
    assert (customer.timezone, customer.metadata, customer.created_by) == ("Asia/Tokyo", {"a": "b"}, "admin")
    saved(admin_client, f"{ROOT}/customer/{customer.pk}/change/", name="Acme")
    assert Customer.objects.get().name == "Acme"
    make_customer("other")
    assert "acme" in read(admin_client, f"{ROOT}/customer/", HERE | {"named": "Acme"}).links
    assert "other" not in read(admin_client, f"{ROOT}/customer/", HERE | {"named": "Acme"}).links


@pytest.mark.parametrize(
    ("model", "changed", "told"),
    [
        ("customer", {"external_id": "x", "timezone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
        ("customer", {"external_id": "acme"}, "already exists"),
        ("customer", {"external_id": "x", "metadata": "{"}, "This is not JSON that can be stored"),
        ("customer", {"external_id": "x", "metadata": '{"a": 1}'}, "must be a string"),
        ("plan", {"name": " "}, "This field is required"),
        ("coupon", {"name": "x", "percentage_off": "120"}, "The percentage must lie between 0 and 100"),
        ("coupon", {"name": "x", "percentage_off": "ten"}, "Enter a number, such as 0.002."),
        ("price", {"entity_id": "plan_x"}, "There is no plan plan_x"),
        ("price", {"amount": "-1"}, "must not be negative"),
        ("price", {"amount": ""}, "This field is required"),
        ("price", {"currency": "xxx"}, "'xxx' is no currency"),
        ("price", {"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": '[{"up_to": 5}]'}, "tiers[0].unit_amount"),
        ("price", {"billing_model": "PACKAGE"}, "How many units are in a package?"),
        ("price", {"meter": "meter_x"}, "Select a valid choice"),
        ("feature", {"name": "x", "reporting_unit_singular": "million"}, "A reporting unit needs its names"),
    ],
)
def test_a_form_says_in_words_what_is_wrong(admin_client: Client, model: str, changed: dict[str, str], told: str):
    make_customer("acme")
    meter, plan = make_meter(), make_plan()
    defaults = {"environment": MAIN} | {
        "price": {"entity_id": plan.pk, "meter": meter.pk, "amount": "1"}, "feature": {"meter": meter.pk},
    }.get(model, {})  # fmt: skip
    assert told in refused(admin_client, f"{ROOT}/{model}/add/", **defaults | changed)
    assert Price.objects.count() == Coupon.objects.count() == Feature.objects.count() == 0


def test_a_plan_gets_prices_on_its_own_page(admin_client: Client):
    meter, plan = make_meter(), make_plan()
    path = f"{ROOT}/plan/{plan.pk}/change/"
    added = {
        "prices-TOTAL_FORMS": "1", "prices-0-display_name": "Requests", "prices-0-type": "USAGE", "prices-0-meter": meter.pk,
        "prices-0-currency": "usd", "prices-0-billing_model": "FLAT_FEE", "prices-0-amount": "0.002",
        "prices-0-status": "published",
    }  # fmt: skip
    assert "must not be negative" in refused(admin_client, path, **added | {"prices-0-amount": "-1"})
    saved(admin_client, path, **added)
    price = Price.objects.get()
    assert (price.entity_type, price.entity_id, price.environment, price.amount) == ("PLAN", plan.pk, MAIN, Decimal("0.002"))
    saved(admin_client, path, **{"prices-0-amount": "0.003"})
    assert Price.objects.get().amount == Decimal("0.003")
    subscribe(make_customer(), plan)
    saved(admin_client, path, **{"prices-0-amount": "9", "prices-0-display_name": "Calls"})
    assert (Price.objects.get().amount, Price.objects.get().display_name) == (Decimal("0.003"), "Calls")


def test_subscribing_in_the_admin_copies_the_prices_of_the_plan(admin_client: Client):
    plan, customer = make_plan(), make_customer()
    price = make_price(make_meter(), plan)
    add = f"{ROOT}/subscription/add/"
    stranger = make_customer(environment="elsewhere")
    assert "This belongs to another environment." in refused(
        admin_client, add, environment=MAIN, customer=stranger.pk, plan=plan.pk
    )
    assert "Which plan is subscribed to?" in refused(admin_client, add, environment=MAIN, customer=customer.pk)
    saved(admin_client, add, environment=MAIN, customer=customer.pk, plan=plan.pk, currency="usd")
    subscription = Subscription.objects.get()
    item = subscription.line_items.get()
    assert (item.price, item.meter_id, item.created_by) == (price, price.meter_id, "admin")
    change = f"{ROOT}/subscription/{subscription.pk}/change/"
    wrong = {"line_items-0-commitment_type": "amount"}
    assert "A commitment is greater than zero" in refused(admin_client, change, **wrong)
    saved(admin_client, change, **wrong | {"line_items-0-commitment_amount": "100"})
    assert LineItem.objects.get().commitment_amount == Decimal(100)
    coupon = make_coupon()
    start = {"coupons-0-start_date_0": "2025-01-01", "coupons-0-start_date_1": "00:00:00"}
    saved(admin_client, change, **{"coupons-TOTAL_FORMS": "1", "coupons-0-coupon": coupon.pk} | start)
    assert subscription.coupons.get().coupon == coupon


def test_a_plan_without_prices_is_refused_in_words(admin_client: Client):
    customer, plan = make_customer(), make_plan()
    told = refused(
        admin_client, f"{ROOT}/subscription/add/", environment=MAIN, customer=customer.pk, plan=plan.pk, currency="usd"
    )
    assert "The plan has no prices" in told
    assert Subscription.objects.count() == 0


def test_a_subscription_is_cancelled_and_says_so(admin_client: Client):
    subscription = make_subscription(make_meter())
    path = f"{ROOT}/subscription/{subscription.pk}/"
    assert "lies before the start" in Page(admin_client.post(f"{path}cancel/", {"at": "2020-01-01T00:00"}).content.decode()).text
    assert admin_client.post(f"{path}cancel/", {"at": "2025-02-01T00:00"}).status_code == 302
    subscription.refresh_from_db()
    assert (subscription.status, subscription.cancelled_at) == ("cancelled", at("2025-02-01 00:00"))
    assert LogEntry.objects.get().change_message == "Cancelled."
    assert "Cancel…" not in read(admin_client, f"{path}change/").links


def test_what_is_in_use_is_neither_archived_nor_deleted(admin_client: Client):
    subscription = make_subscription(make_meter())
    rows = [subscription.customer, subscription.plan, subscription.line_items.get().price]
    for row in rows:
        path = f"{ROOT}/{row._meta.model_name}/{row.pk}/"
        assert "It is in use by 1" in read(admin_client, f"{path}archive/").text
        admin_client.post(f"{path}archive/")
        admin_client.post(f"{ROOT}/{row._meta.model_name}/", {"action": "archive_selected", "_selected_action": row.pk})
        assert admin_client.post(f"{path}delete/", {"post": "yes"}).status_code == 403
        row.refresh_from_db()
        assert row.status == "published"
    plan = make_plan()
    assert admin_client.post(f"{ROOT}/plan/{plan.pk}/archive/").status_code == 302
    plan.refresh_from_db()
    assert plan.status == "archived"
    assert LogEntry.objects.get().change_message == "Archived."
    assert admin_client.post(f"{ROOT}/plan/{plan.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Plan.objects.filter(pk=plan.pk).exists()


def test_a_price_shows_what_a_quantity_costs_and_how(viewer: Client):
    price = line_item(make_meter(), **tiered("SLAB")).price
    path = f"{ROOT}/price/{price.pk}/change/"
    page = read(viewer, path, {"quantity": "150"})
    assert "150 units cost $14.50" in page.text
    assert "units up to 100 100 0.1 10" in page.text
    assert "units above 100 up to 1000 50 0.05 2 4.5" in page.text
    assert "A quantity of 0 or less costs nothing." in read(viewer, path, {"quantity": "0"}).text
    assert "Enter a number" in read(viewer, path, {"quantity": "<script>"}).text
    assert "Enter a number" in read(viewer, path, {"quantity": "NaN"}).text
    assert "at most 100" in read(viewer, path, {"quantity": "9" * 101}).text
    assert "units cost" not in read(viewer, path).text


def test_a_price_without_an_open_tier_is_pointed_out(viewer: Client):
    tiers = [{"up_to": 10, "unit_amount": "1"}, {"unit_amount": "2"}]
    price = leave_open(line_item(make_meter(), **tiered("SLAB", tiers)).price)
    assert "units above 10 are not charged" in read(viewer, f"{ROOT}/price/{price.pk}/change/").text


def test_what_is_charged_by_a_price_cannot_be_changed_on_its_page(admin_client: Client):
    price = line_item(make_meter()).price
    path = f"{ROOT}/price/{price.pk}/change/"
    saved(admin_client, path, amount="9", display_name="Calls")
    price.refresh_from_db()
    assert (price.amount, price.display_name) == (Decimal("0.10"), "Calls")


def test_a_subscription_shows_its_usage_and_costs(viewer: Client):
    subscription = make_subscription(make_meter())
    ingest(
        [usage_event("e", event_name="api_request", timestamp=at("2025-01-05 00:00"), properties={"size": 25})], environment=MAIN
    )
    path = f"{ROOT}/subscription/{subscription.pk}/costs/"
    page = read(viewer, path, {"start": "2025-01-01T00:00", "end": "2025-02-01T00:00"})
    assert "Size 1 25 $2.50" in page.text
    assert "Total $2.50" in page.text
    assert "Nothing was used." in read(viewer, path).text
    assert "Enter a date and a time" in read(viewer, path, {"start": "soon"}).text
    assert viewer.get(f"{ROOT}/subscription/nobody/costs/").status_code == 404


def test_what_somebody_named_is_shown_as_text(viewer: Client):
    save(Customer(environment=MAIN, external_id="<script>alert(1)</script>", name="\u202eevil"))
    page = read(viewer, f"{ROOT}/customer/", HERE)
    assert "<script>alert" not in page.content
    assert "<script>alert(1)</script>" in page.text
