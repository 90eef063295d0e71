"""What can be seen of a router process from outside: log, metrics, traces; and what never can."""

import asyncio
import json
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.router.engine import token
from tests.integration.router.otlp import Receiver
from tests.integration.router.world import CHAT, MODEL, SECRET, body, eventually, serves

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

SAID, HEARD = "xylophone-of-the-asker", "quicksilver-of-the-model"
"""Words that stand in a prompt and in an answer; nobody but engine and client may see them."""
ASKING = [{"role": "user", "content": f"Tell of the {SAID}"}]


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


def lines(world):
    return [json.loads(line) for line in world.log()]


def told(world):
    return [line for line in lines(world) if line["event"] == "request"]


async def ended(child):
    child.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.wait(), 60) == 0


async def metrics(world):
    async with world.http.get(world.base + "/metrics") as response:
        return await response.text()


async def answers(request, connection):
    """Say the model's word: as an answer, or as a stream that breaks off with it in its error."""
    if not request.json.get("stream"):
        text = {"role": "assistant", "content": HEARD}
        choice = {"index": 0, "message": text, "finish_reason": "stop"}
        await connection.answer({"choices": [choice], "usage": {"prompt_tokens": 3}})
        return
    await connection.begin()
    await connection.chunk(token(HEARD))
    await connection.chunk({"error": {"message": f"broke at {HEARD}", "code": 500}})
    await connection.end()


async def quotes(request, connection):
    """Refuse as engines do: with a sentence that quotes what was sent."""
    said = f"Input should be a number, input_value={request.body.decode()}"
    await connection.answer({"object": "error", "message": said, "code": 400}, 400)


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_no_line_metric_or_span_tells_what_was_asked_or_answered(
    world, engine, process, receiver, level
):
    child = await process(
        ROUTER_OTLP_ENDPOINT=receiver.url, ROUTER_LOG_FORM="json", ROUTER_LOG_LEVEL=level
    )
    await serves(world)
    engine.script = answers
    _, _, answer = await world.asked(body(messages=ASKING))
    assert HEARD in str(answer)
    _, text = await world.streamed(body(messages=ASKING))
    assert HEARD in text
    engine.script = quotes
    assert (await world.refused(body(messages=ASKING)))[0] == 400
    assert (await world.refused(body(messages=ASKING, model="none/such")))[0] == 404
    assert (await world.refused(f'{{"model":"{MODEL}","{SAID}"}}'.encode()))[0] == 400
    assert (await world.refused(body(messages=ASKING, stream=SAID)))[0] == 400
    seen = await metrics(world)
    await ended(child)

    seen += (world.folder / "router.log").read_text()
    assert len(told(world)) >= 6
    for secret in (SAID, HEARD, SECRET, "ek-i-aaaaaa"):
        assert secret not in seen
        assert secret.encode() not in receiver.raw


async def test_lines_are_bounded_and_what_is_left_out_is_counted(world, process):
    child = await process(ROUTER_LOG_FORM="json", ROUTER_LOG_SUCCESSES_PER_S="0")
    await serves(world)
    for _ in range(4):
        await world.asked(body())

    async def counted():
        # The end of a request is told a moment after the client has its answer.
        return "caravan_router_log_lines_left_out_total 5.0" in await metrics(world)

    await eventually(counted)
    await world.refused(b"{")
    await ended(child)

    ends = [(line["status"], line.get("unlogged")) for line in told(world)]
    assert ends[-1] == (400, 5)
    assert 200 not in dict(ends)


async def test_metrics_can_be_read_on_both_ports(world, process):
    await process(ROUTER_LOG_FORM="json")
    await serves(world)
    await world.streamed(body())
    (opened,) = [line for line in lines(world) if line["event"] == "router.admin"]
    urls = (opened["url"], world.base)

    async def counted():
        return all([await answered(world, url) == 2 for url in urls])

    await eventually(counted)


async def answered(world, url):
    """Return how many chats went well, as Prometheus reads it."""
    async with world.http.get(url + "/metrics") as response:
        text = await response.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    counts = families["caravan_router_requests"].samples
    found = [c.value for c in counts if (c.labels["route"], c.labels["status"]) == (CHAT, "200")]
    return sum(found)


async def test_requests_go_on_and_the_end_comes_while_a_receiver_takes_nothing(world, process):
    async with Receiver(silent=True) as receiver:
        child = await process(ROUTER_OTLP_ENDPOINT=receiver.url, ROUTER_LOG_FORM="json")
        await serves(world)
        for _ in range(20):
            assert (await world.asked(body()))[0] == 200
        await ended(child)


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "value"), [("ROUTER_OTLP_ENDPOINT", "here"), ("ROUTER_TRACE_RATIO", "2")]
)
async def test_tracing_that_cannot_work_is_one_line_and_an_exit(world, process, name, value, count):
    given = {"ROUTER_OTLP_ENDPOINT": "http://127.0.0.1:1", name: value}
    child = await process(ROUTER_PROCESSES=count, **given)

    assert await asyncio.wait_for(child.wait(), 60) == 2
    [line] = (world.folder / "router.log").read_text().splitlines()
    assert line.startswith(f"caravan router: {name} is ")


async def test_the_engine_is_told_the_span_below_the_clients(world, engine, process, receiver):
    child = await process(ROUTER_OTLP_ENDPOINT=receiver.url, ROUTER_LOG_FORM="json")
    await serves(world)
    async with world.post(body(), headers={"traceparent": PARENT}) as response:
        await response.read()
    await ended(child)

    told_engine = engine.requests[-1].headers["traceparent"]
    (span,) = [s for s, _ in receiver.spans if s.parent_span_id.hex() == "00f067aa0ba902b7"]
    assert told_engine == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert span.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert told(world)[-1]["trace"] == told_engine


async def test_untraced_the_clients_traceparent_travels_on_as_it_came(world, engine):
    await world.serving(engine)
    async with world.post(body(), headers={"traceparent": PARENT, "tracestate": "a=b"}) as response:
        await response.read()

    assert engine.requests[-1].headers["traceparent"] == PARENT
    assert engine.requests[-1].headers["tracestate"] == "a=b"
