"""How a service begins and ends: environment, logs, loop, signals, exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn, TypeVar

import structlog
from msgspec import Struct

from caravan.contracts.errors import Refusal
from caravan.kit import log as logs
from caravan.kit.settings import from_environ

S = TypeVar("S", bound=Struct)

log = structlog.get_logger()

INSIST_S = 5.0
"""A cancelled task may take so long, at least, to end in order."""


def main(
    service: str, kind: type[S], serve: Callable[[S, asyncio.Event], Awaitable[None]]
) -> NoReturn:
    """Run ``serve`` until it returns, and exit.

    SIGTERM and SIGINT set the event that ``serve`` got; it then ends what it has begun, newest
    first, and returns. A refusal becomes one line on stderr and its exit status; what nobody
    raised on purpose is logged with its traceback and ends in 1.
    """
    try:
        settings = from_environ(kind, service, os.environ)
        logs.configure(
            service,
            form=getattr(settings, "log_form", "auto"),
            level=getattr(settings, "log_level", "info"),
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, serve))
    except BaseException as exc:  # noqa: BLE001 - the outermost border: sorted, told, turned into a status
        sys.exit(_status(service, exc))
    sys.exit(0)


async def _serve(settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    insisting = asyncio.create_task(insist(stopping), name="insist on the end")
    try:
        await serve(settings, stopping)
    finally:
        insisting.cancel()


async def insist(stopping: asyncio.Event) -> None:
    """Once ``stopping`` is set: cancel again whatever was cancelled and goes on, until cancelled.

    ``asyncio.wait_for`` of Python 3.11, which the NATS client is full of, loses a cancellation that
    comes in the moment of its result; a task group would then wait for ever for its loop.
    """
    await stopping.wait()
    before: set[asyncio.Task[object]] = set()
    while True:
        await asyncio.sleep(INSIST_S)
        cancelled = {task for task in asyncio.all_tasks() if task.cancelling()}
        for task in cancelled & before:
            log.warning("task.cancelled_again", task=task.get_name())
            task.cancel()
        before = cancelled


def _status(service: str, exc: BaseException) -> int:
    refusal = refusal_in(exc)
    if refusal is not None:
        sys.stderr.write(f"caravan {service}: {refusal.problem.message}\n")
        return refusal.exit
    if isinstance(exc, KeyboardInterrupt):
        return 128 + signal.SIGINT
    log.critical("service.crashed", exc_info=exc)
    return 1


def refusal_in(exc: BaseException) -> Refusal | None:
    """Return the refusal that ``exc`` is, or that all of its group comes down to; else None."""
    causes = [one for one in _leaves(exc) if not isinstance(one, asyncio.CancelledError)]
    refusals = [one for one in causes if isinstance(one, Refusal)]
    return refusals[0] if refusals and len(refusals) == len(causes) else None


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from _leaves(one)
    else:
        yield exc


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - only services with a web server install it
    except ImportError:
        return None
    return uvloop.new_event_loop
