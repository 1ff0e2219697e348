"""Routes of pricing, which stand beside those of the API."""

from __future__ import annotations

from django.urls import URLPattern, re_path

from flexmeter.http.routing import routes
from flexmeter.http.schema import further
from flexmeter.pricing.http import catalog, coupons, customers, line_items, prices, schema, subscriptions
from flexmeter.pricing.http.base import search

further.declare("pricing", schema.OPERATIONS, schema.components)

ID = r"(?P<id>[^/]+)"
EXTERNAL_ID = r"(?P<external_id>(?s:.+))"

urlpatterns: list[URLPattern] = [
    *routes("customers", customers.CustomersView, "flexmeter-customers"),
    *routes("customers/search", search(customers.CUSTOMERS), "flexmeter-customers-search"),
    *routes(
        r"customers/external/(?P<external_id>[^/]+)/subscriptions",
        subscriptions.CustomerSubscriptionsView,
        "flexmeter-customer-subscriptions",
    ),
    re_path(rf"^customers/external/{EXTERNAL_ID}\Z", customers.ByExternalIdView.as_view(), name="flexmeter-external-customer"),
    re_path(rf"^customers/lookup/{EXTERNAL_ID}\Z", customers.ByExternalIdView.as_view(), name="flexmeter-customer-lookup"),
    *routes(f"customers/{ID}", customers.CustomerView, "flexmeter-customer"),
    *routes("features", catalog.FeaturesView, "flexmeter-features"),
    *routes("features/search", search(catalog.FEATURES), "flexmeter-features-search"),
    *routes(f"features/{ID}", catalog.FeatureView, "flexmeter-feature"),
    *routes("plans", catalog.PlansView, "flexmeter-plans"),
    *routes("plans/search", search(catalog.PLANS), "flexmeter-plans-search"),
    *routes(f"plans/{ID}", catalog.PlanView, "flexmeter-plan"),
    *routes("prices", prices.PricesView, "flexmeter-prices"),
    *routes("prices/bulk", prices.BulkPricesView, "flexmeter-prices-bulk"),
    *routes("prices/search", search(prices.PRICES), "flexmeter-prices-search"),
    *routes(r"prices/lookup/(?P<lookup_key>[^/]+)", prices.PriceByKeyView, "flexmeter-price-by-key"),
    *routes(f"prices/{ID}", prices.PriceView, "flexmeter-price"),
    *routes("subscriptions", subscriptions.SubscriptionsView, "flexmeter-subscriptions"),
    *routes("subscriptions/search", search(subscriptions.SUBSCRIPTIONS), "flexmeter-subscriptions-search"),
    *routes("subscriptions/lineitems/search", search(line_items.LINE_ITEMS), "flexmeter-line-items-search"),
    *routes(f"subscriptions/lineitems/{ID}", line_items.LineItemView, "flexmeter-line-item"),
    *routes(f"subscriptions/{ID}/cancel", subscriptions.CancelView, "flexmeter-subscription-cancel"),
    *routes(f"subscriptions/{ID}/lineitems", line_items.SubscriptionItemsView, "flexmeter-subscription-items"),
    *routes(f"subscriptions/{ID}", subscriptions.SubscriptionView, "flexmeter-subscription"),
    *routes("coupons", coupons.CouponsView, "flexmeter-coupons"),
    *routes("coupons/search", search(coupons.COUPONS), "flexmeter-coupons-search"),
    *routes("coupons/associations", coupons.AssociationsView, "flexmeter-coupon-associations"),
    *routes(f"coupons/associations/{ID}", coupons.AssociationView, "flexmeter-coupon-association"),
    *routes(f"coupons/{ID}", coupons.CouponView, "flexmeter-coupon"),
]
