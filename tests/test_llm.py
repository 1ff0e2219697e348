"""Token usage of responses in OpenAI's shape: dicts and objects, whole and streamed, cut off and complete."""

from itertools import islice
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync

from flexmeter.failures import failures
from flexmeter.llm import ameter_completion, ameter_stream, meter_completion, meter_stream, token_usage
from flexmeter.testing import usage_capture

__all__ = ["usage_capture"]

pytestmark = pytest.mark.django_db

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
RESPONSE = {"id": "chatcmpl-1", "model": "parrot", "choices": [], "usage": USAGE}


def as_object(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(member) for name, member in value.items()})
    return [as_object(member) for member in value] if isinstance(value, list) else value


def chunk(text=None, **members):
    choices = [] if text is None else [{"delta": {"content": text}}]
    return {"id": "chatcmpl-1", "model": "parrot", "choices": choices, "usage": None} | members


CHUNKS = [chunk("one "), chunk("two "), chunk("three"), chunk(usage=USAGE)]

both_forms = pytest.mark.parametrize("form", [lambda value: value, as_object], ids=["dict", "object"])


@both_forms
@pytest.mark.parametrize(("told", "counts"), [
    (USAGE, USAGE),
    ({"prompt_tokens": 5, "total_tokens": 5}, {"prompt_tokens": 5, "total_tokens": 5}),
    ({"input_tokens": 9, "output_tokens": 3}, USAGE),
    (USAGE | {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}},
     USAGE | {"cached_tokens": 4, "reasoning_tokens": 2}),
    (USAGE | {"prompt_tokens_details": None}, USAGE),
    ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, USAGE | {"cached_tokens": 4}),
    (None, {}),
])  # fmt: skip
def test_usage_is_read_under_one_name_from_every_api(form, told, counts):
    assert token_usage(form({"usage": told})) == counts


@both_forms
def test_a_whole_response_is_metered_and_returned(form, usage_capture):
    response = form(RESPONSE)
    assert meter_completion(response, "acme", properties={"feature": "chat"}) is response
    [event] = usage_capture.assert_metered("llm_request", customer="acme", count=1)
    assert event.properties == USAGE | {"model": "parrot", "response_id": "chatcmpl-1", "feature": "chat"}


def test_an_async_caller_awaits_the_same(usage_capture):
    assert async_to_sync(ameter_completion)(RESPONSE, "acme", event_name="chat") is RESPONSE
    usage_capture.assert_metered("chat", properties=USAGE)


def test_a_response_without_usage_is_a_failure_and_still_returned(usage_capture, caplog):
    before = failures.total
    assert meter_completion({"id": "x"}, "acme") == {"id": "x"}
    assert failures.total == before + 1
    assert "tells no usage" in caplog.text
    with pytest.raises(ValueError, match="tells no usage"):
        meter_completion({"id": "x"}, "acme", strict=True)
    usage_capture.assert_not_metered()


async def alist(chunks):
    return [each async for each in chunks]


async def arriving(chunks):
    for each in chunks:
        yield each


@pytest.fixture(params=["sync", "async"])
def streamed(request):
    """Takes `count` chunks (None: all) of a metered stream and closes it."""

    async def take(chunks, count, options):
        metered = ameter_stream(arriving(chunks), "acme", **options)
        taken = []
        async for each in metered:
            taken.append(each)
            if len(taken) == count:
                await metered.aclose()
                break
        return taken

    def stream(chunks, count=None, **options):
        if request.param == "async":
            return async_to_sync(take)(chunks, count, options)
        metered = meter_stream(iter(chunks), "acme", **options)
        taken = list(islice(metered, count))
        metered.close()
        return taken

    return stream


@both_forms
def test_a_stream_is_passed_on_and_metered_by_its_last_chunk(form, streamed, usage_capture):
    chunks = [form(each) for each in CHUNKS]
    assert streamed(chunks, properties={"feature": "chat"}) == chunks
    [event] = usage_capture.assert_metered("llm_request", customer="acme", count=1)
    assert event.properties.pop("duration_ms") >= 0
    assert event.properties == USAGE | {"model": "parrot", "response_id": "chatcmpl-1", "feature": "chat", "complete": True}


def test_a_stream_that_is_cut_off_counts_as_a_request_without_tokens(streamed, usage_capture, caplog):
    streamed(CHUNKS, count=2)
    [event] = usage_capture.assert_metered("llm_request", count=1, properties={"complete": False, "usage_missing": True})
    assert "prompt_tokens" not in event.properties
    assert "without telling its usage" in caplog.text


def test_a_stream_that_is_cut_off_can_be_estimated_from_what_was_streamed(streamed, usage_capture):
    streamed(CHUNKS, count=2, estimate=lambda text: {"prompt_tokens": 9, "completion_tokens": len(text.split())})
    usage_capture.assert_metered(
        "llm_request", count=1, properties={"completion_tokens": 2, "estimated": True, "complete": False}
    )


def test_a_server_that_tells_usage_all_along_is_metered_by_what_it_told_last(streamed, usage_capture):
    growing = [chunk("one ", usage=USAGE | {"completion_tokens": 1}), chunk("two ", usage=USAGE | {"completion_tokens": 2})]
    streamed([*growing, *CHUNKS], count=2)
    usage_capture.assert_metered("llm_request", count=1, properties={"completion_tokens": 2, "complete": False})


def test_a_stream_of_responses_tells_its_usage_in_the_last_event(streamed, usage_capture):
    done = {
        "type": "response.completed",
        "response": {"id": "resp-1", "model": "parrot", "usage": {"input_tokens": 9, "output_tokens": 3}},
    }
    streamed([{"type": "response.output_text.delta", "delta": "one"}, done])
    usage_capture.assert_metered("llm_request", count=1, properties=USAGE)


def test_a_stream_that_breaks_is_metered_and_its_error_goes_on(usage_capture):
    def breaking():
        yield chunk("one ", usage=USAGE)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(meter_stream(breaking(), "acme"))
    usage_capture.assert_metered("llm_request", count=1, properties=USAGE | {"complete": False})


def test_the_models_stream_is_closed_with_ours(usage_capture):
    closed = []

    def model():
        try:
            yield from CHUNKS
        finally:
            closed.append(True)

    metered = meter_stream(model(), "acme", estimate=lambda text: {})
    next(metered)
    metered.close()
    assert closed == [True]


def test_a_stream_that_cannot_be_metered_is_passed_on_whole(streamed, usage_capture, caplog):
    assert streamed(CHUNKS, event_name="") == CHUNKS
    assert "could not be metered" in caplog.text


def test_a_stream_that_is_never_begun_is_not_metered(usage_capture):
    meter_stream(iter(CHUNKS), "acme").close()
    usage_capture.assert_not_metered()


def test_one_key_counts_a_response_once(transactional_db):
    from flexmeter.models import Event

    for _ in range(2):
        meter_completion(RESPONSE, "acme", idempotency_key="chatcmpl-1")
    assert Event.objects.count() == 1
