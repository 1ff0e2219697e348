from decimal import Decimal

from django.contrib.auth.models import Permission, User

from flexmeter.ingest import ingest
from flexmeter.pricing.catalog import find_customer
from flexmeter.pricing.models import Plan, Price, Subscription

from tests.browser.driving import in_every_look
from tests.factories import at, make_event
from tests.pricing.factories import MAIN, make_coupon, make_customer, make_feature, make_meter, make_plan, make_price, tiered

PRICING = "/admin/flexmeter_pricing"
HERE = {"environment": MAIN}


def priced() -> Price:
    """A plan with a tiered price and a flat one."""
    meter, plan = make_meter(name="API requests"), make_plan(name="Pay as you go", lookup_key="pay-as-you-go")
    make_feature(meter, name="API requests", unit_singular="request", unit_plural="requests")
    make_coupon(name="Launch")
    make_price(make_meter(name="Tokens", field="tokens"), plan, display_name="Tokens", amount=Decimal("0.0000015"))
    return make_price(meter, plan, display_name="API requests", **tiered("SLAB"))


@in_every_look
def test_a_customer_subscribes_to_a_plan_and_its_costs_are_shown(signed_in):
    priced()
    make_customer("acme", name="Acme")
    signed_in.open(f"{PRICING}/subscription/add/")
    signed_in.fill("#id_environment", MAIN)
    signed_in.fill("#id_customer", find_customer("acme", environment=MAIN).pk)
    signed_in.fill("#id_plan", Plan.objects.get().pk)
    signed_in.fill("#id_start_date_0", "2025-01-01")
    signed_in.fill("#id_start_date_1", "00:00:00")
    signed_in.click('input[name="_continue"]')
    signed_in.see("was added successfully", "body")
    subscription = Subscription.objects.get()
    assert subscription.line_items.count() == 2
    signed_in.screenshot("pricing-subscription")
    used = make_event("e", event_name="api_request", external_customer_id="acme", timestamp=at("2025-01-05 00:00"))
    ingest([used._replace(properties={"size": 150, "tokens": 2_000_000})], environment=MAIN)
    signed_in.click("a[href$='/costs/']")
    signed_in.see("Nothing was used.", "#costs")
    signed_in.open(f"{PRICING}/subscription/{subscription.pk}/costs/", {"start": "2025-01-01T00:00", "end": "2025-02-01T00:00"})
    signed_in.see("$17.50", "#costs")
    signed_in.screenshot("pricing-costs")
    signed_in.open(f"{PRICING}/subscription/", HERE)
    signed_in.see("1 subscription")
    signed_in.screenshot("pricing-subscriptions")


@in_every_look
def test_a_price_tells_how_a_cost_comes_about(browser, transactional_db):
    priced()
    user = User.objects.create_user("viewer", password="viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="flexmeter_pricing", codename__startswith="view_")
    )
    browser.sign_in(user)
    browser.open(f"{PRICING}/price/", HERE)
    browser.see("2 prices")
    browser.follow("API requests")
    browser.fill("#id_quantity", "150")
    browser.click("#calculator input[type=submit]")
    browser.see("150 units cost $14.50", "#calculator")
    browser.see("units above 100 up to 1000", "#calculator")
    browser.screenshot("pricing-price")


@in_every_look
def test_a_plan_is_edited_together_with_its_prices(signed_in):
    price = priced()
    signed_in.open(f"{PRICING}/plan/{price.entity_id}/change/")
    signed_in.fill("#id_prices-0-amount", "-1")
    signed_in.click('input[name="_save"]')
    signed_in.see("must not be negative")
    signed_in.screenshot("pricing-plan-refused")
    signed_in.fill("#id_prices-0-amount", "0.000002")
    signed_in.click('input[name="_continue"]')
    signed_in.see("was changed successfully", "body")
    assert Price.objects.get(display_name="Tokens").amount == Decimal("0.000002")
    signed_in.click("a[href$='/archive/']")
    signed_in.click("#archive")
    signed_in.see("was archived", "body")
    assert Plan.objects.get().status == "archived"
