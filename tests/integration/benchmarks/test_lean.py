"""The lane without features: what it is held against must at least be true of it."""

import asyncio
import contextlib
import signal

import aiohttp
import pytest

from benchmarks.router.peers import DEFAULT, HOST, KEY, PEERS, Site
from caravan.testing.nats import free_port
from tests.integration.router.engine import STREAM, Engine

PATIENCE_S = 60.0
LEAN = PEERS["lean"]


async def plain(_, connection):
    await connection.answer(b'{"answer": "whole"}', headers="server: hidden\r\n")


async def stream(_, connection):
    await connection.raw(STREAM + b"5\r\nfirst\r\n")
    await connection.raw(b"4\r\nlast\r\n")
    await connection.end()


async def cut(_, connection):
    await connection.raw(STREAM + b"5\r\nfirst\r\n")
    connection.reset()


@contextlib.asynccontextmanager
async def lane(folder, script):
    """Run the peer before two engines with ``script``; give a session whose base it is."""
    async with Engine(script) as one, Engine(script) as other:
        ports = [int(engine.url.rpartition(":")[2]) for engine in (one, other)]
        site = Site(port=free_port(), other_port=0, engines=tuple(ports), folder=folder)
        child = await asyncio.create_subprocess_exec(*LEAN.command(site))
        try:
            async with aiohttp.ClientSession(f"http://{HOST}:{site.port}") as http:
                await answering(http)
                yield http
        finally:
            child.send_signal(signal.SIGTERM)
            await child.wait()


async def answering(http):
    """Wait until it says that it is well: what is not for the lane goes to ASGI."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with http.get("/health") as answer:
                    assert await answer.json() == {"status": "ok"}
                    return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def chat(http, model=LEAN.model, key=KEY):
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post("/v1/chat/completions", json={"model": model}, headers=headers) as answer:
        yield answer


async def test_answers_pass_one_after_the_other_to_who_has_the_key(tmp_path):
    async with lane(tmp_path, plain) as http:
        for _ in range(5):
            async with chat(http) as answer:
                assert await answer.json() == {"answer": "whole"}
                assert "server" not in answer.headers
        async with chat(http, key="sk-another") as answer:
            assert answer.status == 401
        async with chat(http, model="another") as answer:
            assert answer.status == 404
        async with chat(http) as answer:
            assert answer.status == 200


async def test_streams_pass_in_pieces(tmp_path):
    async with lane(tmp_path, stream) as http:
        for _ in range(5):
            async with chat(http) as answer:
                assert await answer.read() == b"firstlast"


async def test_a_stream_that_breaks_off_does_not_look_whole(tmp_path):
    async with lane(tmp_path, cut) as http:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with chat(http) as answer:
                await answer.read()


def test_it_is_no_router_to_be_beaten_unless_it_is_asked_for():
    assert "lean" not in DEFAULT
    assert set(DEFAULT) < set(PEERS)
