"""Errors of pricing."""

from __future__ import annotations

from flexmeter.exceptions import InvalidDefinition


class InvalidPricing(InvalidDefinition):
    """A customer, feature, plan, price, subscription or coupon that breaks a rule."""
