"""The comparison: ``python -m benchmarks.router [--rounds 5] [--peers …] [--cases …] [--scale 1]``.

Every router stands in front of the same two engines, one after the other, in every round; every
other round goes the other way round. Prints each measurement, then medians and targets; writes
``benchmarks/out/router.json`` (medians) and ``router-samples.jsonl`` (each measurement).
``ROUNDS``, ``PEERS``, ``CASES`` and ``SCALE`` of the environment stand for the options.

Exit: 0 all targets met (of those that were measured), 1 some missed or a router failed, 2 wrong
arguments or something that is not installed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.router import cases, peers, report, tools
from benchmarks.router.cases import Case
from benchmarks.router.measure import Clients, Sample, measure
from benchmarks.router.peers import FailedError, Peer, Running
from benchmarks.router.stand import Stand, end_in_order_on_sigterm, stand
from benchmarks.router_under_test import raise_file_limit

OUT = Path(__file__).parents[1] / "out"
PAUSE_S = 0.3
"""Between two cases: what the one left to do shall not count for the next."""


class Plan(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    rounds: int
    peers: list[Peer]
    cases: list[Case]
    tokens: int


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


def rounds(what: Plan, there: Stand, clients: Clients) -> Iterator[Sample | FailedError]:
    """Yield each measurement as it is made, and what went wrong with a router."""
    for number in range(what.rounds):
        for peer in what.peers if number % 2 == 0 else reversed(what.peers):
            try:
                with peers.running(peer, there.site(f"{number}-{peer.name}")) as router:
                    _warm(what, clients, router)
                    for case in what.cases:
                        if case.name not in peer.leaves_out:
                            time.sleep(PAUSE_S)
                            yield measure(clients, case, router, there.engine_pids, number)
            except (FailedError, RuntimeError, subprocess.TimeoutExpired) as exc:
                yield FailedError(f"round {number + 1}, {peer.name}: {exc}")


def _warm(what: Plan, clients: Clients, router: Running) -> None:
    for name in ("B32", "A32"):
        clients.run(cases.case(name, scale=0.1, tokens=what.tokens), router)


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
    wrk = tools.program("wrk")
    with stand(what.tokens) as there, (OUT / "router-samples.jsonl").open("wb") as raw:
        for one in rounds(what, there, Clients(there.loadgen, wrk)):
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
    end_in_order_on_sigterm()
    raise_file_limit()
    try:
        return run(plan(arguments, os.environ))
    except (ValueError, tools.MissingError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
