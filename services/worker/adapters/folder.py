"""The instance's folder: held for life, and where the end is written down."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from caravan.contracts.errors import InvalidRequestError
from services.worker.core.errors import AlreadyRunningError


class Exit(Struct, frozen=True, kw_only=True):
    """``exit.json``: how the newest life ended."""

    reason: str
    last_lines: list[str]
    at: float
    """Seconds since the epoch."""
    code: str = ""
    """The code of the refusal that ended it, if one did."""


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Hold ``folder/lock`` while in it; ``AlreadyRunningError`` when another worker does.

    The lock goes with the process, however it ends. What an earlier life wrote there is removed.
    """
    if folder is None:
        yield
        return
    with _lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another worker runs in {folder}: nothing to do here"
            raise AlreadyRunningError(message) from None
        (folder / "exit.json").unlink(missing_ok=True)
        yield


def write_exit(folder: Path | None, exit_: Exit) -> None:
    """Write ``exit.json`` whole or not at all."""
    if folder is None:
        return
    new = folder / "exit.json.new"
    new.write_bytes(msgspec.json.encode(exit_))
    new.replace(folder / "exit.json")


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        message = f"WORKER_FOLDER={folder} cannot be used: {exc.strerror}"
        raise InvalidRequestError(message, param="WORKER_FOLDER") from None
    try:
        yield lock
    finally:
        os.close(lock)
