"""Questions to NATS that its restart does not fail."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from caravan.contracts.errors import UnavailableError
from caravan.kit.bus import NOT_CONNECTED, Bus

T = TypeVar("T")

PATIENCE_S = 5.0
"""A server that is restarted is there again by then, its streams with it."""
AGAIN_S = 0.1


async def over_a_restart(
    bus: Bus, ask: Callable[[], Awaitable[T]], *, patience_s: float = PATIENCE_S
) -> T:
    """Return what ``ask`` does, asked again while NATS is only being restarted.

    What was sent to a server that went is never answered, so it is not waited for.
    ``UnavailableError`` after ``patience_s``, or at once where NATS has been away for longer. For
    questions alone: ``ask`` may run more than once.
    """
    try:
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    return await _unless_lost(bus, ask)
                except UnavailableError:
                    if not bus.connected and time.monotonic() - bus.lost_at > patience_s:
                        raise
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        raise UnavailableError(NOT_CONNECTED) from None


async def _unless_lost(bus: Bus, ask: Callable[[], Awaitable[T]]) -> T:
    """Return what ``ask`` does; ``UnavailableError`` as soon as the connection is lost."""
    asking = asyncio.ensure_future(ask())

    def lost() -> None:
        asking.cancel()

    end = bus.on_loss(lost)
    try:
        await asyncio.wait({asking})
    finally:
        end()
        asking.cancel()
    if asking.cancelled():
        raise UnavailableError(NOT_CONNECTED)
    return asking.result()
