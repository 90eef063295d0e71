"""Who runs for a home: identities, the lock, the supervisor's plan and state, instances."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from caravan.cli.home import Home, write_whole
from caravan.cli.programs import Fates
from caravan.contracts.errors import UnavailableError
from caravan.kit.process import Identity, alive

V = TypeVar("V", bound=Struct)


def plan(home: Home) -> Path:
    return home.run / "plan.json"


def state(home: Home) -> Path:
    return home.run / "state.json"


def fates(home: Home) -> Fates:
    """Return what the supervisor noted last."""
    return _read(state(home), Fates) or Fates()


def record(home: Home, name: str, who: Identity) -> None:
    """Note who runs as ``name``."""
    write_whole(home.run / f"{name}.json", msgspec.json.encode(who))


def recorded(home: Home, name: str) -> Identity | None:
    """Return who was noted as ``name``; it may have ended."""
    return _read(home.run / f"{name}.json", Identity)


def lives(home: Home, name: str) -> Identity | None:
    """Return who runs as ``name`` now."""
    who = recorded(home, name)
    return who if who is not None and alive(who) else None


def workers(home: Home) -> dict[str, Identity]:
    """Return the workers noted on this machine, by instance; some may have ended."""
    found = {}
    for file in sorted(home.instances.glob("*/process.json")):
        who = _read(file, Identity)
        if who is not None and who.pid:
            found[file.parent.name] = who
    return found


def living(home: Home) -> dict[str, Identity]:
    """Return the workers that run on this machine now, by instance."""
    return {instance: who for instance, who in workers(home).items() if alive(who)}


@contextmanager
def claimed(home: Home) -> Iterator[int | None]:
    """Hold the home's lock; give its descriptor, or None when a supervisor holds it.

    A supervisor that inherits the descriptor holds the lock for life. Raises ``UnavailableError``
    when another ``up`` or ``down`` is at work.
    """
    handle = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield handle if _lock(home, handle) else None
    finally:
        os.close(handle)


def _lock(home: Home, handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if lives(home, "supervisor") is None:
            raise UnavailableError(
                f"Another `caravan up` or `caravan down` is at work in {home.root}: try again when"
                " it has ended."
            ) from None
        return False
    return True


def _read(path: Path, kind: type[V]) -> V | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None  # not there, or its writer was killed: nobody is known
