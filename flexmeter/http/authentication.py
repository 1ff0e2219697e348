"""Who is calling, and what for: API keys from headers, bound to an environment and scopes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from flexmeter.keys import find_key
from flexmeter.models import ApiKey, now
from flexmeter.stores.database.transactions import write_alias

LAST_USED_PRECISION = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller may do: `environment` is the only one it can see. `subject` names it in records of changes, and `sender`
    on its events (by default the subject)."""

    environment: str
    scopes: frozenset[str]
    subject: str
    sender: str = ""


class ApiKeyAuthentication(BaseAuthentication):
    """`x-api-key: <secret>`, or `Authorization: Bearer <secret>`; `request.auth` becomes Credentials."""

    def authenticate(self, request: Request) -> tuple[Any, Credentials] | None:
        secret = request.META.get("HTTP_X_API_KEY")
        if secret:
            refusal = "Unauthorized"
        else:
            authorization = request.META.get("HTTP_AUTHORIZATION")
            if not authorization:
                return None
            scheme, _, secret = authorization.partition(" ")
            secret = secret.strip()
            if scheme != "Bearer" or not secret:
                raise AuthenticationFailed("Invalid authorization header format")
            refusal = "Invalid token"
        key = find_key(secret)
        if key is None:
            raise AuthenticationFailed(refusal)
        _note_use(key)
        return AnonymousUser(), Credentials(key.environment, frozenset(key.scopes), key.id, key.prefix)

    def authenticate_header(self, request: Request) -> str:
        return "ApiKey"


def _note_use(key: ApiKey) -> None:
    instant = now()
    if key.last_used_at is None or instant - key.last_used_at > LAST_USED_PRECISION:
        ApiKey.objects.using(write_alias()).filter(pk=key.pk).update(last_used_at=instant)
        key.last_used_at = instant


class HasScope(BasePermission):
    """Lets a caller in who has the scope the view names for the method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Credentials):
            return False
        return view.scope_for(request.method) in request.auth.scopes
