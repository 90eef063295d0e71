"""Delays and faults come where the plan says, and where nothing is planned all goes well."""

import asyncio
import json
import signal

import aiohttp
import pytest

from caravan.testing.engine.answers import is_whole, spoken
from caravan.testing.wait import until


async def content(answer):
    return (await answer.json())["choices"][0]["message"]["content"]


async def frames(answer):
    """Return the events that came, and how the stream ended: None is well."""
    data, broken = b"", None
    try:
        async for chunk in answer.content.iter_any():
            data += chunk
    except aiohttp.ClientError as error:
        broken = type(error).__name__
    return data.decode().split("\n\n")[:-1], broken


async def test_an_answer_is_what_spoken_says(start, talk):
    async with talk(start(), "Say hello") as answer:
        assert await content(answer) == spoken("Say hello")


async def test_a_request_plans_for_itself_in_its_body(start, talk):
    async with talk(start(), fake={"tokens": 4}) as answer:
        assert await content(answer) == spoken("Say hello", 4)


async def test_a_request_plans_for_itself_in_its_prompt(start, talk):
    async with talk(start(tokens=9), 'Say hello fake{"tokens": 4}') as answer:
        assert await content(answer) == spoken("Say hello", 4)


async def test_a_wrong_plan_is_refused(start, talk):
    async with talk(start(), fake={"tokns": 4}) as answer:
        assert answer.status == 400
        assert "tokns" in await answer.text()


async def test_a_planned_status_comes_instead_of_an_answer(start, talk):
    engine = start()
    async with talk(engine, fake={"status": 500}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (500, 500)
    async with talk(engine, fake={"status": 503}, stream=True) as answer:
        events, broken = await frames(answer)
    assert (answer.status, broken) == (200, None)
    assert events[0].startswith('data: {"error": {"object": "error"')
    assert events[-1] == "data: [DONE]"


async def test_a_crash_is_the_end_of_everything(start, talk):
    engine = start()
    async with talk(engine, stream=True, fake={"crash_after": 3}) as answer:
        events, broken = await frames(answer)
    assert broken
    assert 'content":"3/' in events[-1]
    assert engine.wait() == -signal.SIGKILL


async def test_a_crash_before_the_first_byte_leaves_no_answer(start, talk):
    engine = start()
    with pytest.raises(aiohttp.ClientConnectionError):
        await talk(engine, fake={"crash_after": 0}).__aenter__()
    assert engine.wait() == -signal.SIGKILL


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_ends_one_connection_and_not_the_engine(start, talk, loads, stream):
    engine = start()
    with pytest.raises(aiohttp.ClientError):
        async with talk(engine, stream=stream, fake={"cut_after": 3}) as answer:
            await answer.read()
    async with talk(engine) as answer:
        assert is_whole(await content(answer))
    assert await loads(engine) == (0, 0)


async def test_an_early_end_looks_clean_and_is_not(start, talk):
    async with talk(start(), stream=True, fake={"end_after": 3}) as answer:
        events, broken = await frames(answer)
    assert broken is None
    assert "[DONE]" not in events[-1]
    assert not any('"finish_reason":"' in event for event in events)


async def test_an_error_event_ends_a_stream(start, talk):
    async with talk(start(), stream=True, fake={"error_after": 3}) as answer:
        events, broken = await frames(answer)
    assert broken is None
    assert '"code": 500' in events[-2]
    assert events[-1] == "data: [DONE]"


async def test_a_failure_of_a_plain_answer_is_500(start, talk):
    async with talk(start(), fake={"error_after": 3}) as answer:
        assert answer.status == 500


async def test_a_hanging_request_holds_its_slot_until_its_client_leaves(start, talk, loads):
    engine = start()
    async with talk(engine, stream=True, fake={"hang_after": 3}) as answer:
        while b"3/" not in await answer.content.readline():
            pass
        assert await loads(engine) == (1, 0)
    await until_idle(engine, loads)


async def test_a_hanging_request_can_be_aborted(start, talk, client):
    engine = start()
    async with talk(engine, stream=True, rid="one", fake={"hang_after": 1}) as answer:
        await answer.content.readline()
        url = f"{engine.url}/abort_request"
        async with client.post(url, json={"rid": "one"}, headers=engine.auth) as aborted:
            assert aborted.status == 200
        events, broken = await frames(answer)
    assert broken is None
    assert '"finish_reason":"abort"' in events[-2]


async def test_tokens_come_when_they_are_due(start, talk):
    async with talk(start(token_s=3600), stream=True) as answer:
        first = [await answer.content.readline() for _ in range(3)]
        assert b'content":"1/15:Say "' in first[2]
        assert await answer.content.readline() == b"\n"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readline(), 0.2)


async def until_idle(engine, loads):
    async def idle():
        return await loads(engine) == (0, 0)

    await until(idle)


async def test_a_client_that_does_not_read_stops_the_tokens_and_loses_none(start, client):
    engine, tokens = start(tokens=4000), 0

    async def stands_still():
        nonlocal tokens
        before = tokens
        async with client.get(f"{engine.url}/v1/loads", headers=engine.auth) as answer:
            tokens = (await answer.json())["loads"][0]["num_used_tokens"]
        await asyncio.sleep(0.2)
        return 0 < tokens == before

    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port, limit=1024)
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 4000}], "stream": True})
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {engine.key}\r\n"
        "content-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    await until(stands_still)
    assert tokens < 4000
    data = await reader.read(-1)
    writer.close()
    assert data.count(b'"content":"') == 1 + 3999
