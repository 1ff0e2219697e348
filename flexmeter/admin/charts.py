"""Charts as pure layout: figures become places and sizes, which templates draw as SVG without style or script.

Across, places are parts of the width, so a chart is as wide as its page; upwards they are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from math import ceil
from typing import NamedTuple

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

HEIGHT = 240
TOP = 14
"""Above the highest line, for half of its label."""
BASE = 212
"""Where bars stand; the labels of the time axis are below."""
MOST_TABBED = 100
"""Bars that the tab key stops at; of more, only the links in the table beside are stops."""
CHARACTER = 6.6
"""Pixels that a character of a label takes, at most."""
GAP = 14
WIDTHS = {"fm-narrow": 250, "fm-wide": 600}
"""The least width that the time axis has on a phone and on a wide page; each has labels of its own."""
SPARK_HEIGHT = 24

_ROUGHLY = Context(prec=12, Emax=999_999, Emin=-999_999)
_STEPS = [Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10)]
_LINES = 4


@dataclass(frozen=True, slots=True)
class Datum:
    """A figure (not negative), what it is of in full and in short, and where a click on its bar leads."""

    value: Decimal
    label: str
    tick: str
    url: str = ""


class DrawnBar(NamedTuple):
    """A bar from `x` on, in percent; `y` is its upper end in pixels."""

    x: str
    width: str
    y: str
    height: str
    title: str
    url: str


class Line(NamedTuple):
    """A figure on the upright axis."""

    y: str
    text: str


class Tick(NamedTuple):
    """A label of the time axis, with its middle at `x`."""

    x: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart as its template draws it; `ticks` are by the class of the width they are for."""

    title: str
    description: str
    bars: list[DrawnBar]
    lines: list[Line]
    ticks: dict[str, list[Tick]]
    tabbed: bool = True
    height: int = HEIGHT
    base: int = BASE


def bar_chart(data: Sequence[Datum], *, title: str, description: str = "") -> Chart:
    """Lay out a bar for each figure, in their order."""
    top, lines = scale(max((datum.value for datum in data), default=Decimal(0)))
    bars = [_bar(place, len(data), datum, top) for place, datum in enumerate(data)]
    ticks = {name: _ticks([datum.tick for datum in data], width) for name, width in WIDTHS.items()}
    return Chart(title, description, bars, lines, ticks, tabbed=len(data) <= MOST_TABBED)


def scale(greatest: Decimal) -> tuple[Decimal, list[Line]]:
    """The figure at the upper end of the axis, and its lines: at round figures, the lowest at 0."""
    if greatest <= 0:
        return Decimal(1), [Line(str(BASE), "0")]
    rough = _ROUGHLY.divide(greatest, Decimal(_LINES))
    power = _ROUGHLY.scaleb(Decimal(1), rough.adjusted())
    step = next(each for factor in _STEPS if (each := _ROUGHLY.multiply(factor, power)) >= rough)
    count = int(_ROUGHLY.divide(greatest, step).to_integral_value(ROUND_CEILING))
    top = _ROUGHLY.multiply(step, Decimal(count))
    return top, [
        Line(_short(BASE - (BASE - TOP) * line / count), compact(_ROUGHLY.multiply(step, Decimal(line))))
        for line in range(count + 1)
    ]


def compact(value: Decimal) -> str:
    """A figure in nine characters or a few more; large and tiny ones as powers of ten."""
    if not value:
        return "0"
    rounded = Context(prec=3, Emax=999_999, Emin=-999_999).plus(value)
    power = rounded.adjusted()
    if -5 <= power < 7:
        return _without_zeros(f"{rounded:,f}")
    return f"{_without_zeros(f'{rounded.scaleb(-power, _ROUGHLY):f}')}e{power}"


def sparkline(values: Sequence[int], title: str) -> SafeString:
    """A row of small bars as HTML, for a list."""
    greatest = max(values, default=0)
    heights = [(value * (SPARK_HEIGHT - 1) / greatest if greatest else 0.0) + (0.0 if value == 0 else 1.0) for value in values]
    path = "".join(
        f"M{place} {SPARK_HEIGHT}v-{_short(height)}h.8v{_short(height)}z" for place, height in enumerate(heights) if height
    )
    context = {"title": title, "path": path, "width": len(values), "height": SPARK_HEIGHT}
    return render_to_string("admin/flexmeter/meter/sparkline.html", context)


def _bar(place: int, count: int, datum: Datum, top: Decimal) -> DrawnBar:
    part = min(float(_ROUGHLY.divide(datum.value, top)), 1.0) if datum.value > 0 else 0.0
    height = max((BASE - TOP) * part, 1.0) if datum.value > 0 else 0.0
    width = 100 / count
    margin = width * 0.1 if count <= 300 else 0.0
    return DrawnBar(
        _short(place * width + margin), _short(width - 2 * margin), _short(BASE - height), _short(height), datum.label, datum.url
    )


def _ticks(texts: Sequence[str], width: int) -> list[Tick]:
    """As many labels as have room on an axis of `width` pixels, at equal distances and each below the middle of its bar."""
    if not texts:
        return []
    half, of_a_bar = max(map(len, texts)) * CHARACTER / 2, width / len(texts)
    every = max(1, ceil((2 * half + GAP) / of_a_bar))
    first = max(0, ceil(half / of_a_bar - 0.5))
    middles = {place: (place + 0.5) * of_a_bar for place in range(first, len(texts), every)}
    return [Tick(_short(middle * 100 / width), texts[place]) for place, middle in middles.items() if middle + half <= width]


def _short(number: float) -> str:
    return _without_zeros(f"{number:.4f}")


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
