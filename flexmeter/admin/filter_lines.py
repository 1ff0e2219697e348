"""Property filters as text that somebody can edit: a line for each value.

    region = eu
    region = us
    "a = b" = " 7 "

A property or value with spaces around it, an equals sign in the property, quotes in front, or line breaks stands as a JSON
string; `""` as value wants events without the property.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

Pairs = tuple[tuple[str, tuple[str, ...]], ...]

MAX_CHARACTERS = 100_000
_TOO_LONG = _("These are more characters than can be read.")
_decoder = json.JSONDecoder()


class _Lines(forms.CharField):
    """A text area whose lines stand for something; as an example it shows `placeholder`."""

    def __init__(self, *, label: Any, placeholder: str, rows: int, help_text: Any = "") -> None:
        attributes = {"rows": rows, "cols": 40, "spellcheck": "false", "dir": "auto", "placeholder": placeholder}
        super().__init__(
            label=label,
            required=False,
            strip=False,
            max_length=MAX_CHARACTERS,
            help_text=help_text,
            widget=forms.Textarea(attrs=attributes),
        )

    def validate(self, value: Any) -> None:
        pass

    def run_validators(self, value: Any) -> None:
        pass


class FilterLines(_Lines):
    """A text area of filter lines; its value is (property, values) pairs in their order."""

    def __init__(self, *, label: Any, rows: int = 3, help_text: Any = "") -> None:
        super().__init__(label=label, placeholder="region = eu", rows=rows, help_text=help_text)

    def to_python(self, value: Any) -> Any:
        return parsed(super().to_python(value) or "")


class PropertyLines(_Lines):
    """A text area of properties, a line each; its value is a tuple of their names."""

    def __init__(self, *, label: Any, help_text: Any = "") -> None:
        super().__init__(label=label, placeholder="region", rows=2, help_text=help_text)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        if len(text) > MAX_CHARACTERS:
            raise forms.ValidationError(_TOO_LONG)
        try:
            return tuple(_value(line.strip()) for line in text.replace("\r\n", "\n").split("\n") if line.strip())
        except ValueError:
            raise forms.ValidationError(_('Write a property in each line, in quotes where they help: region, or " a".')) from None


def parsed(text: str) -> Pairs:
    """The filters that lines stand for. Raises ValidationError naming the first line that stands for none."""
    if len(text) > MAX_CHARACTERS:
        raise forms.ValidationError(_TOO_LONG)
    filters: dict[str, list[str]] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            key, value = _pair(line.strip())
        except ValueError:
            told = _(
                'Line {number} is no filter: write property = value, such as region = eu, or "a = b" = " 7 " where quotes help.'
            )
            raise forms.ValidationError(format_lazy(told, number=number)) from None
        values = filters.setdefault(key, [])
        if value not in values:
            values.append(value)
    return tuple((key, tuple(values)) for key, values in filters.items())


def lines_of(filters: Iterable[tuple[str, Iterable[str]]]) -> str:
    """The lines that stand for filters."""
    return "\n".join(f"{_written(key, '=')} = {_written(value)}" for key, values in filters for value in values)


def property_lines_of(properties: Iterable[str]) -> str:
    """The lines that stand for properties."""
    return "\n".join(map(_written, properties))


def _pair(line: str) -> tuple[str, str]:
    if line.startswith('"'):
        key, end = _decoder.raw_decode(line)
        rest = line[end:].lstrip()
        if not rest.startswith("="):
            raise ValueError(line)
        value = rest[1:].strip()
    else:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise ValueError(line)
    if not key:
        raise ValueError(line)
    return key, _value(value)


def _value(text: str) -> str:
    if not text.startswith('"'):
        if not text:
            raise ValueError(text)
        return text
    value, end = _decoder.raw_decode(text)
    if text[end:].strip():
        raise ValueError(text)
    return str(value)


def _written(text: str, forbidden: str = "") -> str:
    plain = text == text.strip() and text and not text.startswith('"') and text.isprintable()
    if plain and not any(character in text for character in forbidden):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
