"""The streams of the responses and messages APIs, cut into pieces of any size."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import engine_errors, sse
from services.router.core.dialects import DIALECTS, MESSAGES, RESPONSES, base
from services.router.core.sse import Usage


def event(name, data):
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


CREATED = event("response.created", b'{"response":{"error":null,"usage":null},"type":"x"}')
IN_PROGRESS = event("response.in_progress", b'{"response":{"usage":null},"sequence_number":1}')
DELTA = event("response.output_text.delta", b'{"delta":"event: response.completed\\n\\n"}')
COUNTS = b'{"input_tokens":28,"output_tokens":2,"total_tokens":30}'
COMPLETED = event("response.completed", b'{"response":{"error":null,"usage":' + COUNTS + b"}}")
INCOMPLETE = event("response.incomplete", b'{"response":{"error":null,"usage":' + COUNTS + b"}}")
FULL = event(
    "response.failed",
    b'{"response":{"error":{"code":"server_error","message":"The request queue is full."},'
    b'"usage":{"input_tokens":0,"output_tokens":0}}}',
)
TOO_LONG = event(
    "response.failed",
    b'{"response":{"error":{"code":"server_error","message":"It is too long."},"usage":null}}',
)
FLAT = event("error", b'{"type":"error","code":"x","message":"no","param":null}')

START = event(
    "message_start",
    b'{"type":"message_start","message":{"id":"msg_1",'
    b'"usage":{"input_tokens":1,"output_tokens":0,"cache_read_input_tokens":33}}}',
)
BLOCK = event("content_block_start", b'{"type":"content_block_start","index":0}')
TEXT = event(
    "content_block_delta", b'{"delta":{"text":"event: message_stop \\"stop_reason\\":\\""}}'
)
BLOCK_STOP = event("content_block_stop", b'{"type":"content_block_stop","index":0}')
MESSAGE_DELTA = event(
    "message_delta", b'{"delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":4}}'
)
NO_REASON = event("message_delta", b'{"delta":{"stop_reason":null},"usage":{"output_tokens":4}}')
STOP = event("message_stop", b'{"type":"message_stop"}')
PING = event("ping", b'{"type":"ping"}')
OVERLOADED = event(
    "error",
    b'{"type":"error","error":{"type":"overloaded_error","message":"The request queue is full."}}',
)
DONE = b"data: [DONE]\n\n"
COMMENT = b": comment\n\n"
UNNAMED_ERROR = b'data: {"error":{"message":"no","code":503}}\n\n'

RESPONSE = [CREATED, IN_PROGRESS, DELTA, DELTA, COMPLETED]
MESSAGE = [START, BLOCK, TEXT, BLOCK_STOP, MESSAGE_DELTA, STOP]
GOOD = {RESPONSES: RESPONSE, MESSAGES: MESSAGE}
PARTS = {
    RESPONSES: [*RESPONSE, INCOMPLETE, FULL, TOO_LONG, FLAT, DONE, COMMENT, UNNAMED_ERROR],
    MESSAGES: [*MESSAGE, NO_REASON, PING, OVERLOADED, DONE, COMMENT, UNNAMED_ERROR],
}

routes = st.sampled_from([RESPONSES, MESSAGES])
streams = routes.flatmap(
    lambda route: st.tuples(st.just(route), st.lists(st.sampled_from(PARTS[route]), max_size=9))
)
cuts = st.lists(st.integers(0, 1500), max_size=12)


def watch(route):
    return DIALECTS[route].stream(show_usage=False)


def pieces(whole, cuts):
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    return [whole[a:b] for a, b in itertools.pairwise(places)]


def fed(stream, parts):
    return b"".join(map(stream.feed, parts))


def state(stream):
    begun = (stream.begun, stream.done, stream.complete, stream.seen)
    return (*begun, stream.error, stream.usage, stream.frame_end())


@given(streams, cuts, st.booleans())
def test_pieces_of_any_size_make_the_same_stream(given_stream, cuts, crlf):
    route, events = given_stream
    whole = b"".join(events)
    whole = whole.replace(b"\n", b"\r\n") if crlf else whole
    at_once, in_pieces = watch(route), watch(route)

    assert fed(in_pieces, pieces(whole, cuts)) == at_once.feed(whole)
    assert state(in_pieces) == state(at_once)


@given(streams, cuts)
def test_what_passes_is_what_came_up_to_the_end_or_the_error(given_stream, cuts):
    """The oracle is a loop over whole events."""
    route, events = given_stream
    starts = {CREATED, IN_PROGRESS, START, PING, COMMENT}
    errors = {FULL, TOO_LONG, FLAT, OVERLOADED, UNNAMED_ERROR}
    passed, held, stopped, complete = [], [], False, False
    for each in events:
        stopped = stopped or each == MESSAGE_DELTA
        if each in errors:
            held = []
            break
        if each == DONE or (each == STOP and not stopped):
            continue
        held.append(each)
        if each not in starts or passed:
            passed, held = passed + held, []
        complete = each in {COMPLETED, INCOMPLETE, STOP}
        if complete:
            break
    stream = watch(route)

    assert fed(stream, pieces(b"".join(events), cuts)) == b"".join(passed)
    assert stream.complete is complete
    assert stream.begun is bool(passed)


@given(routes, cuts, st.data())
def test_a_stream_cut_anywhere_never_looks_complete(route, cuts, data):
    whole = b"".join(GOOD[route])
    end = data.draw(st.integers(0, len(whole) - 1))
    stream = watch(route)
    passed = fed(stream, pieces(whole[:end], cuts))

    assert not stream.complete
    assert whole.startswith(passed)
    assert GOOD[route][-1] not in passed


@pytest.mark.parametrize("route", [RESPONSES, MESSAGES])
def test_a_whole_stream_passes_byte_for_byte(route):
    stream = watch(route)

    assert stream.feed(b"".join(GOOD[route])) == b"".join(GOOD[route])
    assert stream.complete
    assert stream.seen == len(GOOD[route])


def test_a_response_that_reached_its_limit_is_complete():
    stream = watch(RESPONSES)
    stream.feed(CREATED + DELTA + INCOMPLETE)

    assert stream.complete
    assert stream.usage == Usage(prompt_tokens=28, completion_tokens=2)


def test_tokens_from_the_cache_are_tokens_of_the_prompt():
    stream = watch(MESSAGES)
    stream.feed(b"".join(MESSAGE))

    assert stream.usage == Usage(prompt_tokens=34, completion_tokens=4)


@pytest.mark.parametrize("route", [RESPONSES, MESSAGES])
@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_nothing_is_said_before_the_model_says_something(route, cut):
    """So that the router can still answer a status, or ask another instance."""
    first = GOOD[route][0]
    stream = watch(route)

    assert stream.feed(COMMENT + first[:cut]) == b""
    assert stream.feed(first[cut:]) == b""
    assert not stream.begun
    assert stream.feed(GOOD[route][2]).startswith(COMMENT + first)
    assert stream.begun


@pytest.mark.parametrize(
    ("route", "events", "status"),
    [
        (RESPONSES, [CREATED, IN_PROGRESS, FULL], 503),
        (RESPONSES, [CREATED, IN_PROGRESS, TOO_LONG], 400),
        (RESPONSES, [FLAT], 500),
        (RESPONSES, [UNNAMED_ERROR], 503),
        (MESSAGES, [START, OVERLOADED, STOP], 503),
        (MESSAGES, [event("error", b'{"error":{"type":"invalid_request_error"}}')], 400),
        (MESSAGES, [event("error", b'{"error":{"type":"api_error","message":"x"}}')], 500),
        (MESSAGES, [event("error", b"what")], 500),
        (RESPONSES, [event("error", b"what")], 500),
    ],
)
def test_an_error_before_the_first_word_has_a_status(route, events, status):
    stream = watch(route)

    assert stream.feed(b"".join(events)) == b""
    assert not stream.begun
    assert engine_errors.read(stream.error).status == status


@pytest.mark.parametrize(
    ("route", "error"), [(RESPONSES, FULL), (RESPONSES, FLAT), (MESSAGES, OVERLOADED)]
)
def test_an_error_after_the_first_word_is_held_back_with_all_that_follows(route, error):
    good = GOOD[route]
    stream = watch(route)

    assert stream.feed(b"".join(good[:3]) + error + good[-1]) == b"".join(good[:3])
    assert not stream.complete
    assert engine_errors.read(stream.error).message


def test_a_message_that_stops_without_a_reason_is_not_complete():
    stream = watch(MESSAGES)

    assert STOP not in stream.feed(START + BLOCK + TEXT + NO_REASON + STOP)
    assert not stream.complete


@given(st.integers(1, 3000), cuts)
def test_a_long_event_passes_in_pieces_of_any_size(size, cuts):
    long = event("response.image.partial", b'{"image":"' + b"A" * size + b'"}')
    end = COMPLETED.replace(b'"error":null', b'"output":"' + b"B" * size + b'"')
    whole = CREATED + long + end
    before, sse.LONG_EVENT = sse.LONG_EVENT, 100
    try:
        stream = watch(RESPONSES)
        assert fed(stream, pieces(whole, cuts)) == whole
    finally:
        sse.LONG_EVENT = before
    assert stream.complete
    assert stream.usage == Usage(prompt_tokens=28, completion_tokens=2)
    assert (stream.seen, stream.frame_end()) == (3, b"")


@given(st.integers(1, 3000), cuts)
def test_a_last_event_too_long_to_be_held_passes_all_the_same(size, cuts):
    end = COMPLETED.replace(b'"error":null', b'"output":"' + b"B" * size + b'"')
    whole = CREATED + DELTA + end
    before = sse.LONG_EVENT, base.HELD_EVENT
    sse.LONG_EVENT = base.HELD_EVENT = 300
    try:
        stream = watch(RESPONSES)
        assert fed(stream, pieces(whole, cuts)) == whole
        assert stream.complete
        half = watch(RESPONSES)
        fed(half, pieces(whole[:-2], cuts))
        assert not half.complete
    finally:
        sse.LONG_EVENT, base.HELD_EVENT = before


def test_an_engine_that_only_pings_does_not_fill_the_memory():
    stream, pings = watch(MESSAGES), base.HELD_EVENT // len(PING)

    assert fed(stream, [PING] * pings) == b""
    assert fed(stream, [PING]) == PING * (pings + 1)
    assert stream.begun


def test_inside_a_long_event_the_frame_can_be_ended():
    stream = watch(RESPONSES)
    stream.feed(CREATED + b'event: response.image\ndata: {"image":"' + b"A" * 70_000)

    assert stream.begun
    assert stream.frame_end() == b"\n\n"


def test_a_long_error_is_held_back_before_it_ends():
    stream = watch(MESSAGES)

    assert stream.feed(START + b'event: error\ndata: {"error":{"message":"' + b"A" * 70_000) == b""
    assert stream.error is not None
    assert not stream.begun


def test_a_broken_response_goes_on_counting():
    stream = watch(RESPONSES)
    stream.feed(CREATED + IN_PROGRESS + DELTA)
    ending = base.broken_off(DIALECTS[RESPONSES], "r-1", stream.seen)
    name, data, *_ = ending.split(b"\n")

    assert name == b"event: error"
    found = msgspec.json.decode(data.removeprefix(b"data: "))
    assert (found["type"], found["code"], found["sequence_number"]) == ("error", "engine_failed", 3)
    assert found["error"]["message"] == found["message"]
