"""Charts as layout: bars lie within the plot in proportion, and labels never on one another."""

import re
from decimal import Decimal
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmeter.admin.charts import BASE, CHARACTER, MOST_TABBED, TOP, WIDTHS, Datum, bar_chart, compact, scale, sparkline

figures = st.one_of(
    st.just(Decimal(0)),
    st.integers(0, 10**6).map(Decimal),
    st.decimals(0, allow_nan=False, allow_infinity=False),
    st.builds(lambda digits, power: Decimal(digits).scaleb(power), st.integers(1, 10**6), st.integers(-1000, 6000)),
)


def data_of(values, tick="10 Mar", url="/x"):
    return [Datum(value, f"window {place}: {value}", tick, url) for place, value in enumerate(values)]


@given(st.lists(figures, min_size=1, max_size=40))
def test_bars_stand_on_the_base_in_proportion(values):
    chart = bar_chart(data_of(values), title="t")
    greatest = max(values)
    for bar, value in zip(chart.bars, values, strict=True):
        y, height = float(bar.y), float(bar.height)
        assert y + height == pytest.approx(BASE, abs=0.001)
        assert y >= TOP - 0.001
        assert (height == 0) == (value == 0)
        if value == greatest and value:
            assert height >= (BASE - TOP) * 0.65
    ordered = sorted(zip(values, chart.bars, strict=True), key=lambda pair: pair[0])
    assert all(float(low.height) <= float(high.height) for (_, low), (_, high) in pairwise(ordered))


@given(figures.filter(lambda value: value > 0))
def test_lines_stand_at_round_figures_up_to_the_greatest(value):
    top, lines = scale(value)
    assert top * Decimal("1.0000000001") >= value
    assert 3 <= len(lines) <= 6
    assert lines[0].text == "0"
    assert all(len(line.text) <= 12 for line in lines)
    places = [float(line.y) for line in lines]
    assert (places[0], places[-1]) == (BASE, TOP)


def test_without_any_usage_there_is_a_base_and_nothing_on_it():
    chart = bar_chart(data_of([Decimal(0)] * 3), title="t")
    assert [bar.height for bar in chart.bars] == ["0", "0", "0"]
    assert [line.text for line in chart.lines] == ["0"]
    assert bar_chart([], title="t").bars == []


@settings(max_examples=60)
@given(
    st.integers(1, 3_000),
    st.sampled_from(["1", "10 Mar", "10 Mar 2024", "10 Mar 12:15", "a label of forty characters, or even more"]),
)
def test_labels_do_not_collide(count, tick):
    chart = bar_chart(data_of([Decimal(1)] * count, tick), title="t")
    for name, width in WIDTHS.items():
        half = len(tick) * CHARACTER / 2
        spans = [(float(label.x) * width / 100 - half, float(label.x) * width / 100 + half) for label in chart.ticks[name]]
        assert all(left >= -0.01 and right <= width + 0.01 for left, right in spans)
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        if len(tick) < 14:
            assert spans


@pytest.mark.parametrize(
    ("value", "told"),
    [("0", "0"), ("1500", "1,500"), ("2500000", "2,500,000"), ("25000000", "2.5e7"), ("0.00025", "0.00025"),
     ("0.0000025", "2.5e-6"), ("1E+308", "1e308"), ("1E-1000", "1e-1000"), ("99999999", "1e8")],
)  # fmt: skip
def test_figures_of_the_axis_are_short(value, told):
    assert compact(Decimal(value)) == told


def parsed(markup):
    return ElementTree.fromstring(markup)  # noqa: S314  # our own


def drawn(chart):
    markup = render_to_string("admin/flexmeter/meter/chart.html", {"chart": chart})
    return markup, parsed(markup)


def test_three_thousand_bars_are_drawn_within_reason():
    markup, figure = drawn(bar_chart(data_of([Decimal(place) for place in range(3_000)]), title="t"))
    links = figure.findall(".//a")
    assert len(links) == 3_000
    assert all(link.get("tabindex") == "-1" for link in links)
    assert len(markup) < 1_200_000


def test_a_chart_is_told_to_who_cannot_see_it():
    _, figure = drawn(bar_chart(data_of([Decimal(3)]), title="Usage", description="One window."))
    [plot] = [svg for svg in figure.findall("svg") if svg.get("role") == "group"]
    named = {element.get("id"): element.text for element in plot if element.get("id")}
    assert (named[plot.get("aria-labelledby")], named[plot.get("aria-describedby")]) == ("Usage", "One window.")
    [link] = plot.findall("a")
    assert link.find("title").text == "window 0: 3"
    assert link.get("tabindex") is None
    assert MOST_TABBED >= 1


def test_hostile_text_stays_text_and_nothing_is_inline():
    hostile = "</title><script>x</script>\"' onload=x"
    data = [Datum(Decimal(1), hostile, hostile, '/x?a=1&b="<>')]
    _markup, figure = drawn(bar_chart(data, title=hostile, description=hostile))
    assert not [element for element in figure.iter() if element.tag in ("script", "style") or "style" in element.attrib]
    assert not [name for element in figure.iter() for name in element.attrib if name.startswith("on")]
    assert figure.find(".//a").get("href") == '/x?a=1&b="<>'


def test_a_sparkline_is_a_small_picture_with_a_name():
    picture = parsed(sparkline([0, 1, 50, 100], "151 <events>"))
    assert picture.get("aria-label") == "151 <events>"
    assert [float(height) for height in re.findall(r"v-([0-9.]+)", picture.find("path").get("d"))] == [1.23, 12.5, 24]
    assert parsed(sparkline([0, 0], "none")).find("path").get("d") == ""
