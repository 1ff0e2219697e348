"""The API of pricing described in OpenAPI, beside flexmeter's own.

`examples` tells of one thing of each kind, `components` holds the shapes, the other modules the operations.
"""

from flexmeter.pricing.http.schema import catalog, coupons, customers, prices, subscriptions
from flexmeter.pricing.http.schema.components import components

OPERATIONS = (
    *customers.OPERATIONS,
    *catalog.OPERATIONS,
    *prices.OPERATIONS,
    *subscriptions.OPERATIONS,
    *coupons.OPERATIONS,
)

__all__ = ["OPERATIONS", "components"]
