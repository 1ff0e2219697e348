"""The description of pricing's API: true of what it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flexmeter.http.schema.examples import ENVIRONMENT, METER_ID
from flexmeter.http.schema.operations import Example, Operation
from flexmeter.keys import create_key
from flexmeter.models import ApiKey
from flexmeter.pricing.http.schema import OPERATIONS, components, examples

from tests.http import test_schema as core
from tests.http.client import Api
from tests.http.test_schema import SETTLED, call, faults
from tests.requirements import import_required, only_on

import_required("drf_spectacular")

pytestmark = only_on("sqlite")  # what is written down does not depend on the database

KNOWN = {
    value.rpartition("_")[0]: value
    for value in (
        METER_ID,
        *(getattr(examples, f"{name}_ID") for name in ("CUSTOMER", "FEATURE", "PLAN", "PRICE")),
        *(getattr(examples, f"{name}_ID") for name in ("SUBSCRIPTION", "ITEM", "COUPON", "ASSOCIATION")),
    )
}
"""The ids of the examples by their prefix."""
MAKING = (
    *("createCustomer", "createFeature", "createPlan", "createPrice"),
    *("createSubscription", "createCoupon", "createCouponAssociation"),
)
BY_ID = {operation.id: operation for operation in OPERATIONS}

Case = tuple[Operation, int, Example]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return core.generate()


def cases() -> Iterator[Any]:
    for operation in OPERATIONS:
        for status, shown in {operation.status: operation.examples, **operation.faults}.items():
            for name, example in shown.items():
                yield pytest.param((operation, status, example), id=f"{operation.id}-{name}")


class World:
    """What the examples tell of, as far as it is made; ids of the examples stand for those it has."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.real = {METER_ID: api.meter("SUM", field="prompt_tokens", name="Prompt tokens")["id"]}

    def make(self, until: str) -> World:
        """Make one of everything, up to what an operation would make itself."""
        for id in MAKING:
            if id == until:
                break
            answer = self.api.post(BY_ID[id].path, self.spoken(next(iter(BY_ID[id].examples.values())).body))
            assert answer.status == 201, answer
            self._learn(answer.body)
        return self

    def call(self, operation: Operation, example: Example) -> Any:
        spoken = Example("", {}, self.spoken(example.body), self.spoken(example.parameters))
        return call(self.api, operation, spoken, self.real[METER_ID])

    def spoken(self, value: Any) -> Any:
        text = json.dumps(value)
        for shown, id in self.real.items():
            text = text.replace(shown, id)
        return json.loads(text)

    def _learn(self, body: Mapping[str, Any]) -> None:
        for id in re.findall(r'"((?:subs_line|coupon_assoc|[a-z]+)_[0-9A-HJKMNP-TV-Z]{26})"', json.dumps(body)):
            prefix = id.rpartition("_")[0]
            if prefix in KNOWN:
                self.real.setdefault(KNOWN[prefix], id)


def settled(value: Any) -> Any:
    """An answer without what is different every time."""
    if isinstance(value, Mapping):
        return {key: settled(item) for key, item in value.items() if key not in SETTLED}
    if isinstance(value, (list, tuple)):
        return [settled(item) for item in value]
    found = re.fullmatch(r"([a-z_]+)_[0-9A-HJKMNP-TV-Z]{26}", value) if isinstance(value, str) else None
    return KNOWN[found[1]] if found else value


@pytest.mark.parametrize("case", list(cases()))
def test_an_example_gets_the_answer_it_shows(schema, api: Api, case: Case):
    operation, status, example = case
    answer = World(api).make(until=operation.id).call(operation, example)
    assert answer.status == status, answer
    if status == 204:
        assert answer.body is None
        return
    shown = settled(example.answer)
    if operation.id == "createMeter" or not isinstance(shown, Mapping):
        raise AssertionError(operation.id)
    assert of_the_meter(settled(answer.body)) == of_the_meter(shown)
    component = operation.answer if status == operation.status else "ErrorResponse"
    assert faults(schema, component, answer.body) == []


def of_the_meter(value: Any) -> Any:
    """Of a meter shown along, only its id."""
    if isinstance(value, Mapping):
        return {key: item["id"] if key == "meter" and item else of_the_meter(item) for key, item in value.items()}
    return [of_the_meter(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", list(cases()))
def test_an_example_has_the_shape_that_is_declared(schema, case: Case):
    operation, status, example = case
    component = operation.answer if status == operation.status else "ErrorResponse"
    if component is not None:
        assert faults(schema, component, example.answer) == []
    if operation.body and status == operation.status:
        assert faults(schema, operation.body, example.body) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_needs_the_scope_it_names(schema, api: Api, operation: Operation):
    described = schema["paths"]["/v1" + operation.path][operation.method.lower()]
    [scope] = re.findall(r"Needs a key with the scope `(\w+)`\.$", described["description"])
    assert scope == ("read" if operation.method == "GET" or operation.path.endswith("/search") else "admin")
    example = Example("", {}, {}, dict.fromkeys(re.findall(r"{(\w+)}", operation.path), "x"))
    others = [other for other in ApiKey.Scope.values if other != scope]
    without = Api(create_key("without", environment=ENVIRONMENT, scopes=others).secret)
    assert call(without, operation, example, "x").status == 403
    only = Api(create_key("only", environment=ENVIRONMENT, scopes=[scope]).secret)
    assert call(only, operation, example, "x").status != 403


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_says_what_it_does_takes_and_answers(schema, operation: Operation):
    described = schema["paths"]["/v1" + operation.path][operation.method.lower()]
    assert described["summary"]
    assert described["tags"] == [operation.tag]
    assert 400 in operation.faults
    assert operation.examples or 409 in operation.faults
    assert ("requestBody" in described) == (operation.body is not None)


def test_every_shape_is_used(schema):
    assert set(components()) - set(schema["components"]["schemas"]) == set()
