"""What all views of pricing share: everything is looked for in the environment of the key, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.utils.text import capfirst
from rest_framework.request import Request

from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.base import ApiView
from flexmeter.http.bodies import decoded, read_body
from flexmeter.http.errors import ApiError
from flexmeter.http.filters import validated
from flexmeter.http.members import Members
from flexmeter.http.paging import Page
from flexmeter.meters import find_meter
from flexmeter.models import Meter
from flexmeter.pricing import catalog, references
from flexmeter.pricing.http.filters import parameters_of
from flexmeter.pricing.models import Record
from flexmeter.pricing.references import InUse
from flexmeter.stores.database.transactions import in_transaction, read_alias, write_alias

Row = TypeVar("Row", bound=Record)
T = TypeVar("T")
Answers = Callable[[Sequence[Any], frozenset[str]], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of thing: how it is filtered, sorted and shown. `answers` takes rows and the names of what to expand."""

    model: type[Record]
    filters: type[django_filters.FilterSet]
    answers: Answers
    sorts: tuple[str, ...] = ("created_at", "updated_at", "name")
    expanded: frozenset[str] = frozenset()
    """What is shown along where one is asked for."""


class PricingView(ApiView):
    resource: ClassVar[Resource]
    scopes: ClassVar[Mapping[str, str]] = {"POST": "admin", "PUT": "admin", "DELETE": "admin"}

    def rows(self, model: type[Row]) -> QuerySet[Row]:
        """All there are in the environment of the key."""
        return model._default_manager.using(read_alias()).filter(environment=self.environment)

    def find(self, model: type[Row], id: str, member: str) -> Row:
        """The row of that id. Raises DefinitionNotFound, also for one of another environment."""
        members.checked_text(id, member)
        alias = read_alias() if self.request.method == "GET" else write_alias()
        return catalog.find(model, id, environment=self.environment, using=alias)

    def named(self, model: type[Row], body: Members, member: str) -> Row:
        """The row whose id the body's member holds."""
        return self.find(model, members.text(body, member, required=True), member)

    def meter(self, id: str, member: str = "meter_id") -> Meter:
        return find_meter(members.checked_text(id, member), environment=self.environment, using=write_alias())

    def saved(self, row: Row, columns: Mapping[str, Any] | None = None) -> Row:
        """The row, stored with these columns."""
        for column, value in (columns or {}).items():
            setattr(row, column, value)
        return references.save(row, by=self.credentials.subject, using=write_alias())

    def archived(self, row: Record) -> Answer:
        references.archive(row, by=self.credentials.subject, using=write_alias())
        return Answer({"message": f"{capfirst(str(row._meta.verbose_name))} archived successfully"})

    def together(self, work: Callable[[], T]) -> T:
        """Do all of it or nothing."""
        return in_transaction(write_alias(), work)

    def shown(self, row: Record, status: int = 200) -> Answer:
        [answer] = self.resource.answers([row], self.resource.expanded)
        return Answer(answer, status)

    def optional_body(self) -> Members:
        """The request's JSON object, or {} where nothing was sent."""
        received = read_body(self.request._request)
        return decoded(received) if received.strip() else {}

    def page(self, parameters: QueryDict, **conditions: Any) -> Answer:
        """The page of a list that parameters ask for."""
        resource = self.resource
        page = Page.of(parameters, resource.sorts)
        within = self.rows(resource.model).filter(**conditions)
        found = validated(resource.filters(parameters, queryset=within)).qs.order_by(*page.ordering)
        wanted = frozenset(filter(None, (parameters.get("expand") or "").split(",")))
        rows = list(found[page.offset : page.offset + page.limit])
        return Answer({"items": resource.answers(rows, wanted), "pagination": page.pagination(found.count())})

    def handle_exception(self, error: Exception) -> HttpResponse:
        if isinstance(error, InUse):
            error = ApiError(409, "invalid_operation", error.message, error.details)
        return super().handle_exception(error)


class ListView(PricingView):
    """A list by query string."""

    def get(self, request: Request) -> Answer:
        return self.page(self.parameters())


class SearchView(PricingView):
    """A list by the members of a body."""

    scopes: ClassVar[Mapping[str, str]] = {"POST": "read"}

    def post(self, request: Request) -> Answer:
        return self.page(parameters_of(self.optional_body(), self.resource.filters))


class OneView(PricingView):
    """One row, by its id."""

    def get(self, request: Request, id: str) -> Answer:
        return self.shown(self.find(self.resource.model, id, "id"))


def search(resource: Resource) -> type[SearchView]:
    """The view that searches a kind of thing."""
    return type("SearchView", (SearchView,), {"resource": resource, "__module__": SearchView.__module__})
