"""Placing an order: the row and the usage event in one transaction."""

from django.db import transaction

from flexmeter.recording import record

from tests.crash.shop.models import Order

CUSTOMERS = 5


def place_order(number: str, amount: int) -> None:
    """Sell once. Raises IntegrityError for a number that was sold before."""
    with transaction.atomic():
        Order.objects.create(number=number, amount=amount)
        record("order", f"customer {amount % CUSTOMERS}", {"amount": amount}, idempotency_key=number)
