"""HTTP.md: facts that wait for the router."""

import asyncio

import openai
import pytest

from tests.clients.calls import STREAMED, asked, chat, checked, chunks, official
from tests.integration.router.engine import USAGE_EVENT, event, token
from tests.integration.router.world import head


async def test_a_body_far_over_the_limit_is_413_for_the_sdk_too(world, engine):
    """Row "body over the limit": a connection error would be retried, with all its bytes."""
    await world.serving(engine)
    large = [{"role": "user", "content": "x" * 140 * 2**20}]

    async with official(world) as client:
        with pytest.raises(openai.APIStatusError) as refusal:
            await chat(client, messages=large)

    error = checked(refusal.value)
    assert (error.status_code, error.code) == (413, "request_too_large")
    assert engine.requests == []


WITHIN = [b'"cho', b'"usa', b"data", b"prompt_tok"]


def cut(data, after):
    """Return ``data`` as two chunks, the first of which ends with ``after``."""
    at = data.index(after) + len(after)
    return chunks(data[:at], data[at:])


def at_once(*wires):
    """Return the script of an engine that sends each of ``wires`` in a packet of its own."""

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("a"))
        for wire in wires:
            await asyncio.sleep(0.05)  # else the network puts them together
            await connection.raw(wire)
        await asyncio.sleep(0.05)
        await connection.end()

    return script


@pytest.mark.parametrize("after", WITHIN)
async def test_a_usage_event_cut_by_a_chunks_frame_is_hidden_all_the_same(world, engine, after):
    """Line "Usage": wherever the engine's chunks cut it, and however they arrive."""
    engine.script = at_once(
        chunks(event(token("", "stop"))) + cut(event(USAGE_EVENT), after), chunks(event("[DONE]"))
    )
    await world.serving(engine)

    got = await asked(world, head(STREAMED))

    assert got.body == event(token("a")) + event(token("", "stop")) + event("[DONE]")


@pytest.mark.parametrize("after", [b"data: {", b'"err', b'"error":'])
async def test_an_error_event_cut_by_a_chunks_frame_is_our_error(world, engine, after):
    """Line "The end": the engine's own words never pass."""
    engine.script = at_once(cut(b'data: {"error":{"message":"CUDA at /opt/x/y.py"}}\n\n', after))
    await world.serving(engine)

    got = await asked(world, head(STREAMED))

    assert b"/opt" not in got.body
    assert b'"code":"engine_failed"' in got.body


@pytest.mark.parametrize("after", [b"data: [", b"[DO", b"data"])
async def test_a_done_without_a_finish_cut_by_a_chunks_frame_is_no_end(world, engine, after):
    """Line "The end": without a finish reason nothing looks complete."""
    engine.script = at_once(cut(event("[DONE]"), after))
    await world.serving(engine)

    got = await asked(world, head(STREAMED))

    assert b"[DONE]" not in got.body
    assert b'"code":"engine_failed"' in got.body
