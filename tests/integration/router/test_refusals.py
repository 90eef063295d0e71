"""Every status of 400 or more is OpenAI's envelope, and says when to come back."""

import asyncio
import gzip
import io
import zlib

import msgspec
import pytest

from tests.integration.router.engine import ANSWER
from tests.integration.router.world import CHAT, MODEL, TENANT, body, eventually, head

NOT_READY = ["pending", "starting", "failed", "asleep", "degraded", "a-word-of-tomorrow"]


@pytest.mark.parametrize(
    "model", ["nope", f"{TENANT}/none", f"{MODEL}:lora", "../x", f"{TENANT}/A"]
)
async def test_an_unknown_model_is_404(world, engine, model):
    await world.serving(engine)

    status, error = await world.refused(body() | {"model": model})

    assert (status, error["type"], error["code"], error["param"]) == (
        404,
        "invalid_request_error",
        "model_not_found",
        "model",
    )


@pytest.mark.parametrize("state", ["deleting", "deleted"])
async def test_a_deleted_model_is_404(world, engine, state):
    await world.serving(engine, state=state)

    assert (await world.refused(body()))[1]["code"] == "model_not_found"


@pytest.mark.parametrize("state", NOT_READY)
async def test_nothing_ready_says_when_to_come_back(world, state):
    await world.serving(state=state, reason="waiting for a GPU")

    status, headers, found = await world.asked(body())

    error = found["error"]
    assert (status, error["type"]) == (503, "service_unavailable_error")
    assert error["code"] == "model_not_ready"
    assert "waiting for a GPU" in error["message"]
    assert 1 <= int(headers["retry-after"]) <= 60
    assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in headers


@pytest.mark.parametrize("state", ["stopped", "stopping"])
async def test_a_stopped_model_asks_not_to_be_retried(world, state):
    await world.serving(state=state)

    status, headers, found = await world.asked(body())

    assert (status, found["error"]["code"]) == (503, "model_stopped")
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


async def test_what_a_request_meets_follows_from_the_instances_not_from_the_word(world, engine):
    await world.serving(engine, state="pending")

    assert (await world.asked(body()))[0] == 200


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b'{"model": "x', None),
        (b'"model"', None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b"{}", "model"),
        (b'{"model": ""}', "model"),
        (b'{"model": null}', "model"),
        (b'{"model": 7}', "model"),
        (b'{"model": "x", "stream": "yes"}', "stream"),
        (b'{"model": "x", "stream_options": 1}', "stream_options"),
    ],
)
async def test_a_body_that_cannot_be_read_is_400(world, engine, raw, param):
    await world.serving(engine)

    status, error = await world.refused(raw)

    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["code"] == "invalid_request"


async def test_a_route_that_the_models_task_does_not_have_is_400(world, engine):
    await world.serving(engine)

    status, error = await world.refused(body(), "/v1/embeddings")

    assert (status, error["param"]) == (400, "model")
    assert "/v1/chat/completions" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/none", 404, "route_not_found"),
        ("GET", "/", 404, "route_not_found"),
        ("POST", "/v1/chat", 404, "route_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", f"/v1/models/{MODEL}", 405, "method_not_allowed"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
    ],
)
async def test_a_wrong_route_or_method_has_the_envelope_too(world, method, path, status, code):
    await world.serving()

    async with world.http.request(method, world.base + path) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, code)
        assert response.headers["x-request-id"]
        if status == 405:
            assert response.headers["allow"]


async def test_a_declared_body_over_the_limit_is_413_at_once(world, engine):
    await world.serving(engine)
    await world.stop()
    await world.start(body_limit_bytes=1000)

    whole = head(b"x" * 1001)
    async with world.raw(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") as (reader, _):
        answer = await reader.readuntil(b'"request_too_large"')

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_is_413_when_the_limit_is_reached(world, engine):
    await world.serving(engine)
    await world.stop()
    await world.start(body_limit_bytes=1000)

    async def pieces():
        for _ in range(50):
            yield b"x" * 100

    status, error = await world.refused(pieces())

    assert (status, error["code"]) == (413, "request_too_large")
    assert engine.requests == []


async def test_a_large_body_within_the_limit_passes(world, engine):
    await world.serving(engine)
    large = msgspec.json.encode(body(pad="x" * 5_000_000))

    status, _, found = await world.asked(io.BytesIO(large))

    assert (status, found) == (200, ANSWER)
    assert engine.requests[0].body == large


async def test_a_body_of_which_nothing_comes_is_408_and_the_connection_ends(world, engine):
    await world.serving(engine)
    await world.stop()
    await world.start(body_patience_s=0.3)

    whole = head(b'{"model": "x"}')
    async with world.raw(whole[:-5]) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    assert b"connection: close" in answer


async def test_gzip_is_accepted_and_reaches_the_engine_expanded(world, engine):
    await world.serving(engine)
    raw = msgspec.json.encode(body())
    async with world.post(gzip.compress(raw), headers={"content-encoding": "gzip"}) as response:
        assert response.status == 200

    assert engine.requests[0].body == raw
    assert "content-encoding" not in engine.requests[0].headers


async def test_the_limit_counts_what_gzip_expands_to(world, engine):
    await world.serving(engine)
    await world.stop()
    await world.start(body_limit_bytes=100_000)
    bomb = gzip.compress(b"0" * 50_000_000)

    status, error = await world.refused(bomb, headers={"content-encoding": "gzip"})

    assert (status, error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "raw", [b"no gzip", gzip.compress(b'{"model":"x"}' * 99)[:-9]], ids=["none", "cut off"]
)
async def test_a_broken_gzip_is_400(world, engine, raw):
    await world.serving(engine)

    assert (await world.refused(raw, headers={"content-encoding": "gzip"}))[0] == 400


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip"])
async def test_any_other_encoding_is_415(world, engine, encoding):
    await world.serving(engine)

    status, error = await world.refused(
        zlib.compress(b"{}"), headers={"content-encoding": encoding}
    )

    assert (status, error["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "fill",
    [
        b"X-Pad: " + b"a" * 70_000 + b"\r\n",
        b"".join(b"X-%d: %b\r\n" % (n, b"a" * 700) for n in range(100)),
    ],
    ids=["one", "many"],
)
async def test_a_head_over_64_kib_is_431_in_the_envelope(world, engine, fill):
    await world.serving(engine)

    async with world.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n" + fill + b"\r\n") as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"headers_too_large"' in answer
    assert b"x-request-id: " in answer


async def test_a_head_without_end_is_431_before_it_fills_the_memory(world, engine):
    await world.serving(engine)

    async with world.raw(b"GET / HTTP/1.1\r\nX-Pad: ") as (reader, writer):

        async def feed():
            with pytest.raises(OSError):  # noqa: PT012, PT011 - it writes until it may not
                while True:
                    writer.write(b"a" * 65536)
                    await writer.drain()
                    await asyncio.sleep(0)

        feeding = asyncio.create_task(feed())
        answer = await reader.readuntil(b"}}")
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)

    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "raw", [b"garbage\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"]
)
async def test_what_is_no_http_is_400_in_the_envelope(world, engine, raw):
    await world.serving(engine)

    async with world.raw(raw) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"invalid_request"' in answer


async def test_views_that_never_were_complete_are_503_never_401_or_404(world):
    await world.key()
    await world.start(start_wait_s=0.2)

    for path in (CHAT, "/v1/completions"):
        status, error = await world.refused(body(), path)
        assert (status, error["code"]) == (503, "unavailable")
    async with world.http.get(world.base + "/v1/models") as response:
        assert response.status == 503
    async with world.http.get(world.base + "/ready") as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "unavailable"
    async with world.http.get(world.base + "/health") as response:
        assert response.status == 200

    await world.complete()

    async def decided():
        return (await world.asked(body()))[0] == 404

    await eventually(decided)
