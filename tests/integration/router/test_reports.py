"""What a router says of itself on the bus; drains and scale-downs rest on it."""

import asyncio

from caravan.contracts import topology
from caravan.contracts.reports import Report
from tests.integration.router.engine import polite
from tests.integration.router.world import MODEL, body, eventually, until

KEY = f"{MODEL.replace('/', '.')}.i-aaaaaa"
DEPLOYMENT = MODEL.replace("/", ".")


async def listen(world):
    """Return a list that fills with every report."""
    heard = []
    await world.bus.subscribe(f"{topology.REPORT}.*", Report, heard.append)
    await world.bus.client.flush()
    return heard


async def test_a_router_reports_once_before_its_port_opens_and_then_again_and_again(world, engine):
    heard = await listen(world)
    await world.serving(engine)

    await until(lambda: len(heard) >= 3)
    assert heard[0].number == 1
    assert heard[0].positions["deployments"].complete
    assert [one.number for one in heard] == list(range(1, len(heard) + 1))
    assert len({one.run for one in heard}) == 1


async def test_what_is_under_way_is_counted_and_given_back(world, engine):
    go = asyncio.Event()

    async def waits(request, connection):
        await go.wait()
        await polite(request, connection)

    engine.script = waits
    await world.serving(engine)
    asking = [asyncio.create_task(world.asked(body())) for _ in range(3)]

    async def counted():
        report = await world.report()
        use = report.instances.get(KEY)
        return (
            use is not None and use.in_flight == 3 and report.deployments[DEPLOYMENT].running == 3
        )

    await eventually(counted)
    asking.pop().cancel()  # a client that goes gives its count back too

    async def fewer():
        return (await world.report()).instances[KEY].in_flight == 2

    await eventually(fewer)
    go.set()
    await asyncio.gather(*asking)

    report = await world.report()
    assert report.instances[KEY].in_flight == 0
    assert report.instances[KEY].last_answer_at > 0
    assert DEPLOYMENT not in report.deployments
    assert report.keys == {"k-1": 3}


async def test_failures_and_refusals_are_reported(world, engine):
    async def refuses(_, connection):
        await connection.answer({}, 503)

    engine.script = refuses
    await world.serving(engine)
    await world.refused(body())

    report = await world.report()
    assert report.deployments[DEPLOYMENT].refused == 1
    assert report.instances[KEY].last_error == "the engine answered 503"
    assert report.instances[KEY].last_error_at > 0


async def test_a_drain_is_obeyed_from_the_reported_position_on(world, engine, other):
    go = asyncio.Event()

    async def waits(request, connection):
        await go.wait()
        await polite(request, connection)

    engine.script = waits
    await world.serving(engine)
    await world.record("i-bbbbbb", other.url)
    asking = asyncio.create_task(world.streamed(body()))
    await until(lambda: engine.requests)
    sequence = await world.deploy(instances={"i-aaaaaa": "drain", "i-bbbbbb": "serve"})
    await world.seen("deployments", sequence)

    for _ in range(10):
        assert (await world.asked(body()))[1]["x-caravan-instance"] == "i-bbbbbb"
    assert (await world.report()).instances[KEY].in_flight == 1
    go.set()
    assert (await asking)[1].endswith("[DONE]\n\n")
    assert len(engine.requests) == 1


async def test_a_stop_lets_streams_end_takes_no_new_ones_and_says_goodbye(world, engine):
    go = asyncio.Event()

    async def waits(request, connection):
        await go.wait()
        await polite(request, connection)

    engine.script = waits
    heard = await listen(world)
    await world.serving(engine)
    asking = asyncio.create_task(world.streamed(body()))
    await until(lambda: engine.requests)
    stopping = asyncio.create_task(world.stop())

    async def closed():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        except OSError:
            return True
        writer.close()
        await writer.wait_closed()
        return False

    await eventually(closed)
    go.set()
    assert (await asking)[1].endswith("[DONE]\n\n")
    await stopping
    await until(lambda: heard[-1].leaving)
    assert [one.leaving for one in heard].count(True) == 1


async def test_a_stream_that_outlives_the_stop_does_not_look_complete(world, engine):
    from tests.integration.router.engine import token  # noqa: PLC0415 - used once

    async def endless(_, connection):
        await connection.begin()
        await connection.chunk(token("x"))
        await connection.gone.wait()

    engine.script = endless
    await world.serving(engine)
    await world.stop()
    await world.start(grace_s=1.0)
    async with world.post(body(stream=True)) as response:
        await response.content.readuntil(b"\n\n")
        stopping = asyncio.create_task(world.stop())
        rest = await response.content.read()
    await stopping

    assert b'"engine_failed"' in rest
    assert b"[DONE]" not in rest
