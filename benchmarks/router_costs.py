"""What each feature of the router's hot path costs: ``python -m benchmarks.router_costs``.

Runs each piece by itself, on the router's own modules, and prints a table in Markdown for docs/:
microseconds of CPU per request, per stream or per chunk, the best of several runs. The best,
because whatever else a machine does only ever adds to it.
"""

import argparse
import contextlib
import io
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Sequence

import httptools
from msgspec import Struct

from benchmarks.router.peers import OUR_KEY, OUR_MODEL
from caravan.contracts import keys, names
from caravan.contracts.deployments import SERVE, DeploymentEntry, Verdict
from caravan.contracts.instances import READY, Record
from caravan.contracts.keys import KeyEntry
from caravan.kit import log as logs
from services.router.api.metrics import Metrics
from services.router.api.telling import Telling
from services.router.core import admission, asked, candidates
from services.router.core.attempts import Attempts, RetryBudget
from services.router.core.candidates import Standing
from services.router.core.dialects.openai import OpenAI
from services.router.core.inflight import InFlight
from services.router.core.loudness import Loudness
from services.router.core.outliers import Outliers
from services.router.core.policies import DEFAULT, Ask, policy
from services.router.core.sse import Usage
from services.router.core.story import COMPLETE, Story

RUNS = 7
RUN_S = 0.05
NOW = 1_764_000_000.0
TENANT, NAME = OUR_MODEL.split("/")
DEPLOYMENT = names.deployment_key(TENANT, NAME)
HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:18080\r\n"
    f"Authorization: Bearer {OUR_KEY}\r\nContent-Type: application/json\r\n"
    "Accept: text/event-stream\r\nUser-Agent: OpenAI/Python 2.14.0\r\nContent-Length: 1060\r\n\r\n"
).encode()
ANSWER_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 24 Nov 2025 12:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: application/json\r\ncontent-length: 657\r\n\r\n"
)
_ID = b'"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion'
CHUNK = (
    b"data: {" + _ID + b'.chunk","created":1764000000,"model":"fake","choices":[{"index":0,'
    b'"delta":{"content":" token07"},"logprobs":null,"finish_reason":null}]}\n\n'
)
LAST = CHUNK.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
USAGE = (
    b"data: {" + _ID + b'.chunk","created":1764000000,"model":"fake","choices":[],"usage":'
    b'{"prompt_tokens":212,"completion_tokens":64,"total_tokens":276}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ANSWER = (
    b"{" + _ID + b'","created":1764000000,"model":"fake","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"words " * 45 + b'","tool_calls":null},"logprobs":null,'
    b'"finish_reason":"stop","matched_stop":null}],"usage":{"prompt_tokens":212,'
    b'"completion_tokens":64,"total_tokens":276},"system_fingerprint":null}'
)


class Cost(Struct, frozen=True):
    """What one piece costs each time."""

    what: str
    per: str
    us: float


class Piece(Struct, frozen=True):
    """Something that can be done again and again; ``call`` does it ``times`` times."""

    what: str
    per: str
    call: Callable[[], object]
    times: int = 1


def body(content: str) -> bytes:
    """Return a request body with ``content``, as loadgen sends it."""
    system = "You are a helpful assistant. Answer briefly and to the point."
    return (
        f'{{"model":"{OUR_MODEL}","messages":[{{"role":"system","content":"{system}"}},'
        f'{{"role":"user","content":"{content}"}}],"temperature":0.7,"max_tokens":64,'
        '"stream":true,"stream_options":{"include_usage":true},"seed":0}'
    ).encode()


def pieces() -> Iterator[Piece]:
    """Yield what is measured, in the order in which a request meets it."""
    yield Piece("head parsed (httptools, no callbacks)", "request", _parse_request)
    yield from _admission()
    yield from _choice()
    yield from _books()
    yield Piece("answer's head parsed (httptools, no callbacks)", "request", _parse_answer)
    yield Piece("usage read from a plain answer", "request", lambda: OpenAI().usage_in(ANSWER))
    yield from _streams()


def _parse_request() -> None:
    httptools.HttpRequestParser(_Nothing()).feed_data(HEAD)


def _parse_answer() -> None:
    httptools.HttpResponseParser(_Nothing()).feed_data(ANSWER_HEAD)


class _Nothing:
    """Wants to know nothing."""


def _admission() -> Iterator[Piece]:
    header, entry = f"Bearer {OUR_KEY}", KeyEntry(id="k-1", tenant=TENANT, state="active")
    found = {keys.digest(OUR_KEY): entry}
    deployment = _deployment(2)
    small, large = body("x" * 830), body("x" * 1_000_000)
    yield Piece("key: form, checksum, digest", "request", lambda: admission.bearer(header))
    digest = keys.digest(OUR_KEY)
    yield Piece(
        "key: found, active, not expired",
        "request",
        lambda: admission.check_key(found.get(digest), NOW),
    )
    yield Piece("body of 1 KB: model, stream, usage", "request", lambda: asked.read(small))
    yield Piece("body of 1 MB: the same", "request", lambda: asked.read(large))
    yield Piece(
        "model: of the key, exists, fits the route",
        "request",
        lambda: (
            admission.deployment_of(OUR_MODEL, entry),
            admission.check_deployment(OUR_MODEL, admission.CHAT, deployment),
        ),
    )


def _deployment(instances: int) -> DeploymentEntry:
    return DeploymentEntry(
        task="text-generation",
        generations=[1],
        state="running",
        verdicts={f"i-aaaa{n:02d}": Verdict(word=SERVE) for n in range(instances)},
    )


def _choice() -> Iterator[Piece]:
    for count in (2, 16):
        yield Piece(f"choice among {count} instances", "request", _chooser(count))
    attempts_of = RetryBudget()
    yield Piece("attempts and their budget", "request", lambda: _attempt(attempts_of))


def _chooser(count: int) -> Callable[[], object]:
    entry, standing, in_flight = _deployment(count), Standing(), InFlight()
    records = {
        name: Record(
            incarnation="x", term=1, generation=1, state=READY, url="http://127.0.0.1:1", since=NOW
        )
        for name in entry.verdicts
    }

    def choose() -> object:
        ready = candidates.usable(DEPLOYMENT, entry, records, standing)
        best = candidates.best(entry, ready, standing, in_flight.of, NOW)
        return policy(DEFAULT).choose(Ask(draw=0.3), best)

    return choose


def _attempt(budget: RetryBudget) -> None:
    budget.request(NOW)
    Attempts(budget).begin(DEPLOYMENT)


def _books() -> Iterator[Piece]:
    in_flight, outliers = InFlight(), Outliers()
    metrics = Metrics(in_flight, dict)
    instance = f"{DEPLOYMENT}.i-aaaaaa"
    quiet, loud = Telling(metrics, Loudness(0.0)), Telling(metrics, Loudness(1e12))
    story = _story()

    def counted() -> None:
        with in_flight.at_deployment(DEPLOYMENT, "k-1"), in_flight.at_instance(instance):
            pass
        in_flight.answered(instance, NOW)

    yield Piece("counted while under way, per deployment and instance", "request", counted)
    yield Piece("outliers: a good answer", "request", lambda: outliers.good(instance))
    yield Piece("story made", "request", _story)
    yield Piece("metrics", "request", lambda: metrics.observe(story, 2.0))
    yield Piece(
        "told at the end, no line due (metrics included)",
        "request",
        lambda: quiet.ended(story, 2.0),
    )
    yield Piece(
        "told at the end, with its line (100 a second)", "line", lambda: loud.ended(story, 2.0)
    )


def _story() -> Story:
    return Story(
        request_id="req-0123456789abcdef",
        method="POST",
        path="/v1/chat/completions",
        client="127.0.0.1",
        began=1.0,
        route="/v1/chat/completions",
        key="k-1",
        deployment=DEPLOYMENT,
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


def _streams() -> Iterator[Piece]:
    dialect = OpenAI()
    whole = CHUNK * 63 + LAST + USAGE + DONE
    one = dialect.stream(show_usage=True)

    def all_at_once(*, show_usage: bool) -> Callable[[], object]:
        return lambda: dialect.stream(show_usage=show_usage).feed(whole)

    def chunk_by_chunk() -> None:
        for _ in range(64):
            one.feed(CHUNK)

    yield Piece("stream watched, a chunk a piece", "chunk", chunk_by_chunk, 64)
    yield Piece("stream watched, 64 chunks in one piece", "stream", all_at_once(show_usage=True))
    yield Piece("the same, usage taken out", "stream", all_at_once(show_usage=False))


def measure(piece: Piece) -> Cost:
    """Return the best of several runs of ``piece``."""
    timer = timeit.Timer(piece.call, timer=time.process_time)
    once = timer.timeit(10) / 10
    number = max(1, int(RUN_S / max(once, 1e-9)))
    best = min(timer.repeat(RUNS, number)) / number
    return Cost(piece.what, piece.per, best * 1e6 / piece.times)


def table(costs: Sequence[Cost]) -> str:
    """Return ``costs`` in Markdown."""
    rows = [f"| {cost.what} | {cost.us:.2f} | {cost.per} |\n" for cost in costs]
    return "".join(["| feature | µs | per |\n|---|---:|---|\n", *rows])


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.router_costs").parse_args(arguments)
    logs.configure("router", form="json")
    with contextlib.redirect_stderr(io.StringIO()):  # the lines that are measured
        costs = [measure(piece) for piece in pieces()]
    sys.stdout.write(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
