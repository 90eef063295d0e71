"""Responses and messages carry the same words as a chat, and break as it does."""

import json

import aiohttp
import pytest

from caravan.testing.engine.answers import is_whole, spoken

SAY = "Say hello"
LAST = {"responses": b"event: response.completed\n", "messages": b"event: message_stop\n"}
FAILED = {"responses": b"event: response.failed\n", "messages": b"event: error\n"}


@pytest.fixture
def post(client):
    """``async with post(engine, "messages", stream=True) as answer``."""

    def call(engine, kind, **fields):
        messages = [{"role": "user", "content": SAY}]
        body = {"input": SAY, "messages": messages, "model": engine.name, "max_tokens": 99}
        return client.post(f"{engine.url}/v1/{kind}", json=body | fields, headers=engine.auth)

    return call


def deltas(kind, data):
    """Return the text of a stream."""
    frames = [frame.partition("data: ") for frame in data.decode().split("\n\n")]
    bodies = [json.loads(body) for name, _, body in frames if ".delta" in name or "_delta" in name]
    if kind == "responses":
        return "".join(body["delta"] for body in bodies)
    return "".join(body["delta"].get("text", "") for body in bodies)


@pytest.mark.parametrize("kind", LAST)
async def test_an_answer_is_what_a_chat_would_say(start, post, kind):
    engine = start()
    async with post(engine, kind, stream=True) as answer:
        data = await answer.read()
    async with post(engine, kind) as answer:
        body = await answer.json()
    said = body["output"][0]["content"] if kind == "responses" else body["content"]

    assert LAST[kind] in data
    assert deltas(kind, data) == said[0]["text"] == spoken(SAY)


@pytest.mark.parametrize("kind", LAST)
@pytest.mark.parametrize("ending", ["end_after", "error_after", "cut_after"])
async def test_a_stream_breaks_as_planned(start, post, kind, ending):
    engine, data = start(), b""
    try:
        async with post(engine, kind, stream=True, fake={ending: 3}) as answer:
            async for piece in answer.content.iter_any():
                data += piece
        cut = False
    except aiohttp.ClientError:
        cut = True

    assert cut == (ending == "cut_after")
    assert not is_whole(deltas(kind, data))
    assert (FAILED[kind] in data) == (ending == "error_after")
    assert (LAST[kind] in data) == (ending == "error_after" and kind == "messages")
