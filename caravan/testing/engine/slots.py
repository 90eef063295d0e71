"""Who may run, who waits, who is sent away: counted as SGLang's scheduler counts."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FULL = "The request queue is full."


class FullError(Exception):
    """The request queue is full."""


class Slots:
    """``running`` requests at once; more of them wait in order, at most ``queued`` of them."""

    def __init__(self, running: int, queued: int | None) -> None:
        self._free = running
        self._queued = queued
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot; raises :class:`FullError` when there is no room to wait for one.

        SGLang puts every request into its queue first, so a limit of 0 refuses all of them.
        """
        if self._queued is not None and self.waiting + 1 > self._queued:
            raise FullError
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._turn()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._pass_on()

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # the slot came in the moment in which its client left
            else:
                self._waiting.remove(turn)
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
