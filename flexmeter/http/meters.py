"""Meters: defined, listed, narrowed and archived."""

from __future__ import annotations

from django.db.models import QuerySet
from rest_framework.request import Request

from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.base import ApiView
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.filters import MeterFilter, validated
from flexmeter.http.members import Members
from flexmeter.http.paging import Page
from flexmeter.http.shapes import meter_shape
from flexmeter.meters import MeterDefinition, add_filters, archive_meter, create_meter, find_meter
from flexmeter.models import Meter
from flexmeter.stores.database.transactions import read_alias

SORTS = ("created_at", "updated_at", "name", "event_name")
CHANGES = {"POST": "admin", "PUT": "admin", "DELETE": "admin"}


class MetersView(ApiView):
    scopes = CHANGES

    def post(self, request: Request) -> Answer:
        definition = definition_of_body(self.body())
        meter = create_meter(definition, environment=self.environment, by=self.credentials.subject)
        return Answer(meter_shape(meter), 201)

    def get(self, request: Request) -> Answer:
        parameters = self.parameters()
        page = Page.of(parameters, SORTS)
        meters = Meter.objects.using(read_alias()).in_environment(self.environment).exclude(status=Meter.Status.DELETED)
        rows: QuerySet[Meter] = validated(MeterFilter(parameters, queryset=meters)).qs.order_by(*page.ordering)
        total = rows.count()
        return Answer(
            {
                "items": [meter_shape(meter) for meter in rows[page.offset : page.offset + page.limit]],
                "pagination": page.pagination(total),
            }
        )


class MeterView(ApiView):
    scopes = CHANGES

    def get(self, request: Request, meter_id: str) -> Answer:
        return Answer(meter_shape(find_meter(_id(meter_id), environment=self.environment, using=read_alias())))

    def put(self, request: Request, meter_id: str) -> Answer:
        body = self.body()
        dimensions = None if body.get("dimensions") is None else members.texts(body, "dimensions")
        meter = add_filters(
            _id(meter_id), _filters(body), dimensions=dimensions, environment=self.environment, by=self.credentials.subject
        )
        return Answer(meter_shape(meter))

    def delete(self, request: Request, meter_id: str) -> Answer:
        archive_meter(_id(meter_id), environment=self.environment, by=self.credentials.subject)
        return Answer({"message": "Meter deleted successfully"})


class DisableMeterView(ApiView):
    scopes = CHANGES

    def post(self, request: Request, meter_id: str) -> Answer:
        archive_meter(_id(meter_id), environment=self.environment, by=self.credentials.subject)
        return Answer({"message": "Meter disabled successfully"})


def _id(meter_id: str) -> str:
    return members.checked_text(meter_id, "meter_id")


def definition_of_body(body: Members) -> MeterDefinition:
    name, event_name = members.text(body, "name", required=True), members.text(body, "event_name", required=True)
    aggregation = body.get("aggregation")
    if aggregation is None:
        raise InvalidPayload("aggregation", "is required")
    if not isinstance(aggregation, dict):
        raise InvalidPayload("aggregation", "must be an object")
    try:
        type = members.text(aggregation, "type", required=True)
        multiplier = members.decimal(aggregation, "multiplier")
        texts = {key: members.text(aggregation, key) for key in ("field", "expression", "bucket_size", "group_by")}
    except InvalidPayload as error:
        raise InvalidPayload(f"aggregation.{error.field}", error.reason) from None
    filters = _filters(body)
    return MeterDefinition(
        name=name,
        event_name=event_name,
        aggregation_type=type,
        multiplier=multiplier,
        filters=tuple((key, tuple(values)) for key, values in filters),
        reset_usage=members.text(body, "reset_usage", required=True),
        dimensions=tuple(members.texts(body, "dimensions")),
        **texts,
    )


def _filters(body: Members) -> list[tuple[str, list[str]]]:
    given = body.get("filters")
    if given is None:
        return []
    if not isinstance(given, list):
        raise InvalidPayload("filters", "must be a list of objects with key and values")
    filters = []
    for index, entry in enumerate(given):
        if not isinstance(entry, dict):
            raise InvalidPayload(f"filters[{index}]", "must be an object with key and values")
        try:
            filters.append((members.text(entry, "key"), members.texts(entry, "values")))
        except InvalidPayload as error:
            raise InvalidPayload(f"filters[{index}].{error.field}", error.reason) from None
    return filters
