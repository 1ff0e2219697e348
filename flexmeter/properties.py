"""JSON as flexmeter reads and writes it: exact numbers, storable text, and the two readings of a property.

Numbers keep every digit they were sent with. A JSON number that a double holds exactly becomes a float, any other a
Decimal; `dumps` writes both back as numbers.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from hashlib import blake2b
from typing import Any
from uuid import UUID

MAX_DEPTH = 100
MAX_MAGNITUDE = Decimal(sys.float_info.max)
MAX_FRACTION_DIGITS = 1_000
_MAX_INTEGER = int(MAX_MAGNITUDE)

EXACT = Context(prec=6_000, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation, Overflow])
"""Sums and products of property values fit this context without rounding; it raises rather than round."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")


class InvalidJson(ValueError):
    """Text that is not JSON, or JSON that cannot be stored faithfully; the message says which and why."""


def _number_token(text: str) -> float | Decimal:
    value = float(text)
    if len(text) <= 16 and "e" not in text and "E" not in text:
        return value  # at most 15 digits, which a double gives back unchanged
    if math.isinf(value):
        raise InvalidJson(f"the number {_shortened(text)} is too large")
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise InvalidJson(f"the number {_shortened(text)} has more digits than can be stored") from None
    exponent = exact.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -MAX_FRACTION_DIGITS:
        raise InvalidJson(f"the number {_shortened(text)} has more digits than can be stored")
    return value if Decimal(repr(value)) == exact else exact


def _refuse_constant(text: str) -> None:
    raise InvalidJson(f"{text} is not a JSON number")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


_decoder = json.JSONDecoder(parse_float=_number_token, parse_constant=_refuse_constant)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)


def _encoding(encoder: json.JSONEncoder) -> Callable[[Any], str]:
    """What the encoder does, made ready once: by itself it prepares anew for every value, which takes as long as a small one."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    parts = make(
        None, encoder.default, json.encoder.encode_basestring, None, encoder.key_separator, encoder.item_separator,
        encoder.sort_keys, encoder.skipkeys, encoder.allow_nan,
    )  # fmt: skip
    return lambda value: "".join(parts(value, 0))


_encode = _encoding(_encoder)
quoted: Callable[[str], str] = json.encoder.encode_basestring
"""A text as a JSON string: `dumps` for what is known to be one."""


def loads(text: str | bytes) -> Any:
    """Decode one JSON text. Raises InvalidJson, whose message is fit for a client."""
    try:
        return _decoder.decode(text.decode("utf-8") if isinstance(text, bytes) else text)
    except InvalidJson:
        raise
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the text is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"it breaks off or goes wrong at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise InvalidJson(f"the text is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # an integer of more digits than Python converts
        raise InvalidJson("a number has more digits than can be stored") from None


def dumps(value: Any) -> str:
    """Encode as compact JSON; a Decimal becomes a number with all its digits."""
    try:
        return _encode(value)
    except TypeError:
        return _dumps_exact(value)


def _dumps_exact(value: Any) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a JSON number")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_encode(str(key))}:{_dumps_exact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_dumps_exact, value)) + "]"
    return _encode(value)


def same(left: Any, right: Any) -> bool:
    """Whether two decoded values are one JSON value, whatever the order of names; `1` is neither `true` nor `1.0`."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def fault(value: Any, path: str = "", depth: int = 1) -> tuple[str, str] | None:
    """Where and why a decoded value cannot be stored faithfully: (path, reason), or None if it can."""
    if isinstance(value, str):
        reason = text_fault(value)
        return (path, reason) if reason else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return (path, "is too large a number") if abs(value) > _MAX_INTEGER else None
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, "is not a finite number")
    if isinstance(value, Decimal):
        return _decimal_fault(value, path)
    if depth > MAX_DEPTH:
        return path, f"is nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return path, "has a name that is not a string"
            if reason := text_fault(key):
                return path, f"has a name that {reason}"
            if found := fault(item, f"{path}.{key}" if path else key, depth + 1):
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if found := fault(item, f"{path}[{index}]", depth + 1):
                return found
        return None
    return path, f"is a {type(value).__name__}, which JSON cannot hold"


def _decimal_fault(value: Decimal, path: str) -> tuple[str, str] | None:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        return path, "is not a finite number"
    if value.copy_abs() > MAX_MAGNITUDE or exponent > 400:
        return path, "is too large a number"
    return (path, "has more digits than can be stored") if exponent < -MAX_FRACTION_DIGITS else None


def text_fault(text: str) -> str | None:
    """Why a text cannot be stored faithfully in every database, or None if it can."""
    if "\x00" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "holds an unpaired surrogate"
    return None


def number(value: Any) -> Decimal | None:
    """The exact number a property value stands for, or None when it stands for none.

    Numbers and numeric strings ("12", "-1.5", "+5", "1e3", white space around allowed) are numeric; booleans, other
    text, containers, and anything beyond the range of a double are not.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return Decimal(value) if -_MAX_INTEGER <= value <= _MAX_INTEGER else None
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return None if _decimal_fault(value, "") else value
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_FRACTION_DIGITS or not _NUMBER.fullmatch(text):
            return None
        parsed = Decimal(text)
        return None if _decimal_fault(parsed, "") else parsed
    return None


def plain(value: Decimal) -> str:
    """A decimal without exponent, trailing zeros, or a sign on zero: `1E+3` is `1000`, `1.50` is `1.5`."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rendered(value: Any) -> str:
    """A property value as the string that filters, groups and COUNT_UNIQUE compare; missing and null are ""."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return plain(Decimal(repr(value)))
    if isinstance(value, Decimal):
        return plain(value)
    return dumps(value)


def digest(text: str) -> UUID:
    """A fixed-size stand-in for a rendered value of any length: 122 bits of BLAKE2b in the form of a version 4 UUID.

    Version 8 would say better what it is, but MariaDB 10.11 refuses one in 64 of those (the ones whose ninth byte is 0x80).
    """
    value = int.from_bytes(blake2b(text.encode("utf-8"), digest_size=16).digest(), "big")
    value = value & ~(0xF << 76) | 4 << 76
    return UUID(int=value & ~(3 << 62) | 2 << 62)
