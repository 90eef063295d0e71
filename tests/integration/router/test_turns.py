"""Many connections in one turn of the loop: each gets its own, in order, and whole."""

import asyncio
import contextlib
import re

import pytest

from services.router.adapters.engine import EngineConnection
from services.router.api.lane import ClientConnection
from services.router.core.turn import AT_ONCE, Turn
from tests.integration.router.engine import STREAM as STREAMED
from tests.integration.router.engine import event, token
from tests.integration.router.world import MODEL, body, head

GOOD = b'{"model":"%b"}' % MODEL.encode()
STREAM = b'{"model":"%b","stream":true}' % MODEL.encode()
CLOSE = "Connection: close\r\n"


async def answers(reader, count):
    """Return the status, id and body of so many answers."""
    found = []
    for _ in range(count):
        top = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, own = int(top.split()[1]), top.partition("x-request-id: ")[2].split("\r\n")[0]
        if "chunked" in top:
            text = await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            size = int(top.partition("content-length: ")[2].split("\r\n")[0])
            text = await reader.readexactly(size)
        found.append((status, own, text))
    return found


KINDS = [
    [(200, GOOD, ""), (400, b"{", ""), (200, STREAM, "")],
    [(200, STREAM, "")],
    [(400, b"{", ""), (200, GOOD, CLOSE)],
    [(400, b"{", CLOSE)],
]
"""Pipelined requests of one client: status, body, header."""


async def echoes(request, connection):
    """Answer with the request's id."""
    own = request.headers["x-request-id"]
    if not request.json.get("stream"):
        await connection.answer({"own": own})
        return
    await connection.begin()
    for text in (own, " end"):
        await connection.chunk(token(text))
    await connection.chunk(token("", "stop"))
    await connection.chunk("[DONE]")
    await connection.end()


async def test_clients_that_ask_in_the_same_moment_each_get_their_own(world, engine, monkeypatch):
    waited, came = [], Turn.came

    def counted(self, taker, data):
        waited.append(data)
        came(self, taker, data)

    monkeypatch.setattr(Turn, "came", counted)
    engine.script = echoes
    await world.serving(engine)
    kinds = KINDS * AT_ONCE

    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(world.raw()) for _ in kinds]
        for number, (_, writer) in enumerate(opened):  # all of it in one turn of the loop
            for at, (_, data, extra) in enumerate(kinds[number]):
                writer.write(head(data, extra=f"X-Request-Id: r{number}-{at}\r\n{extra}"))
        for number, (reader, _) in enumerate(opened):
            asks = kinds[number]
            found = await asyncio.wait_for(answers(reader, len(asks)), 60)
            for at, (status, data, _) in enumerate(asks):
                assert found[at][:2] == (status, f"r{number}-{at}")
                if status == 200:
                    is_as_echoed(found[at], stream=data == STREAM)
            if asks[-1][2] == CLOSE:
                assert await asyncio.wait_for(reader.read(), 60) == b""

    assert len(waited) > AT_ONCE  # else nothing of this waited for its turn


def is_as_echoed(answer, *, stream):
    """Fail unless it is that of its own request, and in order."""
    _, own, text = answer
    parts = [own.encode(), b" end", b"[DONE]"] if stream else [own.encode()]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


async def test_what_comes_together_with_a_clients_end_is_not_lost(world, engine, monkeypatch):
    """As uvloop may tell of both in one call, while something else waits for its turn."""

    def at_its_end(self, data):
        self._turn.begin()
        self._turn.came(self, data)
        self.eof_received()
        self.transport.close()

    await world.serving(engine)
    monkeypatch.setattr(ClientConnection, "data_received", at_its_end)
    async with world.raw(head(b"{", extra=CLOSE)) as (reader, _):
        answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.split()[1] == b"400"


async def test_what_was_answered_in_this_turn_is_not_lost_by_a_shutdown(world, engine, monkeypatch):
    def shut_down(self, data):
        self._turn.begin()
        self.take(data)
        self.shutdown()

    await world.serving(engine)
    monkeypatch.setattr(ClientConnection, "data_received", shut_down)
    async with world.raw(head(b"{")) as (reader, _):
        answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.split()[1] == b"400"


@pytest.mark.parametrize("waits", [True, False], ids=["others wait", "nobody waits"])
async def test_pieces_of_a_stream_that_come_in_one_turn_keep_their_order(
    world, engine, monkeypatch, waits
):
    received = EngineConnection.data_received

    def in_pieces(self, data):
        if waits:
            self._turn.begin()
        for piece in re.findall(rb".*?(?:\n\n\r\n|$)", data, re.DOTALL):
            received(self, piece)

    async def at_once(_, connection):
        events = [event(token(f"-{number}-")) for number in range(9)]
        events += [event(token("", "stop")), event("[DONE]")]
        chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in events]
        await connection.raw(STREAMED + b"".join(chunks) + b"0\r\n\r\n")

    engine.script = at_once
    await world.serving(engine)
    monkeypatch.setattr(EngineConnection, "data_received", in_pieces)
    for _ in range(3):  # the second one finds its head known
        status, text = await world.streamed(body())
        assert status == 200
        assert re.findall(r"-(\d)-", text) == list("012345678")
        assert text.endswith("data: [DONE]\n\n")
