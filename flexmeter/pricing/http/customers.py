"""Customers: created, found by either id, changed and archived."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from flexmeter.exceptions import DefinitionNotFound
from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.members import Members
from flexmeter.pricing import references
from flexmeter.pricing.catalog import find_customer
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import ListView, OneView, PricingView, Resource
from flexmeter.pricing.http.filters import CustomerFilter
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import Customer
from flexmeter.stores.database.transactions import read_alias, write_alias

CUSTOMERS = Resource(Customer, CustomerFilter, answers.customers, ("created_at", "updated_at", "name", "external_id"))
COLUMNS: Columns = {
    "external_id": ("external_id", reading.text),
    "name": ("name", reading.text),
    "email": ("email", reading.text),
    "timezone": ("timezone", reading.text),
    "metadata": ("metadata", reading.metadata),
    "status": ("status", reading.status),
}


class CustomersView(ListView):
    resource = CUSTOMERS

    def post(self, request: Request) -> Answer:
        body = self.body()
        members.text(body, "external_id", required=True)
        customer = Customer(environment=self.environment, **columns_of(self, body))
        return self.shown(self.saved(customer), 201)

    def put(self, request: Request) -> Answer:
        """Changes the customer that the query string names by `id` or by `external_customer_id`."""
        parameters = self.parameters()
        id, external_id = members.text(parameters, "id"), members.text(parameters, "external_customer_id")
        if not id and not external_id:
            raise InvalidPayload("id", "or external_customer_id is required in the query string")
        customer = self.find(Customer, id, "id") if id else by_external_id(self, external_id)
        return changed(self, customer)


class CustomerView(OneView):
    resource = CUSTOMERS

    def put(self, request: Request, id: str) -> Answer:
        return changed(self, self.find(Customer, id, "id"))

    def delete(self, request: Request, id: str) -> Answer:
        references.archive(self.find(Customer, id, "id"), by=self.credentials.subject)
        return Answer(status=204)


class ByExternalIdView(PricingView):
    resource = CUSTOMERS

    def get(self, request: Request, external_id: str) -> Answer:
        try:
            return self.shown(by_external_id(self, external_id))
        except DefinitionNotFound:
            if not external_id.endswith("/"):  # which may be the address's and not the id's
                raise
            return self.shown(by_external_id(self, external_id[:-1]))


def by_external_id(view: PricingView, external_id: str) -> Customer:
    """The customer that events call so. Raises DefinitionNotFound."""
    members.checked_text(external_id, "external_id")
    alias = read_alias() if view.request.method == "GET" else write_alias()
    found = find_customer(external_id, environment=view.environment, using=alias)
    if found is None:
        raise DefinitionNotFound("customer", external_id)
    return found


def changed(view: PricingView, customer: Customer) -> Answer:
    return view.shown(view.saved(customer, columns_of(view, view.body())))


def columns_of(view: PricingView, body: Members) -> dict[str, Any]:
    columns = reading.given(body, COLUMNS)
    if members.text(body, "parent_customer_id"):
        columns["parent"] = view.named(Customer, body, "parent_customer_id")
    return columns
