"""Who runs for a home: every process that stands in its folder, whoever has noted it."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from caravan.contracts.instances import Spec
from caravan.kit.process import Identity, alive, identity

ENGINES = (b"caravan.testing.engine", b"sglang")
WORKER = b"services.worker"
LOOK_S = 0.4
LAST_BREATH_S = 10.0


class Standing(Struct, frozen=True):
    """One process, where it works and what it was started with."""

    who: Identity
    folder: str
    command: bytes

    @property
    def instance(self):
        """Of a worker or an engine: the instance whose folder it works in."""
        return Path(self.folder).name

    @property
    def worker(self):
        return WORKER in self.command

    @property
    def engine(self):
        """Whether it is an engine's main process; what that forks bears another's command."""
        return any(word in self.command for word in ENGINES) and b"serve" in self.command


def standing_in(root):
    """Return the processes that live and stand in ``root``, or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            who = identity(int(entry.name))
            folder = str((entry / "cwd").readlink())
            command = (entry / "cmdline").read_bytes()
        except (OSError, ProcessLookupError):
            continue  # it ended while we looked, or is a zombie
        if folder.startswith(str(root)) and alive(who):
            found.append(Standing(who, folder, command))
    return found


def left_over(root):
    """Fail when anything stands in ``root``; what was ended takes its last breath before."""
    deadline = time.monotonic() + LAST_BREATH_S
    while (left := standing_in(root)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"left over: {left}"


def workers_of(platform, name):
    """Return the live workers of one deployment by instance."""
    return {
        instance: who
        for instance, who in platform.workers().items()
        if _deployment(platform, instance) == name
    }


def _deployment(platform, instance):
    try:
        data = (platform.home.instances / instance / "spec.json").read_bytes()
    except FileNotFoundError:
        return ""  # it has just been forgotten
    return msgspec.json.decode(data, type=Spec).name


@asynccontextmanager
async def never_twice(root):
    """Look all the time for an instance that has two engines; fail at the end if one had.

    An engine's children are no second one: they have a parent that is an engine.
    """
    seen, stop = [], asyncio.Event()

    async def look():
        while not stop.is_set():
            seen.extend(_doubled(await asyncio.to_thread(standing_in, root)))
            await asyncio.sleep(LOOK_S)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        stop.set()
        await task
    assert not seen, f"two engines for one instance: {seen[0]}"


def _doubled(standing):
    engines = {one.who.pid: one for one in standing if one.engine}
    roots = {}
    for pid, one in engines.items():
        if _parent(pid) not in engines and alive(one.who):
            roots.setdefault(one.instance, []).append(one)
    return [
        found for found in roots.values() if len(found) > 1 and all(alive(one.who) for one in found)
    ]


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ProcessLookupError):
        return os.getpid()
