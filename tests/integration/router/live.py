"""A router for a whole file, in a loop of its own: one example of a property costs little."""

import asyncio
import os
import threading
import time
from pathlib import Path

import uvloop
from hypothesis import settings

from caravan.kit.bus import Bus
from caravan.testing.nats import NatsServer
from tests.integration.router.scripts import ScriptedEngine
from tests.integration.router.wire import turns
from tests.integration.router.world import World

HANG_S = 60.0
"""Nothing takes so long; what does is a hang."""


STALL_S = 20.0
"""No engine here is silent for so long: a router that waits so long waits for nothing."""


def bounded(examples, **more):
    """Return hypothesis settings; CARAVAN_TEST_EXAMPLES multiplies ``examples``."""
    times = float(os.environ.get("CARAVAN_TEST_EXAMPLES", "1"))
    return settings(
        max_examples=max(1, round(examples * times)), deadline=None, print_blob=True, **more
    )


class Live:
    """NATS, one router and one scripted engine in a thread; ``run`` takes coroutines there."""

    def __init__(self, folder, **fields):
        self._folder, self._fields = folder, fields
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def port(self):
        return self.world.port

    def __enter__(self):
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_):
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work, patience_s=HANG_S):
        """Return what ``work``, a coroutine, returns in the router's loop; a hang fails."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(patience_s)
        except TimeoutError:
            future.cancel()
            raise AssertionError(f"nothing moved for {patience_s:g} s") from None

    async def settled(self):
        """Return when nothing is under way and no connection is open but the engine's idle ones."""
        end = time.monotonic() + HANG_S / 2
        while not self._idle():
            assert time.monotonic() < end, self._open()
            await turns()
        running = (await self.world.report()).deployments.values()
        assert [use for use in running if use.running or use.waiting] == []

    def _idle(self):
        return not self.engine.busy and sockets() == self._own + 2 * len(self.engine.open)

    def _open(self):
        kept = len(self.engine.open)
        leaked = sockets() - self._own - 2 * kept
        return f"{self.engine.busy} requests at the engine, {kept} connections, {leaked} leaked"

    async def _start(self):
        self._nats = NatsServer(self._folder / "nats")
        await self._nats.start()
        self._bus = await Bus(self._nats.url, name="test").__aenter__()
        await self._bus.established(HANG_S)
        self.engine = await ScriptedEngine().__aenter__()
        self.world = await World(self._bus, self._folder).__aenter__()
        self.world.settings = {"first_byte_s": STALL_S, "patience_s": STALL_S} | self._fields
        await self.world.serving(self.engine)
        await self.world.report()
        await turns(10)
        self._own = sockets()
        await self._warm()

    async def _warm(self):
        """Open what the router opens once and keeps, before sockets are counted."""
        end = time.monotonic() + HANG_S / 2
        while not self._still():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    def _still(self):
        before, self._own = self._own, sockets()
        return before == self._own

    async def _stop(self):
        await self.world.__aexit__()
        await self.engine.__aexit__()
        await self._bus.__aexit__(None, None, None)
        await self._nats.stop()


def sockets():
    """Return how many sockets this process holds."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += entry.readlink().name.startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found
