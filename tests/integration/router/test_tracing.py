"""Traces: what a receiver of OTLP gets of a request, and that nothing waits for it."""

import asyncio
import subprocess
import sys
import time

import pytest

from caravan.contracts.errors import InvalidRequestError
from services.router.adapters.spans import WAITING
from services.router.adapters.tracing import LEAVE_S, tracing
from services.router.core import traceparent
from services.router.core.sse import Usage
from services.router.core.story import Story
from tests.integration.router.otlp import Receiver
from tests.integration.router.world import CHAT, MODEL, until

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = PARENT[:-1] + b"0"
NOBODY = "http://127.0.0.1:1"
"""Where nothing listens."""


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


def story(**more):
    known = {
        "request_id": "r-1",
        "method": "POST",
        "path": CHAT,
        "client": "::1",
        "began": time.monotonic() - 2.0,
        "route": CHAT,
        "key": "k-1",
        "deployment": MODEL,
        "instance": "i-aaaaaa",
        "attempts": 2,
        "status": 200,
        "outcome": "complete",
        "stream": True,
        "usage": Usage(prompt_tokens=18, completion_tokens=64),
    }
    return Story(**(known | more))


def traced(spans, given=b"", **more):
    """Return the story of a request that has ended, as the router would have filled it."""
    sent = spans.traceparent(given)
    one = story(traceparent=given.decode(), trace=sent.decode(), **more)
    spans.ended(one, time.monotonic())
    return one


async def test_a_span_tells_the_request_by_the_conventions_names(receiver):
    async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
        before = time.time_ns()
        traced(spans, PARENT)

    assert receiver.paths == ["/v1/traces"]
    ((span, attributes),) = receiver.spans
    assert span.name == f"POST {CHAT}"
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(2e9, rel=0.1)
    assert span.end_time_unix_nano == pytest.approx(before, abs=1e9)
    assert attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "client.address": "::1",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": MODEL,
        "gen_ai.usage.input_tokens": 18,
        "gen_ai.usage.output_tokens": 64,
        "caravan.request_id": "r-1",
        "caravan.outcome": "complete",
        "caravan.attempts": 2,
        "caravan.instance": "i-aaaaaa",
        "caravan.key": "k-1",
    }
    resource = receiver.requests[0].resource_spans[0].resource
    names = {pair.key: pair.value.string_value for pair in resource.attributes}
    assert names["service.name"] == "caravan-router"
    assert names["service.instance.id"] == "life-1"


async def test_the_span_has_the_id_that_the_engine_was_told_and_the_clients_as_parent(receiver):
    async with tracing(receiver.url, ratio=0.0, run="life-1") as spans:
        one = traced(spans, PARENT)

    ((span, _),) = receiver.spans
    told = traceparent.read(one.trace)
    assert int.from_bytes(span.span_id) == told.span_id
    assert span.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert told.span_id != 0x00F067AA0BA902B7


@pytest.mark.parametrize("given", [b"", b"nonsense", b"\xff"])
async def test_without_a_parent_a_trace_begins(receiver, given):
    async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
        sent = [spans.traceparent(given) for _ in range(2)]
        spans.ended(story(traceparent=given.decode("latin-1"), trace=sent[0].decode()), 1.0)

    ((span, _),) = receiver.spans
    assert f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01".encode() == sent[0]
    assert span.parent_span_id == b""
    assert sent[0] != sent[1]


async def test_what_is_not_sampled_is_told_to_the_engine_and_not_sent(receiver):
    async with tracing(receiver.url, ratio=0.0, run="life-1") as spans:
        for given in (NOT_SAMPLED, b""):
            assert traced(spans, given).trace.endswith("-00")
        traced(spans, PARENT)

    assert len(receiver.spans) == 1


async def test_a_request_of_which_nothing_was_traced_has_no_span(receiver):
    async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
        spans.ended(story(), time.monotonic())
        traced(spans)

    assert len(receiver.spans) == 1


@pytest.mark.parametrize(
    ("end", "error", "type_"),
    [
        ({"status": 404, "outcome": "refused", "code": "model_not_found"}, 0, "model_not_found"),
        ({"status": 502, "outcome": "refused", "code": "engine_failed"}, 2, "engine_failed"),
        ({"status": 200, "outcome": "truncated"}, 2, "truncated"),
        ({"status": 499, "outcome": "cancelled"}, 0, "cancelled"),
    ],
)
async def test_what_went_wrong_is_told_and_an_error_is_what_is_ours(receiver, end, error, type_):
    async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
        traced(spans, **end)

    ((span, attributes),) = receiver.spans
    assert (span.status.code, attributes["error.type"]) == (error, type_)


@pytest.mark.parametrize("tail", ["", "/", "/v1/traces"])
async def test_an_endpoint_is_that_of_the_receiver_or_of_its_traces(receiver, tail):
    async with tracing(receiver.url + tail, ratio=1.0, run="life-1") as spans:
        traced(spans)

    assert receiver.paths == ["/v1/traces"]


async def test_spans_are_sent_while_the_router_runs(receiver):
    async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
        traced(spans)
        await until(lambda: receiver.spans, "the span's arrival")


async def test_nothing_waits_for_a_receiver_that_does_not_answer():
    async with Receiver(silent=True) as receiver:
        async with tracing(receiver.url, ratio=1.0, run="life-1") as spans:
            traced(spans)
            await receiver.asked.wait()
            # More than may wait: had one of them to, the test would never end.
            for _ in range(2 * WAITING):
                traced(spans)
        assert receiver.requests == []


async def test_a_receiver_that_is_not_there_does_not_hold_the_end_up():
    async with asyncio.timeout(5 * LEAVE_S):  # by itself, OpenTelemetry tries for 30 s
        async with tracing(NOBODY, ratio=1.0, run="life-1") as spans:
            for _ in range(1000):
                traced(spans)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", ""])
async def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(InvalidRequestError, match="ROUTER_OTLP_ENDPOINT"):
        async with tracing(endpoint, ratio=1.0, run="life-1"):
            pass


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
async def test_a_ratio_that_is_no_share_is_refused(ratio):
    with pytest.raises(InvalidRequestError, match="ROUTER_TRACE_RATIO"):
        async with tracing(NOBODY, ratio=ratio, run="life-1"):
            pass


OFF = """
import asyncio, sys
import services.router.app
from services.router.adapters.tracing import tracing

async def main():
    async with tracing(None, ratio=1.0, run="life-1") as spans:
        assert spans is None

asyncio.run(main())
print(*sorted(name for name in sys.modules if name.startswith("opentelemetry")))
print("services.router.adapters.spans" in sys.modules)
"""

MISSING = """
import asyncio, sys
sys.modules["opentelemetry"] = None
from caravan.contracts.errors import Refusal
from services.router.adapters.tracing import tracing

async def main():
    async with tracing("http://127.0.0.1:4318", ratio=1.0, run="life-1"):
        pass

try:
    asyncio.run(main())
except Refusal as refusal:
    print(refusal.problem.message)
"""


async def said(program):
    """Return what a Python of its own prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_off_it_is_not_even_imported():
    assert (await said(OFF)).split() == ["False"]


async def test_without_opentelemetry_an_endpoint_is_refused_with_what_to_install():
    assert "install requirements/otel.txt" in await said(MISSING)
