"""How an operation is declared, and the OpenAPI object it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexmeter.http.errors import RETRY_AFTER_SECONDS, envelope
from flexmeter.http.schema.dialect import INTEGER, TEXT, Schema, ref

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query string, or with `in_path` of the path."""

    name: str
    schema: Schema
    description: str = ""
    required: bool = False
    in_path: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A call and the answer it gets where nothing happened but the first examples of creating a meter and of ingestion."""

    summary: str
    answer: Mapping[str, Any]
    body: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path below the API's prefix.

    `body` and `answer` name components; None stands for an empty body. `examples` succeed with `status`; `faults` are
    examples of other answers, by status. What every operation may answer besides stands in RESPONSES.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str
    answer: str | None
    examples: Mapping[str, Example]
    faults: Mapping[int, Mapping[str, Example]]
    status: int = 200
    body: str | None = None
    body_required: bool = True
    parameters: Sequence[Parameter] = ()

    def as_openapi(self, scope: str, security: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The operation object; `scope` is what a key needs for it."""
        described: dict[str, Any] = {
            "operationId": self.id,
            "summary": self.summary,
            "description": f"{self.description}\n\nNeeds a key with the scope `{scope}`.",
            "tags": [self.tag],
        }
        if self.parameters:
            described["parameters"] = [self._parameter(parameter) for parameter in self.parameters]
        if self.body is not None:
            bodies = {name: shown(example.summary, example.body) for name, example in self.examples.items()}
            described["requestBody"] = {"content": content(self.body, bodies), "required": self.body_required}
        return {**described, "security": list(security), "responses": self._responses()}

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        described: dict[str, Any] = {"name": parameter.name, "in": "path" if parameter.in_path else "query"}
        if parameter.description:
            described["description"] = parameter.description
        if parameter.required or parameter.in_path:
            described["required"] = True
        described["schema"] = parameter.schema
        values = {
            name: shown(example.summary, example.parameters[parameter.name])
            for name, example in self.examples.items()
            if parameter.name in example.parameters
        }
        return {**described, "examples": values} if values else described

    def _responses(self) -> dict[str, Any]:
        return {
            str(self.status): response(SUCCESSES[self.status], self.answer, self.examples),
            **{str(status): response(FAULTS[status], "ErrorResponse", examples) for status, examples in self.faults.items()},
            **{str(status): {"$ref": f"#/components/responses/{name}"} for name, status in REFUSALS.items()},
        }


def shown(summary: str, value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}


def content(component: str, examples: Mapping[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": ref(component), "examples": examples}}


def response(description: str, component: str | None, examples: Mapping[str, Example], *headers: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *headers)},
    }
    if component is not None:
        answers = {name: shown(example.summary, example.answer) for name, example in examples.items()}
        described["content"] = content(component, answers)
    return described


def refusal(status: int, description: str, code: str, message: str, *headers: str) -> dict[str, Any]:
    """An answer that any operation may give, whatever the request holds."""
    example = Example(message, envelope(status, code, message))
    return response(description, "ErrorResponse", {code: example}, *headers)


SUCCESSES = {200: "The answer.", 201: "Created.", 202: "Committed: it cannot be lost any more.", 204: "Done."}
FAULTS = {
    400: "The request is wrong, and changed nothing.",
    404: "There is no such thing in the key's environment.",
    409: "What is there already stands against it, and nothing was changed.",
}
REFUSALS = {"Unauthorized": 401, "Forbidden": 403, "TooManyRequests": 429, "ServiceUnavailable": 503}

RESPONSES: dict[str, dict[str, Any]] = {
    "Unauthorized": refusal(401, "There is no key, or it is unknown, revoked or expired.", "unauthorized", "Unauthorized"),
    "Forbidden": refusal(403, "The key lacks the scope.", "permission_denied", "insufficient permissions"),
    "TooManyRequests": refusal(
        429,
        "The key has made too many requests or sent too many events in this minute.",
        "too_many_requests",
        "Too many requests for this key; wait and try again",
        "Retry-After",
    ),
    "ServiceUnavailable": refusal(
        503,
        "The database is busy or out of reach, or too many events wait to be counted. To send the same events with the same ids "
        "again is safe.",
        "service_unavailable",
        "The database is busy or out of reach. Nothing is known to be stored; try again.",
        "Retry-After",
    ),
}

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"description": "The X-Request-ID of the request, or one made up for it.", "schema": TEXT},
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {**INTEGER, "example": RETRY_AFTER_SECONDS}},
}


def query_parameters(shapes: Mapping[str, Schema], names: Iterable[str]) -> list[Parameter]:
    """Members of a request body as parameters of a query string."""
    parameters = []
    for name in names:
        schema = dict(shapes[name])
        parameters.append(Parameter(name, schema, schema.pop("description", "")))
    return parameters
