"""The HTTP API of pricing: customers, features, plans, prices, subscriptions and coupons."""
