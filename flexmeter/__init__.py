"""Usage metering inside a Django project: a durable event ledger, exact meters, and an HTTP API."""

__version__ = "0.1.0"
