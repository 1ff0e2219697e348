"""Every text of the admin goes through translation: in a language that puts brackets around each, nothing stands outside them."""

from __future__ import annotations

import gettext
import re

import pytest
from django.utils import translation
from django.utils.translation import trans_real

from flexmeter.models import Meter

from tests.admin.every_page import every_page
from tests.admin.pages import Page, read

pytestmark = pytest.mark.django_db

READ_ALOUD = ("title", "aria-label", "placeholder", "alt", "value", "data-label")
TERMS = {
    "api", "avg", "bytes", "count", "count_unique", "csv", "id", "json", "latest", "max", "min", "sum", "sum_with_multiplier",
    "utc", "weighted_sum", "x-api-key",
    "ingest", "read", "admin", "default", "conflict", "root", "gateway", "eu", "region", "tokens", "abc",
}  # fmt: skip
"""Words of the wire and of the ledger that is shown."""
NO_TEXT = re.compile(r"[ec]-[\w-]+|m-[\w-]+|k-backend|(?:meter|key|event)_[0-9A-Z]{26}|fm_[\w…]+|\d+[\d,.:+TZ-]*|[^\w]+")


class Brackets(gettext.NullTranslations):
    """A language in which every text is itself between brackets."""

    def gettext(self, message: str) -> str:
        return f"⟦{message.rpartition(chr(4))[2]}⟧"

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        return self.gettext(singular if number == 1 else plural)

    def language(self) -> str:
        return "en"

    to_language = language


@pytest.fixture
def bracketed():
    before = getattr(trans_real._active, "value", None)
    trans_real._active.value = Brackets()
    assert translation.gettext("Show") == "⟦Show⟧"
    yield
    if before is None:
        del trans_real._active.value
    else:
        trans_real._active.value = before


def bare_words(page: Page) -> set[str]:
    """Words that can be read or heard on a page and went through no translation."""
    content = page.content[page.content.index('<div id="content"') :]
    heard = [str(value) for tag, given in page.tags for name, value in given.items() if _is_heard(tag, name, given) and value]
    text = re.sub(r"(?s)<(script|pre|time|option|datalist|textarea|template)\b.*?</\1>", " ", content)
    text = re.sub(r"<[^>]*>", " ", text)
    words = set()
    for each in [text, *heard]:
        before = None
        while before != each:  # the innermost first, for a text may hold others
            before, each = each, re.sub(r"⟦[^⟦⟧]*⟧", " ", each)
        words |= {word for word in NO_TEXT.sub(" ", each).split() if word.lower() not in TERMS}
    return words


def _is_heard(tag: str, name: str, given: dict[str, str | None]) -> bool:
    if name == "value":
        return tag == "input" and given.get("type") in ("submit", "button")
    return name in READ_ALOUD and tag not in ("time", "link")


def test_no_page_holds_a_text_that_cannot_be_translated(admin_client, bracketed):
    pages = every_page()
    found = {name: bare_words(read(admin_client, address)) for name, address in pages.items()}
    assert not {name: words for name, words in found.items() if words}


def test_no_error_or_preview_does(admin_client, bracketed):
    every_page()
    meter = Meter.objects.get(name="m-total")
    address = f"/admin/flexmeter/meter/{meter.pk}/change/"
    given = {"name": "m-total", "event_name": "m-chat", "aggregation_type": "SUM", "field": "tokens", "reset_usage": "NEVER"}
    wrong = [{"field": ""}, {"multiplier": "x"}, {"bucket_size": "DAY", "aggregation_type": "COUNT"}, {"filters": "region"}]
    wrong += [{"field": "", "expression": text} for text in ("tokens *", "tokens ^ 2", "7 +", "1", "tokens > 2", "max(tokens)")]
    wrong += [{"aggregation_type": "SUM_WITH_MULTIPLIER", "multiplier": "1" + "0" * 120}]
    wrong += [{"filters": "region = " + ", ".join(f"v{number}" for number in range(2_000))}]
    answers = {str(changed): admin_client.post(address, {**given, "preview": "1", **changed}) for changed in ({}, *wrong)}
    for path in (
        "event/?start=x&environment=",
        "apikey/add/",
        f"meter/{meter.pk}/usage/?timezone=x&start=2025-01-01",
    ):
        ask = admin_client.post if path.endswith("add/") else admin_client.get
        answers[path] = ask(f"/admin/flexmeter/{path}")
    found = {name: bare_words(Page(answer.content.decode())) for name, answer in answers.items()}
    assert not {name: words for name, words in found.items() if words}
