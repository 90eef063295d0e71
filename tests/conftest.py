"""Fixtures that every folder may use: real servers, real ports."""

import pytest

from caravan.kit.bus import Bus
from caravan.testing import nats

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
        await bus.established(30)
        yield bus
