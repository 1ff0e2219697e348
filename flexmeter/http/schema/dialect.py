"""Small JSON Schemas, and how larger ones are made of them. The dialect is that of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
NOTHING: Schema = {"type": "null"}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def ref(name: str) -> Schema:
    """The component of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def map_of(values: Schema) -> Schema:
    """An object with any keys."""
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Schema) -> Schema:
    if "type" not in schema:
        return {"anyOf": [schema, NOTHING]}
    return {**schema, "type": [schema["type"], "null"]}


def answer(members: Mapping[str, Schema], description: str = "") -> Schema:
    """An object that always has all its members."""
    return request(members, required=list(members), description=description)


def request(members: Mapping[str, Schema], *, required: Sequence[str] = (), description: str = "") -> Schema:
    """An object of which only the required members must be there."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(members)}
    if required:
        schema["required"] = list(required)
    return described(schema, description) if description else schema


def references(value: Any) -> set[str]:
    """Every `$ref` within a piece of OpenAPI."""
    if isinstance(value, Mapping):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, (list, tuple)) else set()


def in_openapi_3_0(value: Any) -> Any:
    """The same in the words of OpenAPI 3.0, which has no null type and ignores what stands beside a `$ref`."""
    if isinstance(value, (list, tuple)):
        return [in_openapi_3_0(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    plain = {key: in_openapi_3_0(item) for key, item in value.items()}
    if isinstance(plain.get("type"), list):
        [plain["type"]] = (name for name in plain["type"] if name != "null")
        plain["nullable"] = True
    if dict(NOTHING) in plain.get("anyOf", ()):
        plain["allOf"] = [schema for schema in plain.pop("anyOf") if schema != NOTHING]
        plain["nullable"] = True
    if isinstance(plain.get("$ref"), str) and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain
