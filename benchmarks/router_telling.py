"""What it costs to tell of a request: ``python -m benchmarks.router_telling``.

Thread time of one call each, the least of many rounds, in µs; logs go to /dev/null. Tracing is
measured where OpenTelemetry is installed, without a receiver.
"""

import importlib.util
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable

from caravan.kit import log as logs
from services.router.api.metrics import Metrics
from services.router.api.telling import Telling
from services.router.core.inflight import InFlight
from services.router.core.loudness import Loudness
from services.router.core.sse import Usage
from services.router.core.story import COMPLETE, Story

ROUNDS, CALLS = 20, 5_000
CHAT = "/v1/chat/completions"
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def begun() -> Story:
    """Return the story of a request as it is made when its head has been read."""
    return Story(
        request_id="req-0123456789abcdef0123456789abcdef",
        method="POST",
        path=CHAT,
        client="127.0.0.1",
        began=1.0,
        origin=False,
        route=CHAT,
    )


def streamed() -> Story:
    """Return the story of a stream that came to its good end."""
    story = begun()
    story.key, story.deployment, story.instance = "k-12345678", "u-8105f7322477/test", "i-aaaaaa"
    story.stream, story.attempts, story.status, story.outcome = True, 1, 200, COMPLETE
    story.answered, story.bytes_in, story.bytes_out = 1.1, 300, 12_000
    story.usage = Usage(prompt_tokens=10, completion_tokens=64)
    return story


def telling(lines_per_s: float) -> Telling:
    """Return what a router process tells with."""
    loudness = Loudness(lines_per_s)
    return Telling(Metrics(InFlight(), dict, loudness=loudness), loudness)


def least_us(call: Callable[[], object]) -> float:
    """Return the thread time of one ``call`` in µs: the least of all rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for _ in itertools.repeat(None, CALLS):
            call()
        best = min(best, (time.thread_time_ns() - began) / CALLS / 1000)
    return best


def cases() -> dict[str, Callable[[], object]]:
    """Return what is measured, by what it is called."""
    story, quiet, loud = streamed(), telling(0.0), telling(1e9)
    moments = itertools.count(2)
    found: dict[str, Callable[[], object]] = {
        "an empty call": lambda: None,
        "a story is made": begun,
        "a good stream is told, no line": lambda: quiet.ended(story, 2.0),
        "a good stream is told, with its line": lambda: loud.ended(story, float(next(moments))),
    }
    if importlib.util.find_spec("opentelemetry") is None:
        return found
    from services.router.adapters.spans import Spans  # noqa: PLC0415 - an extra

    logging.disable(logging.CRITICAL)
    spans, traced = Spans("http://127.0.0.1:1", 1.0, "bench"), streamed()
    traced.traceparent, traced.trace = PARENT.decode(), spans.traceparent(PARENT).decode()
    return found | {
        "tracing: a traceparent is made": lambda: spans.traceparent(PARENT),
        "tracing: a span is made and queued": lambda: spans.ended(traced, 2.0),
    }


def main() -> None:
    """Measure all cases and print them."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - as a stream that stays open
        told, sys.stderr = sys.stderr, nowhere
        try:
            logs.configure("router", form="json")
            figures = {name: least_us(call) for name, call in cases().items()}
        finally:
            sys.stderr = told
    for name, figure in figures.items():
        sys.stdout.write(f"{figure:7.2f} µs  {name}\n")


if __name__ == "__main__":
    main()
