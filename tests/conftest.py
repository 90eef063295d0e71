"""Fixtures that every folder may use: real servers, real ports."""

import asyncio
import contextlib
import shutil
import signal

import pytest
from hypothesis import settings

from caravan.kit.bus import Bus
from caravan.testing import nats
from caravan.testing import nomad_agent as nomad

# A busy machine is no reason to fail: what hangs is ended by the time limit of each test.
settings.register_profile("caravan", deadline=None)
settings.load_profile("caravan")

# A run in the background ignores Ctrl-C, and so would the programs that tests type it into.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.postgres_server"]


@pytest.fixture
def free_port():
    """A port of 127.0.0.1 on which nobody listens."""
    return nats.free_port()


@pytest.fixture
async def nats_server(tmp_path):
    """A real nats-server with an empty disk of its own; a test may stop, kill and wipe it."""
    async with nats.NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def bus(nats_server):
    """A connection to ``nats_server`` that stands."""
    async with Bus(nats_server.url, name="test") as bus:
        await bus.established(60)
        yield bus


class Running:
    """Tasks of a test: ``start`` what runs for ever, such as a view's ``run``; ended with it."""

    def __init__(self):
        self.tasks = {}

    def start(self, one):
        """Run ``one.run()`` until ``stop(one)`` or the test's end; return ``one``."""
        self.tasks[id(one)] = asyncio.create_task(one.run())
        return one

    async def stop(self, one):
        """End ``one`` as its service's end would, and wait for it."""
        task = self.tasks.pop(id(one))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def running():
    """What runs beside the test: ``running.start(view)``; a failure in it fails the test."""
    running = Running()
    yield running
    for task in running.tasks.values():
        task.cancel()
    results = await asyncio.gather(*running.tasks.values(), return_exceptions=True)
    failures = [r for r in results if isinstance(r, Exception)]
    if failures:
        raise failures[0]


@pytest.fixture(scope="session")
def nomad_agent(tmp_path_factory):
    """A real Nomad, one for all tests of a run; each test takes away what it left there."""
    if shutil.which("nomad") is None:
        pytest.skip(nomad.MISSING)
    with nomad.NomadAgent(tmp_path_factory.mktemp("nomad") / "agent") as agent:
        yield agent
