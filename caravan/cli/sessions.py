"""Sessions of this machine: what a worker started, its engine above all, ends with it."""

import os
from pathlib import Path

from caravan.kit.process import Identity, alive, end, identity


def members(leader: int) -> list[Identity]:
    """Return who is in the session of ``leader``, itself included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _session(int(entry.name)) == leader:
            try:
                found.append(identity(int(entry.name)))
            except ProcessLookupError:
                continue  # it ended while we looked
    return found


def stands_in(who: Identity, folder: Path) -> bool:
    """Tell whether ``who`` works in ``folder``."""
    try:
        return Path(f"/proc/{who.pid}/cwd").resolve() == folder.resolve()
    except OSError:
        return False


async def end_all(leader: Identity, folder: Path, grace_s: float) -> bool:
    """End ``leader``, then what is left of its session; return whether the leader went by itself.

    When the leader has ended before, its number may have passed on: then only what works in
    ``folder`` counts as left over.
    """
    known = members(leader.pid) if alive(leader) else []
    went = await end(leader, grace_s)
    # A number is not given away while a session bears it: one known member vouches for the rest.
    sure = any(alive(one) for one in known)
    for one in members(leader.pid):
        if one != leader and (sure or stands_in(one, folder)):
            await end(one, 0.0)
    return went


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0
