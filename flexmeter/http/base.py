"""What all views of the API share: who may call, how bodies are read, and what every answer carries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from flexmeter import inbox
from flexmeter.conf import conf
from flexmeter.events import new_id
from flexmeter.http.answers import Answer
from flexmeter.http.authentication import Credentials, HasScope
from flexmeter.http.bodies import AnyJsonParser, JsonOnly, drain, json_object, query_parameters
from flexmeter.http.errors import exception_handler
from flexmeter.http.throttling import KeyThrottle

CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "*, Content-Type, Content-Encoding, X-API-Key, Authorization, X-Environment-ID, X-Request-ID"
    ),
    "Access-Control-Expose-Headers": "X-Request-ID, Retry-After",
}
"""Lets scripts of any site call the API, who have no key but their own: no cookie opens it."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class ApiView(APIView):
    """Base of the API's views; independent of the host project's REST_FRAMEWORK settings.

    `scopes` names the scope each method needs ("read" where it names none); `binding_message` begins the message for
    a request of the wrong shape.
    """

    scopes: ClassVar[Mapping[str, str]] = {}
    binding_message: ClassVar[str] = "Please check the request payload"

    permission_classes: ClassVar[list[type[BasePermission]]] = [HasScope]  # type: ignore[misc]
    renderer_classes = (JSONRenderer,)
    parser_classes = (AnyJsonParser,)
    throttle_classes: Sequence[type[BaseThrottle]] = (KeyThrottle,)
    content_negotiation_class = JsonOnly
    versioning_class = None
    request_id = ""
    _headers: ClassVar[Mapping[str, str]] = {}
    """What all answers carry."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = [method.upper() for method in cls.http_method_names if hasattr(cls, method)]
        cls._headers = {"Allow": ", ".join(methods), **CROSS_ORIGIN}

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        view = super().as_view(**initkwargs)
        # Ingestion owns its transaction and repeats it after a deadlock, which it can't inside another one.
        view._non_atomic_requests = set(connections)  # type: ignore[attr-defined]
        return view

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [import_string(conf.AUTHENTICATION)()]

    def get_exception_handler(self) -> Callable[..., Answer]:
        return exception_handler

    def scope_for(self, method: str | None) -> str:
        return self.scopes.get(method or "", "read")

    @property
    def credentials(self) -> Credentials:
        return cast(Credentials, self.request.auth)

    @property
    def environment(self) -> str:
        """The only environment this request can see."""
        return self.credentials.environment

    def body(self) -> dict[str, Any]:
        """The request's JSON object."""
        return json_object(self.request._request)

    def parameters(self) -> QueryDict:
        """The query string's parameters."""
        return query_parameters(self.request._request)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        return super().initialize_request(request, *args, **kwargs)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return Answer()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Who asks, and whether they may: there is one version and one format, so nothing else is to be found out."""
        request.version = request.versioning_scheme = None
        if request.method == "OPTIONS":
            request.authenticators = []  # a browser's preflight carries no key
            return
        self.perform_authentication(request)
        self.check_permissions(request)
        self.check_throttles(request)
        inbox.look_after()

    def finalize_response(self, request: Any, response: HttpResponse, *args: Any, **kwargs: Any) -> HttpResponse:
        drain(self.request._request)
        for name, value in self.headers.items():
            response[name] = value
        response["X-Request-ID"] = self.request_id
        return response

    @property
    def default_response_headers(self) -> Mapping[str, str]:
        return self._headers


class UnknownAddress(ApiView):
    """Whatever no other route knows, answered in the API's own envelope."""

    permission_classes: ClassVar[list[type[BasePermission]]] = []  # type: ignore[misc]
    throttle_classes = ()
    schema = None

    def get_authenticators(self) -> list[BaseAuthentication]:
        return []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS":
            raise NotFound
