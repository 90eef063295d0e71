"""HTTP.md, "Attempts": what a client sees, or does not see, of instances that fail.

The SDK retries nothing here. Also said there, with more worlds: tests/integration/router/
test_attempts.py.
"""

import openai
import pytest

from tests.clients.calls import chat, checked, official, text_of
from tests.integration.router.engine import ANSWER, FLAT, Engine, polite, token
from tests.integration.router.world import MODEL, eventually


async def reset(_, connection):
    connection.reset()


async def full(_, connection):
    await connection.answer(FLAT | {"message": "The request queue is full."}, 503)


async def full_within_200(request, connection):
    if not request.json.get("stream"):
        await full(request, connection)
        return
    await connection.begin()
    await connection.chunk({"error": {"message": "full", "code": 503}})
    await connection.chunk("[DONE]")
    await connection.end()


async def stranger(_, connection):
    await connection.answer({"error": "Unauthorized"}, 401)


async def half_a_head(_, connection):
    await connection.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-str")
    connection.reset()


async def no_event(_, connection):
    await connection.begin()
    await connection.chunk(b": a comment is no byte of the answer\n\n")
    connection.reset()


async def half_an_answer(request, connection):
    if request.json.get("stream"):
        await no_event(request, connection)
        return
    await connection.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + b"x" * 100)
    connection.reset()


@pytest.fixture
async def dead():
    """An instance of which only the record is left: its port refuses connections."""
    async with Engine() as engine:
        pass
    return engine


async def answered(client, *, stream):
    """Ask once; return whether it was answered well."""
    if stream:
        return await text_of(await chat(client, stream=True)) == "hello"
    return (await chat(client)).choices[0].message.content == "hi"


async def refused(world, kind, **fields):
    """Return the error of one request."""
    async with official(world) as client:
        with pytest.raises(kind) as refusal:
            await chat(client, **fields)
    return checked(refusal.value)


@pytest.mark.parametrize("stream", [True, False])
async def test_instances_that_refuse_connections_are_not_noticed(world, engine, dead, stream):
    """Sentence "Never delivered": every other instance once, outside any budget."""
    await world.serving(dead, dead, dead, dead, dead, engine)

    async with official(world) as client:
        for _ in range(8):
            assert await answered(client, stream=stream)

    assert len(engine.requests) == 8


async def test_with_none_that_takes_connections_it_is_503_without_an_address(world, dead):
    """Sentence "Never delivered"."""
    await world.serving(dead, dead)

    error = await refused(world, openai.InternalServerError)

    assert (error.status_code, error.code) == (503, "model_not_ready")
    assert int(error.response.headers["retry-after-ms"]) > 0
    assert str(dead.port) not in f"{error.response.text} {error.response.headers}"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [full, full_within_200], ids=lambda script: script.__name__)
async def test_a_full_instance_is_not_noticed_while_another_has_room(
    world, engine, other, script, stream
):
    """Sentence "Refused by the engine"."""
    engine.script = script
    await world.serving(engine, other)

    async with official(world) as client:
        for _ in range(5):
            assert await answered(client, stream=stream)

    assert len(other.requests) == 5


async def test_retries_after_refusals_have_a_budget(world, engine, other):
    """Sentence "Refused by the engine": at least 10 in 10 s, a tenth of the traffic at most."""
    engine.script = other.script = full
    await world.serving(engine, other)

    for _ in range(25):
        error = await refused(world, openai.InternalServerError)
        assert (error.status_code, error.code) == (503, "model_not_ready")

    # 10 in the first 10 s; a slow machine may get into the next 10 s.
    assert 25 + 10 <= len(engine.requests) + len(other.requests) <= 25 + 20


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script", [reset, half_a_head, half_an_answer], ids=lambda script: script.__name__
)
async def test_an_instance_that_breaks_before_the_first_byte_is_not_noticed(
    world, engine, other, script, stream
):
    """Sentence "Delivered and then broken before the first byte": one more instance."""
    engine.script = script
    await world.serving(engine, other)

    async with official(world) as client:
        for _ in range(4):
            assert await answered(client, stream=stream)

    assert len(other.requests) == 4


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script", [reset, half_a_head, half_an_answer], ids=lambda script: script.__name__
)
async def test_but_no_request_breaks_more_than_two(world, script, stream):
    """Sentence "Delivered and then broken before the first byte": at most."""
    async with Engine(script) as a, Engine(script) as b, Engine(script) as c, Engine(script) as d:
        await world.serving(a, b, c, d)

        error = await refused(world, openai.InternalServerError, stream=stream)

        assert (error.status_code, error.code) == (502, "engine_failed")
        assert sum(len(one.requests) for one in (a, b, c, d)) == 2


async def test_after_the_first_byte_nothing_is_tried_again(world, engine, other):
    """Sentence "before the first byte": what a client has read is never sent twice."""

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("x"))
        connection.reset()

    engine.script = other.script = script
    await world.serving(engine, other)

    async with official(world, max_retries=2) as client:
        stream = await chat(client, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            await text_of(stream)

    assert len(engine.requests) + len(other.requests) == 1


async def test_a_stranger_at_an_instances_address_is_asked_once(world, engine, other):
    """Sentence "An engine's 401": retried, and dropped until its record changes."""
    engine.script = stranger
    await world.serving(engine, other)

    async def asked():
        async with official(world) as client:
            assert await answered(client, stream=False)
        return bool(engine.requests)

    await eventually(asked)  # chance chooses among equals
    async with official(world) as client:
        for _ in range(10):
            assert await answered(client, stream=False)
    assert len(engine.requests) == 1

    engine.script = polite
    await world.record("i-aaaaaa", engine.url, engine_key="another", term=2)
    await world.deploy(instances={"i-aaaaaa": "serve", "i-bbbbbb": "drain"})

    async def asked_again():
        async with official(world) as client:
            assert await answered(client, stream=False)
        return engine.requests[-1].headers["authorization"] == "Bearer another"

    await eventually(asked_again)


async def test_an_engines_401_is_never_the_clients(world, engine):
    """Sentence "An engine's 401": a good key is not told that it is wrong."""
    engine.script = stranger
    await world.serving(engine)

    for _ in range(2):
        error = await refused(world, openai.InternalServerError)
        assert (error.status_code, error.code) == (503, "model_not_ready")


async def test_an_engines_retry_after_is_kept_in_mind_for_that_instance(world, engine, other):
    """Sentence "The engine's Retry-After"."""

    async def script(_, connection):
        await connection.answer(FLAT, 503, "retry-after: 40\r\n")

    engine.script = script
    await world.serving(engine, other)
    async with official(world) as client:
        for _ in range(12):
            assert await answered(client, stream=False)
    assert len(engine.requests) <= 1

    other.script = script
    headers = (await refused(world, openai.InternalServerError)).response.headers
    assert 20 <= int(headers["retry-after"]) <= 40
    assert 20_000 <= int(headers["retry-after-ms"]) <= 40_000


async def test_what_an_engine_refuses_is_asked_of_no_other(world, engine, other):
    """Table and "Attempts": a 400 is the request's own fault."""

    async def script(_, connection):
        await connection.answer(FLAT | {"message": "bad"}, 400)

    engine.script = other.script = script
    await world.serving(engine, other)

    assert (await refused(world, openai.BadRequestError)).code == "invalid_request"
    assert len(engine.requests) + len(other.requests) == 1


async def test_the_answer_says_which_instance_gave_it(world, dead, other):
    """Row "other headers": x-caravan-instance is the last one's, not the first one's."""
    await world.serving(dead, other)

    async with official(world) as client:
        for _ in range(4):
            raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=[])
            assert raw.headers["x-caravan-instance"] == "i-bbbbbb"
            assert raw.http_response.json() == ANSWER
