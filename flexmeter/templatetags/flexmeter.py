"""What the admin's templates need to show text that somebody sent, exact figures and times."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.apps import apps

from flexmeter.properties import plain

register = template.Library()


@register.filter("plain")
def plain_figure(value: Decimal | None) -> str:
    """An exact figure, or nothing for None."""
    return "" if value is None else plain(value)


# Template engines import every installed app's libraries, also where there is no admin.
if apps.is_installed("django.contrib.admin"):
    from flexmeter.admin.text import duration, exactly, marked, marked_lines, moment, shown, titled

    for function in (duration, exactly, marked, marked_lines, moment, shown, titled):
        register.filter(function.__name__, function)


@register.filter
def grouped(number: int) -> str:
    """A whole number with its thousands apart: `12,000`."""
    return f"{number:,}"
