"""The router as several processes on one port, kept by their parent."""

import asyncio
import json
import os
import re
import signal
import socket
import time

import aiohttp
import pytest

from caravan.cli import ports
from caravan.contracts import topology
from caravan.contracts.reports import Report
from caravan.kit.process import alive, identity
from caravan.testing.nats import free_port
from services.scheduler.core.routers import LISTEN_S, QUIET_S, Routers, Written
from tests.integration.router.engine import OK, token
from tests.integration.router.world import CHAT, MODEL, SECRET, body, eventually, serves, until

COUNT = 2
AUTH = {"authorization": f"Bearer {SECRET}"}
KEY = f"{MODEL.replace('/', '.')}.i-aaaaaa"
_GOOD = re.compile(r'^caravan_router_requests_total\{[^}]*status="200"[^}]*\} (\S+)$', re.MULTILINE)
_RUNNING = re.compile(r"^caravan_router_in_flight\{[^}]*\} (\S+)$", re.MULTILINE)


class Router:
    """A parent and its processes, as one sees them from outside."""

    def __init__(self, world, parent, admin):
        self.world, self.parent, self.admin = world, parent, admin
        # Every request on a connection of its own: the kernel chooses a process for each.
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def ask(self, **more):
        """Return status and bytes of one answer."""
        url = self.world.base + CHAT
        async with self.http.post(url, json=body(**more), headers=AUTH) as response:
            return response.status, await response.read()

    async def page(self, index, path):
        """Return status and text of an admin page; (0, "") while nobody answers."""
        try:
            url = f"http://127.0.0.1:{self.admin + index}{path}"
            async with self.http.get(url) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def good(self):
        """Return how many requests each process has answered well."""
        texts = [(await self.page(index, "/metrics"))[1] for index in range(COUNT)]
        return [sum(float(found) for found in _GOOD.findall(text)) for text in texts]

    async def running(self):
        """Return how many requests each process has under way."""
        texts = [(await self.page(index, "/metrics"))[1] for index in range(COUNT)]
        return [sum(float(found) for found in _RUNNING.findall(text)) for text in texts]

    async def ready(self):
        """Tell whether every process says that it is ready."""
        return all([(await self.page(index, "/ready"))[0] == 200 for index in range(COUNT)])

    def events(self, name):
        """Return the parent's log events of this name."""
        events = [json.loads(line) for line in self.world.log() if line.startswith("{")]
        return [event for event in events if event["event"] == name]

    def life(self, index):
        """Return who runs as number ``index``: the last one started."""
        started = [e["pid"] for e in self.events("router.process_started") if e["process"] == index]
        return identity(started[-1])


@pytest.fixture
def admin():
    """The first of two free ports in a row."""
    return ports.row(0, free_port(), COUNT, runs=False)


@pytest.fixture
async def several(world, process, admin):
    """Start a parent of two processes and wait until both are ready."""
    routers = []

    async def start(**environ):
        settings = {"ROUTER_PROCESSES": str(COUNT), "ROUTER_ADMIN_PORT": str(admin)} | environ
        router = Router(world, await process(**settings), admin)
        routers.append(router)
        await eventually(router.ready, "all processes' readiness")
        return router

    yield start
    for router in routers:
        await router.http.close()
        await ended(router.parent)


async def ended(parent):
    """End a parent, and with it its processes; return its exit code."""
    if parent.returncode is None:
        parent.terminate()
    return await asyncio.wait_for(parent.wait(), 60)


async def test_both_serve_and_each_counts_what_it_has_served(several):
    router = await several()
    asked = 0

    async def both():
        nonlocal asked
        status, _ = await router.ask()
        assert status == 200
        asked += 1
        return all(await router.good())

    await eventually(both, "a request at each process")
    assert sum(await router.good()) == asked


async def test_while_one_is_away_the_other_serves_until_the_parent_has_replaced_it(several):
    router = await several()
    killed, other = router.life(0), router.life(1)
    os.kill(killed.pid, signal.SIGKILL)
    await until(lambda: not alive(killed))

    for _ in range(20):
        assert (await router.ask())[0] == 200
    await until(lambda: router.events("router.process_died"))
    await eventually(router.ready)

    [death] = router.events("router.process_died")
    assert (death["process"], death["exit"]) == (0, -signal.SIGKILL)
    assert router.life(0).pid != killed.pid
    assert router.life(1) == other
    assert alive(other)


async def test_one_that_cannot_start_is_tried_ever_more_seldom_until_it_can(several, admin):
    """Its admin port is another program's meanwhile."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", admin + 1))
        router = await several()
        killed = router.life(1)
        os.kill(killed.pid, signal.SIGKILL)
        await until(lambda: not alive(killed))
        other.listen()

        await until(lambda: len(router.events("router.process_died")) >= 4)
        deaths = router.events("router.process_died")[:4]
        assert [death["exit"] for death in deaths] == [-signal.SIGKILL, 3, 3, 3]
        assert [death["again_in_s"] for death in deaths] == [0.5, 1.0, 2.0, 4.0]
        assert (await router.ask())[0] == 200
    await eventually(router.ready)


async def test_streams_under_way_come_to_their_end_when_the_parent_is_told_to_end(several, engine):
    go = asyncio.Event()
    engine.script = held(go)
    router = await several()
    streams = await at_both(router)

    router.parent.terminate()
    await until(lambda: len(router.events("router.leaving")) == COUNT)
    assert router.parent.returncode is None
    go.set()

    for status, data in await asyncio.gather(*streams):
        assert status == 200
        assert data.endswith(b"data: [DONE]\n\n")
    assert await asyncio.wait_for(router.parent.wait(), 60) == 0


async def test_without_their_parent_they_drain_and_end(several, engine):
    go = asyncio.Event()
    engine.script = held(go)
    router = await several()
    lives = [router.life(index) for index in range(COUNT)]
    streams = await at_both(router)

    router.parent.kill()
    await until(lambda: len(router.events("router.leaving")) == COUNT)
    go.set()

    assert all(data.endswith(b"[DONE]\n\n") for _, data in await asyncio.gather(*streams))
    await until(lambda: not any(alive(life) for life in lives))


async def test_a_parent_that_is_killed_in_a_drain_takes_them_with_it(several, engine):
    engine.script = held(asyncio.Event())
    router = await several()
    lives = [router.life(index) for index in range(COUNT)]
    streams = await at_both(router)
    router.parent.terminate()
    await until(lambda: len(router.events("router.leaving")) == COUNT)

    router.parent.kill()

    await until(lambda: not any(alive(life) for life in lives))
    await asyncio.gather(*streams, return_exceptions=True)


@pytest.mark.parametrize("which", ["port", "admin"])
async def test_a_port_of_another_program_is_one_line_and_nothing_is_started(
    world, process, admin, which
):
    port = {"port": world.port, "admin": admin + 1}[which]
    with socket.create_server(("127.0.0.1", port), reuse_port=True):
        parent = await process(ROUTER_PROCESSES="2", ROUTER_ADMIN_PORT=str(admin))
        assert await asyncio.wait_for(parent.wait(), 60) == 3

    [line] = (world.folder / "router.log").read_text().splitlines()
    assert line.startswith(f"caravan router: Port {port} on 127.0.0.1 is taken")


async def test_a_second_parent_does_not_share_the_port_of_the_first(world, several, process):
    await several()
    second = await process(ROUTER_PROCESSES="2")

    assert await asyncio.wait_for(second.wait(), 60) == 3
    await serves(world)


async def test_a_free_port_is_chosen_once_for_all(several, world):
    router = await several(ROUTER_PORT="0")

    urls = {event["url"] for event in router.events("router.serving")}
    assert len(urls) == 1
    world.port = int(urls.pop().rpartition(":")[2])
    assert (await router.ask())[0] == 200


async def test_all_of_them_start_without_nats_from_the_copy_of_the_first(several, nats_server):
    router = await several()
    await ended(router.parent)
    await nats_server.stop()

    router = await several(ROUTER_START_WAIT_S="0.5")

    async def both():
        assert (await router.ask())[0] == 200
        return all(await router.good())

    await eventually(both, "a request at each process")


async def test_a_drain_waits_for_each_process(several, world, engine):
    """The scheduler's own count, fed with real reports on a clock of the test's."""
    go = asyncio.Event()
    engine.script = held(go)
    heard = []
    await world.bus.subscribe(f"{topology.REPORT}.*", Report, heard.append)
    router = await several()
    streams = await at_both(router)

    def newest():
        """Return the newest report of each process that has said something since ``clear``."""
        return list({report.run: report for report in heard}.values())

    def watched(reports):
        routers = Routers(0.0)
        now = LISTEN_S
        for report in reports:
            routers.heard(report, now)
        created = reports[0].positions["deployments"].created
        routers.drain(KEY, Written(created, 0), now)
        for report in reports:
            routers.heard(report, now + QUIET_S)
        return routers.in_flight(KEY, now + QUIET_S), routers.quiet_since(KEY, now + QUIET_S)

    heard.clear()
    await until(lambda: len(newest()) == COUNT)
    assert watched(newest()) == (len(streams), None)

    go.set()
    await asyncio.gather(*streams)
    heard.clear()
    await until(lambda: len(newest()) == COUNT)
    in_flight, quiet_since = watched(newest())
    assert in_flight == 0
    assert quiet_since is not None


def held(go):
    """Return an engine's script: streams that end when ``go`` is set, all else at once."""

    async def script(request, connection):
        if not request.json.get("stream"):
            await connection.raw(OK % (2, b"{}"))
            return
        await connection.begin()
        await connection.chunk(token("hel"))
        await go.wait()
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    return script


async def at_both(router):
    """Open streams until each process has one under way; return their tasks."""
    tasks = []

    async def both():
        tasks.append(asyncio.create_task(router.ask(stream=True)))
        deadline = time.monotonic() + 30
        while sum(counts := await router.running()) < len(tasks):
            assert time.monotonic() < deadline
        return all(counts)

    await eventually(both, "a stream at each process")
    return tasks
