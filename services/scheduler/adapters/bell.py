"""A bell that any number of listeners hear; rings in quick succession are heard as one."""

import asyncio
import weakref
from collections.abc import AsyncGenerator


class Bell:
    """Wakes everyone who listens; a ring while a listener is busy is heard when it comes back."""

    def __init__(self) -> None:
        self._listeners = weakref.WeakSet[asyncio.Event]()

    def ring(self) -> None:
        """Wake every listener."""
        for listener in self._listeners:
            listener.set()

    def rings(self) -> AsyncGenerator[None]:
        """Return what yields once after each ring from now on, or after several together."""
        heard = asyncio.Event()
        self._listeners.add(heard)
        return _each(heard)


async def _each(heard: asyncio.Event) -> AsyncGenerator[None]:
    while True:
        await heard.wait()
        heard.clear()
        yield
