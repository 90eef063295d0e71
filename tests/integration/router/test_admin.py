"""The admin port: what one router process says of itself, apart from the clients' port."""

import asyncio

import pytest

from caravan.testing.nats import free_port
from tests.integration.router.engine import token
from tests.integration.router.world import MODEL, body, eventually


@pytest.fixture
def port():
    return free_port()


async def asked(world, port, path):
    """Return status and text, or None while nobody listens."""
    try:
        async with world.http.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()
    except OSError:
        return None


async def test_it_answers_health_readiness_and_metrics_and_nothing_else(world, engine, port):
    world.settings["admin_port"] = port
    await world.serving(engine)
    await world.asked(body())

    assert (await asked(world, port, "/health"))[0] == 200
    assert (await asked(world, port, "/ready"))[0] == 200
    status, text = await asked(world, port, "/metrics")
    assert status == 200
    assert 'status="200"' in text
    assert "caravan_router_requests_total" in text
    assert (await asked(world, port, "/v1/models"))[0] == 404
    assert MODEL not in (await asked(world, port, "/v1/models"))[1]


async def test_before_the_clients_port_opens_it_lives_and_is_not_ready(
    world, engine, port, nats_server
):
    await world.serving(engine)
    await world.stop()
    await nats_server.stop()
    starting = asyncio.create_task(world.start(start_wait_s=60.0, admin_port=port))

    async def lives():
        return await asked(world, port, "/health")

    assert (await eventually(lives))[0] == 200
    status, text = await asked(world, port, "/ready")
    assert status == 503
    assert "starting" in text
    world.stopping.set()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_a_stream_that_ends_in_a_drain_is_still_to_be_seen(world, engine, port):
    go = asyncio.Event()

    async def slow(_, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        await go.wait()
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = slow
    world.settings["admin_port"] = port
    await world.serving(engine)
    async with world.post(body(stream=True)) as response:
        world.stopping.set()

        async def leaving():
            return (await asked(world, port, "/ready"))[0] == 503

        await eventually(leaving)
        assert "caravan_router_in_flight{" in (await asked(world, port, "/metrics"))[1]
        go.set()
        await response.read()
    await world.stop()
    assert await asked(world, port, "/health") is None
