"""Forms that keep the rules of pricing, and say in words which one was broken."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from flexmeter import properties
from flexmeter.exceptions import InvalidDefinition
from flexmeter.fields import ExactDecimalField, JsonTextField
from flexmeter.pricing import catalog, references
from flexmeter.pricing.models import Record, Status, Subscription
from flexmeter.pricing.validity import MAX_DIGITS
from flexmeter.stores.database.transactions import write_alias

MOST_CHARACTERS = 70_000
OFFERED = [(status.value, status.label) for status in (Status.PUBLISHED, Status.ARCHIVED)]
"""What somebody may choose; what is not needed at all is deleted."""


class ExactDecimal(forms.CharField):
    """A decimal of any size, digit for digit."""

    default_error_messages = {
        "number": _("Enter a number, such as 0.002."),
        "digits": _("Enter a number of at most %(most)s digits."),
    }

    def to_python(self, value: Any) -> Decimal | None:
        text = super().to_python(value)
        if not text:
            return None
        if len(text) > MAX_DIGITS:
            raise ValidationError(self.error_messages["digits"], code="digits", params={"most": MAX_DIGITS})
        number = properties.number(text)
        if number is None:
            raise ValidationError(self.error_messages["number"], code="number")
        return number

    def run_validators(self, value: Any) -> None:
        pass  # the length of its text is known to be within bounds

    def prepare_value(self, value: Any) -> Any:
        return properties.plain(value) if isinstance(value, Decimal) else value


class JsonText(forms.CharField):
    """JSON as text, exact."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "vLargeTextField fm-code"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "widget": self.widget, "max_length": MOST_CHARACTERS})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return self.initial() if callable(self.initial) else None
        try:
            return properties.loads(text)
        except properties.InvalidJson as error:
            raise ValidationError(_("This is not JSON that can be stored: %(reason)s."), params={"reason": error}) from None

    def run_validators(self, value: Any) -> None:
        pass  # of the text, which is bounded by what is stored

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) or value is None else properties.dumps(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


FIELDS: dict[Any, dict[str, Any]] = {
    ExactDecimalField: {"form_class": ExactDecimal},
    JsonTextField: {"form_class": JsonText},
}
"""Form fields of the columns that Django has none for."""


class PricingForm(forms.ModelForm):
    """A row as somebody edits it; valid where `catalog` would store it."""

    instance: Record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        status = self.fields.get("status")
        if isinstance(status, forms.ChoiceField) and not isinstance(self.instance, Subscription):
            status.choices = OFFERED

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        alias = write_alias()
        try:
            catalog.check(self.instance, alias)
            references.keep_uses(self.instance, using=alias)
        except InvalidDefinition as error:
            self._tell(error)

    def _tell(self, error: InvalidDefinition) -> None:
        told = False
        for member, reason in error.details.items():
            if member == "provided_value":
                continue
            self.add_error(self._field_of(member), f"{error.message}: {member} {reason}.")
            told = True
        if not told:
            self.add_error(None, error.message)

    def _field_of(self, member: str) -> str | None:
        """The form's field that a member of the API stands for, or None."""
        first, _dot, rest = re.sub(r"\[.*", "", member).partition(".")
        for name in (first, rest, first.removesuffix("_id"), f"{first}_{rest}", f"reporting_{rest}"):
            if name in self.fields:
                return name
        return None
