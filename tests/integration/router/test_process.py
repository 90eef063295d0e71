"""The router as a process of its own."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.router.world import body, serves

RSS_LIMIT_MB = 70


def rss_mb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def maps(pid):
    return Path(f"/proc/{pid}/maps").read_text()


async def test_it_serves_within_its_memory_and_ends_when_it_is_told_to(world, process):
    child = await process()
    await serves(world)
    for _ in range(100):
        await world.streamed(body())

    assert rss_mb(child.pid) < RSS_LIMIT_MB
    child.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.wait(), 60) == 0


async def test_it_loads_no_library_that_it_does_not_use(world, process):
    child = await process()
    await serves(world)

    loaded = maps(child.pid)
    assert "/uvloop/" in loaded
    assert "/aiohttp/" not in loaded


async def test_after_a_kill_another_one_goes_on(world, process):
    first = await process()
    await serves(world)
    first.kill()
    await first.wait()

    await process()
    await serves(world)


async def test_a_wrong_setting_is_one_line_and_exit_2(world, process):
    child = await process(ROUTER_PORT="many")

    assert await asyncio.wait_for(child.wait(), 60) == 2
    [line] = (world.folder / "router.log").read_text().splitlines()
    assert "ROUTER_PORT" in line


@pytest.mark.parametrize("name", ["ROUTER_PORT", "ROUTER_ADMIN_PORT"])
async def test_a_port_that_is_taken_is_one_line_and_exit_3(world, process, name):
    taken = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        child = await process(**{name: str(port)})
        assert await asyncio.wait_for(child.wait(), 60) == 3

    last = (world.folder / "router.log").read_text().splitlines()[-1]
    assert last.startswith(f"caravan router: Port {port} on 127.0.0.1 is taken")
