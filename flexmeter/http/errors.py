"""One error envelope for everything that goes wrong, in the shapes both generations of clients read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions

from flexmeter.exceptions import (
    AlreadyDefined,
    DefinitionNotFound,
    EnvironmentBusy,
    InvalidDefinition,
    InvalidEvent,
    InvalidQuery,
    PrunedEvents,
)
from flexmeter.http.answers import Answer

logger = logging.getLogger("flexmeter.http")

RETRY_AFTER_SECONDS = 1
SHOWN_CHARACTERS = 200
VALIDATION_FAILED = "Request validation failed"
UNEXPECTED = "An unexpected error occurred"


class ApiError(Exception):
    """An answer other than success: HTTP status, stable code, message for a person, and details by member."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, dict(details or {})


class InvalidPayload(Exception):
    """A request that does not have the shape of its operation; `field` says where. The view knows its message."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}" if field else reason)
        self.field, self.reason = field, reason


def invalid(message: str, details: Mapping[str, Any]) -> ApiError:
    """A 400 with details by member; a message that says only that something is wrong goes on with the first of them."""
    if message == VALIDATION_FAILED and details:
        member, reason = next(iter(details.items()))
        message = f"{message}: {member} {reason}"
    return ApiError(400, "validation_error", message, details)


def envelope(status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of an error answer, readable by clients of either generation."""
    shown = {_shortened(key): _shown(value) for key, value in (details or {}).items()}
    message = _shortened(message, 1_000)
    error: dict[str, Any] = {"message": message, "internal_error": f"{code}: {', '.join(shown)}" if shown else code}
    body: dict[str, Any] = {"success": False, "error": error, "code": code, "message": message, "http_status_code": status}
    if shown:
        error["details"] = body["details"] = shown
    return body


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value[:20]]
    return value


def _shortened(text: str, length: int = SHOWN_CHARACTERS) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Answer:
    """The answer for any exception a view raised; what nobody expected is logged and answered with 500."""
    known = _known(error, context)
    headers: dict[str, str] = {}
    if known is None:
        request = context.get("request")
        request_id = getattr(context.get("view"), "request_id", "")
        logger.error(
            "%s %s failed (request %s)",
            getattr(request, "method", "?"),
            getattr(request, "path", "?"),
            request_id,
            exc_info=error,
        )
        known = ApiError(500, "database_error" if isinstance(error, DatabaseError) else "internal_error", UNEXPECTED)
    if known.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if known.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "ApiKey"
    if isinstance(error, exceptions.Throttled):
        headers["Retry-After"] = str(max(1, round(getattr(error, "wait", None) or 1)))
    return Answer(envelope(known.status, known.code, known.message, known.details), known.status, headers=headers)


def _known(error: Exception, context: Mapping[str, Any]) -> ApiError | None:
    binding = getattr(context.get("view"), "binding_message", "Please check the request payload")
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InvalidPayload):
        return ApiError(400, "validation_error", f"{binding}: {error}", {error.field: error.reason} if error.field else None)
    if isinstance(error, InvalidEvent):
        return ApiError(400, "validation_error", f"{binding}: {error}", {error.field: error.message})
    if isinstance(error, PrunedEvents):
        return ApiError(400, "invalid_operation", error.message, error.details)
    if isinstance(error, AlreadyDefined):
        return ApiError(409, "already_exists", error.message, error.details)
    if isinstance(error, (InvalidQuery, InvalidDefinition)):
        return invalid(error.message, error.details)
    if isinstance(error, DefinitionNotFound):
        environment = getattr(getattr(context.get("request"), "auth", None), "environment", "")
        details = {f"{error.kind.replace(' ', '_')}_id": error.id, "tenant_id": environment}
        return ApiError(404, "not_found", f"{error.kind.capitalize()} not found", details)
    if isinstance(error, (EnvironmentBusy, OperationalError, InterfaceError)):
        logger.warning("Answered 503: %s", type(error).__name__, exc_info=error)
        return ApiError(
            503, "service_unavailable", "The database is busy or out of reach. Nothing is known to be stored; try again."
        )
    return _framework_error(error)


def _framework_error(error: Exception) -> ApiError | None:
    if isinstance(error, exceptions.NotAuthenticated):
        return ApiError(401, "unauthorized", "Unauthorized")
    if isinstance(error, exceptions.AuthenticationFailed):
        return ApiError(401, "unauthorized", str(error.detail))
    if isinstance(error, (exceptions.PermissionDenied, PermissionDenied)):
        return ApiError(403, "permission_denied", "insufficient permissions")
    if isinstance(error, (exceptions.NotFound, Http404)):
        return ApiError(404, "not_found", "There is nothing at this address")
    if isinstance(error, exceptions.MethodNotAllowed):
        return ApiError(405, "invalid_operation", "This address does not know that method")
    if isinstance(error, exceptions.Throttled):
        return ApiError(429, "too_many_requests", "Too many requests for this key; wait and try again")
    if isinstance(error, exceptions.APIException):
        return ApiError(error.status_code, "validation_error", "The request could not be read")
    if isinstance(error, SuspiciousOperation):
        return ApiError(400, "validation_error", "The request could not be read")
    return None
