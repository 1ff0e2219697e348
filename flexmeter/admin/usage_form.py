"""What somebody asks about a meter's usage, as a form, and the addresses of its answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from flexmeter import windows
from flexmeter.admin.filter_lines import FilterLines
from flexmeter.admin.filters import ExactText, Instant
from flexmeter.conf import conf
from flexmeter.metering import filters_of
from flexmeter.models import Meter, now
from flexmeter.properties import text_fault
from flexmeter.queries import Scope, UsageQuery, calendar_in
from flexmeter.windows import WindowSize

DEFAULT_DAYS = 30
SIZES = {
    WindowSize.MINUTE: _("1 minute"),
    WindowSize.FIFTEEN_MINUTES: _("15 minutes"),
    WindowSize.THIRTY_MINUTES: _("30 minutes"),
    WindowSize.HOUR: _("1 hour"),
    WindowSize.THREE_HOURS: _("3 hours"),
    WindowSize.SIX_HOURS: _("6 hours"),
    WindowSize.TWELVE_HOURS: _("12 hours"),
    WindowSize.DAY: _("1 day"),
    WindowSize.WEEK: _("1 week"),
    WindowSize.MONTH: _("1 month"),
}
QUICK = [
    (_("24 hours"), timedelta(days=1), WindowSize.HOUR),
    (_("7 days"), timedelta(days=7), WindowSize.DAY),
    (_("30 days"), timedelta(days=30), WindowSize.DAY),
    (_("90 days"), timedelta(days=90), WindowSize.WEEK),
    (_("12 months"), timedelta(days=365), WindowSize.MONTH),
]


def zone_of(data: QueryDict) -> tuple[str, tzinfo]:
    """Name and zone that a request asks for, else the current one of Django; a name that is none stands for UTC."""
    name = data.get("timezone") or timezone.get_current_timezone_name()
    return name, windows.zone(name)


@lru_cache(maxsize=1)
def zone_names() -> list[str]:
    return sorted(name for name in available_timezones() if not windows.zone_is_unknown(name))


class UsageForm(forms.Form):
    """A question about one meter. Make it, and use it, while its `zone_of` is Django's current time zone."""

    start = Instant(label=_("From"))
    end = Instant(label=_("Until"))
    window = forms.ChoiceField(
        label=_("Windows of"), required=False, choices=[(size.value, told) for size, told in SIZES.items()]
    )
    timezone = forms.CharField(label=_("Time zone"), required=False, max_length=64)
    anchor = forms.IntegerField(label=_("Months begin on day"), required=False, min_value=1, max_value=31)
    customer = ExactText(label=_("Customer id"), placeholder=_("All customers"))
    filters = FilterLines(label=_("Only events with"), rows=1)

    def __init__(self, data: QueryDict, meter: Meter) -> None:
        given = data.copy()
        name, self.zone = zone_of(data)
        if not given.get("timezone"):
            given["timezone"] = name
        if not given.get("window"):
            given["window"] = WindowSize.DAY.value
        if not given.get("end"):
            given["end"] = _local(windows.following(now(), WindowSize.DAY, calendar_in(self.zone)))
        if not given.get("start"):
            try:
                end = Instant(label="").to_python(given["end"]) or now()
            except forms.ValidationError:
                end = now()
            noon = windows.floor(end, WindowSize.DAY, calendar_in(self.zone)) + timedelta(hours=12)
            given["start"] = _local(windows.floor(noon - timedelta(days=DEFAULT_DAYS), WindowSize.DAY, calendar_in(self.zone)))
        super().__init__(given)
        self.meter = meter
        field: Any = self.fields["timezone"]
        field.suggestions = zone_names()
        field.widget.attrs["list"] = f"{self['timezone'].id_for_label}_suggestions"

    def clean_timezone(self) -> str:
        name: str = self.cleaned_data["timezone"]
        if windows.zone_is_unknown(name):
            raise forms.ValidationError(_("This is no time zone of the IANA database, such as Europe/Berlin."))
        return name

    def clean_filters(self) -> Any:
        filters = self.cleaned_data["filters"]
        if sum(len(values) for _key, values in filters) > conf.MAX_FILTER_VALUES:
            raise forms.ValidationError(_("These are more values than one question may name."))
        if any(text_fault(text) for key, values in filters for text in (key, *values)):
            raise forms.ValidationError(_("This text holds a character that no event can hold."))
        return filters

    def clean(self) -> None:
        start, end = self.cleaned_data.get("start"), self.cleaned_data.get("end")
        if start and end and end <= start:
            self.add_error("end", _("The end must lie after the start."))

    def query(self) -> UsageQuery:
        """The question that the valid form asks."""
        wanted = self.cleaned_data
        return UsageQuery(
            self.meter.rule(),
            Scope(self.meter.environment, wanted["customer"] or None, filters=filters_of(wanted["filters"])),
            wanted["start"].astimezone(UTC),
            wanted["end"].astimezone(UTC),
            WindowSize(wanted["window"]),
            calendar_in(self.zone, wanted["anchor"] or 1),
            accumulates=self.meter.reset_usage == Meter.ResetUsage.NEVER,
        )

    def parameters(self, **changed: str) -> dict[str, str]:
        """The question as parameters of an address, exact to the microsecond; what is empty is left out."""
        given = {name: str(self.data.get(name) or "") for name in self.fields}
        for name in ("start", "end"):
            if isinstance(instant := self.cleaned_data.get(name), datetime):
                given[name] = instant.astimezone(UTC).isoformat()
        return {name: value for name, value in {**given, **changed}.items() if value}

    def quick_ranges(self) -> list[tuple[str, dict[str, str]]]:
        """Names and parameters of ranges that end now or today."""
        calendar = calendar_in(self.zone)
        kept = {name: value for name in ("timezone", "customer", "filters", "anchor") if (value := self.data.get(name))}
        ranges = []
        for told, length, size in QUICK:
            step, slack = (size, timedelta(0)) if size is WindowSize.HOUR else (WindowSize.DAY, timedelta(hours=12))
            end = windows.following(now(), step, calendar)
            start = windows.floor(end - length + slack, step, calendar)
            ranges.append((str(told), {**kept, "start": _local(start), "end": _local(end), "window": size.value}))
        return ranges


def _local(instant: datetime) -> str:
    return timezone.localtime(instant).strftime(Instant.FORMAT)
