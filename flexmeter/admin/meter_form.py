"""The definition of a meter as a form. What is right is for MeterDefinition to say."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import Any

from django import forms
from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from flexmeter.admin.filter_lines import FilterLines, PropertyLines, lines_of, property_lines_of
from flexmeter.admin.filters import ExactText
from flexmeter.admin.usage_form import SIZES
from flexmeter.aggregation import AggregationType
from flexmeter.conf import conf
from flexmeter.environments import known_environments
from flexmeter.exceptions import InvalidMeter
from flexmeter.expressions import ExpressionError
from flexmeter.keys import environment_fault
from flexmeter.metering import MAX_DIMENSIONS
from flexmeter.meters import MAX_MULTIPLIER_DIGITS, MeterDefinition, definition_of
from flexmeter.models import Meter
from flexmeter.properties import number, plain, text_fault
from flexmeter.stores.database.distinct import names_of_events
from flexmeter.stores.database.transactions import read_alias

SUGGESTED_NAMES = 50
TYPES = {
    AggregationType.COUNT: _("COUNT: how many events"),
    AggregationType.SUM: _("SUM: a property added up"),
    AggregationType.AVG: _("AVG: the average of a property"),
    AggregationType.COUNT_UNIQUE: _("COUNT_UNIQUE: how many different values"),
    AggregationType.LATEST: _("LATEST: the value of the newest event"),
    AggregationType.SUM_WITH_MULTIPLIER: _("SUM_WITH_MULTIPLIER: added up, times a factor"),
    AggregationType.MAX: _("MAX: the greatest value"),
    AggregationType.MIN: _("MIN: the smallest value"),
    AggregationType.WEIGHTED_SUM: _("WEIGHTED_SUM: added up, weighted by the time left"),
}
RESETS = {
    Meter.ResetUsage.BILLING_PERIOD: _("Usage begins anew with each period"),
    Meter.ResetUsage.NEVER: _("Usage never resets, it goes on growing"),
}
SAID = {
    "is required and must not be blank": _("This is required and must not be blank."),
    "must not be longer than 255 characters": _("This must not be longer than 255 characters."),
    "Please provide a valid aggregation type": _("Choose an aggregation."),
    "Use SUM, AVG, MAX or LATEST when providing an expression": _("An expression needs SUM, AVG, MAX, MIN or LATEST."),
    "Provide either field or expression, not both": _("Give a property or an expression, not both."),
    "Please specify a field or expression for this aggregation type": _("This aggregation needs a property or an expression."),
    "Please provide a multiplier value": _("This aggregation needs a multiplier."),
    "Multiplier must be greater than zero": _("The multiplier must be greater than zero."),
    "BucketSize is only valid for MAX or SUM aggregation type": _("Buckets go with SUM and MAX only."),
    "Please provide a valid window size for bucket_size": _("Choose the size of the buckets."),
    "GroupBy is only valid for MAX aggregation type with a bucket_size configured": _("Groups go with MAX in buckets only."),
    "Please provide a key for each filter": _("Each filter needs a property."),
    "Please provide at least one value for each filter": _("Each filter needs a value."),
    "Invalid reset usage": _("Choose whether usage resets."),
    "Please provide distinct properties as dimensions": _("Each line needs a property of its own, of at most 255 characters."),
}
"""What a person is told for what MeterDefinition says; the API says the latter, in English always."""
_TOLD_OF = {
    "aggregation.type": "aggregation_type",
    "aggregation.field": "field",
    "aggregation.expression": "expression",
    "aggregation.multiplier": "multiplier",
    "multiplier": "multiplier",
    "aggregation.bucket_size": "bucket_size",
    "aggregation.group_by": "group_by",
}
"""Which of the form's fields a member of a meter stands in, where the names differ."""


class MeterForm(forms.Form):
    """A definition, of a new meter or of `meter`."""

    environment = ExactText(label=_("Environment"), max_length=64)
    name = ExactText(label=_("Name"))
    event_name = ExactText(label=_("Event name"))
    aggregation_type = forms.ChoiceField(label=_("Aggregation"), choices=[(type.value, told) for type, told in TYPES.items()])
    field = ExactText(label=_("Property"))
    expression = forms.CharField(
        label=_("Expression"),
        required=False,
        strip=False,
        help_text=_("In place of a property, such as prompt_tokens + 4 * completion_tokens. For SUM, AVG, MAX, MIN and LATEST."),
        widget=forms.Textarea(attrs={"rows": 2, "cols": 40, "spellcheck": "false", "dir": "ltr"}),
    )
    multiplier = forms.CharField(label=_("Multiplier"), required=False, max_length=250, help_text=_("For SUM_WITH_MULTIPLIER."))
    bucket_size = forms.ChoiceField(
        label=_("Buckets of"),
        required=False,
        choices=[("", _("No buckets")), *((size.value, told) for size, told in SIZES.items())],
        help_text=_("For SUM and MAX: usage is the sum of what each bucket comes to."),
    )
    group_by = ExactText(label=_("Group by property"), help_text=_("For MAX with buckets: each group has a greatest of its own."))
    filters = FilterLines(
        label=_("Only events with"), help_text=_("A line for each value: property = value. All properties have to be as wanted.")
    )
    reset_usage = forms.ChoiceField(label=_("Reset"), choices=list(RESETS.items()))
    dimensions = PropertyLines(
        label=_("Keep apart by"),
        help_text=_(
            "Up to three properties, a line each. Questions that filter or group by them are then answered from rollups; no "
            "figure changes. Fit are properties of few values, such as region or model."
        ),
    )
    previewed = forms.CharField(required=False, widget=forms.HiddenInput())

    def __init__(self, data: Any = None, *, meter: Meter | None = None) -> None:
        initial = {"environment": conf.ENVIRONMENT} if meter is None else _initial(meter)
        super().__init__(data, initial=initial)
        self.meter = meter
        self.definition: MeterDefinition | None = None
        environment = initial["environment"]
        if meter is not None:
            del self.fields["environment"]
        else:
            self._suggest("environment", known_environments())
            environment = (data or {}).get("environment") or environment
        if not text_fault(environment):
            self._suggest("event_name", names_of_events(environment, read_alias(), limit=SUGGESTED_NAMES))

    def _suggest(self, name: str, values: Any) -> None:
        self.fields[name].suggestions = list(values)  # type: ignore[attr-defined]
        self.fields[name].widget.attrs["list"] = f"{self[name].id_for_label}_suggestions"

    @property
    def chosen_environment(self) -> str:
        return self.meter.environment if self.meter is not None else self.cleaned_data["environment"]

    def clean_environment(self) -> str:
        environment: str = self.cleaned_data["environment"]
        if fault := environment_fault(environment):
            raise forms.ValidationError(_("The environment %(fault)s."), params={"fault": fault})
        return environment

    def clean_multiplier(self) -> Any:
        given = self.cleaned_data["multiplier"]
        multiplier = number(given) if given else None
        if given and multiplier is None:
            raise forms.ValidationError(_("This is no number."))
        return multiplier

    def clean(self) -> None:
        if self.errors:
            return
        given = {name: self.cleaned_data[name] for name in MeterDefinition.__dataclass_fields__}
        try:
            self.definition = MeterDefinition(**given).validated()
        except InvalidMeter as error:
            self._tell(error)

    def _tell(self, error: InvalidMeter) -> None:
        """Set the error at the fields it names."""
        for member, detail in error.details.items():
            given = re.sub(r"\[\d+\].*", "", member)
            name = _TOLD_OF.get(given, given)
            said = str(detail) if "validation failed" in error.message else error.message
            told = SAID.get(said) or _told_otherwise(error, said)
            self.add_error(name if name in self.fields else None, told)
        if not error.details:
            self.add_error(None, error.message)

    def seal(self) -> str:
        """A mark of exactly this valid definition, of the meter as it stands: whoever sends it back has seen its preview."""
        held = None if self.meter is None else (self.meter.pk, self.meter.updated_at.isoformat(), self.meter.generation)
        told = repr((self.chosen_environment, astuple(self.definition) if self.definition else None, held))
        return salted_hmac("flexmeter.admin.meter_form", told, secret=settings.SECRET_KEY, algorithm="sha256").hexdigest()

    @property
    def is_previewed(self) -> bool:
        return constant_time_compare(self.cleaned_data["previewed"], self.seal())

    @property
    def changed_labels(self) -> list[str]:
        """Labels of the fields that differ from the meter as it is."""
        if self.meter is None or self.definition is None:
            return []
        held = definition_of(self.meter)
        return [
            str(self.fields[name].label)
            for name in MeterDefinition.__dataclass_fields__
            if getattr(held, name) != getattr(self.definition, name)
        ]


def _told_otherwise(error: InvalidMeter, said: str) -> str:
    """What is told of a fault that has figures or places of its own."""
    cause = error.__cause__
    if isinstance(cause, ExpressionError):
        return gettext("The expression is not valid: %(reason)s.") % {"reason": gettext(cause.template) % cause.values}
    if error.details.get("multiplier"):
        return gettext("The multiplier has more than %(most)d digits.") % {"most": MAX_MULTIPLIER_DIGITS}
    if error.details.get("dimensions"):
        return gettext("At most %(most)d properties can be kept apart.") % {"most": MAX_DIMENSIONS}
    if error.details.get("filters"):
        return gettext("The filters have more than %(most)d values.") % {"most": conf.MAX_FILTER_VALUES}
    return f"{said}."


def _initial(meter: Meter) -> dict[str, Any]:
    held = definition_of(meter)
    initial = {name: getattr(held, name) for name in MeterDefinition.__dataclass_fields__}
    multiplier = "" if held.multiplier is None else plain(held.multiplier)
    lines = {"filters": lines_of(held.filters), "dimensions": property_lines_of(held.dimensions)}
    return {**initial, "environment": meter.environment, "multiplier": multiplier, **lines}
