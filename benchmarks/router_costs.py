"""What the router's hot path costs, feature by feature: ``python -m benchmarks.router_costs``.

Runs requests through the router's own parts in one process, without sockets (``router/track.py``),
and prints three tables in Markdown for docs/, all in microseconds of CPU: the whole path (the least
of several rounds), what it costs less when one feature is taken out (the median of rounds in which
both are measured side by side), and single pieces by themselves. What the kernel, the event loop
and the sockets take comes on top; ``make bench-router`` has all of it.

A piece by itself costs less than the same piece in the path: alone, it stays in the processor's
nearest caches. Believe the ablation.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httptools
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.router import track
from benchmarks.router.peers import OUR_KEY, OUR_MODEL
from benchmarks.router.track import Exchanged, Track
from caravan.kit import log as logs
from services.router.adapters.engine import EngineConnection
from services.router.api import events
from services.router.api.head import digest
from services.router.api.lane import ClientConnection
from services.router.api.shared import Shared
from services.router.api.telling import Telling
from services.router.app import GC_THRESHOLDS
from services.router.core import asked
from services.router.core.dialects.openai import OpenAI
from services.router.core.glance import Glance
from services.router.core.loudness import Loudness
from services.router.core.outliers import Outliers
from services.router.core.pattern import Known
from services.router.core.policies import LeastInFlight
from services.router.core.sse import EventStream, Usage
from services.router.core.story import COMPLETE, Story

ROUNDS = 15
ROUND_S = 0.05
WARM = 50
"""Requests before each measurement: Python adapts its code to what it meets."""
IMAGE = 1_000_000
PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
PLAIN = Exchanged("plain", track.request(), track.plain())
PACED = Exchanged("64 pieces", track.request(stream=True), track.paced())
AT_ONCE = Exchanged("one piece", track.request(stream=True), track.at_once())
KINDS = (PLAIN, PACED, AT_ONCE)
WHOLE = {
    "plain answer": PLAIN,
    "64-chunk stream, a chunk a piece": PACED,
    "64-chunk stream in one piece": AT_ONCE,
    "the same, usage not asked for": Exchanged(
        "no usage", track.request(stream=True, usage=False), track.at_once()
    ),
    "plain answer to a body with a 1 MB image": Exchanged(
        "image", track.request(image=IMAGE), track.plain()
    ),
    "plain, with the client's traceparent": Exchanged(
        "traceparent", track.request(headers=PARENT), track.plain()
    ),
    "plain, with the client's x-request-id": Exchanged(
        "id", track.request(headers=b"x-request-id: 0123456789abcdef\r\n"), track.plain()
    ),
}


class Feature(Struct, frozen=True):
    """Something that the path can do without: in a router's shared parts, or by patching."""

    what: str
    without: Callable[[Shared], Shared] = lambda shared: shared
    patches: Sequence[tuple[Any, str, Any]] = ()
    """Object, attribute, and what stands there while the feature is out."""

    @contextlib.contextmanager
    def out(self) -> Iterator[None]:
        """Take what is patched out while inside."""
        before = [(where, name, where.__dict__[name]) for where, name, _ in self.patches]
        for where, name, stub in self.patches:
            setattr(where, name, stub)
        try:
            yield
        finally:
            for where, name, old in before:
                setattr(where, name, old)


class Row(Struct, frozen=True):
    """What one feature costs, in microseconds per request."""

    what: str
    plain: float
    paced: float
    at_once: float


class Piece(Struct, frozen=True):
    """Something small that can be done again and again; ``call`` does it ``times`` times."""

    what: str
    per: str
    call: Callable[[], object]
    times: int = 1


class _OpenGate:
    """Lets everybody in with the same key."""

    def __init__(self, shared: Shared) -> None:
        entry = shared.gate.known_key(OUR_KEY, digest(OUR_KEY), "")
        self.known_key = lambda _secret, _sent, _how: entry


class _Mute:
    """Is told of requests, and does nothing."""

    tracing = False

    def ended(self, story: Story, now: float) -> None:
        pass


def _unseen_whole(data: bytes, *, show_usage: bool) -> tuple[bytes, None]:
    """Let a stream that came whole pass, not looked at."""
    del show_usage
    return data, None


def _unseen(self: Glance, data: bytes) -> bytes:
    """Pass a piece of a stream on without looking at it, but for its end."""
    self.begun = True
    self.done = data.endswith(b"0\r\n\r\n")
    return data


def features() -> list[Feature]:
    """Return what is taken out, one at a time, in the order in which a request meets it."""
    said = (OUR_MODEL, asked.Asked(model=OUR_MODEL, stream=False))
    shown = asked.StreamOptions(include_usage=True)
    streamed = (OUR_MODEL, asked.Asked(model=OUR_MODEL, stream=True, stream_options=shown))
    return [
        Feature("request id made", lambda shared: replace(shared, new_id=lambda: "req-0")),
        Feature(
            "key: found, not revoked, not expired",
            lambda shared: replace(shared, gate=_OpenGate(shared)),
        ),
        Feature(
            "body: model, stream, usage read",
            patches=[(asked, "read", lambda body: streamed if b'"stream":true' in body else said)],
        ),
        Feature(
            "choice among 2 instances",
            patches=[(LeastInFlight, "choose", lambda _self, _ask, choices: choices[0])],
        ),
        Feature("outliers: a good answer", patches=[(Outliers, "good", lambda *_: False)]),
        Feature("usage read from a plain answer", patches=[(OpenAI, "usage_in", lambda *_: None)]),
        Feature(
            "stream watched, usage read",
            patches=[
                (Glance, "look", _unseen),
                (Glance, "tail", b"\n\n\r\n"),
                (events, "good_ending", _unseen_whole),
            ],
        ),
        Feature(
            "a client's head known by its bytes: what it saves",
            patches=[
                (ClientConnection, "_know", lambda *_: None),
                (Known, "find", lambda *_: None),
            ],
        ),
        Feature(
            "an engine's head known by its bytes: what it saves",
            patches=[(EngineConnection, "_fits", lambda *_: False)],
        ),
        Feature("told at the end: metrics, line", lambda shared: replace(shared, telling=_Mute())),
    ]


def whole(shared: Shared) -> dict[str, float]:
    """Return the microseconds of each kind of request: the least of several rounds.

    Each has a client of its own, which sends nothing else.
    """
    least = dict.fromkeys(WHOLE, float("inf"))
    tracks = {name: Track(shared) for name in WHOLE}
    for name, one in WHOLE.items():
        tracks[name].check(one)
    for _ in range(ROUNDS):
        for name, one in WHOLE.items():
            least[name] = min(least[name], _once(tracks[name], one))
    return least


def by_ablation(shared: Shared) -> list[Row]:
    """Return what each feature costs: all less all but it, side by side in every round."""
    everything = Track(shared)
    return [
        Row(
            feature.what,
            *(_saved(everything, Track(feature.without(shared)), feature, one) for one in KINDS),
        )
        for feature in features()
    ]


def _saved(everything: Track, without: Track, feature: Feature, one: Exchanged) -> float:
    """Return the median of what ``one`` costs less without ``feature``, in microseconds."""
    with feature.out():
        without.check(one)
    saved = []
    for _ in range(ROUNDS):
        with feature.out():
            less = _once(without, one)
        saved.append(_once(everything, one) - less)
    return statistics.median(saved)


def _once(track_: Track, one: Exchanged) -> float:
    """Return the microseconds per request of one measurement."""
    warm = track_.run(one, WARM)
    return track_.run(one, max(5, int(ROUND_S / max(warm, 1e-7)))) * 1e6


class _Nothing:
    """Wants to know nothing."""


def pieces(shared: Shared) -> Iterator[Piece]:
    """Yield pieces by themselves."""
    head = track.request()[0]
    answer = track.plain()[0]
    small, large = (_body(track.request(image=size)) for size in (0, IMAGE))
    yield Piece(
        "client's head and body parsed by httptools, no callbacks",
        "request",
        lambda: httptools.HttpRequestParser(_Nothing()).feed_data(head),
    )
    yield Piece(
        "engine's answer parsed by httptools, no callbacks",
        "request",
        lambda: httptools.HttpResponseParser(_Nothing()).feed_data(answer),
    )
    sent = digest(OUR_KEY)
    yield Piece("key hashed", "head that is not known", lambda: digest(OUR_KEY))
    yield Piece("key known", "request", lambda: shared.gate.known_key(OUR_KEY, sent, ""))
    yield Piece("body of 1 KB read", "request", lambda: asked.read(small))
    yield Piece("body of 1 MB read", "request", lambda: asked.read(large))
    yield Piece("usage read", "request", lambda: OpenAI().usage_in(track.ANSWER))
    yield from _streams()
    yield from _told(shared)


def _body(asks: Sequence[bytes]) -> bytes:
    return b"".join(asks).partition(b"\r\n\r\n")[2]


def _streams() -> Iterator[Piece]:
    ordinary = track.chunk(track.event(7))
    bare = track.event(7)

    def glances(data: bytes) -> Callable[[], object]:
        look = Glance(show_usage=True).look
        look(data)
        look(data)
        return lambda: [look(data) for _ in range(64)]

    def apart() -> object:
        stream = EventStream(show_usage=True)
        return [stream.feed(bare) for _ in range(64)]

    yield Piece(
        "an ordinary chunk that came with others, looked at", "chunk", glances(ordinary), 64
    )
    yield Piece("stream taken apart, as it is when a chunk is not ordinary", "chunk", apart, 64)


def _told(shared: Shared) -> Iterator[Piece]:
    assert isinstance(shared.telling, Telling)
    story = Story(
        request_id="req-0123456789abcdef0000000000000001",
        method="POST",
        path="/v1/chat/completions",
        client="127.0.0.1",
        began=1.0,
        route="/v1/chat/completions",
        key="k-bench0",
        deployment=OUR_MODEL,
        instance="i-aaaaaa",
        stream=True,
        attempts=1,
        status=200,
        outcome=COMPLETE,
        answered=1.1,
        bytes_in=1060,
        bytes_out=17000,
        usage=Usage(212, 64),
    )
    ended, loud = shared.telling.ended, Loudness(1e12)
    yield Piece("told at the end, without a line", "request", lambda: ended(story, 2.0))
    yield Piece("a line, encoded and written", "line (100 a second)", _line(shared, loud, story))


def _line(shared: Shared, loud: Loudness, story: Story) -> Callable[[], object]:
    telling = Telling(_NoMetrics(), loud)  # type: ignore[arg-type] # counts nothing
    del shared
    return lambda: telling.ended(story, 2.0)


class _NoMetrics:
    def observe(self, story: Story, now: float) -> None:
        pass


def by_itself(piece: Piece) -> float:
    """Return the least microseconds that ``piece`` took."""
    timer = timeit.Timer(piece.call, timer=time.process_time)
    once = max(timer.timeit(10) / 10, 1e-8)
    number = max(1, int(ROUND_S / once))
    return min(timer.repeat(ROUNDS, number)) / number * 1e6 / piece.times


async def run() -> str:
    """Measure all and return the tables."""
    with tempfile.TemporaryDirectory(prefix="caravan-costs-") as folder:
        async with track.parts(Path(folder)) as made:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)  # as the router has it
            quiet = replace(made.shared, telling=Telling(made.metrics, Loudness(0.0)))
            lines = ["| whole path, without sockets | µs |\n|---|---:|"]
            lines += [f"| {what} | {us:.1f} |" for what, us in whole(quiet).items()]
            lines += ["", "| feature, by taking it out | plain | stream, 64 pieces | one piece |"]
            lines += ["|---|---:|---:|---:|"]
            lines += [
                f"| {row.what} | {row.plain:.1f} | {row.paced:.1f} | {row.at_once:.1f} |"
                for row in by_ablation(quiet)
            ]
            lines += ["", "| piece, by itself | µs | per |\n|---|---:|---|"]
            lines += [
                f"| {piece.what} | {by_itself(piece):.2f} | {piece.per} |"
                for piece in pieces(quiet)
            ]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.router_costs").parse_args(arguments)
    logs.configure("router", form="json")
    with contextlib.redirect_stderr(io.StringIO()):  # the lines that are measured
        tables = asyncio.run(run())
    sys.stdout.write(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
