"""The API's OpenAPI description: complete, valid, and true of what the API answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import OperationalError
from django.test import Client, override_settings
from django.urls import resolve

from flexmeter.events import parse_timestamp
from flexmeter.http.filters import EventFilter, MeterFilter
from flexmeter.http.schema import OPERATIONS
from flexmeter.http.schema.examples import CHAT, ENVIRONMENT, METER_ID
from flexmeter.http.schema.operations import RESPONSES, Example, Operation
from flexmeter.http.throttling import MINUTE
from flexmeter.keys import create_key
from flexmeter.models import ApiKey
from flexmeter.urls import urlpatterns

from tests.http.client import PREFIX, Answer, Api
from tests.requirements import import_required, only_on, requires

import_required("drf_spectacular")
drainage = import_required("drf_spectacular.drainage")
generators = import_required("drf_spectacular.generators")
spectacular = import_required("drf_spectacular.settings")
jsonschema = import_required("jsonschema")
openapi_spec_validator = import_required("openapi_spec_validator")
yaml = import_required("yaml")

pytestmark = only_on("sqlite")  # what is written down does not depend on the database

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("openapi.yaml")
REGENERATE = f"python example_project/manage.py spectacular --file {GOLDEN.relative_to(ROOT)}"

SETTLED = {"ingested_at", "processed_at", "created_at", "updated_at", "created_by", "updated_by"}
"""Members that are different every time."""
FLEXPRICE_IDS = {
    *("ingestEvent", "ingestEventsBulk", "listRawEvents", "getUsageStatistics", "getUsageByMeter"),
    *("getUsageAnalytics", "getEvent", "getHuggingfaceInferenceData"),
}

Case = tuple[Operation, int, Example]


def cases() -> Iterator[Any]:
    for operation in OPERATIONS:
        for status, examples in {operation.status: operation.examples, **operation.faults}.items():
            for name, example in examples.items():
                yield pytest.param((operation, status, example), id=f"{operation.id}-{name}")


def generate(**changed: Any) -> dict[str, Any]:
    with spectacular.patched_settings(changed):
        schema = generators.SchemaGenerator().get_schema(request=None, public=True)
    assert not drainage.GENERATOR_STATS, "drf-spectacular warned"
    return schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return generate()


@pytest.fixture(scope="module")
def described(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of the schema by "METHOD /path", without the prefix."""
    return {
        f"{method.upper()} {path.removeprefix(PREFIX)}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture
def meter_id(api: Api, unpriced: None) -> str:
    """The id of the meter that the examples tell of, in a ledger that holds their events too."""
    first = {operation.id: next(iter(operation.examples.values())) for operation in OPERATIONS}
    meter = api.post("/meters", first["createMeter"].body)
    assert meter.status == 201, meter
    assert api.post("/events", first["ingestEvent"].body).status == 202
    assert api.post("/events/bulk", first["ingestEventsBulk"].body).status == 202
    return str(meter.body["id"])


def test_the_schema_is_the_one_that_was_agreed_on(schema):
    agreed = yaml.safe_load(GOLDEN.read_text())
    assert schema == agreed, f"The schema is another one. Look at the difference and if it is meant to be, run\n{REGENERATE}"


@pytest.mark.parametrize("version", ["3.1.0", "3.0.3"])
def test_the_schema_is_valid_openapi(version):
    schema = generate(OAS_VERSION=version)
    openapi_spec_validator.validate(schema)
    assert schema["openapi"] == version


def test_openapi_3_0_knows_no_null_type():
    text = json.dumps(generate(OAS_VERSION="3.0.3"))
    assert '"null"' not in text
    assert '"nullable": true' in text


def test_every_routed_operation_is_in_the_schema_once(described):
    routed = {
        (route.name, method.upper())
        for route in urlpatterns
        if route.name
        for method in route.callback.cls.http_method_names
        if method not in {"options", "head"} and hasattr(route.callback.cls, method)
    }
    found = Counter()
    for name in described:
        method, path = name.split()
        found[resolve(PREFIX + path).url_name, method] += 1
    assert found == Counter(dict.fromkeys(routed, 1))


def test_no_path_stands_twice_because_of_a_slash(schema):
    assert [path for path in schema["paths"] if path.endswith("/")] == []


def test_operations_have_ids_of_their_own_and_those_that_flexprice_gave_them(described):
    ids = [operation["operationId"] for operation in described.values()]
    assert len(ids) == len(set(ids))
    assert set(ids) >= FLEXPRICE_IDS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_says_what_it_does_takes_and_answers(described, operation):
    shown = described[f"{operation.method} {operation.path}"]
    assert shown["summary"]
    assert shown["description"]
    assert shown["tags"]
    assert set(shown["responses"]) == {str(operation.status), *map(str, operation.faults), "401", "403", "429", "503"}
    assert 400 in operation.faults
    takes_body = operation.method in {"POST", "PUT"} and not operation.path.endswith("/disable")
    assert ("requestBody" in shown) == takes_body
    examples = shown["requestBody"]["content"]["application/json"]["examples"] if takes_body else None
    path_or_query = [parameter["examples"] for parameter in shown.get("parameters", ()) if "examples" in parameter]
    assert examples or path_or_query
    for status, answer in shown["responses"].items():
        assert "$ref" in answer or answer["content"]["application/json"]["examples"], status


def test_the_filters_of_a_list_are_its_parameters(described):
    for name, filterset in {"GET /events": EventFilter, "GET /meters": MeterFilter}.items():
        parameters = {parameter["name"] for parameter in described[name]["parameters"]}
        assert parameters >= set(filterset.base_filters)


@pytest.mark.parametrize("case", list(cases()))
def test_an_example_gets_the_answer_it_shows(schema, api, meter_id, case: Case):
    operation, status, example = case
    answer = call(api, operation, example, meter_id)
    assert answer.status == status, answer
    assert settled(answer.body) == settled(example.answer)
    component = operation.answer if status == operation.status else "ErrorResponse"
    assert faults(schema, component, answer.body) == []


@pytest.mark.parametrize("case", list(cases()))
def test_an_example_has_the_shape_that_is_declared(schema, case: Case):
    operation, status, example = case
    component = operation.answer if status == operation.status else "ErrorResponse"
    assert faults(schema, component, example.answer) == []
    if operation.body and status == operation.status:
        assert faults(schema, operation.body, example.body) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_needs_the_scope_it_names(described, api, meter_id, operation):
    [scope] = re.findall(
        r"Needs a key with the scope `(\w+)`\.$", described[f"{operation.method} {operation.path}"]["description"]
    )
    example = next(iter(operation.examples.values()))
    others = [other for other in ApiKey.Scope.values if other != scope]
    without = Api(create_key("without", environment=ENVIRONMENT, scopes=others).secret)
    assert_refused(call(without, operation, example, meter_id), "Forbidden", 403)
    only = Api(create_key("only", environment=ENVIRONMENT, scopes=[scope]).secret)
    assert call(only, operation, example, meter_id).status == operation.status


def test_a_caller_without_a_key_gets_what_is_said_of_it(nobody):
    answer = nobody.get("/meters")
    assert_refused(answer, "Unauthorized", 401)


def test_a_caller_beyond_its_rate_gets_what_is_said_of_it(api):
    with override_settings(FLEXMETER_REQUESTS_PER_MINUTE=1):
        answer = next(answer for answer in (api.get("/meters") for _ in range(4)) if answer.status != 200)
    assert_refused(answer, "TooManyRequests", 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= MINUTE


def test_a_caller_of_a_database_out_of_reach_gets_what_is_said_of_it(api, monkeypatch):
    def fail(*args: Any, **options: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("flexmeter.recording.accept", fail)
    answer = api.post("/events", {"event_name": "llm_request", "external_customer_id": "customer-01"})
    assert_refused(answer, "ServiceUnavailable", 503)
    assert int(answer.headers["Retry-After"]) >= 1


def test_an_event_that_waits_to_be_counted_has_the_shape_that_is_declared(schema, api):
    with override_settings(FLEXMETER_INGEST="celery"):
        assert api.post("/events", CHAT).status == 202
        answer = api.get(f"/events/lookup?id={CHAT['event_id']}")
    assert answer.body["status"] == "processing"
    assert faults(schema, "EventLookupResponse", answer.body) == []


def test_both_ways_to_send_a_key_are_declared_and_work(schema, db):
    schemes = schema["components"]["securitySchemes"]
    secret = create_key("test", environment=ENVIRONMENT).secret
    assert schemes["apiKey"].items() >= {"type": "apiKey", "in": "header", "name": "x-api-key"}.items()
    assert schemes["bearer"].items() >= {"type": "http", "scheme": "bearer"}.items()
    for headers in ({schemes["apiKey"]["name"]: secret}, {"Authorization": f"Bearer {secret}"}):
        assert Client().get(f"{PREFIX}/meters", headers=headers).status_code == 200


def test_the_largest_batch_follows_the_setting():
    with override_settings(FLEXMETER_MAX_BULK_EVENTS=17):
        changed = generate()
    assert changed["components"]["schemas"]["BulkIngestEventRequest"]["properties"]["events"]["maxItems"] == 17


def test_the_example_project_serves_the_schema(client, schema):
    served = client.get("/schema/", headers={"Accept": "application/json"})
    assert served.status_code == 200
    assert served.json() == schema


@requires("drf_spectacular_sidecar")
def test_the_page_takes_everything_from_its_own_site(client):
    page = client.get("/docs/").content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) == 4  # style, icon, two scripts
    assert "://" not in page
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        assert b"".join(response.streaming_content)


def test_the_app_works_where_drf_spectacular_is_not_installed():
    script = """
import sys
sys.modules.update(dict.fromkeys(["drf_spectacular", "drf_spectacular_sidecar"]))  # as if they were not there
sys.path.insert(0, "example_project")
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django
django.setup()
from django.core.management import call_command
from django.test import Client
call_command("check")
assert Client().get("/v1/nowhere", headers={"host": "localhost"}).status_code == 404
assert Client().get("/schema/", headers={"host": "localhost"}).status_code == 404
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=True, capture_output=True, timeout=480)


def call(api: Api, operation: Operation, example: Example, meter_id: str) -> Answer:
    parameters = {name: str(value).replace(METER_ID, meter_id) for name, value in example.parameters.items()}
    path = operation.path
    for name in re.findall(r"{(\w+)}", path):
        path = path.replace(f"{{{name}}}", quote(parameters.pop(name), safe=""))
    query = f"?{urlencode(parameters)}" if parameters else ""
    body = b"" if example.body is None else json.dumps(example.body).replace(METER_ID, meter_id)
    return api.call(operation.method, path + query, body)


def settled(value: Any) -> Any:
    """An answer without what is different every time."""
    if isinstance(value, Mapping):
        return {key: settled(item) for key, item in value.items() if key not in SETTLED}
    if isinstance(value, (list, tuple)):
        return [settled(item) for item in value]
    return re.sub(r"^meter_[0-9A-Z]{26}$", METER_ID, value) if isinstance(value, str) else value


def assert_refused(answer: Answer, name: str, status: int) -> None:
    [example] = RESPONSES[name]["content"]["application/json"]["examples"].values()
    assert answer.status == status, answer
    assert answer.body == example["value"]


def faults(schema: Mapping[str, Any], component: str, value: Any) -> list[str]:
    """What is wrong with a value; members that are not declared are wrong too."""
    root = {"$ref": f"#/components/schemas/{component}", "components": closed(schema["components"])}
    validator = jsonschema.Draft202012Validator(root, format_checker=FORMATS)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def closed(value: Any) -> Any:
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    bounds = {"additionalProperties": False} if isinstance(value.get("properties"), Mapping) and "type" in value else {}
    return bounds | {key: closed(item) for key, item in value.items()}


FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_instant(value: Any) -> bool:
    return not isinstance(value, str) or bool(parse_timestamp(value))
