"""Is the router's memory flat? ``python -m benchmarks.router_soak [--requests N] [--minutes M]``.

Sends a million requests (``--requests``), for 30 minutes at most (``--minutes``), through a router
of its own: plain ones, large ones, streams at full speed, streams at a pace, and clients that go
in the middle of an answer, in short turns. Resident memory is read every second.

Exit: 0 when memory stayed within the limit and flat, no request failed and no file stayed open;
else 1.
"""

import argparse
import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from msgspec import Struct

from benchmarks import processes
from benchmarks.router import peers
from benchmarks.router.cases import TOKENS
from benchmarks.router.measure import load
from benchmarks.router.peers import Running
from benchmarks.router.stand import end_in_order_on_sigterm, stand
from benchmarks.router_under_test import raise_file_limit

LIMIT_MB = 70.0
GROWTH_MB = 2.0
"""By the line fitted to the samples; less is noise."""
WARM = 0.1
"""Of the requests: so long, at least, memory may still grow."""
REST_S = 6.0
"""Longer than idle connections to engines are kept."""
FILES_MORE = 20

CYCLES = 2
"""Of all turns; before their end a process meets something for the first time."""
FAST_S, PACED_S = 0.4, 1.0

TURNS: tuple[tuple[str, dict[str, object]], ...] = (
    ("plain", {"seconds": FAST_S, "connections": 32}),
    ("streams", {"seconds": FAST_S, "connections": 32, "stream": 1}),
    ("plain, cut", {"seconds": FAST_S, "connections": 32, "abort": 3}),
    ("streams, an event a write", {"seconds": FAST_S, "connections": 16, "stream": 1, "pace": 1}),
    (
        "streams, cut",
        {"seconds": FAST_S, "connections": 32, "stream": 1, "pace": 1, "abort": 2},
    ),
    ("200 paced streams", {"seconds": PACED_S, "connections": 200, "stream": 1, "pace": 5}),
    ("bodies of 256 KB", {"seconds": FAST_S, "connections": 8, "image": 262_144}),
    ("plain, 256 connections", {"seconds": FAST_S, "connections": 256}),
    (
        "paced streams, cut",
        {"seconds": PACED_S, "connections": 64, "stream": 1, "pace": 5, "abort": 1},
    ),
)


class Reading(Struct, frozen=True):
    """How much memory the router had after so many requests."""

    requests: float
    rss_mb: float


class Turn(Struct, frozen=True):
    """One load of the soak, with its times on the monotonic clock."""

    began: float
    ended: float
    requests: int
    failed: int


class Finding(Struct, frozen=True, kw_only=True):
    """What the readings say."""

    at_10: float
    at_50: float
    at_100: float
    most: float
    slope: float
    """MB per million requests, fitted from where the process is warm."""
    growth: float
    """MB from there to the end, by the same line."""

    @property
    def flat(self) -> bool:
        return self.growth <= GROWTH_MB


def finding(readings: Sequence[Reading], warm_at: float = 0.0) -> Finding:
    """Return what ``readings``, in the order of time, say of the memory; at least two.

    It may grow for ``warm_at`` requests, and for a tenth of all if that is more.
    """
    total = readings[-1].requests
    warm_at = max(warm_at, WARM * total)
    warm = [one for one in readings if one.requests >= warm_at]
    if len(warm) < len(readings) / 4:  # a run that was too short to get warm
        warm = list(readings)
    line = statistics.linear_regression(
        [one.requests for one in warm], [one.rss_mb for one in warm]
    )
    return Finding(
        at_10=_near(readings, 0.1 * total),
        at_50=_near(readings, 0.5 * total),
        at_100=readings[-1].rss_mb,
        most=max(one.rss_mb for one in readings),
        slope=line.slope * 1e6,
        growth=line.slope * (total - warm[0].requests),
    )


def _near(readings: Sequence[Reading], requests: float) -> float:
    return min(readings, key=lambda one: abs(one.requests - requests)).rss_mb


def readings_of(turns: Sequence[Turn], sampled: Sequence[tuple[float, float]]) -> list[Reading]:
    """Return the readings of ``sampled`` (time, MB): within a turn, requests come evenly."""
    readings = []
    done = 0
    for turn in turns:
        length = turn.ended - turn.began
        readings += [
            Reading(done + turn.requests * (at - turn.began) / length, mb)
            for at, mb in sampled
            if turn.began <= at < turn.ended
        ]
        done += turn.requests
    return readings


@contextlib.contextmanager
def sampling(pids: list[int]) -> Iterator[list[tuple[float, float]]]:
    """Read the memory of ``pids`` every second while inside, into the list that is given."""
    sampled: list[tuple[float, float]] = []
    enough = threading.Event()

    def sample() -> None:
        while not enough.wait(1.0):
            sampled.append((time.monotonic(), processes.resident_mb(pids)))

    thread = threading.Thread(target=sample, name="memory")
    thread.start()
    try:
        yield sampled
    finally:
        enough.set()
        thread.join()


def turns(loadgen: str, router: Running, requests: int, seconds: float) -> Iterator[Turn]:
    """Yield each turn when it is over, until there were enough requests, or the time is up."""
    deadline = time.monotonic() + seconds
    done = 0
    for name, words in cycle(TURNS):
        if done >= requests or time.monotonic() >= deadline:
            return
        began = time.monotonic()
        seen = load(loadgen, _words(router) | words)
        failed = seen.errors + seen.not_200 + seen.too_short + seen.unfinished
        turn = Turn(began, time.monotonic(), seen.done + seen.cut, failed)
        done += turn.requests
        _say(f"{done:9,} requests  {processes.resident_mb(router.pids):6.1f} MB  {name}", failed)
        yield turn


def _words(router: Running) -> dict[str, object]:
    return {
        "port": router.port,
        "model": router.peer.model,
        "key": router.peer.key,
        "ramp_ms": 200,
    }


def _say(line: str, failed: int = 0) -> None:
    sys.stdout.write(f"{line}{f'  {failed} FAILED' if failed else ''}\n")
    sys.stdout.flush()


def run(requests: int, minutes: float) -> int:
    """Soak; return the exit status."""
    ours = peers.PEERS["ours"]
    with stand(TOKENS) as there, peers.running(ours, there.site("ours")) as router:
        files = _files(router.pids)
        with sampling(router.pids) as sampled:
            made = list(turns(there.loadgen, router, requests, minutes * 60))
        cycles = sum(turn.requests for turn in made[: CYCLES * len(TURNS)])
        found = finding(readings_of(made, sampled), cycles)
        time.sleep(REST_S)
        more = _files(router.pids) - files
    failed = sum(turn.failed for turn in made)
    _say(
        f"\n{sum(turn.requests for turn in made):,} requests, {failed} failed; {more} more files"
        f" open than before\nresident MB at 10, 50, 100 %: {found.at_10:.1f} {found.at_50:.1f}"
        f" {found.at_100:.1f}; most {found.most:.1f} (at most {LIMIT_MB:.0f})\n"
        f"slope once warm: {found.slope:+.2f} MB per million requests, "
        f"{found.growth:+.2f} MB in this run (at most {GROWTH_MB:g}): "
        f"{'flat' if found.flat else 'NOT FLAT'}"
    )
    good = found.flat and found.most <= LIMIT_MB and not failed and more <= FILES_MORE
    return 0 if good else 1


def _files(pids: Sequence[int]) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router_soak")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="no longer than this")
    given = parser.parse_args(arguments)
    end_in_order_on_sigterm()
    raise_file_limit()
    return run(given.requests, given.minutes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
