"""HTTP.md, "Streams": what the official SDK and bare connections see of them.

Back-pressure, and a client that reads nothing for long: tests/integration/router/test_streams.py,
on bare connections too.
"""

import asyncio
import random
import time

import openai
import pytest

from tests.clients.calls import (
    HELLO,
    STREAMED,
    answer,
    asked,
    chat,
    checked,
    counted,
    official,
    text_of,
)
from tests.integration.router.engine import USAGE, USAGE_EVENT, event, polite, token
from tests.integration.router.test_streams import ENDS, faulty
from tests.integration.router.world import CHAT, MODEL, SECRET, eventually, head, until

TOOK = "engine_connection_closed_after_ms"
LEAVES_S = 2.0
"""HTTP.md says 0.1 s; a busy machine may take longer, so each test keeps what it took."""


def events(*data):
    """Return the script of an engine that streams ``data``, one chunk for each."""

    async def script(_, connection):
        await connection.begin()
        for one in data:
            await connection.chunk(one)
        await connection.end()

    return script


def pieces(whole, draw):
    """Cut ``whole`` at random places."""
    cuts = sorted(draw.sample(range(1, len(whole)), draw.randrange(1, 40)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


async def test_the_head_of_a_stream_says_how_it_wants_to_be_carried(world, engine):
    """Line "Content-Type"."""
    await world.serving(engine)

    got = await asked(world, head(STREAMED, extra="Accept-Encoding: gzip, br\r\n"))

    assert got.status == 200
    assert got["content-type"] == "text/event-stream"
    assert got["cache-control"] == "no-cache"
    assert got["x-accel-buffering"] == "no"
    assert got["x-caravan-instance"] == "i-aaaaaa"
    assert not {"content-encoding", "content-length"} & {name for name, _ in got.headers}


async def test_a_complete_stream_has_a_finish_reason_done_and_a_clean_end(world, engine):
    """Line "The end"."""
    await world.serving(engine)

    async with official(world) as client:
        found = [one async for one in await chat(client, stream=True)]
    assert [one.choices[0].delta.content for one in found] == ["hel", "lo", ""]
    assert [one.choices[0].finish_reason for one in found] == [None, None, "stop"]

    got = await asked(world, head(STREAMED))
    shown = [token("hel"), token("lo"), token("", "stop"), "[DONE]"]
    assert got.body == b"".join(map(event, shown))


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_stream_that_is_not_complete_ends_in_an_api_error(world, engine, end):
    """Line "The end": the engine breaks, stalls or ends early; the transport stays whole."""
    engine.script = faulty(end)
    world.settings["patience_s"] = 0.5
    await world.serving(engine)
    seen = []

    async with official(world, max_retries=2) as client:
        stream = await chat(client, stream=True)
        with pytest.raises(openai.APIError) as broken:
            seen.extend([one.choices[0].delta.content async for one in stream])

    error = broken.value
    assert type(error) is openai.APIError  # no APIConnectionError: the body has a clean end
    assert (error.type, error.code) == ("server_error", "engine_failed")
    assert "broke off" in error.message
    assert "/opt" not in str(error.body)
    assert len(engine.requests) == 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_after_an_incomplete_stream_its_connection_goes_on(world, engine, end):
    """Line "The end": a clean end of the chunked body, and no ``[DONE]``."""
    engine.script = faulty(end)
    world.settings["patience_s"] = 0.5
    await world.serving(engine)

    async with world.raw(head(STREAMED)) as (reader, writer):
        got = await answer(reader)
        engine.script = polite
        writer.write(head(STREAMED))
        assert (await answer(reader)).body.endswith(b"data: [DONE]\n\n")

    assert got.status == 200
    assert got.body.startswith(event(token("hel")))
    assert b'\n\ndata: {"error":{' in got.body
    assert got.body.endswith(b"}}\n\n")
    assert b"[DONE]" not in got.body


ERRORS = [
    ({"message": "bad stop", "code": 400}, openai.BadRequestError, 400, "invalid_request"),
    ({"message": "bad n", "code": "422"}, openai.UnprocessableEntityError, 422, "invalid_request"),
    ({"message": "CUDA at /opt/x/y.py", "code": 500}, openai.InternalServerError, 500, None),
    ({"message": "queue full", "code": 503}, openai.InternalServerError, 503, "model_not_ready"),
    ({"message": "no code at all"}, openai.InternalServerError, 500, "engine_failed"),
]


@pytest.mark.parametrize("before", [b"", b": hello\n\n"], ids=["at once", "after a comment"])
async def test_a_stream_that_begins_with_an_error_is_that_error_and_no_200(world, engine, before):
    """Line "The client's status waits for the engine's first event"."""
    await world.serving(engine)

    async with official(world) as client:
        for said, kind, status, code in ERRORS:
            engine.script = events(before + event({"error": said}), "[DONE]")
            with pytest.raises(kind) as refusal:
                await chat(client, stream=True)
            error = checked(refusal.value)
            assert error.status_code == status
            assert code in {error.code, None}
            assert "/opt" not in error.response.text


async def test_the_sdk_has_its_stream_when_the_first_event_is_there(world, engine):
    """Line "The client's status waits for the engine's first event"; then each event at once."""
    first, second = asyncio.Event(), asyncio.Event()

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(b": a comment is no event\n\n")
        await first.wait()
        await connection.chunk(token("one"))
        await second.wait()
        await connection.chunk(token("two", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        asking = asyncio.create_task(chat(client, stream=True))
        await until(lambda: engine.requests)
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        first.set()
        stream = await asking
        assert (await anext(aiter(stream))).choices[0].delta.content == "one"
        second.set()
        assert await text_of(stream) == "two"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
async def test_only_who_asks_for_usage_sees_it(world, engine, options):
    """Line "Usage"."""
    await world.serving(engine)
    fields = {} if options is None else {"stream_options": options}

    async with official(world) as client:
        found = [one async for one in await chat(client, stream=True, **fields)]

    told = [one.usage.model_dump(exclude_unset=True) for one in found if one.usage]
    assert told == ([USAGE] if options and options["include_usage"] else [])
    if not told:
        assert all(one.choices for one in found)


async def test_a_hidden_usage_is_known_to_the_router_all_the_same(world, engine, capfd):
    """Line "Usage": for the receipt."""
    await world.serving(engine)
    async with official(world) as client:
        stream = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[], stream=True
        )
        assert await text_of(stream.parse()) == "hello"
    found = []

    def line():
        found.extend(capfd.readouterr())
        return [one for one in "".join(found).splitlines() if stream.request_id in one]

    [told] = await until(line)
    assert "prompt_tokens=3" in told
    assert "completion_tokens=2" in told


LONG = 5_000_000


@pytest.mark.parametrize("finish", [None, "stop"], ids=["finish later", "finish in it"])
async def test_lines_of_5_mb_pass(world, engine, finish):
    """Line "Lines of any length pass"."""
    picture = event(token("A" * LONG, finish))
    cut = [picture[n : n + 100_000] for n in range(0, len(picture), 100_000)]
    engine.script = events(*cut, token("", None if finish else "stop"), USAGE_EVENT, "[DONE]")
    await world.serving(engine)

    async with official(world) as client:
        assert len(await text_of(await chat(client, stream=True))) == LONG

    got = await asked(world, head(STREAMED))
    assert got.body.startswith(picture)
    assert got.body.endswith(event("[DONE]"))
    assert b'"usage"' not in got.body


ODD = [
    event(token("é\U0001f600\u2028")),
    b": ping\n\n",
    event(token("a")).replace(b"\n\n", b"\r\n\r\n"),
    b"event: chunk\nid: 7\nretry: 10\n" + event(token("b")),
    event(token("c")).replace(b"data: ", b"data:"),
    event(token('"usage":{"x"} "finish_reason":"stop" [DONE] data: \n\n')),
    event(token("", "stop")),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shown", [True, False], ids=["with usage", "without"])
async def test_events_in_any_pieces_come_out_as_they_went_in(world, engine, seed, shown):
    """Lines "Response bytes pass as they come" and "Usage"."""
    draw, usage = random.Random(seed), event(USAGE_EVENT)
    whole = b"".join([*ODD, usage, event("[DONE]")])
    await world.serving(engine)
    options = b',"stream_options":{"include_usage":true}}' if shown else b"}"

    for _ in range(5):
        engine.script = events(*pieces(whole, draw))
        got = await asked(world, head(STREAMED[:-1] + options))
        assert got.body == (whole if shown else whole.replace(usage, b""))

    async with official(world) as client:
        text = await text_of(await chat(client, stream=True))
    assert text == 'é\U0001f600\u2028abc"usage":{"x"} "finish_reason":"stop" [DONE] data: \n\n'


async def test_nothing_passes_behind_done(world, engine):
    """Line "The end"."""
    behind = event(token("x")) + event({"error": {"message": "late"}})
    engine.script = events(token("a", "stop"), event("[DONE]") + behind, token("y"))
    await world.serving(engine)

    got = await asked(world, head(STREAMED))

    assert got.body == event(token("a", "stop")) + event("[DONE]")


async def test_fifty_streams_at_once_do_not_mix(world, engine):
    """Streams, many over one client."""

    async def script(request, connection):
        name = request.json["messages"][0]["content"]
        await connection.begin()
        for n in range(20):
            await connection.chunk(token(f"{name}.{n} "))
            await asyncio.sleep(0)
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)

    async def one(client, name):
        stream = await chat(client, stream=True, messages=[{"role": "user", "content": name}])
        return await text_of(stream)

    async with official(world) as client:
        texts = await asyncio.gather(*(one(client, f"s{n}") for n in range(50)))

    for n, text in enumerate(texts):
        assert text == "".join(f"s{n}.{part} " for part in range(20))


async def test_the_sdks_helper_puts_a_stream_together(world, engine):
    """Line "The end", through ``chat.completions.stream``."""
    await world.serving(engine)

    async with (
        official(world) as client,
        client.chat.completions.stream(model=MODEL, messages=HELLO) as stream,
    ):
        found = await stream.get_final_completion()

    [choice] = found.choices
    assert (choice.message.content, choice.finish_reason) == ("hello", "stop")


async def test_threads_of_a_program_without_asyncio_share_a_client(world, engine):
    """Streams, many over one client: the SDK's other one."""
    await world.serving(engine)

    def ask(client):
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        return "".join(one.choices[0].delta.content for one in stream)

    with openai.OpenAI(base_url=world.base + "/v1", api_key=SECRET, max_retries=0) as client:
        texts = await asyncio.gather(*(asyncio.to_thread(ask, client) for _ in range(16)))

    assert texts == ["hello"] * 16


async def test_a_stream_that_nobody_reads_holds_no_other_up(world, engine):
    """Line "Reading stops when the client does not read, and goes on when it does"."""

    async def script(request, connection):
        if request.json.get("user") != "slow":
            await polite(request, connection)
            return
        await connection.begin()
        for _ in range(100):
            await connection.chunk(token("x" * 100_000))
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        slow = await chat(client, stream=True, user="slow")
        for _ in range(5):
            assert await text_of(await chat(client, stream=True)) == "hello"
        assert len(await text_of(slow)) == 10_000_000


async def close(client):
    stream = await chat(client, stream=True)
    await anext(aiter(stream))
    left = time.monotonic()
    await stream.close()
    return left


async def cancel(client):
    asking = asyncio.create_task(chat(client))
    await asyncio.wait({asking}, timeout=0.3)
    left = time.monotonic()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return left


async def time_out(client):
    with pytest.raises(openai.APITimeoutError):
        await chat(client, timeout=0.3)
    return time.monotonic()


async def time_out_within_a_stream(client):
    stream = await chat(client, stream=True, timeout=0.3)
    with pytest.raises((openai.APITimeoutError, openai.APIConnectionError)):
        await text_of(stream)
    return time.monotonic()


WAYS = [close, cancel, time_out, time_out_within_a_stream]


@pytest.mark.parametrize("leave", WAYS, ids=lambda leave: leave.__name__)
async def test_a_client_that_goes_ends_the_engines_connection(world, engine, leave, request):
    """Line "The client goes"."""
    gone = asyncio.get_running_loop().create_future()

    async def script(request, connection):
        if request.json.get("stream"):
            await connection.begin()
            await connection.chunk(token("x"))
        await connection.gone.wait()
        gone.set_result(time.monotonic())

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        left = await leave(client)
        took = await asyncio.wait_for(gone, LEAVES_S) - left
    request.node.user_properties.append((TOOK, round(took * 1000, 1)))

    async def told():
        return await counted(world, outcome="cancelled", route=CHAT) == 1

    await eventually(told)
    engine.script = polite
    async with official(world) as client:
        assert (await chat(client)).choices
    assert len(engine.requests) == 2  # nobody asked another instance, or again


async def test_a_client_that_vanishes_ends_the_engines_connection(world, engine, request):
    """Line "The client goes": a reset, as of a machine that was cut."""
    gone = asyncio.get_running_loop().create_future()

    async def script(_, connection):
        await connection.begin()
        while not connection.gone.is_set():
            await connection.chunk(token("x"))
            await asyncio.sleep(0.01)
        gone.set_result(time.monotonic())

    engine.script = script
    await world.serving(engine)
    async with world.raw(head(STREAMED, secret=SECRET)) as (reader, writer):
        await reader.readuntil(b"\n\n")
        writer.transport.abort()
        left = time.monotonic()
        took = await asyncio.wait_for(gone, LEAVES_S) - left
    request.node.user_properties.append((TOOK, round(took * 1000, 1)))
