"""Prices for usage: customers, features, plans, subscriptions, and what the usage of a customer costs."""
