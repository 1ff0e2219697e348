"""The admin of pricing: who is charged for what, and how a price makes its figures."""

from flexmeter.pricing.admin import catalog, customers, prices, subscriptions

__all__ = ["catalog", "customers", "prices", "subscriptions"]
