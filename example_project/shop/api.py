"""Metered views of Django REST framework, left out of the description of flexmeter's API."""

from __future__ import annotations

from typing import Any

from rest_framework.decorators import action, api_view, schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from flexmeter.decorators import RESPONSE_BYTES, meter_view

from shop.customers import customer_of

PRICES = {"apple": 3, "pear": 4}


@meter_view("quote", customer=customer_of)
@api_view(["GET"])
@schema(None)
def quote(request: Request) -> Response:
    return Response({"total": sum(PRICES.values())})


@meter_view("prices", customer=customer_of, measure=[RESPONSE_BYTES])
class Prices(APIView):
    schema = None

    def get(self, request: Request) -> Response:
        return Response(PRICES)


class Products(ViewSet):
    schema = None

    @meter_view("product_view", customer=customer_of, properties=lambda request, response: {"price": response.data["price"]})
    def retrieve(self, request: Request, pk: str) -> Response:
        if pk not in PRICES:
            raise NotFound  # is not metered
        return Response({"name": pk, "price": PRICES[pk]})

    @action(detail=True)
    @meter_view("stock_check", customer=customer_of, counts=lambda request, response: response.data["stock"] > 0)
    def stock(self, request: Request, pk: str) -> Response:
        stock: dict[str, Any] = {"stock": len(pk) if pk in PRICES else 0}
        return Response(stock)
