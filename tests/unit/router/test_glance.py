"""A glance decides as the event stream does that takes everything apart, whatever the pieces."""

import itertools

import httptools
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.answer_head import NO_TAIL
from services.router.core.frames import CHUNK_HEAD, HEADS, SHORT
from services.router.core.glance import LAST_CHUNK, Glance, good_ending
from services.router.core.sse import EventStream, Usage

COMPACT = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
)
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
TAIL = b'"finish_reason":null}]}\n\n\r\n'


def token(text=b"hi", finish=b"null"):
    return COMPACT % (text, finish)


EVENTS = st.sampled_from(
    [
        token(),
        token(b"a longer word " * 20),
        token(b'he said \\"error\\": [DONE]'),
        token(b"", b'"stop"'),
        token().replace(b":", b": "),
        token(b"", b'"length"').replace(b",", b", ").replace(b":", b": "),
        b": a comment\n\n",
        b'event: x\ndata: {"y":1}\ndata: 2\n\n',
        token().replace(b"\n\n", b"\r\n\r\n"),
        USAGE,
        USAGE.replace(b'":', b'": '),
        b'data: {"error":{"message":"at /opt/x","code":500}}\n\n',
        b'data: {"object":"error","message":"no","code":400}\n\n',
        DONE,
    ]
)
streams = st.lists(EVENTS, max_size=7).flatmap(
    lambda events: st.sampled_from([events, [*events, token(b"", b'"stop"'), USAGE, DONE]])
)


def framed(payload, cuts):
    """Return ``payload`` in chunks cut at ``cuts``, ended by the last one."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(payload)}), len(payload)]
    chunks = [payload[a:b] for a, b in itertools.pairwise(edges) if b > a]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + LAST_CHUNK


class Body:
    """Reads a chunked body strictly; ``payload`` and ``ended`` say what came."""

    def __init__(self):
        self.payload, self.ended = b"", False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    def on_body(self, data):
        self.payload += data

    def on_message_complete(self):
        self.ended = True

    def feed(self, data):
        self._parser.feed_data(data)


def is_passed_at_once(piece, tail):
    """Tell what the connection to an engine passes without looking at it."""
    return (
        piece.endswith(tail)
        and len(piece) < SHORT
        and piece.startswith(HEADS[len(piece)])
        and piece.find(b"\n", CHUNK_HEAD) == len(piece) - 4
    )


def seen_through_glance(wire, pieces, show_usage, tail=NO_TAIL):
    """Return what a client has of it, and whether the end was good."""
    glance, client = Glance(show_usage=show_usage, tail=tail), Body()
    stream, came, parser = None, Body(), Body()
    coming = pieces(wire)
    for piece in coming:
        if glance is None:
            before = len(came.payload)
            came.feed(piece)
            out = stream.feed(came.payload[before:])
            client.feed(b"%x\r\n%b\r\n" % (len(out), out) if out else b"")
            continue
        if is_passed_at_once(piece, glance.tail):
            client.feed(piece)
            continue
        parser.feed(piece)
        out = glance.look(piece)
        if out is not None:
            client.feed(out)
            if glance.done:
                parser.feed(b"".join(coming))
                assert parser.ended  # though it has not seen what was passed at once
                return client.payload, client.ended, glance.usage
            continue
        stream = EventStream(show_usage=show_usage)
        stream.go_on(begun=glance.begun, finished=glance.finished)
        stream.usage = glance.usage
        came.feed(glance.rest)
        out = stream.feed(came.payload)
        client.feed(b"%x\r\n%b\r\n" % (len(out), out) if out else b"")
        glance = None
    assert not client.ended
    return client.payload, stream is not None and stream.complete, stream and stream.usage


def whole_pieces(sizes):
    """Cut into pieces of ``sizes``, again and again."""

    def cut(wire):
        at, n = 0, 0
        while at < len(wire):
            size = sizes[n % len(sizes)]
            yield wire[at : at + size]
            at, n = at + size, n + 1

    return cut


def by_event(wire):
    """Cut where chunks end, as an engine sends."""
    while wire:
        end = wire.find(b"\n\n\r\n")
        end = len(wire) if end < 0 else end + 4
        yield wire[:end]
        wire = wire[end:]


def ended_events(events):
    edges, at = [], 0
    for event in events:
        at += len(event)
        edges.append(at)
    return edges


@given(streams, st.booleans(), st.one_of(st.just([]), st.lists(st.integers(1, 3000))), st.data())
def test_a_client_sees_what_it_would_see_of_a_stream_that_is_taken_apart(
    events, show_usage, cuts, data
):
    payload = b"".join(events)
    wire = framed(payload, [*ended_events(events), *cuts])
    pieces = by_event
    if data.draw(st.booleans()):
        pieces = whole_pieces(data.draw(st.lists(st.integers(1, 20_000), min_size=1, max_size=5)))
    tail = data.draw(st.sampled_from([NO_TAIL, TAIL]))
    reference = EventStream(show_usage=show_usage)
    expected = reference.feed(payload)

    got, complete, usage = seen_through_glance(wire, pieces, show_usage, tail)

    assert complete is reference.complete
    assert got == expected or (not complete and expected.startswith(got))
    if complete:
        assert usage == reference.usage


def test_the_first_event_is_known_by_the_tail_of_another_stream():
    first = framed(token(b"one"), [])[: -len(LAST_CHUNK)]
    learned = Glance(show_usage=True)
    assert learned.look(first) == first
    assert learned.tail == TAIL

    glance = Glance(show_usage=True, tail=TAIL)

    assert glance.look(framed(token(b"two"), [])[: -len(LAST_CHUNK)])
    assert glance.begun
    refused = framed(b'data: {"error":{"message":"no","code":400}}\n\n', [])[: -len(LAST_CHUNK)]
    assert Glance(show_usage=True, tail=TAIL).look(refused) is None
    assert Glance(show_usage=True, tail=TAIL).look(first[: len(first) // 2]) is None


def test_an_error_before_an_event_that_ends_like_others_is_seen():
    error = b'data: {"error":{"message":"no","code":500}}\n\n'
    for cuts in ([], [len(error)]):  # in one chunk, or in one each
        piece = framed(error + token(), cuts)[: -len(LAST_CHUNK)]

        assert Glance(show_usage=True, tail=TAIL).look(piece) is None


def test_an_ordinary_stream_is_never_taken_apart():
    events = [token(b"one"), *[token(b"t%d" % n) for n in range(50)]]
    whole = [*events, token(b"", b'"stop"'), USAGE, DONE]
    wire = framed(b"".join(whole), ended_events(whole))
    for pieces in (by_event, whole_pieces([len(wire)]), whole_pieces([5000])):
        for show_usage in (True, False):
            glance = Glance(show_usage=show_usage)
            assert all(glance.look(piece) is not None for piece in pieces(wire) if not glance.done)
            assert glance.done


@given(st.integers(1, 200), st.booleans(), st.booleans())
def test_a_stream_that_comes_whole_passes_whole_but_for_usage_nobody_asked_for(count, shown, last):
    tokens = [*(token(b"t%d" % n) for n in range(count)), token(b"", b'"stop"')]
    whole = [*tokens, USAGE, DONE]
    wire = framed(b"".join(whole), ended_events(whole))

    passed, usage = good_ending(wire if last else wire[: -len(LAST_CHUNK)], show_usage=shown)

    seen = whole if shown else [*tokens, DONE]
    assert passed == framed(b"".join(seen), ended_events(seen))
    assert usage == Usage(3, 2)


@given(st.integers(0, 100), st.integers(1, 40))
def test_frames_that_cut_the_first_event_or_those_after_the_finish_are_looked_at_closely(
    before, cut
):
    whole = [token(b"t%d" % n) for n in range(before)] + [token(b"", b'"stop"'), USAGE, DONE]
    edges = ended_events(whole)
    for place in (0, edges[-3], edges[-2]):
        wire = framed(b"".join(whole), [*edges, place + min(cut, 13)])

        assert good_ending(wire, show_usage=False) is None


@given(st.integers(1, 199), st.sampled_from([0, 5000, 9000]))
def test_an_error_in_a_large_piece_passes_nowhere(at, size):
    error = b'data: {"error":{"message":"at /opt/x","code":500}}\n\n'
    whole = [token(b"t%d" % n) for n in range(200)]
    whole[at] = error
    whole += [token(b"", b'"stop"'), USAGE, DONE]
    wire = framed(b"".join(whole), ended_events(whole))

    got, complete, _ = seen_through_glance(
        wire, whole_pieces([size or len(wire)]), show_usage=False
    )

    assert b"/opt/x" not in got
    assert not complete


@given(st.integers(0, 199), st.sampled_from([0, 5000, 9000]))
def test_a_finish_reason_anywhere_in_large_pieces_is_seen(at, size):
    whole = [token(b"t%d" % n) for n in range(200)]
    whole[at] = token(b"", b'"stop"')
    whole += [USAGE, DONE]
    wire = framed(b"".join(whole), ended_events(whole))

    got, complete, usage = seen_through_glance(
        wire, whole_pieces([size or len(wire)]), show_usage=False
    )

    assert complete
    assert got == b"".join(whole[:200]) + DONE
    assert usage.completion_tokens == 2


def test_an_event_that_a_chunk_cuts_is_taken_apart():
    begun = [token(), token()]
    cut = b'b\r\ndata: {"err\r\n28\r\nor":{"message":"CUDA at /opt/x/y.py"}}\n\n\r\n'
    glance = Glance(show_usage=True)
    for piece in by_event(framed(b"".join(begun), ended_events(begun))[:-5]):
        assert glance.look(piece)

    assert glance.look(cut) is None
    assert glance.rest == cut


def test_what_only_looks_like_the_end_of_a_chunk_is_taken_apart():
    glance = Glance(show_usage=True)
    assert glance.look(framed(token(), [])[: -len(LAST_CHUNK)])
    assert glance.tail == TAIL
    # An event, what looks like the end of its chunk, and a whole chunk: all inside of one chunk.
    inside = token() + b"\r\n" + framed(token(), [])[: -len(LAST_CHUNK)]
    wire = b"%x\r\n%b\r\n" % (len(inside), inside)
    end = wire.index(b"\n\n\r\n") + 4

    assert glance.look(wire[:end]) is None


def test_events_of_more_than_one_chunk_a_piece_leave_the_tail():
    several = framed(token() + token(b"more"), [len(token())])[: -len(LAST_CHUNK)]
    upper = several.replace(b"%x" % len(token()), b"%X" % len(token()))
    for piece in (several, upper):
        glance = Glance(show_usage=True)
        for _ in range(3):
            assert glance.look(piece) == piece
            assert glance.tail == TAIL


@given(st.text("\n\0x", max_size=12).map(str.encode))
def test_no_piece_of_what_is_no_stream_can_be_taken_for_an_ordinary_event(data):
    assert not (data.endswith(NO_TAIL) and data.find(b"\n", CHUNK_HEAD) == len(data) - 4)
