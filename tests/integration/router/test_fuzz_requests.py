"""Any requests in any pieces: one answer each, in order, and the engine gets what was sent."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.integration.router.fuzz_requests import BODY_LIMIT, CHAT, SECRET, cuts, requests
from tests.integration.router.live import Live, bounded
from tests.integration.router.scripts import PLAIN, STREAM, STREAM_AND_USAGE
from tests.integration.router.wire import Client, cut
from tests.integration.router.world import MODEL

NEVER = {500, 502, 504}
"""The engine answers well, so these would be the router's own."""
GOOD = b'{"model":"%b"}' % MODEL.encode()
CANARY = (
    f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
    f"X-Request-Id: canary\r\nContent-Length: {len(GOOD)}\r\n\r\n"
).encode() + GOOD


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with Live(tmp_path_factory.mktemp("live"), body_limit_bytes=BODY_LIMIT) as live:
        yield live


def enveloped(answer):
    """Check the envelope of an error, OpenAI's or Anthropic's."""
    assert answer.headers["content-type"] == "application/json"
    found = answer.json
    if found.get("type") == "error":
        assert set(found) == {"type", "error", "request_id"}
        assert set(found["error"]) == {"type", "message"}
        return
    assert set(found) == {"error"}
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert found["error"]["message"]


def check(asked, answer):
    """Check all that one answer says of one request."""
    assert answer.whole
    assert answer.status not in NEVER
    assert not (asked.old and answer.framing == "chunked"), "HTTP/1.0 has no chunks"
    assert asked.statuses is None or answer.status in asked.statuses, answer
    given = answer.headers["x-request-id"]
    assert given == asked.request_id or (not asked.request_id and given.startswith("req-"))
    assert answer.headers["openai-processing-ms"].isdigit()
    assert ("access-control-allow-origin" in answer.headers) == asked.origin or (
        answer.status == 204
    )
    if answer.status >= 400 and asked.method != "HEAD":
        enveloped(answer)
    if answer.status == 405:
        assert answer.headers["allow"]
    if answer.status == 200 and asked.hot:
        assert answer.headers["x-caravan-instance"] == "i-aaaaaa"
        if answer.headers["content-type"] == "text/event-stream":
            assert answer.body in {STREAM, STREAM_AND_USAGE}
        else:
            assert answer.body == PLAIN


def reached(engine, asked, answer):
    """Check that the engine got the body of a good request as it was, and nothing of a bad one."""
    got = [one for one in engine.got if one.id == answer.headers["x-request-id"]]
    if answer.status == 200 and asked.hot:
        # A client may give several requests the same id.
        assert (asked.path.partition("?")[0], asked.body) in [(one.path, one.body) for one in got]
        for one in got:
            assert "content-encoding" not in one.headers
            assert SECRET not in str(one.headers)
    return len(got)


async def conversation(live, asked, pieces):
    live.engine.got.clear()
    async with Client(live.port) as client:
        await client.send(pieces)
        answers = []
        for one in asked:
            answer = await client.answer(one.method)
            assert answer is not None, f"no answer to {one}"
            check(one, answer)
            answers.append(answer)
            if one.old and answer.headers.get("connection", "").lower() == "keep-alive":
                break  # which it may, where it was asked for
            if not one.stays or (one.expects and answer.status >= 400 and not answer.stays):
                assert await client.rest() == b""
                break
            assert answer.stays, answer
        else:
            await client.send([CANARY])
            answer = await client.answer()
            assert answer is not None
            assert (answer.status, answer.body) == (200, PLAIN)
            assert answer.headers["x-request-id"] == "canary"
    for one, answer in zip(asked, answers, strict=False):
        reached(live.engine, one, answer)
    good = sum(a.status == 200 and q.hot for q, a in zip(asked, answers, strict=False))
    extra = sum(a.status == 200 and not q.hot for q, a in zip(asked, answers, strict=False))
    canary = len(answers) == len(asked) and asked[-1].stays and answers[-1].stays
    assert good + canary <= len(live.engine.got)
    if answers[-1].stays or not asked[len(answers) - 1].expects:
        assert len(live.engine.got) <= good + canary + extra
    assert live.engine.wrong == []
    await live.settled()


@given(st.lists(requests, min_size=1, max_size=5), cuts)
@bounded(250)
def test_each_request_gets_its_answer_whatever_the_pieces(live, asked, cuts):
    whole = b"".join(one.wire for one in asked)
    live.run(conversation(live, asked, cut(whole, *cuts)))


GARBAGE = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.sampled_from(
        [
            b"GET / HTTP/9.9\r\n\r\n",
            b"get / http/1.1\r\n\r\n",
            b"GET /\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nxyz",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            (
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\na\r\n0\r\n\r\n"
            ),
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            b"GET / HTTP/1.1\r\n x: folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET //\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        ]
    ),
)


@st.composite
def broken(draw):
    """Bytes that are no request, or a request of which some bytes are others."""
    base = bytearray(draw(st.sampled_from([CANARY, CANARY.replace(b"POST", b"GET")])))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)):
        base[at % len(base)] = byte
    return bytes(base)


async def nonsense(live, before, garbage, pieces_of):
    """Good requests, then garbage, then our half is closed: only whole answers, then the end."""
    async with Client(live.port) as client:
        await client.send([CANARY] * before)
        for _ in range(before):
            answer = await client.answer()
            assert answer is not None
            assert answer.status == 200
        await client.send(cut(garbage, *pieces_of))
        client.say_no_more()
        while (answer := await client.answer("GET")) is not None:
            if not answer.whole:
                break  # a good one, which the end of our half has cut
            assert answer.status not in NEVER
            assert answer.headers["x-request-id"]
            if answer.status >= 400 and answer.body:
                enveloped(answer)
    async with Client(live.port) as client:
        await client.send([CANARY])
        assert (await client.answer()).status == 200
    await live.settled()


@given(st.integers(0, 2), st.one_of(GARBAGE, broken()), cuts)
@bounded(200)
def test_what_is_no_request_hurts_nobody(live, before, garbage, cuts):
    live.run(nonsense(live, before, garbage, cuts))


async def pipelined(live, good, stream, garbage):
    """Garbage right behind good requests: they are answered whole, and then comes the end."""
    body = b'{"model":"%b","stream":%b}' % (MODEL.encode(), b"true" if stream else b"false")
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with Client(live.port) as client:
        await client.send([(head + body) * good + garbage])
        for _ in range(good):
            answer = await client.answer()
            assert answer is not None
            assert (answer.status, answer.whole) == (200, True)
            assert answer.body == (STREAM if stream else PLAIN)
        last = await client.answer()
        assert last is None or last.status == 400
        assert await client.rest() == b""
    await live.settled()


@given(
    st.integers(1, 3), st.booleans(), st.binary(max_size=20).map(lambda more: b"\0garbage" + more)
)
@example(good=3, stream=True, garbage=b"\0\r\n\r\n")
@bounded(60)
def test_garbage_behind_good_requests_takes_none_of_their_answers(live, good, stream, garbage):
    live.run(pipelined(live, good, stream, garbage))
