"""Connections to an engine, as one request after the other uses them."""

import asyncio
import time

import pytest

from services.router.adapters.engine import Engines
from services.router.core.answer_head import NO_TAIL
from services.router.core.job import Clock
from services.router.core.turn import Turn
from tests.integration.router.engine import token

BODY = b'{"stream":true}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
PATIENCE_S = 10.0


class Reader:
    """Asks for a stream and reads it; the client behind it is full ``at_last``, with its end."""

    tail, passed, begun, to = NO_TAIL, 0, False, None

    def __init__(self, *, at_last=False):
        self._at_last = at_last
        self._over = asyncio.get_running_loop().create_future()
        self.began = asyncio.Event()
        self.link = None

    async def whole(self):
        """Wait for the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            await self._over

    def connected(self, link):
        self.link = link

    def answered(self, _):
        return self

    def answered_whole(self, _, body):
        self.came(body)
        self.ended()

    def came(self, data):
        self.began.set()
        if self._at_last and data.endswith(b"0\r\n\r\n"):
            self.link.pause(self)

    def ended(self):
        self._over.set_result(None)

    def broke(self, failure, why):
        self._over.set_exception(ConnectionError(f"{failure}: {why}"))


@pytest.fixture
async def engines():
    clock, turn = Clock(time.monotonic()), Turn(asyncio.get_running_loop().call_soon)
    async with Engines(connect_timeout_s=PATIENCE_S, clock=clock, turn=turn) as engines:
        yield engines


async def opened(engines, engine, reader):
    """Ask on a new connection, and read the answer; return the connection."""
    await engines.open(reader, engine.url, HEAD, BODY)
    await reader.whole()
    return reader.link


async def test_who_fills_its_client_with_the_last_bytes_leaves_a_connection_that_is_read(
    engines, engine
):
    first = Reader(at_last=True)

    async def in_two_pieces(_, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        await first.began.wait()
        await connection.chunk(token("lo", "stop"))
        await connection.end()

    engine.script = in_two_pieces
    link = await opened(engines, engine, first)

    second = Reader()
    assert engines.send(second, engine.url, HEAD, BODY) is link
    await second.whole()


async def test_who_is_not_served_any_more_pauses_nobody(engines, engine):
    first, second = Reader(), Reader()
    link = await opened(engines, engine, first)

    link.pause(first)
    assert engines.send(second, engine.url, HEAD, BODY) is link
    link.pause(first)
    await second.whole()
