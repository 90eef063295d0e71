"""What a good request gets, and what the engine gets of it."""

import itertools
import json

import pytest

from services.router.api.answers import SAID_FAILED
from tests.integration.router.engine import ANSWER, USAGE_EVENT, event, token
from tests.integration.router.world import CHAT, MODEL, SECRET, body


async def test_an_answer_comes_from_the_instance_byte_for_byte(world, engine):
    await world.serving(engine)

    status, headers, found = await world.asked(body())

    assert (status, found) == (200, ANSWER)
    assert headers["content-type"] == "application/json"
    assert headers["x-caravan-instance"] == "i-aaaaaa"
    assert headers["x-request-id"]
    assert int(headers["openai-processing-ms"]) >= 0


async def test_the_body_travels_on_byte_for_byte(world, engine):
    await world.serving(engine)
    raw = (
        b'{ "model" : "u-8105f7322477/test",\n "verbosity":"low", "x":[1.10, 1e3], "messages":[] }'
    )

    async with world.post(raw, headers={"content-type": "text/plain"}) as response:
        assert response.status == 200

    assert engine.requests[0].body == raw
    assert engine.requests[0].headers["content-type"] == "application/json"


async def test_the_engine_gets_its_own_key_and_never_the_clients(world, engine):
    await world.serving(engine)

    await world.asked(body(), headers={"x-request-id": "abc.1", "cookie": "c=1", "x-api-key": "y"})

    got = engine.requests[0].headers
    assert got["authorization"] == "Bearer ek-i-aaaaaa"
    assert got["x-request-id"] == "abc.1"
    assert SECRET not in json.dumps(got)
    assert not {"cookie", "x-api-key"} & set(got)


async def test_every_route_reaches_the_same_route_of_the_engine(world, engine):
    await world.serving(engine)

    for path in (CHAT, "/v1/completions"):
        assert (await world.asked(body(), path))[0] == 200

    assert [r.path for r in engine.requests] == [CHAT, "/v1/completions"]


@pytest.mark.parametrize(
    "path", ["//v1/chat/completions", "/v1/chat/completions/", "/v1//completions"]
)
async def test_odd_slashes_change_nothing(world, engine, path):
    await world.serving(engine)

    status, _, _ = await world.asked(body(), path)

    assert status == 200
    assert engine.requests[0].path in {CHAT, "/v1/completions"}


async def test_embeddings_come_from_a_model_that_makes_them(world, engine):
    vectors = {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "model": MODEL}

    async def script(_, connection):
        await connection.answer(vectors)

    engine.script = script
    await world.serving(engine, task="embedding")

    status, _, found = await world.asked({"model": MODEL, "input": "x"}, "/v1/embeddings")

    assert (status, found) == (200, vectors)
    assert engine.requests[0].path == "/v1/embeddings"
    assert (await world.refused(body()))[1]["param"] == "model"


async def test_an_answer_that_says_it_failed_passes_and_is_counted_as_failed(world, engine, capsys):
    said = {"object": "response", "status": "failed", "error": {"message": "no"}, "usage": None}

    async def script(_, connection):
        await connection.answer(said)

    engine.script = script
    await world.serving(engine)

    status, _, found = await world.asked({"model": MODEL, "input": "x"}, "/v1/responses")

    assert (status, found) == (200, said)
    lines = capsys.readouterr()
    assert SAID_FAILED in lines.out + lines.err
    (use,) = (await world.report()).instances.values()
    assert use.last_error == SAID_FAILED


async def test_an_engine_that_answers_in_odd_pieces_is_understood(world, engine):
    whole = b"".join(map(event, [token("a"), token("", "stop"), USAGE_EVENT, "[DONE]"]))

    async def script(_, connection):
        await connection.begin()
        for n in range(len(whole)):
            await connection.chunk(whole[n : n + 1])
        await connection.end()

    engine.script = script
    await world.serving(engine)

    _, text = await world.streamed(body(stream_options={"include_usage": True}))

    assert text.encode() == whole


async def test_each_answer_on_a_connection_is_read_by_its_own_head(world, engine):
    ended = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    streamed = b"".join(map(event, [token("a"), token("", "stop"), "[DONE]"]))
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(streamed), streamed)
    begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: "
    stream = begin + b"text/event-stream\r\n\r\n" + chunks + b"\r\n"
    other = begin + b"text/event-stream; charset=utf-8\r\n\r\n" + chunks + b"\r\n"
    trailed = begin + b"text/event-stream\r\n\r\n" + chunks + b"content-type: text/html\r\n\r\n"
    plain = begin + b"text/html\r\n\r\n" + b"2\r\n{}\r\n0\r\n\r\n"
    answers = {
        stream: ("text/event-stream", streamed),
        other: ("text/event-stream", streamed),
        trailed: ("text/event-stream", streamed),
        plain: ("text/html", b"{}"),
        ended.encode(): ("application/json", b"{}"),
    }
    turns = [one for pair in itertools.permutations(answers, 2) for one in (*pair, pair[1])]
    left = list(turns)

    async def script(_, connection):
        await connection.raw(left.pop(0))

    engine.script = script
    await world.serving(engine)

    for turn in turns:
        async with world.post(body()) as response:
            found = response.headers["content-type"], await response.read()
        assert found == answers[turn], turn
    assert not left
    assert len(engine.open) == 1
