import asyncio
import os
import sys

import pytest

from tests.integration.router.engine import Engine
from tests.integration.router.world import World


@pytest.fixture
async def world(bus, tmp_path):
    """Empty buckets over a real NATS; ``serving`` fills them and starts a router."""
    async with World(bus, tmp_path) as world:
        yield world


@pytest.fixture
async def engine():
    """An engine that answers well; a test may give it another script."""
    async with Engine() as engine:
        yield engine


@pytest.fixture
async def other():
    """A second one."""
    async with Engine() as engine:
        yield engine


@pytest.fixture
async def process(world, engine):
    """Start ``python -m services.router``; end it at the end."""
    started = []

    async def start(**environ):
        log = (world.folder / "router.log").open("ab")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.router"),
            env={
                "PATH": os.environ["PATH"],
                "ROUTER_NATS_URL": world.bus.url,
                "ROUTER_PORT": str(world.port),
                "ROUTER_ADMIN_PORT": "0",
                "ROUTER_VIEWS_DIR": str(world.folder / "views"),
            }
            | environ,
            stderr=log,
        )
        log.close()
        started.append(child)
        return child

    await world.key()
    await world.deploy(instances=["i-aaaaaa"])
    await world.record("i-aaaaaa", engine.url)
    await world.complete()
    yield start
    for child in started:
        if child.returncode is None:
            child.kill()
        await child.wait()
