"""Waiting for what a test expects, instead of sleeping."""

import asyncio
import inspect
from collections.abc import Callable

PATIENCE_S = 60.0
"""Long, because a machine that builds and tests at the same time is slow; nothing waits it out."""


async def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return when ``condition()`` holds, awaited if need be; ``TimeoutError`` after a while."""
    async with asyncio.timeout(patience_s):
        while not await _value(condition()):  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.01)


async def _value(result: object) -> object:
    return await result if inspect.isawaitable(result) else result
