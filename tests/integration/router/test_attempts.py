"""Where a request goes when an instance fails, before the client has a byte."""

import asyncio

import pytest

from tests.integration.router.engine import ANSWER, FLAT, Engine, polite, token
from tests.integration.router.world import MODEL, body, eventually, until


async def broken(_, connection):
    connection.reset()


async def refuses(_, connection):
    await connection.answer(FLAT | {"message": "The request queue is full."}, 503)


async def strange(_, connection):
    await connection.answer({"error": "Unauthorized"}, 401)


@pytest.fixture
async def dead():
    """An instance of which only the record is left."""
    async with Engine() as engine:
        pass
    return engine


async def test_instances_that_cannot_be_reached_are_passed_over(world, engine, dead):
    await world.serving(dead, dead, dead, dead, engine)

    for _ in range(3):
        status, headers, _ = await world.asked(body())
        assert (status, headers["x-caravan-instance"]) == (200, "i-eeeeee")


async def test_with_none_reachable_it_is_503_and_none_is_tried_twice(world, dead):
    await world.serving(dead, dead)

    status, headers, found = await world.asked(body())

    assert (status, found["error"]["code"]) == (503, "model_not_ready")
    assert headers["retry-after"] == "1"
    assert str(dead.port) not in found["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_breaks_before_the_first_byte_goes_to_one_more(
    world, engine, other, stream
):
    engine.script = broken
    await world.serving(engine, other)

    for _ in range(4):
        if stream:
            assert (await world.streamed(body()))[1].endswith("[DONE]\n\n")
        else:
            assert (await world.asked(body()))[2] == ANSWER


async def test_but_to_one_more_only(world):
    async with Engine(broken) as a, Engine(broken) as b, Engine(broken) as c:
        await world.serving(a, b, c)

        status, error = await world.refused(body())

        assert (status, error["type"], error["code"]) == (502, "server_error", "engine_failed")
        assert sum(len(one.requests) for one in (a, b, c)) == 2


async def test_a_plain_answer_that_breaks_in_its_middle_is_made_good(world, engine, other):
    async def script(_, connection):
        await connection.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + b"x" * 100)
        connection.reset()

    engine.script = script
    await world.serving(engine, other)

    for _ in range(4):
        assert (await world.asked(body()))[2] == ANSWER


async def test_an_idle_connection_that_the_engine_closed_costs_no_request(world, engine):
    async def closes(request, connection):
        if len(engine.requests) > 1 and len(engine.requests) % 2 == 0:
            connection.reset()
        else:
            await polite(request, connection)

    engine.script = closes
    await world.serving(engine)

    for _ in range(3):
        assert (await world.asked(body()))[0] == 200


async def test_a_full_instance_sends_the_request_to_another(world, engine, other):
    engine.script = refuses
    await world.serving(engine, other)

    for _ in range(4):
        assert (await world.asked(body()))[1]["x-caravan-instance"] == "i-bbbbbb"


async def test_a_stream_that_is_refused_with_200_goes_to_another(world, engine, other):
    async def script(_, connection):
        await connection.begin()
        await connection.chunk({"error": {"message": "full", "code": 503}})
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine, other)

    for _ in range(4):
        assert (await world.streamed(body()))[1].endswith("[DONE]\n\n")


async def test_retries_after_refusals_have_a_budget(world, engine, other):
    engine.script = other.script = refuses
    await world.serving(engine, other)

    for _ in range(30):
        assert (await world.refused(body()))[0] == 503

    assert 30 < len(engine.requests) + len(other.requests) <= 42


async def test_an_engines_retry_after_is_kept_in_mind(world, engine, other):
    async def script(_, connection):
        await connection.answer(FLAT, 503, "retry-after: 40\r\n")

    engine.script = script
    await world.serving(engine, other)
    for _ in range(12):
        assert (await world.asked(body()))[0] == 200
    assert len(engine.requests) <= 1

    other.script = script
    status, headers, _ = await world.asked(body())
    assert status == 503
    assert 30 <= int(headers["retry-after"]) <= 40


async def test_a_stranger_gets_nothing_until_its_record_changes(world, engine, other):
    engine.script = strange
    await world.serving(engine, other)
    for _ in range(8):
        assert (await world.asked(body()))[1]["x-caravan-instance"] == "i-bbbbbb"
    assert len(engine.requests) <= 1

    engine.script = polite
    await world.record("i-aaaaaa", engine.url, engine_key="another", term=2)
    await world.deploy(instances={"i-aaaaaa": "serve", "i-bbbbbb": "drain"})

    async def answers():
        status, headers, _ = await world.asked(body())
        assert status == 200
        return headers["x-caravan-instance"] == "i-aaaaaa"

    await eventually(answers)


async def test_only_ready_instances_that_may_serve_get_requests(world, engine, other):
    await world.serving(engine)
    for instance, state in {
        "i-bbbbbb": "loading",
        "i-cccccc": "draining",
        "i-dddddd": "new",
    }.items():
        await world.record(instance, other.url, state=state)
    await world.record("i-eeeeee", other.url, generation=2)
    await world.record("i-ffffff", other.url)  # no verdict: an orphan
    await world.record("i-gggggg", other.url)
    await world.record("i-hhhhhh", other.url)
    words = dict.fromkeys(["i-aaaaaa", "i-bbbbbb", "i-cccccc", "i-dddddd", "i-eeeeee"], "serve")
    await world.deploy(instances=words | {"i-gggggg": "drain", "i-hhhhhh": "word-of-tomorrow"})

    async def settled():
        return (await world.asked(body()))[0] == 200

    for _ in range(20):
        await eventually(settled)
    assert other.requests == []


async def test_a_suspect_is_used_last(world, engine, other):
    await world.serving(engine)
    await world.record("i-bbbbbb", other.url)
    sequence = await world.deploy(instances={"i-aaaaaa": "serve", "i-bbbbbb": "suspect"})
    await world.seen("deployments", sequence)
    for _ in range(10):
        assert (await world.asked(body()))[1]["x-caravan-instance"] == "i-aaaaaa"

    await engine.close()
    assert (await world.asked(body()))[1]["x-caravan-instance"] == "i-bbbbbb"


async def test_the_least_busy_is_chosen(world, engine, other):
    go = asyncio.Event()

    async def waits(request, connection):
        await go.wait()
        await polite(request, connection)

    engine.script = other.script = waits
    await world.serving(engine, other)
    asking = [asyncio.create_task(world.asked(body())) for _ in range(10)]
    await until(lambda: len(engine.requests) + len(other.requests) == 10)
    assert len(engine.requests) == len(other.requests) == 5
    go.set()
    assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 10


async def test_an_engine_that_says_nothing_in_time_is_passed_over(world, engine, other):
    async def silent(_, connection):
        await connection.gone.wait()

    engine.script = silent
    await world.serving(engine, other)
    await world.stop()
    await world.start(first_byte_s=0.3)

    for _ in range(3):
        assert (await world.asked(body()))[2] == ANSWER


async def test_after_the_first_byte_nothing_is_tried_again(world, engine, other):
    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("x"))
        connection.reset()

    engine.script = other.script = script
    await world.serving(engine, other)

    await world.streamed(body())

    assert len(engine.requests) + len(other.requests) == 1


async def test_a_deployment_that_the_view_lacks_is_looked_up(world, engine):
    await world.serving(engine)
    for n in range(5):
        path = f"{MODEL}-{n}"
        await world.record("i-aaaaaa", engine.url, path)
        await world.deploy(path, ["i-aaaaaa"])
        status, _, found = await world.asked(body() | {"model": path})
        assert status == 200 or found["error"]["code"] == "model_not_ready"


async def test_an_engine_that_dies_with_all_its_kept_connections_costs_no_request(
    world, engine, other
):
    writers, dead, all_came = [], [], asyncio.Event()

    async def together(request, connection):
        writers.append(connection.writer)
        if len(writers) == 8:
            all_came.set()
        await all_came.wait()
        await polite(request, connection)

    async def dies(request, connection):
        if dead:
            await polite(request, connection)
            return
        port = connection.writer.get_extra_info("sockname")[1]
        dead.append(engine if port == engine.port else other)
        dead[0]._server.close()
        connection.reset()
        for writer in writers:
            if writer.get_extra_info("sockname")[1] == port:
                writer.transport.abort()

    engine.script = other.script = together
    await world.serving(engine, other)
    asking = [asyncio.create_task(world.asked(body())) for _ in range(8)]
    assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 8

    engine.script = other.script = dies  # whichever is asked first
    for _ in range(8):
        assert (await world.asked(body()))[0] == 200
    assert len(dead[0].requests) == 5  # the last of them ended it
    assert len(engine.requests) + len(other.requests) == 17
