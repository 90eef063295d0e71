"""Chunks are told by their heads and lengths, and only what a parser takes for chunks is."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.frames import HEADS, SHORT, are_whole, is_one


def chunk(payload, form=b"%x"):
    return form % len(payload) + b"\r\n%b\r\n" % payload


def chunks_of(data):
    """Return the payloads of the chunks that a parser finds, and whether it takes another one."""
    found, parts = [], []

    class Told:
        def on_body(self, body):
            parts.append(body)

        def on_chunk_complete(self):
            found.append(b"".join(parts))
            parts.clear()

        def on_message_complete(self):
            found.append(b"the end")

    parser = httptools.HttpResponseParser(Told())
    parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data)
        seen = list(found)
        parser.feed_data(b"2\r\nhi\r\n0\r\n\r\n")
    except httptools.HttpParserError:
        return None, False
    return seen, found[len(seen) :] == [b"hi", b"", b"the end"]


def test_each_length_has_one_head_or_none():
    of_payloads = {len(chunk(b"x" * size)): b"%x\r\n" % size for size in range(1, SHORT)}

    assert list(HEADS) == [of_payloads.get(length, b"\0") for length in range(SHORT)]


@given(st.one_of(st.binary(max_size=40), st.integers(0, 9000).map(bytes)))
def test_a_chunk_is_one_and_no_other_piece_is(payload):
    piece = chunk(payload)

    assert is_one(piece, 0, len(piece)) is (payload != b"")
    assert is_one(b"before" + piece, 6, 6 + len(piece)) is (payload != b"")
    assert not is_one(piece + b"x", 0, len(piece) + 1)
    assert not is_one(piece[:-1], 0, len(piece) - 1)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4), st.sampled_from([b"%x", b"%X"]))
def test_whole_chunks_are_what_a_parser_takes_for_whole_ones(payloads, form):
    data = b"".join(chunk(payload, form) for payload in payloads)

    assert are_whole(data)
    assert chunks_of(data) == (payloads, True)
    if data:
        assert not are_whole(data[:-1])
        assert not are_whole(data + b"x")


@given(
    st.lists(
        st.sampled_from([b"2\r\nhi\r\n", b"3\r\n", b"1;x\r\n", b"a", b"\r\n", b"-2\r\n", b"0"])
    )
)
def test_what_is_called_whole_leaves_a_parser_between_chunks(parts):
    data = b"".join(parts)
    payloads, between = chunks_of(data)

    if are_whole(data) and payloads is not None:
        assert between


@pytest.mark.parametrize(
    "data", [b"0\r\n\r\n", b"-5\r\n\r\n", b"2;x=1\r\nhi\r\n", b"2 hi", b"\r\n"]
)
def test_the_last_chunk_and_what_is_none_are_not_whole(data):
    assert not are_whole(data)
