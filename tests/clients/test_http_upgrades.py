"""HTTP.md, the row about HTTP/1.1: what old and new clients offer, wherever the network cuts it."""

import asyncio

import pytest

from tests.clients.calls import GOOD, STREAMED, answer
from tests.clients.test_http_headers import H2C
from tests.integration.router.world import head


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_an_offer_of_http_2_in_pieces_is_answered_in_http_1_1(world, engine, size):
    """Row "HTTP/2 is not offered"; wherever the network cuts it."""
    await world.serving(engine)
    data = head(GOOD, extra=H2C)

    async with world.raw() as (reader, writer):
        writer.get_extra_info("socket").setsockopt(6, 1, 1)  # no delay: each piece is a packet
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            await asyncio.sleep(0.001)
        assert (await answer(reader)).line == "HTTP/1.1 200 OK"

    assert engine.requests[0].body == GOOD


async def test_pipelined_offers_of_http_2_are_answered_in_http_1_1(world, engine):
    """Rows "pipelining" and "HTTP/2 is not offered"."""
    await world.serving(engine)

    async with world.raw(head(GOOD, extra=H2C) * 3) as (reader, _):
        assert [(await answer(reader)).status for _ in range(3)] == [200] * 3


async def test_http_1_0_gets_a_stream_that_ends_with_its_connection(world, engine):
    """Row "HTTP/1.1": an old client knows no chunks."""
    await world.serving(engine)

    async with world.raw(head(STREAMED).replace(b"HTTP/1.1", b"HTTP/1.0")) as (reader, _):
        got = await answer(reader)

    assert (got.status, got.all("transfer-encoding")) == (200, [])
    assert got.body.startswith(b"data: {")
    assert got.body.endswith(b"\n\ndata: [DONE]\n\n")
