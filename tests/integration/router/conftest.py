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
