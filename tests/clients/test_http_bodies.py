"""HTTP.md, the rows about what a client sends: too large, too slow, compressed, in pieces.

Also said there, on bare connections: tests/integration/router/test_refusals.py.
"""

import asyncio
import gzip
import json
import shutil

import httpx
import openai
import pytest

from tests.clients.calls import (
    GOOD,
    HELLO,
    answer,
    asked,
    chat,
    checked,
    chunked_top,
    chunks,
    official,
    post,
    top,
)
from tests.clients.conftest import run
from tests.integration.router.engine import ANSWER
from tests.integration.router.world import CHAT, MODEL, SECRET, body, head

LARGE = [{"role": "user", "content": "x" * 3_000_000}]


async def test_fields_that_nobody_knows_yet_reach_the_engine_byte_for_byte(world, engine):
    """The sentence under "Routes": the body travels on as it is."""
    await world.serving(engine)
    sent = []

    async def note(request):
        sent.append(request.content)

    async with httpx.AsyncClient(event_hooks={"request": [note]}) as http:
        client = official(world, http_client=http)
        await chat(
            client,
            temperature=0.10,
            user="ünïcode \U0001f600",
            verbosity="low",
            extra_body={"a_field_of_tomorrow": {"deep": [1, None, {"x": 1e-7}]}, "n": 1},
        )

    [request] = engine.requests
    assert [request.body] == sent
    assert request.json["a_field_of_tomorrow"] == {"deep": [1, None, {"x": 1e-7}]}
    assert request.json["verbosity"] == "low"


async def test_bytes_that_no_sdk_would_write_reach_the_engine_as_they_are(world, engine):
    """The same: spaces, order, a name twice, numbers without an exact form."""
    await world.serving(engine)
    start = b'\n{ "x":1.10,"x" :0.1e+1,\t"y":123456789012345678901234567890,'
    raw = start + b'"z":"\\u00e9\xc3\xa9","model" : "%b"}\r\n' % MODEL.encode()

    async with official(world) as client:
        await post(client, raw)

    assert engine.requests[0].body == raw


async def test_a_body_over_the_limit_is_413_and_the_client_goes_on(world, engine):
    """Row "body over the limit"."""
    world.settings["body_limit_bytes"] = 1_000_000
    await world.serving(engine)

    async with official(world) as client:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError) as refusal:
                await chat(client, messages=LARGE)
            error = checked(refusal.value)
            assert (error.status_code, error.code) == (413, "request_too_large")
            assert error.type == "invalid_request_error"
            assert "1000000 bytes" in error.message
            assert (await chat(client)).choices

    assert [one.json["messages"] for one in engine.requests] == [HELLO] * 2


async def test_the_limit_is_64_mib_when_nobody_sets_one(world, engine):
    """Row "body over the limit"."""
    await world.serving(engine)
    length = f"Content-Length: {64 * 2**20 + 1}".encode()

    refused = await asked(world, top(GOOD).replace(b"Content-Length: %d" % len(GOOD), length))

    assert (refused.status, refused.error["code"]) == (413, "request_too_large")
    assert str(64 * 2**20) in refused.error["message"]


async def test_a_body_of_exactly_the_limit_passes(world, engine):
    """Row "body over the limit"."""
    world.settings["body_limit_bytes"] = 1000
    await world.serving(engine)
    raw = GOOD + b" " * (1000 - len(GOOD))

    assert (await asked(world, head(raw))).status == 200
    assert (await asked(world, head(raw + b" "))).status == 413
    assert (await asked(world, chunked_top() + chunks(raw) + b"0\r\n\r\n")).status == 200
    assert (await asked(world, chunked_top() + chunks(raw, b" "))).status == 413


async def test_content_length_alone_is_enough_for_a_413(world, engine):
    """Row "body over the limit": at once, before a byte of the body."""
    world.settings["body_limit_bytes"] = 1000
    await world.serving(engine)

    for extra in ("", "Expect: 100-continue\r\n"):
        refused = await asked(world, top(b"x" * 1001, extra=extra))
        assert (refused.status, refused.error["code"]) == (413, "request_too_large")


async def test_a_chunked_body_is_413_before_its_end(world, engine):
    """Row "body over the limit": else when reached."""
    world.settings["body_limit_bytes"] = 1000
    await world.serving(engine)

    async with world.raw(chunked_top() + chunks(b"x" * 600)) as (reader, writer):
        writer.write(chunks(b"x" * 600))
        refused = await answer(reader)

    assert (refused.status, refused.error["code"]) == (413, "request_too_large")
    assert engine.requests == []


async def test_curl_asks_before_it_sends_a_large_body_and_sends_none_that_is_refused(
    world, engine, tmp_path
):
    """Rows "body over the limit" and "Expect: 100-continue"."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    world.settings["body_limit_bytes"] = 2_000_000
    await world.serving(engine)
    found = {}
    for size in (1_500_000, 2_500_000):
        file = tmp_path / "body"
        file.write_bytes(json.dumps(body(pad="x" * size)).encode())
        out, err, _ = await run(
            *("curl", "-sS", "--expect100-timeout", "60", "-H", f"Authorization: Bearer {SECRET}"),
            *("-H", "Content-Type: application/json", "--data-binary", f"@{file}"),
            *("-o", "-", "-w", "\n%{http_code} %{size_upload}", world.base + CHAT),
        )
        text, _, figures = out.rpartition("\n")
        status, sent = figures.split()
        found[size] = (status, int(sent) > 0, json.loads(text), err)

    assert found[1_500_000] == ("200", True, ANSWER, "")
    status, sent, text, _ = found[2_500_000]
    assert (status, sent, text["error"]["code"]) == ("413", False, "request_too_large")


async def test_a_chunked_body_in_any_pieces_reaches_the_engine_whole(world, engine):
    """Row "HTTP/1.1"; extensions and trailers are part of it."""
    await world.serving(engine)
    raw = json.dumps(body(pad="é" * 500)).encode()
    pieces = [raw[n : n + 7] for n in range(0, len(raw), 7)]
    odd = b"".join(b"%04X;name=value\r\n%b\r\n" % (len(one), one) for one in pieces)

    async with world.raw(chunked_top()) as (reader, writer):
        for end in (b"0\r\n\r\n", b"000;last\r\nX-Trailer: yes\r\n\r\n"):
            writer.write(odd + end)
            assert (await answer(reader)).status == 200
            writer.write(chunked_top())

    assert [one.body for one in engine.requests] == [raw, raw]
    assert "x-trailer" not in engine.requests[1].headers


async def test_a_head_and_a_body_byte_by_byte_are_understood(world, engine):
    """Row "HTTP/1.1"."""
    await world.serving(engine)

    async with world.raw() as (reader, writer):
        for byte in head(GOOD):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader)).status == 200

    assert engine.requests[0].body == GOOD


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_which_nothing_comes_is_408_and_the_end(world, engine, chunked):
    """Row "slow request body"."""
    world.settings["body_patience_s"] = 0.3
    await world.serving(engine)
    data = chunked_top() + chunks(b'{"mod') if chunked else head(GOOD)[:-4]

    async with world.raw(data) as (reader, _):
        refused = await answer(reader)
        assert (refused.status, refused.error["code"]) == (408, "request_timeout")
        assert refused["connection"] == "close"
        assert await reader.read() == b""

    assert engine.requests == []


async def test_a_body_that_comes_slowly_but_comes_is_taken(world, engine):
    """Row "slow request body": the patience is for each byte, not for the whole."""
    world.settings["body_patience_s"] = 2.0
    await world.serving(engine)

    async with world.raw(top(GOOD)) as (reader, writer):
        for start in range(0, len(GOOD), 8):
            await asyncio.sleep(0.6)
            writer.write(GOOD[start : start + 8])
        assert (await answer(reader)).status == 200


async def test_headers_over_64_kib_are_431_for_the_sdk(world, engine):
    """Row "headers over 64 KiB"."""
    await world.serving(engine)
    many = {f"x-{n}": "a" * 700 for n in range(100)}

    async with official(world) as client:
        for headers in ({"x-pad": "a" * 70_000}, many):
            with pytest.raises(openai.APIStatusError) as refusal:
                await chat(client, extra_headers=headers)
            error = checked(refusal.value)
            assert (error.status_code, error.code) == (431, "headers_too_large")
            assert (await chat(client)).choices  # on a new connection

    assert len(engine.requests) == 2


async def test_headers_under_64_kib_pass(world, engine):
    """Row "headers over 64 KiB": many and long ones below it are no obstacle."""
    await world.serving(engine)
    many = {f"x-{n}": "a" for n in range(900)}

    async with official(world) as client:
        for headers in ({"x-pad": "a" * 60_000}, many):
            assert (await chat(client, extra_headers=headers)).choices

    assert not [name for name in engine.requests[1].headers if name.startswith("x-1")]


class Compressing(httpx.AsyncHTTPTransport):
    """What a client does that compresses its requests."""

    def __init__(self, compress, encoding="gzip"):
        super().__init__()
        self._compress, self._encoding = compress, encoding

    async def handle_async_request(self, request):
        raw = await request.aread()
        headers = [(k, v) for k, v in request.headers.raw if k.lower() != b"content-length"]
        headers.append((b"Content-Encoding", self._encoding.encode()))
        return await super().handle_async_request(
            httpx.Request(request.method, request.url, headers=headers, content=self._compress(raw))
        )


async def compressed(world, compress, encoding="gzip", **fields):
    async with httpx.AsyncClient(transport=Compressing(compress, encoding)) as http:
        return await chat(official(world, http_client=http), **fields)


def two_members(raw):
    return gzip.compress(raw[:40]) + gzip.compress(raw[40:])


@pytest.mark.parametrize("compress", [gzip.compress, two_members])
async def test_a_client_may_gzip_its_requests(world, engine, compress):
    """Row "compressed request"."""
    await world.serving(engine)

    found = await compressed(world, compress, user="someone")

    assert found.choices
    [request] = engine.requests
    assert request.json == {"messages": HELLO, "model": MODEL, "user": "someone"}
    assert "content-encoding" not in request.headers
    assert int(request.headers["content-length"]) == len(request.body)


async def test_a_gzipped_body_may_come_in_chunks(world, engine):
    """Row "compressed request"."""
    await world.serving(engine)
    raw = gzip.compress(GOOD)
    start = chunked_top(extra="Content-Encoding: gzip\r\n")

    got = await asked(world, start + chunks(*(bytes([one]) for one in raw)) + b"0\r\n\r\n")

    assert got.status == 200
    assert engine.requests[0].body == GOOD


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_gzip_bomb_is_413_when_what_came_of_it_expands_to_the_limit(world, engine, chunked):
    """Row "compressed request": the limit counts expanded bytes, not those that are sent."""
    world.settings["body_limit_bytes"] = 1_000_000
    await world.serving(engine)
    bomb = gzip.compress(b"0" * 100_000_000)
    first = bomb[:5000]  # some 5 MB when it is expanded
    extra = "Content-Encoding: gzip\r\n"
    start = chunked_top(extra=extra) + chunks(first) if chunked else top(bomb, extra=extra) + first

    refused = await asked(world, start)

    assert (refused.status, refused.error["code"]) == (413, "request_too_large")
    assert engine.requests == []


async def test_a_cut_or_false_gzip_is_a_bad_request_error(world, engine):
    """Row "compressed request"."""
    await world.serving(engine)

    for compress in (lambda raw: raw, lambda raw: gzip.compress(raw)[:-9]):
        with pytest.raises(openai.BadRequestError) as refusal:
            await compressed(world, compress)
        assert checked(refusal.value).code == "invalid_request"

    assert engine.requests == []


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "compress"])
async def test_any_other_encoding_is_415(world, engine, encoding):
    """Row "compressed request"."""
    await world.serving(engine)

    with pytest.raises(openai.APIStatusError) as refusal:
        await compressed(world, lambda raw: raw, encoding)

    error = checked(refusal.value)
    assert (error.status_code, error.code) == (415, "unsupported_encoding")
    assert error.type == "invalid_request_error"
    assert engine.requests == []
