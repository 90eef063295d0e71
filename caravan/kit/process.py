"""Processes of this machine, told apart by pid and start time, so that a reused pid is another."""

import asyncio
import os
import signal
from pathlib import Path

from msgspec import Struct


class Identity(Struct, frozen=True, kw_only=True):
    """One life of one process."""

    pid: int
    started: int
    """Clock ticks between the machine's start and the process's."""


def identity(pid: int) -> Identity:
    """Return who runs under ``pid`` now; ``ProcessLookupError`` when nobody does."""
    state = _state(pid)
    if state is None:
        raise ProcessLookupError(f"no process {pid} runs")
    return Identity(pid=pid, started=state[1])


def alive(who: Identity) -> bool:
    """Tell whether ``who`` runs; a zombie does not, nor does another with the same pid."""
    state = _state(who.pid)
    return state is not None and state[0] not in "ZX" and state[1] == who.started


async def ended(who: Identity) -> None:
    """Return when ``who`` has ended; at once when it has already. It need not be our child."""
    handle = _open(who)
    if handle is None:
        return
    try:
        await _readable(handle)
    finally:
        os.close(handle)


async def end(who: Identity, grace_s: float) -> bool:
    """Ask ``who`` to end, kill it after ``grace_s``; return whether it went without being killed.

    Only this one process is signalled, and none that took over its pid.
    """
    handle = _open(who)
    if handle is None:
        return True
    try:
        return await _end(handle, grace_s)
    finally:
        os.close(handle)


async def _end(handle: int, grace_s: float) -> bool:
    _signal(handle, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await _readable(handle)
    except TimeoutError:
        _signal(handle, signal.SIGKILL)
        await _readable(handle)
        return False
    return True


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return  # it ended in between: what was wanted


def _open(who: Identity) -> int | None:
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return None
    if alive(who):  # asked after opening: from now on the handle cannot become another process
        return handle
    os.close(handle)
    return None


async def _readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(handle)


def _state(pid: int) -> tuple[str, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold anything, so count from the last bracket on.
    words = text.rpartition(")")[2].split()
    return words[0], int(words[19])
