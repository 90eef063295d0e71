"""kill -9 for any part of a platform, and which answers that excuses."""

import asyncio
import time

import aiohttp
from msgspec import Struct

from caravan.kit.process import alive
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until
from tests.faults.standing import workers_of

PARTS = ("auth", "scheduler", "router", "nats", "supervisor", "worker", "engine")
SOON_S = 3.0
"""So long a kill waits for an instance of which there is none just now."""
SEEN_S = 0.5
"""A break is seen a moment after it was made."""


class Kill(Struct, kw_only=True):
    """One kill as it happened; times are monotonic."""

    part: str
    at: float
    instance: str = ""
    back: float = float("inf")
    """Of the router: when it answered again."""

    def excuses(self, answer):
        """Tell whether this kill may have cut ``answer``, or kept it from coming."""
        if self.part == "router":
            return answer.at_work(self.at, self.back)
        return (
            bool(self.instance)
            and answer.instance == self.instance
            and answer.at_work(self.at, self.at + SEEN_S)
        )


class Killer:
    """Kills parts of ``platform``, those of the deployment ``name`` among its workers' ones."""

    def __init__(self, platform, name, chances):
        self.platform, self.name, self._chances = platform, name, chances
        self.kills = []
        self._supervisor = asyncio.Lock()

    async def kill(self, part):
        """Kill ``part``, and return when it is there again; an instance comes back later."""
        match part:
            case "worker" | "engine":
                await self._instance(part)
            case "supervisor":
                await self._supervise()
            case "router":
                kill = await self._service(part)
                await until(lambda: answers(self.platform), PATIENCE_S)
                kill.back = time.monotonic()
            case _:
                await self._service(part)

    async def _service(self, part):
        who = await self._living(part)
        kill = self._note(part)
        await self.platform.kill(who)
        await self.platform.replaced(part, who)
        return kill

    async def _living(self, part):
        """Return who runs as ``part``, once somebody does: another kill may have hit it."""
        found = []
        await until(lambda: found.append(_lives(self.platform, part)) or found[-1], PATIENCE_S)
        return found[-1]

    async def _supervise(self):
        async with self._supervisor:
            self._note("supervisor")
            await self.platform.kill(self.platform.process("supervisor"))
            await asyncio.sleep(self._chances.uniform(0.0, 1.5))  # nobody watches for a while
            await asyncio.to_thread(self.platform.up)

    async def _instance(self, part):
        try:
            await until(lambda: workers_of(self.platform, self.name), SOON_S)
        except TimeoutError:
            await self._service("scheduler")  # nobody is there to be hurt: another one is
            return
        victims = workers_of(self.platform, self.name)
        instance = self._chances.choice(sorted(victims))
        who = victims[instance]
        if part == "engine":
            engines = [one for one in self.platform.engines().get(instance, []) if alive(one)]
            who = engines[0] if engines else who
        self._note(part, instance)
        await self.platform.kill(who)

    def _note(self, part, instance=""):
        self.kills.append(Kill(part=part, at=time.monotonic(), instance=instance))
        return self.kills[-1]


async def answers(platform):
    """Tell whether the router listens."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{platform.router_url}/health") as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _lives(platform, part):
    try:
        return platform.process(part)
    except ProcessLookupError:
        return None
