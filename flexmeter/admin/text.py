"""Text that somebody sent, made safe to look at: nothing in it is hidden, and it moves nothing around it.

Also times and durations, in the time zone and the language of who looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from unicodedata import category, name

from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from django.utils.translation import gettext

from flexmeter.events import format_timestamp

_PLAIN = re.compile(r"(?! )[\x20-\x7e]*(?<! )")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180e") | {chr(code) for code in range(0xFE00, 0xFE10)}
_STACKING = frozenset({"Mn", "Me"})
MOST_STACKED = 4
"""Accents above one letter; more of them would reach into the lines above and below."""


def pieces(text: str, *, lines: bool = False) -> list[str]:
    """Text and marks in turn, beginning with text: the mark `U+200B` stands for a character that cannot be seen.

    Several of one kind have one mark, `U+200B×5`. Spaces at either end are marked as well; line feeds are unless `lines`.
    """
    if _PLAIN.fullmatch(text):
        return [text]
    start, end = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    found = [""]
    stacked = 0
    place = 0
    for character, run in groupby(text):
        length = len(list(run))
        kind = category(character)
        stacked = stacked + length if kind in _STACKING else 0
        if stacked > MOST_STACKED and stacked > length and found[-1] == "" and len(found) > 1:
            beginning, _, already = found[-2].partition("…×")
            found[-2] = f"{beginning.partition('×')[0]}…×{int(already or 1) + length}"
        elif _is_hidden(character, kind, lines) or stacked > MOST_STACKED or (character == " " and not start <= place < end):
            found += [f"U+{ord(character):04X}" + (f"×{length}" if length > 1 else ""), ""]
        else:
            found[-1] += character * length
        place += length
    return found


def shown(text: object) -> SafeString:
    """A value as HTML: isolated from the direction of what surrounds it, with a mark in place of every hidden character."""
    return format_html('<bdi class="fm-text">{}</bdi>', marked(text))


def marked(text: object) -> SafeString:
    """A value as HTML, with a mark in place of every hidden character."""
    return _with_marks(pieces(str(text)))


def _with_marks(parts: Sequence[str]) -> SafeString:
    return format_html_join("", "{}", ((_mark(part) if place % 2 else part,) for place, part in enumerate(parts)))


def marked_lines(text: object) -> SafeString:
    """A value of several lines as HTML, with a mark in place of every hidden character but line feeds."""
    return _with_marks(pieces(str(text), lines=True))


def isolated(text: str, values: Mapping[str, str | Sequence[str]]) -> SafeString:
    """A text of ours with values put into it, each as `shown`; several values are joined by commas."""
    told = {name: _one_or_more(value) for name, value in values.items()}
    return format_html(text, **told) if told else escape(text)


def _one_or_more(value: str | Sequence[str]) -> SafeString:
    if isinstance(value, SafeString):
        return value
    return shown(value) if isinstance(value, str) else format_html_join(", ", "{}", ((shown(each),) for each in value))


def titled(text: object, length: int = 60) -> str:
    """A value for a title or a message, as plain text: shortened, with marks such as `[U+200B]`."""
    told = "".join(f"[{part}]" if place % 2 else part for place, part in enumerate(pieces(str(text)[: 4 * length])))
    return str(Truncator(told).chars(length))


def moment(instant: datetime | None) -> SafeString:
    """An instant as HTML, in the current time zone to the second; the exact one in UTC when pointed at."""
    return mark_safe("") if instant is None else _time(instant, moment_text(instant))


def moment_text(instant: datetime) -> str:
    """An instant in the current time zone to the second."""
    local = timezone.localtime(instant)
    return f"{local.year:04d}-{local:%m-%d %H:%M:%S}"


def exactly(instant: datetime) -> SafeString:
    """An instant as HTML, in the current time zone, which it names, with all its digits."""
    local = timezone.localtime(instant)
    digits = f".{local.microsecond:06d}".rstrip("0") if local.microsecond else ""
    return _time(instant, f"{local.year:04d}-{local:%m-%d %H:%M:%S}{digits} {local.tzname()}")


def duration(length: timedelta) -> str:
    """A length of time in two units at most: `2 d 4 h`, `1 min`, `0.25 s`."""
    seconds = abs(length.total_seconds())
    if seconds < 60:
        digits = f"{seconds:.3f}".rstrip("0").rstrip(".") if seconds < 10 else f"{seconds:.0f}"
        return gettext("{seconds} s").format(seconds=digits)
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = {
        gettext("{number} d"): days,
        gettext("{number} h"): hours,
        gettext("{number} min"): minutes,
        gettext("{number} s"): seconds,
    }
    told = [unit.format(number=f"{number:,}") for unit, number in units.items() if number]
    return " ".join(told[:2])


def _time(instant: datetime, told: str) -> SafeString:
    return format_html('<time class="fm-time" datetime="{0}" title="{0}">{1}</time>', format_timestamp(instant), told)


def _mark(told: str) -> SafeString:
    character = chr(int(told.removeprefix("U+").partition("×")[0].rstrip("…"), 16))
    return format_html('<span class="fm-mark" title="{}">{}</span>', name(character, told), told)


def _is_hidden(character: str, kind: str, lines: bool) -> bool:
    """Whether it shows nothing, or something else than it is: controls, zero width, direction, fillers, separators."""
    if character == " " or (lines and character == "\n"):
        return False
    return kind in _HIDDEN_CATEGORIES or character in _FILLERS
