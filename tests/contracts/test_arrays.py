"""Arrays written as text are read as the same values."""

from __future__ import annotations

from datetime import UTC

import pytest
from django.db import connection
from hypothesis import example, given
from hypothesis import strategies as st

from flexmeter.stores.database.arrays import array, text_array

from tests.requirements import only_on

pytestmark = [pytest.mark.django_db, only_on("postgresql")]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


def read(text, element):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT %s::{element}[]", [text])
        return cursor.fetchone()[0]


@given(st.lists(texts | st.sampled_from(['"', "\\", '","', "{}", "NULL", "", " ", "%s", "a,b", "é"]), max_size=6))
@example([])
@example([""])
@example(['a","b', "NULL"])
def test_texts_come_back_with_every_character(values):
    assert read(text_array(values), "text") == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_whole_numbers_come_back(values):
    assert read(array(values), "bigint") == values


@given(st.lists(st.datetimes(timezones=st.just(UTC)), max_size=6))
def test_instants_come_back_to_the_microsecond(values):
    assert read(array(values), "timestamptz") == values
