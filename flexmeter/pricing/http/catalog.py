"""Features and plans."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from flexmeter.http import members
from flexmeter.http.answers import Answer
from flexmeter.http.errors import InvalidPayload
from flexmeter.http.members import Members
from flexmeter.http.meters import definition_of_body
from flexmeter.meters import create_meter
from flexmeter.pricing.http import answers, reading
from flexmeter.pricing.http.base import ListView, OneView, Resource
from flexmeter.pricing.http.filters import FeatureFilter, PlanFilter
from flexmeter.pricing.http.reading import Columns
from flexmeter.pricing.models import Feature, Plan
from flexmeter.stores.database.transactions import write_alias

FEATURES = Resource(Feature, FeatureFilter, answers.features, expanded=frozenset({"meter"}))
PLANS = Resource(Plan, PlanFilter, answers.plans, expanded=frozenset({"prices"}))

FEATURE_COLUMNS: Columns = {
    "name": ("name", reading.text),
    "type": ("type", reading.text),
    "lookup_key": ("lookup_key", reading.text),
    "description": ("description", reading.description),
    "unit_singular": ("unit_singular", reading.text),
    "unit_plural": ("unit_plural", reading.text),
    "metadata": ("metadata", reading.metadata),
    "status": ("status", reading.status),
}
REPORTING_COLUMNS: Columns = {
    "unit_singular": ("reporting_unit_singular", reading.text),
    "unit_plural": ("reporting_unit_plural", reading.text),
    "conversion_rate": ("reporting_conversion_rate", reading.decimal),
}
PLAN_COLUMNS: Columns = {
    "name": ("name", reading.text),
    "lookup_key": ("lookup_key", reading.text),
    "description": ("description", reading.description),
    "metadata": ("metadata", reading.metadata),
    "status": ("status", reading.status),
}


class FeaturesView(ListView):
    resource = FEATURES

    def post(self, request: Request) -> Answer:
        body = self.body()
        members.text(body, "name", required=True)
        columns = feature_columns(body)
        meter_id, meter = members.text(body, "meter_id"), reading.inner(body, "meter")
        if bool(meter_id) == bool(meter):
            raise InvalidPayload("meter_id", "or meter is required, and not both")
        if meter_id:
            feature = Feature(environment=self.environment, meter=self.meter(meter_id), **columns)
            return self.shown(self.saved(feature), 201)
        with reading.within("meter"):
            definition = definition_of_body(meter)

        def create() -> Feature:
            created = create_meter(definition, environment=self.environment, by=self.credentials.subject, using=write_alias())
            return self.saved(Feature(environment=self.environment, meter=created, **columns))

        return self.shown(self.together(create), 201)


class FeatureView(OneView):
    resource = FEATURES

    def put(self, request: Request, id: str) -> Answer:
        columns = feature_columns(self.body())
        return self.shown(self.saved(self.find(Feature, id, "id"), columns))

    def delete(self, request: Request, id: str) -> Answer:
        return self.archived(self.find(Feature, id, "id"))


class PlansView(ListView):
    resource = PLANS

    def post(self, request: Request) -> Answer:
        body = self.body()
        members.text(body, "name", required=True)
        plan = Plan(environment=self.environment, **reading.given(body, PLAN_COLUMNS))
        return self.shown(self.saved(plan), 201)


class PlanView(OneView):
    resource = PLANS

    def put(self, request: Request, id: str) -> Answer:
        columns = reading.given(self.body(), PLAN_COLUMNS)
        return self.shown(self.saved(self.find(Plan, id, "id"), columns))

    def delete(self, request: Request, id: str) -> Answer:
        return self.archived(self.find(Plan, id, "id"))


def feature_columns(body: Members) -> dict[str, Any]:
    unit = reading.inner(body, "reporting_unit")
    columns = reading.given(body, FEATURE_COLUMNS)
    with reading.within("reporting_unit"):
        return columns | reading.given(unit, REPORTING_COLUMNS)
