"""A stream cut into pieces of any size is the same stream."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import sse
from services.router.core.sse import EventStream

TOKEN = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason": "stop"}]}'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'
DONE = b"data: [DONE]"
ERROR = b'data: {"error": {"message": "no", "code": 503}}'
TRICKY = TOKEN % rb"{\"error\":{}} \"finish_reason\": \"stop\" \"choices\":[] \"usage\":{"

events = st.lists(
    st.sampled_from([TOKEN % b"hi", TRICKY, FINISH, USAGE, DONE, ERROR, b": comment", b"event: x"]),
    max_size=8,
)
ends = st.sampled_from([b"\n\n", b"\r\n\r\n"])
cuts = st.lists(st.integers(0, 900), max_size=12)


def pieces(whole, cuts):
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    return [whole[a:b] for a, b in itertools.pairwise(places)]


def fed(stream, parts):
    return b"".join(map(stream.feed, parts))


def state(stream):
    return (stream.begun, stream.done, stream.complete, stream.error, stream.usage)


@given(events, ends, cuts, st.booleans())
def test_pieces_of_any_size_make_the_same_stream(given_events, end, cuts, show):
    whole = b"".join(event + end for event in given_events)
    at_once, in_pieces = EventStream(show_usage=show), EventStream(show_usage=show)

    assert fed(in_pieces, pieces(whole, cuts)) == at_once.feed(whole)
    assert state(in_pieces) == state(at_once)


@given(events, ends, cuts, st.booleans())
def test_what_passes_is_what_came_but_for_what_is_said_to_be_hidden(given_events, end, cuts, show):
    """The oracle is a loop over whole events."""
    expected, finished = [], False
    for event in given_events:
        if event == ERROR or (event == DONE and finished):
            expected += [event + end] if event == DONE else []
            break
        finished = finished or event == FINISH
        if event != DONE and (event != USAGE or show):
            expected.append(event + end)
    whole = b"".join(event + end for event in given_events)

    assert fed(EventStream(show_usage=show), pieces(whole, cuts)) == b"".join(expected)


@given(st.integers(1, 3000), cuts, st.booleans())
def test_a_long_event_passes_whole_in_pieces_of_any_size(size, cuts, finish):
    long = b'data: {"image":"' + b"A" * size + b'"' + b',"finish_reason":"stop"' * finish + b"}\n\n"
    whole = TOKEN % b"a" + b"\n\n" + long + (FINISH + b"\n\n") * (not finish) + DONE + b"\n\n"
    before, sse.LONG_EVENT = sse.LONG_EVENT, 100
    try:
        stream = EventStream(show_usage=False)
        assert fed(stream, pieces(whole, cuts)) == whole
    finally:
        sse.LONG_EVENT = before
    assert stream.complete
    assert stream.frame_end() == b""


@given(cuts)
def test_inside_a_long_event_the_frame_can_be_ended(cuts):
    half = b'data: {"image":"' + b"A" * 70_000
    stream = EventStream(show_usage=False)
    fed(stream, pieces(half, cuts))

    assert stream.begun
    assert stream.frame_end() == b"\n\n"


@pytest.mark.parametrize(
    ("given_events", "complete"),
    [
        ([TOKEN % b"a", FINISH, USAGE, DONE], True),
        ([TOKEN % b"a", DONE], False),
        ([TOKEN % b"a", FINISH, USAGE], False),
        ([TOKEN % b"a", FINISH, ERROR, DONE], False),
        ([TRICKY, DONE], False),
        ([], False),
    ],
)
def test_complete_wants_a_finish_reason_and_done(given_events, complete):
    stream = EventStream(show_usage=False)
    stream.feed(b"".join(event + b"\n\n" for event in given_events))

    assert stream.complete is complete


def test_usage_is_read_whether_or_not_it_shows():
    for show in (True, False):
        stream = EventStream(show_usage=show)
        stream.feed(USAGE + b"\n\n")
        assert stream.usage == sse.Usage(prompt_tokens=3, completion_tokens=2)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"usage": 3}', b"\xff"])
def test_usage_that_cannot_be_read_is_none(body):
    assert sse.usage_in(body) is None
