"""What every measurement of a router stands on: two fake engines and a load client."""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from benchmarks.router import peers, tools
from benchmarks.router.peers import Site
from caravan.testing.nats import free_port

PATIENCE_S = 10.0


class Stand(Struct, frozen=True, kw_only=True):
    """What stands while routers come and go."""

    folder: Path
    loadgen: str
    engines: tuple[int, int]
    """Their ports."""
    engine_pids: list[int]

    def site(self, name: str) -> Site:
        """Return where one more router may be started; ``name`` has not been used yet."""
        return Site(
            port=free_port(),
            other_port=free_port(),
            engines=self.engines,
            folder=self.folder / name,
        )


@contextlib.contextmanager
def stand(tokens: int) -> Iterator[Stand]:
    """Build what is in C, and run two engines with streams of ``tokens`` chunks while inside."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        engine = tools.compiled("engine", folder)
        ports = (free_port(), free_port())
        pids = [up.enter_context(_running([engine, str(port), str(tokens)])) for port in ports]
        for port in ports:
            _await(port)
        yield Stand(
            folder=folder,
            loadgen=tools.compiled("loadgen", folder),
            engines=ports,
            engine_pids=pids,
        )


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own engine
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((peers.HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def end_in_order_on_sigterm() -> None:
    """Let SIGTERM leave by an exception, so that whatever was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
