"""When the next token comes, and what goes wrong instead: the plan, carried out."""

import asyncio
import os
import signal
import sys

from caravan.testing.engine.errors import AbortedError, BrokenOffError, PlannedError
from caravan.testing.engine.plan import Plan
from caravan.testing.engine.wire import Reply


class Pace:
    """Waits before each frame of one answer, and breaks it where the plan says."""

    def __init__(self, plan: Plan, reply: Reply, aborted: asyncio.Event) -> None:
        self._plan, self._reply, self._aborted = plan, reply, aborted

    async def frame(self, number: int) -> None:
        """Return when frame ``number``, counted from 0, is due; raises what happens instead."""
        await self._wait(self._plan.token_s if number else self._plan.first_s)
        plan = self._plan
        if plan.crash_after == number:
            crash("Scheduler hit an exception: planned by the test")
        if plan.cut_after == number:
            self._reply.cut()
            raise BrokenOffError
        if plan.hang_after == number:
            await self._aborted.wait()
            raise AbortedError
        if plan.error_after == number:
            raise PlannedError
        if plan.end_after == number:
            self._reply.end()
            raise BrokenOffError

    async def _wait(self, delay: float) -> None:
        if delay:
            try:
                await asyncio.wait_for(self._aborted.wait(), delay)
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)  # others get their turn, and a client that left is noticed
        if self._aborted.is_set():
            raise AbortedError


def crash(reason: str) -> None:
    """End the process as SGLang ends itself when its scheduler fails."""
    sys.stderr.write(f"{reason}\nSIGQUIT received. It usually means one child failed.\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
