"""Where the official clients call: a router with the fake engine, or a platform that runs already.

With CARAVAN_TEST_BASE_URL (ending in /v1), CARAVAN_TEST_KEY and CARAVAN_TEST_MODEL in the
environment, the same tests run against that platform.
"""

import asyncio
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from msgspec import Struct

from caravan.kit.bus import Bus
from caravan.testing.engine.process import EngineProcess
from caravan.testing.nats import NatsServer
from tests.integration.router.engine import Engine
from tests.integration.router.world import MODEL, SECRET, World

HERE = Path(__file__).parent
NODE = HERE / "node"
PATIENCE_S = 100


class Platform(Struct, frozen=True):
    base_url: str
    key: str
    model: str

    def fitted(self, text, key=None):
        """Return an example with only base URL, key and model changed."""
        return (
            text.replace("https://sh-02.d.run/v1", self.base_url)
            .replace("<Your API Key here>", key or self.key)
            .replace("u-8105f7322477/test", self.model)
        )


@pytest.fixture
async def platform(tmp_path):
    base = os.environ.get("CARAVAN_TEST_BASE_URL")
    if base:
        key, model = os.environ["CARAVAN_TEST_KEY"], os.environ["CARAVAN_TEST_MODEL"]
        yield Platform(base.rstrip("/"), key, model)
        return
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    engine = EngineProcess(
        model,
        tmp_path / "engine.log",
        "--stream-response-default-include-usage",
        "--enable-cache-report",
        name=MODEL,
    )
    async with NatsServer(tmp_path / "nats") as server, Bus(server.url, name="test") as bus:
        await bus.established(30)
        async with World(bus, tmp_path) as world:
            with engine:
                await world.serving(engine, engine_key=engine.key)
                yield Platform(world.base + "/v1", SECRET, MODEL)


@pytest.fixture
async def world(bus, tmp_path):
    """Empty buckets over a real NATS; ``serving`` fills them and starts a router of this test."""
    async with World(bus, tmp_path) as world:
        yield world


@pytest.fixture
async def engine():
    """An engine that answers well, or as the test's script says."""
    async with Engine() as engine:
        yield engine


@pytest.fixture
async def other():
    """A second one."""
    async with Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def node_modules():
    """The official Node SDKs, installed from their lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: the Node SDK is not tested here")
    with (NODE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((NODE / "node_modules" / name).exists() for name in ("openai", "@anthropic-ai")):
            asyncio.run(_install())
    return NODE / "node_modules"


async def _install():
    _, _, status = await run("npm", "ci", "--ignore-scripts", cwd=NODE)
    if status:
        pytest.skip("npm ci failed (is a registry reachable?): the Node SDK is not tested here")


async def run(*command, cwd=None, **environ):
    """Run a command to its end; return what it printed, what it complained and its status."""
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), PATIENCE_S)
    return out.decode(), err.decode(), child.returncode
