"""What drf-spectacular is told, once this module is imported. The only module that imports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.settings import spectacular_settings
from rest_framework.views import APIView

from flexmeter.http.base import ApiView
from flexmeter.http.schema import OPERATIONS, further
from flexmeter.http.schema.components import components
from flexmeter.http.schema.dialect import in_openapi_3_0, references
from flexmeter.http.schema.operations import HEADERS, RESPONSES, Operation


class DeclaredSchema(AutoSchema):
    """Describes the operations that are declared; any other is left to introspection."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        declared = find_operation(method, path)
        if declared is None:
            return super().get_operation(path, path_regex, path_prefix, method, registry)
        self.registry, self.path, self.method = registry, path, method
        operation = declared.as_openapi(cast(ApiView, self.view).scope_for(method), self.get_auth())
        register(operation, registry)
        return spoken(operation)


class ViewExtension(OpenApiViewExtension):
    target_class = "flexmeter.http.base.ApiView"
    match_subclasses = True

    def view_replacement(self) -> type[APIView]:
        return type(self.target.__name__, (self.target,), {"schema": DeclaredSchema()})


class ApiKeyExtension(OpenApiAuthenticationExtension):
    target_class = "flexmeter.http.authentication.ApiKeyAuthentication"
    match_subclasses = True
    name = ["apiKey", "bearer"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [
            {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The secret of a key."},
            {"type": "http", "scheme": "bearer", "description": "The same secret, as a bearer token."},
        ]


def find_operation(method: str, path: str) -> Operation | None:
    """The declared operation of a path below any prefix: the one that has most of it in common."""
    known = (*OPERATIONS, *further.operations())
    found = [operation for operation in known if operation.method == method and path.endswith(operation.path)]
    return max(found, key=lambda operation: len(operation.path), default=None)


def register(operation: dict[str, Any], registry: ComponentRegistry) -> None:
    """Add every component that an operation leads to."""
    known: dict[str, Mapping[str, Mapping[str, Any]]] = {
        "schemas": components() | further.components(),
        "responses": RESPONSES,
        "headers": HEADERS,
    }
    seen: set[str] = set()
    new = references(operation)
    while new:
        seen |= new
        found = []
        for reference in sorted(new):
            _, _, kind, name = reference.split("/")
            found.append(known[kind][name])
            # The class stands for all of them: drf-spectacular warns where something else has the name.
            registry.register_on_missing(ResolvedComponent(name, kind, spoken(found[-1]), Operation))
        new = references(found) - seen


def spoken(described: Any) -> Any:
    """In the version of OpenAPI that the project has chosen."""
    return in_openapi_3_0(described) if spectacular_settings.OAS_VERSION.startswith("3.0") else described
