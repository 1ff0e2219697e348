"""Fields of filter forms that ask the events' table nothing but steps in an index."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from flexmeter import properties
from flexmeter.admin.text import titled
from flexmeter.environments import LISTED, default_environment, known_environments
from flexmeter.events import EARLIEST, LATEST, MAX_IDENTIFIER_LENGTH


class ExactText(forms.CharField):
    """A text compared byte for byte: nothing is trimmed. Suggestions, if the form gives any, come as a datalist."""

    def __init__(self, *, label: Any, max_length: int = MAX_IDENTIFIER_LENGTH, placeholder: Any = "", **kwargs: Any) -> None:
        attributes = {"placeholder": placeholder, "autocomplete": "off", "spellcheck": "false", "dir": "auto"}
        widget = forms.TextInput(attrs={name: value for name, value in attributes.items() if value})
        super().__init__(label=label, max_length=max_length, required=False, strip=False, widget=widget, **kwargs)

    def validate(self, value: str) -> None:
        super().validate(value)
        if properties.text_fault(value):
            raise forms.ValidationError(_("This text holds a character that no event can hold."))


class Instant(forms.Field):
    """A moment in the current time zone, as a browser's own input gives it, or with an offset as a link does."""

    FORMAT = "%Y-%m-%dT%H:%M"
    default_error_messages = {"invalid": _("Enter a date and a time, such as 2024-03-10T14:15.")}

    def __init__(self, *, label: Any) -> None:
        widget = forms.DateTimeInput(format=self.FORMAT, attrs={"type": "datetime-local"})
        super().__init__(label=label, required=False, widget=widget)

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        try:
            instant = parse_datetime(str(value).strip())
        except ValueError:
            instant = None
        if instant is None or not EARLIEST.year <= instant.year < LATEST.year:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        # Of a time that the clock shows twice this takes the first.
        return timezone.make_aware(instant) if timezone.is_naive(instant) else instant

    def prepare_value(self, value: Any) -> Any:
        try:
            instant = self.to_python(value)
        except forms.ValidationError:
            return value
        return None if instant is None else f"{(local := timezone.localtime(instant)).year:04d}-{local:%m-%dT%H:%M}"


class FilterForm(forms.Form):
    """Filters of a list, sent with GET. `environment` is always one, for an index on events begins with it."""

    environment = forms.CharField(label=_("Environment"), required=False, strip=False, max_length=64)

    def __init__(self, data: QueryDict) -> None:
        known = known_environments()
        if not data.get("environment"):
            data = data.copy()
            data["environment"] = default_environment(known)
        super().__init__(data)
        self.notes: list[Any] = []
        """What to tell above the list, as text or safe HTML."""
        chosen = data["environment"]
        if len(known) < LISTED:
            choices = [(name, titled(name)) for name in sorted({*known, chosen})]
            self.fields["environment"].widget = forms.Select(choices=choices)

    def suggest(self, field: str, values: Iterable[str]) -> None:
        """Offer values while somebody types into a text field."""
        self.fields[field].suggestions = list(values)  # type: ignore[attr-defined]
        self.fields[field].widget.attrs["list"] = f"{self[field].id_for_label}_suggestions"

    @property
    def chosen_environment(self) -> str:
        """The environment that is asked for, whether or not the rest of the form is right; "" where none can be called so."""
        name = str(self.data["environment"])
        return "" if properties.text_fault(name) else name
