"""What a client of the router sees when engines, clients and NATS fail around it."""

import asyncio
import contextlib
import json
import os
import signal
import statistics
import time

import pytest

from caravan.contracts.errors import UnavailableError
from tests.faults.router_process import RouterProcess, engine_process, serves
from tests.integration.router.engine import Engine, token
from tests.integration.router.world import SECRET, World, body, eventually, head, until

LONG = os.environ.get("CARAVAN_TEST_LONG") == "1"
"""Really wait for ten minutes, and for half-sent heads to be given up."""
AWAY_S = 600 if LONG else 3
STOPPED_S = 2.0
"""How long a router is stopped: several times the patience that it has then."""
FAILED = '"code":"engine_failed"'
STREAM = b'{"model":"u-8105f7322477/test","stream":true}'
ENDLESS = b"x" * 60_000


@pytest.fixture
async def world(bus, tmp_path):
    async with World(bus, tmp_path) as world:
        yield world


@pytest.fixture
def two(model, tmp_path):
    """Two fake engines, each a process that a test may kill."""
    with (
        engine_process(model, tmp_path, "one") as one,
        engine_process(model, tmp_path, "other") as other,
    ):
        yield one, other


async def announce(world, *engines, **fields):
    """One key, one deployment, and an instance for each of ``engines``."""
    named = dict(zip(("i-aaaaaa", "i-bbbbbb"), engines, strict=False))
    await world.key()
    await world.deploy(instances=list(named), **fields)
    for instance, engine in named.items():
        key = getattr(engine, "key", f"ek-{instance}")
        await world.record(instance, engine.url, engine_key=key)
    await world.complete()


async def at_work(world):
    """Return the instance that has a request under way, by the router's own report."""

    async def working():
        uses = (await world.report()).instances.items()
        return [name.rpartition(".")[2] for name, use in uses if use.in_flight]

    [instance] = await eventually(working)
    return instance


async def nothing_under_way(world):
    """Return when the router has no request under way."""

    async def idle():
        return not any(use.running for use in (await world.report()).deployments.values())

    await eventually(idle)


async def test_a_killed_engine_costs_no_request_while_another_one_lives(world, two):
    await announce(world, *two)
    async with RouterProcess(world):
        await serves(world)
        two[0].kill()
        for n in range(20):
            assert (await world.asked(body(n=n)))[0] == 200
        two[1].kill()
        status, headers, found = await world.asked(body())

    assert (status, found["error"]["code"]) == (503, "model_not_ready")
    assert headers["retry-after"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_killed_before_its_first_byte_is_made_good_by_another(world, two, stream):
    await announce(world, *two)
    async with RouterProcess(world):
        await serves(world)
        asking = asyncio.create_task(
            world.asked(body(fake={"first_s": 3}, stream=False))
            if not stream
            else world.streamed(body(fake={"first_s": 3}))
        )
        dead = await at_work(world)
        two[0 if dead == "i-aaaaaa" else 1].kill()
        found = await asking
        await nothing_under_way(world)

    assert found[0] == 200
    if stream:
        assert found[1].endswith("data: [DONE]\n\n")


async def test_an_engine_killed_before_its_first_byte_is_a_failure_where_it_was_the_last(
    world, model, tmp_path
):
    with engine_process(model, tmp_path, "one") as one:
        await announce(world, one)
        async with RouterProcess(world):
            await serves(world)
            asking = asyncio.create_task(world.asked(body(fake={"first_s": 60})))
            await at_work(world)
            one.kill()
            status, _, found = await asking

    assert (status, found["error"]["code"]) in {(502, "engine_failed"), (503, "model_not_ready")}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_engine_that_ends_or_stops_after_its_first_byte_is_told_as_a_failure(
    world, two, how
):
    await announce(world, *two)
    # Also the first byte's: chance may choose the stopped one for the request after it.
    async with RouterProcess(world, ROUTER_PATIENCE_S="0.5", ROUTER_FIRST_BYTE_S="2"):
        await serves(world)
        wish = body(stream=True, max_tokens=1000, fake={"tokens": 1000, "token_s": 0.05})
        async with world.post(wish) as response:
            assert response.status == 200
            first = await response.content.readuntil(b"\n\n")
            busy = two[0 if response.headers["x-caravan-instance"] == "i-aaaaaa" else 1]
            os.kill(busy.pid, how)
            text = (first + await response.read()).decode()
        await nothing_under_way(world)
        assert (await world.asked(body()))[0] == 200
        os.kill(busy.pid, signal.SIGKILL)

    *_, last, rest = text.split("\n\n")
    assert FAILED in last
    assert rest == ""
    assert "[DONE]" not in text


@pytest.mark.parametrize("after", [0, 3])
async def test_an_engine_that_hangs_is_given_up(world, model, tmp_path, after):
    with engine_process(model, tmp_path, "one") as one:
        await announce(world, one)
        async with RouterProcess(world, ROUTER_PATIENCE_S="0.5", ROUTER_FIRST_BYTE_S="0.5"):
            await serves(world)
            async with world.post(body(stream=True, fake={"hang_after": after})) as response:
                text = (await response.read()).decode()
            await nothing_under_way(world)
            assert (await world.asked(body()))[0] == 200

    assert response.status == (200 if after else 502)
    assert FAILED in text
    assert "[DONE]" not in text


async def test_a_body_that_does_not_come_is_given_up(world):
    async with Engine() as engine:
        await announce(world, engine)
        async with RouterProcess(world, ROUTER_BODY_PATIENCE_S="0.5"):
            async with world.raw(head(STREAM)[:-9]) as (reader, _):
                answer = await reader.read()
            assert engine.requests == []

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


async def test_hundreds_of_half_sent_requests_are_in_nobodys_way(world):
    halves = [b"POST /v1/chat", head(STREAM)[:90], head(STREAM)[:-5], b""]
    async with Engine() as engine:
        await announce(world, engine)
        async with RouterProcess(world) as router:
            await serves(world)
            before, memory = router.sockets(), router.rss_mb()
            async with contextlib.AsyncExitStack() as stack:
                for n in range(400):
                    await stack.enter_async_context(world.raw(halves[n % 4]))
                for _ in range(20):
                    assert (await world.asked(body()))[0] == 200
                assert router.rss_mb() - memory < 30
            await until(lambda: router.sockets() <= before)


async def test_a_router_that_was_stopped_holds_it_against_nobody(world, model, tmp_path):
    short = {"ROUTER_PATIENCE_S": "0.5", "ROUTER_BODY_PATIENCE_S": "0.5"}
    wish = body(stream=True, max_tokens=60, fake={"tokens": 60, "token_s": 0.05})
    other = head(json.dumps(body()).encode())
    with engine_process(model, tmp_path, "one") as one:
        await announce(world, one)
        async with RouterProcess(world, **short) as router:
            await serves(world)
            async with world.post(wish) as response, world.raw(other[:-9]) as half:
                first = await response.content.readuntil(b"\n\n")
                reader, writer = half
                os.kill(router.pid, signal.SIGSTOP)
                writer.write(other[-9:])
                await asyncio.sleep(STOPPED_S)
                os.kill(router.pid, signal.SIGCONT)
                text = (first + await response.read()).decode()
                answer = await reader.readuntil(b"\r\n")

    assert text.endswith("data: [DONE]\n\n"), text[-300:]
    assert answer == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.skipif(not LONG, reason="takes half a minute: CARAVAN_TEST_LONG=1")
async def test_a_head_that_does_not_come_to_its_end_is_given_up(world):
    async with RouterProcess(world):
        async with world.raw(head(STREAM)[:40]) as (reader, _):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        async with world.raw() as (reader, _):
            assert await reader.read() == b""


async def test_a_client_that_stops_reading_is_cut_and_fills_no_memory(world):
    sent, gone = 0, asyncio.Event()

    async def endless(_, connection):
        nonlocal sent
        await connection.begin()
        await connection.chunk(token("begin"))
        try:
            while True:
                await connection.chunk(b'data: {"x":"' + ENDLESS + b'"}\n\n')
                sent += len(ENDLESS)
        except ConnectionError:
            gone.set()

    async with Engine() as engine:
        await announce(world, engine)
        async with RouterProcess(world, ROUTER_CLIENT_PATIENCE_S="1") as router:
            await serves(world)
            engine.script, memory = endless, router.rss_mb()
            async with world.raw(head(STREAM)) as (reader, _):
                reader._transport.pause_reading()
                await asyncio.wait_for(gone.wait(), 60)
                assert router.rss_mb() - memory < 20
            await nothing_under_way(world)

    assert sent < 50_000_000  # what sockets hold; never read and kept


@pytest.mark.parametrize("begun", [True, False], ids=["stream", "before the first byte"])
async def test_a_client_that_goes_closes_the_engines_connection(world, begun, capsys):
    asked, gone, took = asyncio.Event(), asyncio.Event(), []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(STREAM))
        if begun:
            data = b'data: {"choices":[]}\n\n'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + data)
            await writer.drain()
        asked.set()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Engine() as standing:
        standing.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await announce(world, standing)
        async with RouterProcess(world) as router:
            for _ in range(20):
                asked.clear()
                gone.clear()
                async with world.raw(head(STREAM)) as (reader, writer):
                    await asked.wait()
                    if begun:
                        await reader.readuntil(b"choices")
                    left = time.monotonic()
                    writer.transport.abort()
                    await asyncio.wait_for(gone.wait(), 60)
                    took.append((time.monotonic() - left) * 1000)
            await nothing_under_way(world)
            assert router.sockets() < 20

    with capsys.disabled():
        print(f" {statistics.median(took):.1f} ms, at most {max(took):.1f} ms", end="")  # noqa: T201
    assert max(took) < 2000  # 100 on a machine that does nothing else


@pytest.mark.timeout(AWAY_S + 300)
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_while_nats_is_away_inference_goes_on_also_after_a_restart(
    world, nats_server, two, how
):
    if LONG and how == "stopped":
        pytest.skip("once ten minutes are enough")
    await announce(world, *two)
    async with RouterProcess(world) as router:
        await serves(world)
        await eventually(lambda: _copied(world), "the copies on disk")
        if how == "killed":
            await nats_server.kill()
        else:
            os.kill(nats_server.pid, signal.SIGSTOP)
        end, restarts, answers = time.monotonic() + AWAY_S, 0, 0
        while time.monotonic() < end or restarts < 2:
            for _ in range(10):
                assert (await world.asked(body()))[0] == 200
                assert (await world.streamed(body()))[1].endswith("data: [DONE]\n\n")
                answers += 1
            if restarts < 2 and time.monotonic() > end - AWAY_S * (2 - restarts) / 3:
                await router.kill()
                await router.start()
                restarts += 1
        if how == "killed":
            await nats_server.start()
        else:
            os.kill(nats_server.pid, signal.SIGCONT)
        await _heard_again(world)
    assert answers >= 10


async def _copied(world):
    folder = world.folder / "views"
    return folder.exists() and len(list(folder.iterdir())) >= 3


async def _heard_again(world):
    """Return when the router obeys what NATS says."""

    async def revoked():
        with contextlib.suppress(UnavailableError):
            await world.key(SECRET, state="revoked")
        return (await world.asked(body()))[0] == 401

    await eventually(revoked)
