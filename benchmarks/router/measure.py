"""One measurement: a load on one router, and what it cost there."""

import os
import subprocess
import time

import msgspec
from msgspec import Struct

from benchmarks import processes
from benchmarks.router import tools
from benchmarks.router.cases import Case
from benchmarks.router.peers import HOST, Running

PATIENCE_S = 40.0
SETTLE_S = 0.05
"""What a router does right after its last answer belongs to it."""
NOISE_CORES = 0.15
"""More than this used by others, and a measurement counts as noisy."""


class Load(Struct, frozen=True, kw_only=True):
    """What a load client saw."""

    done: int
    errors: int
    not_200: int
    too_short: int = 0
    unfinished: int = 0
    cut: int = 0
    elapsed_s: float
    rps: float
    samples: int = 0
    """Requests in the percentiles of streams."""
    ttft_ms_p50: float | None = None
    ttft_ms_p99: float | None = None
    whole_ms_p50: float
    whole_ms_p99: float
    client_cpu_s: float = 0.0


class Sample(Struct, frozen=True, kw_only=True):
    """One case on one router in one round."""

    peer: str
    case: str
    round: int
    load: Load
    cpu_s: float
    """Of the router's processes; 0 without one."""
    engines_cpu_s: float
    others_cpu_s: float
    """Of everybody but the router, the engines and the load client."""
    wall_s: float
    rss_mb: float

    @property
    def cpu_ms(self) -> float:
        """CPU of the router per request."""
        return 1000 * self.cpu_s / max(1, self.load.done)

    @property
    def noisy(self) -> bool:
        return self.others_cpu_s > NOISE_CORES * self.wall_s

    @property
    def failures(self) -> int:
        load = self.load
        return load.errors + load.not_200 + load.too_short + load.unfinished


class Clients(Struct, frozen=True):
    """The programs that make load."""

    loadgen: str
    wrk: str

    def run(self, case: Case, router: Running) -> Load:
        """Put ``case`` on ``router`` and return what the client saw."""
        return self._stream(case, router) if case.stream else self._plain(case, router)

    def _stream(self, case: Case, router: Running) -> Load:
        words = {
            "port": router.port,
            "connections": case.connections,
            "seconds": case.seconds,
            "stream": 1,
            "pace": case.pace_ms,
            "usage": int(case.usage),
            "tokens": case.tokens,
            "ramp_ms": case.ramp_ms,
            "warm_ms": case.warm_ms,
            "model": router.peer.model,
            "key": router.peer.key,
        }
        return load(self.loadgen, words)

    def _plain(self, case: Case, router: Running) -> Load:
        environ = {
            "BENCH_MODEL": router.peer.model,
            "BENCH_KEY": router.peer.key,
            "BENCH_IMAGE": str(case.image_bytes),
        }
        before = os.times()
        output = _output(
            [
                *(self.wrk, "-t1", f"-c{case.connections}", f"-d{max(1, round(case.seconds))}s"),
                *("--timeout", "10s", "-s", str(tools.HERE / "post.lua")),
                f"http://{HOST}:{router.port}",
            ],
            environ,
            case.seconds,
        )
        after = os.times()
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        line = next(line for line in output.splitlines() if line.startswith("JSON"))
        seen = msgspec.json.decode(line.removeprefix("JSON"), type=Load)
        return msgspec.structs.replace(seen, client_cpu_s=spent)


def load(loadgen: str, words: dict[str, object]) -> Load:
    """Run the load client ``loadgen`` with ``words`` and return what it saw."""
    command = [loadgen, *(f"{name}={value}" for name, value in words.items())]
    output = _output(command, {}, float(str(words["seconds"])))
    seen = msgspec.json.decode(output.splitlines()[-1], type=Load)
    if seen.samples == 0:
        return msgspec.structs.replace(seen, ttft_ms_p50=None, ttft_ms_p99=None)
    return seen


def _output(command: list[str], environ: dict[str, str], seconds: float) -> str:
    done = subprocess.run(  # noqa: S603 - our own load clients
        command,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=seconds + PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def measure(
    clients: Clients, case: Case, router: Running, engines: list[int], number: int
) -> Sample:
    """Run ``case`` once on ``router``; ``engines`` are pids, ``number`` is the round's."""
    before = _spent(router.pids, engines)
    began = time.monotonic()
    seen = clients.run(case, router)
    time.sleep(SETTLE_S)
    wall = time.monotonic() - began
    ours, theirs, all_cpus = (
        after - then for after, then in zip(_spent(router.pids, engines), before, strict=True)
    )
    return Sample(
        peer=router.peer.name,
        case=case.name,
        round=number,
        load=seen,
        cpu_s=ours,
        engines_cpu_s=theirs,
        others_cpu_s=max(0.0, all_cpus - ours - theirs - seen.client_cpu_s),
        wall_s=wall,
        rss_mb=processes.resident_mb(router.pids),
    )


def _spent(router: list[int], engines: list[int]) -> tuple[float, float, float]:
    return (
        processes.cpu(router).total,
        processes.cpu(engines).total,
        processes.machine_cpu_s(),
    )
