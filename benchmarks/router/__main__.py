"""The comparison: ``python -m benchmarks.router [--rounds 5] [--peers …] [--cases …] [--scale 1]``.

Every router stands in front of the same two engines, one after the other, in every round; every
other round goes the other way round. Prints each measurement, then medians and targets; writes
``benchmarks/out/router.json`` (medians) and ``router-samples.jsonl`` (each measurement).
``ROUNDS``, ``PEERS``, ``CASES`` and ``SCALE`` of the environment stand for the options.

Exit: 0 all targets met (of those that were measured), 1 some missed or a router failed, 2 wrong
arguments or something that is not installed.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.router import cases, peers, report, tools
from benchmarks.router.cases import Case
from benchmarks.router.measure import Clients, Sample, measure
from benchmarks.router.peers import FailedError, Peer, Running, Site
from benchmarks.router_under_test import raise_file_limit
from caravan.testing.nats import free_port

OUT = Path(__file__).parents[1] / "out"
PAUSE_S = 0.3
"""Between two cases: what the one left to do shall not count for the next."""


class Plan(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    rounds: int
    peers: list[Peer]
    cases: list[Case]
    tokens: int


class Bench(Struct, frozen=True, kw_only=True):
    """What stands while routers come and go."""

    folder: Path
    clients: Clients
    engines: tuple[int, int]
    """Their ports."""
    engine_pids: list[int]


def plan(arguments: Sequence[str], environ: Mapping[str, str]) -> Plan:
    """Return what is asked for; ``ValueError`` when there is no such router or case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router")
    parser.add_argument("--rounds", type=int, default=int(environ.get("ROUNDS", "5")))
    parser.add_argument("--peers", default=environ.get("PEERS", ",".join(peers.DEFAULT)))
    parser.add_argument("--cases", default=environ.get("CASES", ",".join(cases.DEFAULT)))
    parser.add_argument("--scale", type=float, default=float(environ.get("SCALE", "1")))
    parser.add_argument("--tokens", type=int, default=cases.TOKENS, help="chunks of a stream")
    given = parser.parse_args(arguments)
    names = _words(given.peers)
    unknown = [name for name in names if name not in peers.PEERS]
    if unknown:
        raise ValueError(f"there is no router {unknown[0]!r}: use {', '.join(peers.PEERS)}")
    return Plan(
        rounds=given.rounds,
        peers=[peers.PEERS[name] for name in names],
        cases=[
            cases.case(name, scale=given.scale, tokens=given.tokens) for name in _words(given.cases)
        ],
        tokens=given.tokens,
    )


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


@contextlib.contextmanager
def bench(tokens: int) -> Iterator[Bench]:
    """Build what is in C, run the two engines while inside."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        engine = tools.compiled("engine", folder)
        ports = (free_port(), free_port())
        pids = [up.enter_context(_running([engine, str(port), str(tokens)])) for port in ports]
        for port in ports:
            _await_port(port)
        yield Bench(
            folder=folder,
            clients=Clients(tools.compiled("loadgen", folder), tools.program("wrk")),
            engines=ports,
            engine_pids=pids,
        )


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own engine
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((peers.HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def rounds(what: Plan, there: Bench) -> Iterator[Sample | FailedError]:
    """Yield each measurement as it is made, and what went wrong with a router."""
    for number in range(what.rounds):
        for peer in what.peers if number % 2 == 0 else reversed(what.peers):
            site = Site(
                port=free_port(),
                other_port=free_port(),
                engines=there.engines,
                folder=there.folder / f"{number}-{peer.name}",
            )
            try:
                with peers.running(peer, site) as router:
                    yield from _cases(what, there, router, number)
            except (FailedError, RuntimeError, subprocess.TimeoutExpired) as exc:
                yield FailedError(f"round {number + 1}, {peer.name}: {exc}")


def _cases(what: Plan, there: Bench, router: Running, number: int) -> Iterator[Sample]:
    for warming in ("B32", "A32"):
        there.clients.run(cases.case(warming, scale=0.1, tokens=what.tokens), router)
    for case in what.cases:
        if case.name not in router.peer.leaves_out:
            time.sleep(PAUSE_S)
            yield measure(there.clients, case, router, there.engine_pids, number)


def _line(sample: Sample, of: int) -> str:
    seen = sample.load
    first = seen.whole_ms_p50 if seen.ttft_ms_p50 is None else seen.ttft_ms_p50
    last = seen.whole_ms_p99 if seen.ttft_ms_p99 is None else seen.ttft_ms_p99
    marks = "  noisy" if sample.noisy else ""
    marks += f"  {sample.failures} failed" if sample.failures else ""
    return (
        f"{sample.round + 1}/{of} {sample.peer:11}{sample.case:6}{seen.rps:10,.0f}/s"
        f"  CPU {sample.cpu_ms:8.4f} ms  p50 {first:8.3f}  p99 {last:8.3f} ms"
        f"  {sample.rss_mb:4.0f} MB  others {sample.others_cpu_s / sample.wall_s:4.2f}{marks}\n"
    )


def run(what: Plan) -> int:
    """Measure, print and write; return the exit status."""
    samples: list[Sample] = []
    failed = False
    OUT.mkdir(exist_ok=True)
    for peer in what.peers:
        peer.prepare()
    with bench(what.tokens) as there, (OUT / "router-samples.jsonl").open("wb") as raw:
        for one in rounds(what, there):
            if isinstance(one, FailedError):
                failed = True
                sys.stdout.write(f"FAILED {one}\n")
            else:
                samples.append(one)
                raw.write(msgspec.json.encode(one) + b"\n")
                sys.stdout.write(_line(one, what.rounds))
            sys.stdout.flush()
    found = report.figures(samples)
    (OUT / "router.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    sys.stdout.write(report.tables(samples, found, {case.name: case for case in what.cases}))
    return int(failed or not report.kept(found))


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nothing that we began would end
    raise_file_limit()
    try:
        return run(plan(arguments, os.environ))
    except (ValueError, tools.MissingError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
