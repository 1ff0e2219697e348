"""Digests of property values, as every database keeps them."""

from datetime import UTC, datetime

import pytest

from flexmeter.models import UniqueValue
from flexmeter.properties import digest

DAY = datetime(2015, 5, 17, tzinfo=UTC)


@pytest.mark.django_db
def test_the_digest_of_any_value_can_be_stored_and_comes_back_unchanged():
    digests = {digest(str(number)) for number in range(2_000)}
    UniqueValue.objects.bulk_create([UniqueValue(series_id=1, day=DAY, value=value) for value in digests])
    assert set(UniqueValue.objects.values_list("value", flat=True)) == digests
