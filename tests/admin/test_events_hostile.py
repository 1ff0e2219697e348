"""Whatever an event holds is shown as text, in every place where it shows."""

from datetime import timedelta

import pytest

from flexmeter.admin.text import marked, pieces, shown, titled
from flexmeter.inbox import put
from flexmeter.ingest import ingest
from flexmeter.models import Event, RejectedEvent

from tests.admin.pages import read
from tests.factories import NOON, make_event, make_meter
from tests.hostile import HOSTILE

LIST = "/admin/flexmeter/event/"


# The elements of the admin and of these pages; a text that became markup would add others.
ELEMENTS = {
    "html", "head", "title", "link", "script", "meta", "body", "a", "div", "header", "strong", "form", "input", "button", "svg",
    "symbol", "path", "use", "nav", "main", "h1", "h2", "p", "span", "ul", "ol", "li", "label", "select", "option", "datalist",
    "table", "thead", "tbody", "tr", "th", "td", "caption", "time", "bdi", "section", "dl", "dt", "dd", "pre", "article", "br",
    "footer",
}  # fmt: skip
HIDDEN = set("\u202e\u2066\u2067\u200b\u200d\ufeff\x07\x1b\u2028")


def everything_of(text: str) -> Event:
    """An event that is `text` wherever it can be: counted, replaced, rejected, waiting, and judged by meters of the kind."""
    name = text.strip()
    properties = {text: text, "list": [text]}
    event = make_event(text, event_name=name, external_customer_id=text, source=text, customer_id=text, properties=properties)
    make_meter("SUM", name=text, event_name=name, field=text)
    make_meter("COUNT_UNIQUE", name=text, event_name=name, field=text)
    make_meter("SUM", name=text, event_name=name, expression="n", filters=((text, (text, "other")),))
    make_meter(name=text, event_name=name, filters=((text, ("other",)),))
    make_meter(name=text, event_name=name, filters=(("missing", (text,)),))
    ingest([event], environment="default")
    ingest([event._replace(source="other", accepted_at=NOON + timedelta(hours=1))], environment="default")
    rejected = RejectedEvent(environment="default", event_id=text, body={text: text}, reason="x", detail=text, accepted_at=NOON)
    rejected.save()
    put([event], environment="default")
    return Event.objects.get(event_id=text)


@pytest.mark.django_db
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_stays_text_wherever_it_shows(viewer, text):
    event = everything_of(text)
    exact = {"event_id": text, "customer": text, "name": text.strip(), "source": "other"}
    waiting = {"environment": "default", "event_id": text}
    for path, query in [(LIST, {}), (LIST, exact), (LIST, {**exact, "source": text}), (f"{LIST}{event.pk}/change/", {})]:
        page = read(viewer, path, query)
        assert {tag for tag, _ in page.tags} <= ELEMENTS
        assert not HIDDEN & set(page.raw)
        assert "".join(pieces(text)) in page.raw
    assert viewer.get(f"{LIST}live/events/").json()["events"][0]["event_id"] == pieces(text)
    assert viewer.get(f"{LIST}body/", waiting).json()["event_id"] == text


def test_hidden_characters_are_shown_by_their_number():
    assert pieces("plain") == ["plain"]
    assert pieces("") == [""]
    assert pieces("a\u200bb") == ["a", "U+200B", "b"]
    assert pieces("\u202eabc") == ["", "U+202E", "abc"]
    assert pieces("a" + "\u200b" * 5) == ["a", "U+200B×5", ""]
    assert pieces("a\nb") == ["a", "U+000A", "b"]
    assert pieces("a\nb", lines=True) == ["a\nb"]
    assert pieces("  a  b ") == ["", "U+0020×2", "a  b", "U+0020", ""]
    assert pieces(" ") == ["", "U+0020", ""]
    assert pieces("a\u00a0b") == ["a", "U+00A0", "b"]
    assert pieces("naïve – Ελλάδα 北京 🙂 שלום") == ["naïve – Ελλάδα 北京 🙂 שלום"]
    assert pieces("e\u0301") == ["e\u0301"]
    assert pieces("e" + "\u0301" * 40) == ["e", "U+0301×40", ""]


def test_a_mark_is_markup_and_the_text_around_it_is_none():
    assert marked("<b>\u200b&") == ('&lt;b&gt;<span class="fm-mark" title="ZERO WIDTH SPACE">U+200B</span>&amp;')
    assert shown("<b>") == '<bdi class="fm-text">&lt;b&gt;</bdi>'


def test_a_title_is_short_and_plain():
    assert titled("a\u200bb") == "a[U+200B]b"
    assert titled("x" * 300) == "x" * 59 + "…"
