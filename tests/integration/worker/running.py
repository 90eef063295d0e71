"""A real worker with the fake engine, and what it shows of itself."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from nats.errors import Error as NatsError

from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Lease, Record
from caravan.kit import records
from caravan.kit.buckets import open_bucket
from caravan.kit.bus import Bus

TENANT, NAME, INSTANCE = "u-8105f7322477", "test", "i-abc234"
KEY = f"{TENANT}.{NAME}.{INSTANCE}"
MODEL = f"{TENANT}/{NAME}"
T = TypeVar("T")
ROOT = Path(__file__).parents[3]


async def until(ask: Callable[[], Awaitable[T | None]], patience_s: float = 60.0) -> T:
    """Return the first answer of ``ask`` that is true."""
    deadline = time.monotonic() + patience_s
    while not (answer := await ask()):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)
    return answer


class Worker:
    """One ``python -m services.worker``, and what it shows of itself."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self._environ = environ
        self._log = folder.with_suffix(".log")

    async def start(self) -> "Worker":
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.worker"),
                env=self._environ,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def exit_reason(self) -> dict[str, object]:
        return json.loads((self.folder / "exit.json").read_text())

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, patience_s: float = 60.0) -> int:
        async with asyncio.timeout(patience_s):
            return await self.process.wait()

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    async def engine(self) -> int:
        """Return the pid of its engine, once it runs."""

        async def running() -> int | None:
            found = [pid for pid in self.children() if "caravan.testing.engine" in command(pid)]
            return found[0] if found else None

        return await until(running)

    async def engine_command(self) -> str:
        return command(await self.engine())

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def environment(pid: int) -> dict[str, str]:
    """Return what the process was started with."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def resident_kb(pid: int) -> int:
    """Return how much memory the process has now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def runs(pid: int) -> bool:
    """Tell whether ``pid`` is a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    async def ended() -> bool:
        return not runs(pid)

    await until(ended)


class Bucket:
    """What stands on the bus of the instance."""

    def __init__(self, bus):
        self._bus = bus

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str) -> AsyncIterator["Bucket"]:
        async with Bus(url, name="test") as bus:
            await bus.established(30)
            yield cls(bus)

    async def delete(self) -> None:
        await records.delete(await open_bucket(self._bus, topology.INSTANCES), KEY)

    async def put_raw(self, data: bytes) -> None:
        await (await open_bucket(self._bus, topology.INSTANCES)).put(KEY, data)

    async def record(self) -> Record | None:
        return await self._read(topology.INSTANCES, Record)

    async def lease(self) -> Lease | None:
        return await self._read(topology.LEASES, Lease)

    async def state(self, state: str, term: int = 0) -> Record:
        """Return the record when it says ``state`` (with ``term``)."""

        async def reached():
            record = await self.record()
            fits = record and record.state == state and term in {0, record.term}
            return record if fits else None

        return await until(reached)

    async def leased(self, fits: Callable[[Lease], bool]) -> Lease:
        async def reached():
            lease = await self.lease()
            return lease if lease and fits(lease) else None

        return await until(reached)

    async def _read(self, bucket, kind):
        """Read without making the bucket: after a wipe that is the worker's to do."""
        try:
            kv = await self._bus.js.key_value(bucket.name)
            entry = await records.read(kv, KEY, kind)
        except (NatsError, UnavailableError, msgspec.DecodeError):
            return None
        return entry and entry.value


def asking(record: Record) -> dict[str, str]:
    return {"Authorization": f"Bearer {record.engine_key}"}


async def complete(http, record, **body):
    """Ask the engine as a router does; return status and body."""
    asked = {"model": MODEL, "prompt": "Hello", "max_tokens": 4} | body
    url = f"{record.url}/v1/completions"
    async with http.post(url, json=asked, headers=asking(record)) as answer:
        return answer.status, await answer.text()
