"""HTTP.md, "Routes": what the official SDK reaches, and what machines ask for all day."""

import json

import pytest

from tests.clients.calls import HELLO, asked, chat, official, text_of
from tests.integration.router.engine import USAGE
from tests.integration.router.world import CHAT, MODEL

VECTORS = {
    "object": "list",
    "model": MODEL,
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


async def test_chat(world, engine):
    """The route /v1/chat/completions."""
    await world.serving(engine)

    async with official(world) as client:
        found = await chat(client, max_tokens=5)
        assert await text_of(await chat(client, stream=True)) == "hello"

    assert found.choices[0].message.content == "hi"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.model_dump(exclude_unset=True) == USAGE
    assert [one.path for one in engine.requests] == [CHAT, CHAT]
    assert engine.requests[0].json == {"model": MODEL, "messages": HELLO, "max_tokens": 5}


async def test_completions(world, engine):
    """The route /v1/completions."""

    def part(text, finish=None):
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        return {"id": "c", "object": "text_completion", "model": MODEL, "choices": [choice]}

    async def script(request, connection):
        if not request.json.get("stream"):
            await connection.answer(part("whole", "length"))
            return
        await connection.begin()
        for one in (part("in "), part("parts"), part("", "stop"), "[DONE]"):
            await connection.chunk(one)
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        found = await client.completions.create(model=MODEL, prompt="x")
        stream = await client.completions.create(model=MODEL, prompt="x", stream=True)
        assert "".join([one.choices[0].text async for one in stream]) == "in parts"

    assert found.choices[0].text == "whole"
    assert [one.path for one in engine.requests] == ["/v1/completions"] * 2


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_embeddings(world, engine, form):
    """The route /v1/embeddings; what the SDK asks for reaches the engine."""

    async def script(_, connection):
        await connection.answer(VECTORS)

    engine.script = script
    await world.serving(engine, task="embedding")
    async with official(world) as client:
        found = await client.embeddings.create(model=MODEL, input=["x"], encoding_format=form)

    assert found.data[0].embedding == [0.5, -0.25]
    [request] = engine.requests
    assert (request.path, request.json["encoding_format"]) == ("/v1/embeddings", form)


async def test_what_machines_ask_for_needs_no_key(world, engine):
    """The routes /health, /ready and /metrics."""
    await world.serving(engine)

    async def get(path):
        return await asked(world, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert [(await get(path)).status for path in ("/health", "/ready")] == [200, 200]
    found = await get("/metrics")
    assert found.status == 200
    assert found["content-type"].startswith("text/plain")
    assert b"caravan_router_requests_total" in found.body


async def test_the_bytes_of_an_answer_pass_as_they_come(world, engine):
    """The sentence under "Routes": response bytes pass as they come."""
    raw = b'{ "choices" : [ ],\n\t"x": 1.10, "x": "\\u00e9\xc3\xa9", "big": %b}\n' % (b"9" * 400)

    async def script(_, connection):
        await connection.answer(raw)

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        found = await client.chat.completions.with_raw_response.create(model=MODEL, messages=[])

    assert found.content == raw
    assert json.loads(found.content)["big"] == int("9" * 400)
