"""Several router processes on one port: the parent that starts them and keeps them running.

The processes share nothing but the port: each has its own views, connections, reports and admin
port. The parent serves nothing, so it loads nothing that does, and holds on to two things: the
port, so that it stays this router's while a process is away, and the pipe at which each process
sees its parent's end.
"""

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator

import structlog

from caravan.contracts.errors import InvalidRequestError
from caravan.kit.listening import reserve
from services.router.adapters import tracing
from services.router.settings import Settings

FIRST_S = 0.5
LONGEST_S = 10.0
STEADY_S = 60.0
"""A life that lasted this long ends the row of failures."""
ALIVE = 0
"""The end of the pipe in a process: its standard input, which a router does not need otherwise."""
log = structlog.get_logger()


async def keep(settings: Settings, stopping: asyncio.Event) -> None:
    """Keep ``settings.processes`` processes running until ``stopping``; then until all have ended.

    ``PortTakenError`` before anything is started when another program has one of their ports.
    """
    if settings.processes < 1:
        raise InvalidRequestError(
            f"ROUTER_PROCESSES={settings.processes} does not fit: it wants 1 or more.",
            param="ROUTER_PROCESSES",
        )
    # What each process would end of is refused here, once.
    tracing.check(settings.otlp_endpoint, settings.trace_ratio)
    _look_at_admin_ports(settings)
    with contextlib.closing(reserve(settings.host, settings.port)) as port, _pipe() as alive:
        number = port.getsockname()[1]
        log.info("router.processes", count=settings.processes, port=number, parent=os.getpid())
        async with asyncio.TaskGroup() as group:
            for index in range(settings.processes):
                environ = {"ROUTER_PROCESS": str(index), "ROUTER_PORT": str(number)}
                group.create_task(_keep(index, environ, alive, stopping))


def _look_at_admin_ports(settings: Settings) -> None:
    """Refuse a taken one here: a process that finds it later is started again and again."""
    host, first = settings.admin_host or settings.host, settings.admin_port
    if first:
        for index in range(settings.processes):
            reserve(host, first + index).close()


@contextlib.contextmanager
def _pipe() -> Iterator[int]:
    """Give the end of a pipe that is readable, as ended, once this process is no more."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


async def _keep(index: int, environ: dict[str, str], alive: int, stopping: asyncio.Event) -> None:
    """Run one process after the other as number ``index`` until ``stopping``."""
    wait_s = FIRST_S
    while not stopping.is_set():
        began = time.monotonic()
        code = await _run(index, environ, alive, stopping)
        if stopping.is_set():
            log.info("router.process_ended", process=index, exit=code)
            return
        if time.monotonic() - began >= STEADY_S:
            wait_s = FIRST_S
        log.error("router.process_died", process=index, exit=code, again_in_s=wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stopping.wait()
        wait_s = min(2 * wait_s, LONGEST_S)


async def _run(index: int, environ: dict[str, str], alive: int, stopping: asyncio.Event) -> int:
    """Run one process to its end, which ``stopping`` asks for; return its exit code.

    That of a process that was killed is the signal's number, negative.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.router"), env=os.environ | environ, stdin=alive
    )
    log.info("router.process_started", process=index, pid=child.pid)
    ended = asyncio.create_task(child.wait())
    asked = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        _ask_to_end(child)
    return await ended


def _ask_to_end(child: Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()


@contextlib.asynccontextmanager
async def with_parent(index: int, stopping: asyncio.Event) -> AsyncIterator[None]:
    """While inside, the end of this process's parent is a reason to stop, as SIGTERM is.

    Log lines say which process they are of. A parent that is killed while its processes drain
    takes them with it: who did it had waited.
    """
    structlog.contextvars.bind_contextvars(process=index)
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(ALIVE)
        log.warning("router.parent_gone", draining=stopping.is_set())
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    loop.add_reader(ALIVE, gone)
    try:
        yield
    finally:
        loop.remove_reader(ALIVE)
