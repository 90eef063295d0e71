"""A router as a process of its own over a real NATS, and engines that it may lose."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from caravan.testing.engine.process import EngineProcess
from tests.integration.router.world import MODEL, body, eventually


class RouterProcess:
    """``python -m services.router`` on the port of ``world``; ``async with`` starts and ends it."""

    def __init__(self, world, **environ):
        self.world, self._environ = world, environ
        self._child = None

    @property
    def pid(self):
        return self._child.pid

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.kill()

    async def start(self):
        """Start it, and return when it answers at all."""
        ours = {
            "PATH": os.environ["PATH"],
            "ROUTER_NATS_URL": self.world.bus.url,
            "ROUTER_PORT": str(self.world.port),
            "ROUTER_ADMIN_PORT": "0",
            "ROUTER_VIEWS_DIR": str(self.world.folder / "views"),
            "ROUTER_START_WAIT_S": "1",
        }
        with (self.world.folder / "router.log").open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.router"), env=ours | self._environ, stderr=log
            )
        await eventually(self._answers, "the router's port")

    async def kill(self):
        """End it as a power failure would."""
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signal.SIGKILL)
            await self._child.wait()

    async def _answers(self):
        assert self._child.returncode is None, (self.world.folder / "router.log").read_text()
        try:
            async with self.world.http.get(self.world.base + "/health") as response:
                return response.status == 200
        except OSError:
            return False

    def rss_mb(self):
        """Return its resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def sockets(self):
        """Return how many sockets it holds."""
        names = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                names.append(entry.readlink().name)
            except OSError:  # closed meanwhile
                continue
        return sum(name.startswith("socket:") for name in names)


def engine_process(model, folder, name):
    """Return a fake engine as a process, not yet started."""
    return EngineProcess(model, folder / f"{name}.log", name=MODEL)


async def serves(world):
    """Return when a good request is answered."""

    async def answers():
        try:
            return (await world.asked(body()))[0] == 200
        except OSError:
            return False

    await eventually(answers)
