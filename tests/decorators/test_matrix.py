"""Every shape of view × Client and AsyncClient × what can come of a request."""

import pytest

from flexmeter.decorators import DURATION_MS, REQUEST_BYTES, RESPONSE_BYTES, STATUS

from tests.decorators.shapes import API_SHAPES, ASYNC_SHAPES, SHAPES, TEXT, BrokenView
from tests.requirements import only_on

pytestmark = [pytest.mark.django_db, only_on("sqlite")]  # what is recorded is the same everywhere; test_transactions is not

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
def test_an_answer_below_400_counts_once_with_what_was_measured(shape, asks, usage_capture):
    asked = asks(SHAPES[shape].format("success"))
    assert (asked.status, TEXT.decode() in asked.body.decode()) == (200, True)
    [event] = usage_capture.assert_metered("call", customer="acme", count=1)
    assert len(usage_capture) == 1
    assert event.properties.pop(DURATION_MS) > 0
    assert event.properties == {REQUEST_BYTES: 0, RESPONSE_BYTES: len(asked.body), STATUS: 200}


@shapes
def test_an_answer_of_400_and_more_does_not_count(shape, asks, usage_capture):
    assert asks(SHAPES[shape].format("error")).status in (400, 422)
    usage_capture.assert_not_metered()


@shapes
def test_an_exception_reaches_the_client_as_it_is_and_does_not_count(shape, asks, usage_capture):
    with pytest.raises(BrokenView):
        asks(SHAPES[shape].format("exception"))
    usage_capture.assert_not_metered()


@shapes
def test_a_missing_page_is_missing_and_does_not_count(shape, asks, usage_capture):
    assert asks(SHAPES[shape].format("missing")).status == 404
    usage_capture.assert_not_metered()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")  # Django's, of a sync stream under ASGI and back
@shapes
def test_a_stream_counts_once_when_it_ends_with_all_that_was_sent(shape, asks, usage_capture):
    asked = asks(SHAPES[shape].format("stream"))
    assert (asked.status, asked.body) == (200, TEXT)
    usage_capture.assert_metered("call", customer="acme", count=1, properties={RESPONSE_BYTES: len(TEXT), STATUS: 200})
    assert len(usage_capture) == 1


def test_the_matrix_has_sync_and_async_shapes_of_django_and_of_drf():
    assert len(SHAPES) == 23
    assert (len(ASYNC_SHAPES), len(API_SHAPES)) == (6, 10)
