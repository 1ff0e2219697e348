"""API keys: made, found and revoked. The secret is shown once; only its hash is kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from unicodedata import category

from django.utils.translation import gettext as _

from flexmeter.conf import conf
from flexmeter.events import new_id
from flexmeter.models import ApiKey, now
from flexmeter.properties import text_fault
from flexmeter.stores.database.transactions import write_alias

PREFIX_CHARACTERS = 12
MAX_NAME_LENGTH = 255
MAX_ENVIRONMENT_LENGTH = 64
MOST_REMEMBERED = 10_000

_remembered: dict[tuple[str, str], tuple[float, ApiKey]] = {}
"""Keys by alias and hash of the secret, and when each was read."""


class KeyState(StrEnum):
    """Whether a key opens anything, and why not."""

    USABLE = "usable"
    REVOKED = "revoked"
    EXPIRED = "expired"


class NewKey(NamedTuple):
    """A key that was just made, and the secret that opens it: send it as `x-api-key`."""

    key: ApiKey
    secret: str


def create_key(
    name: str,
    *,
    environment: str,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    using: str | None = None,
) -> NewKey:
    """Make a key with 192 random bits, bound to one environment. No scopes means all of them.

    Raises ValueError for an unknown scope or an unusable name or environment.
    """
    unknown = sorted(set(scopes) - set(ApiKey.Scope.values))
    if unknown:
        raise ValueError(f"unknown scope {', '.join(unknown)}; choose from {', '.join(ApiKey.Scope.values)}")
    if fault := environment_fault(environment):
        raise ValueError(f"the environment {fault}")
    if fault := name_fault(name):
        raise ValueError(f"the name {fault}")
    prefix = "fm_" + secrets.token_hex(PREFIX_CHARACTERS // 2 - 1)[: PREFIX_CHARACTERS - 3]
    secret = f"{prefix}_{secrets.token_urlsafe(24)}"
    key = ApiKey(
        id=new_id("key"),
        environment=environment,
        name=name,
        prefix=prefix,
        secret_hash=_hash(secret),
        scopes=list(dict.fromkeys(scopes)) or list(ApiKey.Scope.values),
        expires_at=expires_at,
    )
    key.save(using=using or write_alias(), force_insert=True)
    return NewKey(key, secret)


def name_fault(name: str) -> str | None:
    """Why a key cannot have this name, or None if it can."""
    if fault := _text_fault(name, MAX_NAME_LENGTH):
        return fault
    if control := next((character for character in name if category(character) in ("Cc", "Zl", "Zp")), None):
        return _("must not hold control characters or line breaks (U+%(code)s)") % {"code": f"{ord(control):04X}"}
    return None


def environment_fault(environment: str) -> str | None:
    """Why no environment can have this name, or None if one can."""
    return _text_fault(environment, MAX_ENVIRONMENT_LENGTH)


def state_of(key: ApiKey, at: datetime) -> KeyState:
    """Whether a key opens anything at an instant."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    return KeyState.EXPIRED if key.expires_at is not None and key.expires_at <= at else KeyState.USABLE


def find_key(secret: str, *, using: str | None = None) -> ApiKey | None:
    """The usable key a secret opens, or None for an unknown, revoked or expired one.

    The key is as it was FLEXMETER_KEY_REMEMBERED_SECONDS ago or later.
    """
    prefix = secret[:PREFIX_CHARACTERS]
    if not secret.isascii() or len(secret) > 256 or "\x00" in secret:
        return None
    place = using or write_alias(), _hash(secret)
    read_at, key = _remembered.get(place, (float("-inf"), None))
    if key is None or time.monotonic() - read_at >= conf.KEY_REMEMBERED_SECONDS:
        read_at = time.monotonic()
        key = ApiKey.objects.using(place[0]).filter(prefix=prefix).first()
        if key is None or not secrets.compare_digest(key.secret_hash, place[1]):
            return None
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        _remembered[place] = read_at, key
    return key if state_of(key, now()) is KeyState.USABLE else None


def revoke_key(key_id: str, *, using: str | None = None) -> ApiKey | None:
    """Revoke a key given by id or prefix; None if there is no such key.

    Another process may take it for FLEXMETER_KEY_REMEMBERED_SECONDS more.
    """
    keys = ApiKey.objects.using(using or write_alias())
    key = keys.filter(pk=key_id).first() or keys.filter(prefix=key_id).first()
    if key is not None and key.revoked_at is None:
        key.revoked_at = now()
        key.save(using=using or write_alias(), update_fields=["revoked_at"])
        _remembered.pop((using or write_alias(), key.secret_hash), None)
    return key


def _text_fault(text: str, longest: int) -> str | None:
    if not text.strip():
        return _("must not be blank")
    if len(text) > longest:
        return _("must not be longer than %(longest)d characters") % {"longest": longest}
    return text_fault(text)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()
