"""What an engine prints: passed on line by line, the end of it kept."""

import asyncio
import contextlib
import os
import threading
from collections import deque

KEPT_LINES = 20
KEPT_CHARACTERS = 500
_LONGEST = 64 * 1024
"""A line longer than this is passed on in pieces."""


class Output:
    """Copies the pipe ``source`` to the file descriptor ``target`` until its end.

    In a thread of its own: when nobody takes our output, the engine waits as it would without us,
    and the event loop does not. ``secret`` is masked: SGLang prints its arguments, keys included.
    """

    def __init__(self, source: int, target: int, secret: str) -> None:
        self._source = source
        self._target = target
        self._secret = secret.encode()
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        threading.Thread(target=self._copy, name="engine output", daemon=True).start()

    def last_lines(self) -> list[str]:
        """Return the last lines, oldest first."""
        return list(self._kept)

    async def ended(self, patience_s: float) -> None:
        """Wait for the end of the pipe, at most ``patience_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._ended.wait()

    def _copy(self) -> None:
        rest = b""
        while piece := os.read(self._source, _LONGEST):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._pass_on(line + b"\n")
            if len(rest) > _LONGEST:
                self._pass_on(rest)
                rest = b""
        if rest:
            self._pass_on(rest + b"\n")
        os.close(self._source)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended.set)

    def _pass_on(self, line: bytes) -> None:
        line = line.replace(self._secret, b"***")
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        if text:
            self._kept.append(text[:KEPT_CHARACTERS])
        with contextlib.suppress(OSError):  # nobody reads us any more; the engine goes on
            while line:
                line = line[os.write(self._target, line) :]
