"""What the platform adds to an engine: ``python -m benchmarks.platform [fake] [sglang]``.

One run on the fake engine and one on real SGLang with the demo model (left out, and said so, where
it is not installed). Each starts a platform of its own in a temporary home. Prints a table and
writes ``benchmarks/out/platform.json``. Takes about five minutes.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
from msgspec import Struct, to_builtins

from caravan.contracts import admin, topology
from caravan.contracts.names import path
from caravan.kit.process import Identity, identity
from caravan.testing.models import tiny_random
from caravan.testing.platform import FAKE_ENGINE, Platform
from caravan.testing.wait import until
from engines import install
from models.smollm2 import make as smollm2

OUT = Path(__file__).parent / "out" / "platform.json"
IDLE_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MEMORY_MB = {"router": 80.0, "auth": 110.0, "scheduler": 110.0, "worker": 60.0}


class Figure(Struct, frozen=True, kw_only=True):
    """One measured number and what it shall not exceed."""

    engine: str
    what: str
    value: float
    unit: str
    target: float

    def line(self) -> str:
        """Return it as a row for people."""
        verdict = "" if self.value <= self.target else "  OVER"
        return (
            f"{self.engine:7} {self.what:44} {self.value:8.3f} {self.unit:6}"
            f" (at most {self.target:g}){verdict}"
        )


class Site(Struct, frozen=True):
    """An engine to measure on."""

    name: str
    command: str
    kind: str
    model: Path


async def measure(site: Site, folder: Path) -> AsyncIterator[Figure]:
    """Yield the figures of one platform, in the order in which it lives."""

    def figure(what: str, value: float, unit: str, target: float) -> Figure:
        return Figure(engine=site.name, what=what, value=value, unit=unit, target=target)

    platform = Platform(folder, engine_command=site.command, engine_kind=site.kind)
    async with platform, aiohttp.ClientSession() as http:
        key = await platform.key()
        added = await _deploy(platform, http, key, site)
        yield figure("deploy to first token less the engine's start", added, "s", 2.0)
        for _ in range(100 if site.kind == "fake" else 5):
            await _chat(http, platform.base_url, key, path(platform.tenant, "bench"))
        yield figure("caravan list, whole command", await _list_command(platform), "s", 0.4)
        used = await _idle(platform)
        yield figure("CPU of all but the engine, idle", used, "% core", 1.0)
        for name, mb in _memory(platform).items():
            yield figure(f"resident memory, {name}", mb, "MB", MEMORY_MB[name])
        rounds = 10 if site.kind == "fake" else 2
        yield figure("scale acknowledged, median", await _scale(platform, rounds), "ms", 50.0)
        yield figure("engine killed until list says so", await _told(platform), "s", 1.0)


async def _deploy(platform: Platform, http: aiohttp.ClientSession, key: str, site: Site) -> float:
    """Return the seconds from the deploy to the first token that the engine did not need itself.

    The engine is watched from outside: when its process began, and when it first answers us. What
    comes before the one and after the other is the platform's.
    """
    asked = time.time()
    await platform.ask(
        topology.CREATE_DEPLOYMENT,
        admin.CreateDeployment(
            request_id=uuid.uuid4().hex, name="bench", source=f"file://{site.model}"
        ),
    )
    model = path(platform.tenant, "bench")
    through = asyncio.create_task(_first_token(http, platform.base_url, key, model))
    engine = await _engine(platform)
    words = _command(engine).decode().split("\0")
    port, engine_key = words[words.index("--port") + 1], words[words.index("--api-key") + 1]
    own = await _first_token(http, f"http://127.0.0.1:{port}/v1", engine_key, model)
    spawned = _began(engine)
    return (spawned - asked) + max(0.0, await through - own)


async def _engine(platform: Platform) -> Identity:
    """Return the engine's process as soon as there is one that listens to our flags."""
    found: list[Identity] = []

    def there() -> bool:
        found[:] = [
            one
            for engines in platform.engines().values()
            for one in engines
            if b"--api-key" in _command(one)
        ]
        return bool(found)

    await until(there)
    return min(found, key=lambda one: one.pid)


def _command(who: Identity) -> bytes:
    try:
        return Path(f"/proc/{who.pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _began(who: Identity) -> float:
    """Return when a process began, seconds since the epoch, to 10 ms."""
    with Path("/proc/stat").open() as lines:
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    # btime is in whole seconds: the uptime tells the rest.
    exact = time.time() - uptime
    started = int(Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert abs(exact - boot) < 2
    return exact + started / TICKS_PER_S


async def _first_token(http: aiohttp.ClientSession, base: str, key: str, model: str) -> float:
    """Return when a chat was first answered."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            await _chat(http, base, key, model)
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0.02)
        else:
            return time.time()
    raise TimeoutError(f"{base} did not answer within 10 minutes")


async def _chat(http: aiohttp.ClientSession, base: str, key: str, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post(f"{base}/chat/completions", json=body, headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()


async def _list_command(platform: Platform) -> float:
    times = []
    for _ in range(10):
        began = time.perf_counter()
        ran = await platform.cli("list")
        times.append(time.perf_counter() - began)
        assert ran.exit == 0, ran.stderr
    return statistics.median(times)


async def _idle(platform: Platform) -> float:
    """Return the CPU, in per cent of a core, that all processes but the engine use when idle."""
    await asyncio.sleep(5)  # what the last requests left to do
    everybody = [*_services(platform).values(), *platform.workers().values()]
    before, began = sum(map(_spent_s, everybody)), time.monotonic()
    await asyncio.sleep(IDLE_S)
    return 100 * (sum(map(_spent_s, everybody)) - before) / (time.monotonic() - began)


def _services(platform: Platform) -> dict[str, Identity]:
    names = ("supervisor", "nats", "auth", "scheduler", "router")
    return {name: platform.process(name) for name in names}


def _spent_s(who: Identity) -> float:
    fields = Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _memory(platform: Platform) -> dict[str, float]:
    """Return resident megabytes of each kind of process that has a target."""
    found = _services(platform) | {"worker": next(iter(platform.workers().values()))}
    return {name: _resident_mb(who.pid) for name, who in found.items() if name in MEMORY_MB}


def _resident_mb(pid: int) -> float:
    with Path(f"/proc/{pid}/status").open() as lines:
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kib * 1024 / 1e6


async def _scale(platform: Platform, rounds: int) -> float:
    """Return the median milliseconds until a scale is acknowledged; the count ends where it was."""
    times = []
    for instances in (2, 1) * rounds:
        request = admin.ScaleDeployment(
            request_id=uuid.uuid4().hex, name="bench", instances=instances
        )
        began = time.perf_counter()
        await platform.ask(topology.SCALE_DEPLOYMENT, request)
        times.append(1000 * (time.perf_counter() - began))
    await platform.reached("bench", "running", 1, timeout_s=600)
    await until(lambda: len(platform.workers()) == 1, 600)
    return statistics.median(times)


async def _told(platform: Platform) -> float:
    """Return the seconds from an engine's death to a ``list`` that says so."""
    engine = identity((await _engine(platform)).pid)
    await platform.kill(engine)
    died = time.perf_counter()

    async def told() -> bool:
        page = await platform.ask(topology.LIST_DEPLOYMENTS, admin.ListDeployments())
        return bool(page.items[0].ready == 0)

    await until(told)
    return time.perf_counter() - died


def sites(wanted: Sequence[str], folder: Path) -> list[Site]:
    """Return the engines to measure on; what is not installed is named and left out."""
    found = [Site("fake", FAKE_ENGINE, "fake", tiny_random(folder / "tiny"))]
    program = install.found("cpu")
    if program is None:
        sys.stderr.write("sglang left out: `make engine` installs it\n")
    else:
        found.append(Site("sglang", str(program), "cpu", smollm2.ensure()))
    return [site for site in found if site.name in wanted]


async def run(wanted: Sequence[str]) -> list[Figure]:
    """Measure on each engine and print as figures come."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        for site in sites(wanted, Path(folder)):
            async for figure in measure(site, Path(folder) / site.name):
                sys.stdout.write(f"{figure.line()}\n")
                sys.stdout.flush()
                figures.append(figure)
    return figures


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every figure keeps its target, else 1."""
    figures = asyncio.run(run(arguments or ("fake", "sglang")))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(to_builtins(figures), indent=1) + "\n")
    return int(any(figure.value > figure.target for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
