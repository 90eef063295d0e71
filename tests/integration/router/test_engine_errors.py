"""What an engine refuses is told in our envelope, without the addresses of our machines."""

import pytest

from tests.integration.router.engine import FLAT
from tests.integration.router.world import body

PATHS = "could not open /opt/models/qwen/config.json at http://10.0.0.7:30000/v1 (10.0.0.7:30000)"


def says(found, status):
    async def script(_, connection):
        await connection.answer(found, status)

    return script


@pytest.mark.parametrize(
    ("found", "status", "message"),
    [
        (FLAT | {"message": "max_tokens is too large"}, 400, "max_tokens is too large"),
        ({"detail": "Bad thing"}, 422, "Bad thing"),
        ({"detail": [{"loc": ["body", "n"], "msg": "must be an int"}]}, 422, "n: must be an int"),
        ({"error": {"message": "as OpenAI", "code": 400}}, 400, "as OpenAI"),
        ({"error": "a string"}, 400, "a string"),
        (b"Internal Server Error", 500, "The engine refused the request: Internal Server Error."),
        (b"", 500, "The engine refused the request: Internal Server Error."),
        ({"detail": "Not Found"}, 404, "The engine of u-8105f7322477/test does not offer this."),
    ],
)
async def test_every_form_becomes_the_envelope(world, engine, found, status, message):
    engine.script = says(found, status)
    await world.serving(engine)

    got, error = await world.refused(body())

    assert (got, error["message"]) == (status, message)
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert len(engine.requests) == 1


async def test_no_address_and_no_path_of_a_machine_shows(world, engine):
    engine.script = says(FLAT | {"message": PATHS}, 400)
    await world.serving(engine)

    _, error = await world.refused(body())

    assert error["message"] == "could not open [path] at [address] ([address])"


async def test_a_context_that_is_too_long_has_openais_code(world, engine):
    said = "The input (9000 tokens) is longer than the model's context length (2048 tokens)."
    engine.script = says(FLAT | {"message": said}, 400)
    await world.serving(engine)

    assert (await world.refused(body()))[1]["code"] == "context_length_exceeded"


async def test_a_refused_stream_is_no_200(world, engine):
    async def script(_, connection):
        await connection.begin()
        await connection.chunk({"error": FLAT | {"message": "bad stop", "code": 400}})
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)

    status, error = await world.refused(body(stream=True))

    assert (status, error["message"]) == (400, "bad stop")


async def test_a_stream_that_is_refused_for_being_full_is_503(world, engine):
    async def script(_, connection):
        await connection.begin()
        await connection.chunk(
            {"error": {"message": "The request queue is full.", "code": 503, "type": "X"}}
        )
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)

    status, headers, found = await world.asked(body(stream=True))

    assert (status, found["error"]["code"]) == (503, "model_not_ready")
    assert headers["retry-after"] == "1"
