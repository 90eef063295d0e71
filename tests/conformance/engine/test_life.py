"""How both engines behave when they are busy, full, left alone, broken and ended.

The tests that end an engine stand last: the real one takes a minute to start again.
"""

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from caravan.testing import engine as fake
from caravan.testing.engine.flags import FLAGS
from caravan.testing.wait import until
from tests.conformance.engine import shapes
from tests.conformance.engine.cases import MODEL, NEVER_END, SAY

ENDLESS = {"messages": SAY, "max_tokens": 3500, "fake": {"token_s": 0.05}} | NEVER_END
SHORT = {"messages": SAY, "max_tokens": 4} | NEVER_END


def chat(client, engine, body=SHORT, **fields):
    url = f"{engine.url}/v1/chat/completions"
    return client.post(url, json=body | fields, headers=engine.auth)


async def load(client, engine):
    async with client.get(f"{engine.url}/v1/loads", headers=engine.auth) as answer:
        return (await answer.json())["loads"][0]


async def until_load(client, engine, running, waiting):
    async def reached():
        found = await load(client, engine)
        return (found["num_running_reqs"], found["num_waiting_reqs"]) == (running, waiting)

    await until(reached, 120)


async def first_event(answer):
    return await answer.content.readuntil(b"\n\n")


async def read_whole(client, engine):
    async with chat(client, engine, stream=True) as answer:
        await answer.read()


@pytest.fixture
async def full(client, text):
    """The text engine with two streams that run and one that waits; idle again at the end."""
    async with AsyncExitStack() as streams:
        for _ in range(2):
            answer = await streams.enter_async_context(chat(client, text, ENDLESS, stream=True))
            await first_event(answer)
        waiting = asyncio.create_task(read_whole(client, text))
        await until_load(client, text, 2, 1)
        yield text
    await waiting
    await until_load(client, text, 0, 0)


async def test_load_tells_who_runs_and_who_waits(client, full):
    before = await load(client, full)
    assert before["max_running_requests"] == 2

    async def grows():
        return (await load(client, full))["num_used_tokens"] > before["num_used_tokens"]

    await until(grows)


async def test_a_full_queue_refuses_a_plain_request_with_503(client, full):
    async with chat(client, full) as answer:
        body = await answer.json()
    assert answer.status == 503
    assert body == {
        "object": "error",
        "message": "The request queue is full.",
        "type": "503",
        "param": None,
        "code": 503,
    }


@pytest.mark.parametrize("kind", ["chat/completions", "completions"])
async def test_a_full_queue_refuses_a_stream_inside_of_it(client, full, kind):
    body = {"messages": SAY, "prompt": "Hi", "max_tokens": 4, "stream": True}
    url = f"{full.url}/v1/{kind}"
    async with client.post(url, json=body, headers=full.auth) as answer:
        error, usage, done = shapes.events(await answer.read())
    assert answer.status == 200
    assert json.loads(error) == {
        "error": {
            "object": "error",
            "message": "The request queue is full.",
            "type": "SERVICE_UNAVAILABLE",
            "param": None,
            "code": 503,
        }
    }
    assert json.loads(usage)["usage"]["total_tokens"] == 0
    assert done == "[DONE]"


REFUSED = "The request queue is full."


def ask_as(client, engine, kind, **fields):
    body = {"model": MODEL, "input": "Hi", "messages": SAY, "max_tokens": 4} | fields
    return client.post(f"{engine.url}/v1/{kind}", json=body, headers=engine.auth)


async def test_a_full_queue_refuses_a_plain_response_with_400(client, full):
    async with ask_as(client, full, "responses") as answer:
        body = await answer.json()
    assert answer.status == 400
    kind = {"type": "invalid_request_error", "param": None, "code": 400}
    assert body == {"error": kind | {"message": f"503: {REFUSED}"}}


async def test_a_full_queue_refuses_a_plain_message_with_500(client, full):
    async with ask_as(client, full, "messages") as answer:
        body = await answer.json()
    assert answer.status == 500
    error = {"type": "api_error", "message": "Internal server error"}
    assert body == {"type": "error", "error": error}


async def test_a_full_queue_refuses_a_streamed_response_that_it_has_begun(client, full):
    async with ask_as(client, full, "responses", stream=True) as answer:
        created, in_progress, failed = shapes.frames(await answer.read())
    assert answer.status == 200
    assert created.startswith("event: response.created\n")
    assert in_progress.startswith("event: response.in_progress\n")
    name, data = failed.split("\n")
    body = json.loads(data.removeprefix("data: "))
    assert name == "event: response.failed"
    assert body["response"]["error"] == {"code": "server_error", "message": REFUSED}
    assert body["response"]["usage"]["total_tokens"] == 0


async def test_a_full_queue_refuses_a_streamed_message_that_it_ends_as_a_good_one(client, full):
    async with ask_as(client, full, "messages", stream=True) as answer:
        start, error, stop = shapes.frames(await answer.read())
    assert answer.status == 200
    assert start.startswith("event: message_start\n")
    inner = {"type": "overloaded_error", "message": REFUSED}
    assert json.loads(error.partition("data: ")[2]) == {"type": "error", "error": inner}
    assert stop.startswith("event: message_stop\n")


async def test_who_waits_is_served_when_one_who_runs_leaves(client, text):
    async with AsyncExitStack() as runs, AsyncExitStack() as leaves:
        for stack in (runs, leaves):
            await first_event(
                await stack.enter_async_context(chat(client, text, ENDLESS, stream=True))
            )
        waiting = asyncio.create_task(_text(client, text))
        await until_load(client, text, 2, 1)
        await leaves.aclose()
        assert (await waiting)[-1] == "[DONE]"
    await until_load(client, text, 0, 0)


async def _text(client, engine):
    async with chat(client, engine, stream=True) as answer:
        return shapes.events(await answer.read())


async def test_a_plain_request_whose_client_leaves_ends(client, text):
    task = asyncio.create_task(chat(client, text, ENDLESS).__aenter__())
    await until_load(client, text, 1, 0)
    task.cancel()
    await until_load(client, text, 0, 0)


async def test_an_aborted_stream_says_so_and_ends_well(client, text):
    async with chat(client, text, ENDLESS, stream=True, rid="leave") as answer:
        head = await first_event(answer)
        url = f"{text.url}/abort_request"
        async with client.post(url, json={"rid": "leave"}, headers=text.auth) as aborted:
            assert aborted.status == 200
        *_, end, usage, done = shapes.events(head + await answer.read())
    assert json.loads(end)["choices"][0]["finish_reason"] == "abort"
    assert json.loads(usage)["choices"] == []
    assert done == "[DONE]"
    await until_load(client, text, 0, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_ends_an_answer_and_is_not_said(client, text, stream):
    said = SHORT | {"temperature": 0, "max_tokens": 12}
    async with chat(client, text, said) as answer:
        whole = (await answer.json())["choices"][0]["message"]["content"]
    stop = whole[4:6]
    async with chat(client, text, said, stop=stop, stream=stream) as answer:
        data = await answer.read()
    bodies = [json.loads(e) for e in shapes.events(data)[:-2]] if stream else [json.loads(data)]
    choices = [body["choices"][0] for body in bodies]
    parts = [choice["delta" if stream else "message"].get("content") or "" for choice in choices]
    assert "".join(parts) == whole.partition(stop)[0]
    assert (choices[-1]["finish_reason"], choices[-1]["matched_stop"]) == ("stop", stop)


async def test_the_id_of_a_request_becomes_that_of_its_answer(client, text):
    async with chat(client, text, rid="mine") as answer:
        assert (await answer.json())["id"] == "mine"


async def test_numbers_for_prometheus_need_no_key(client, text):
    async with client.get(f"{text.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    assert answer.status == 200
    names = {line.partition("{")[0] for line in lines if line.startswith("sglang:")}
    assert names >= {
        *("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage"),
        *("sglang:cache_hit_rate", "sglang:gen_throughput"),
        *("sglang:prompt_tokens_total", "sglang:generation_tokens_total"),
    }


async def test_sigterm_lets_a_running_stream_finish(client, text):
    async with chat(client, text, ENDLESS, stream=True, max_tokens=300) as answer:
        head = await first_event(answer)
        text.ask_to_end()
        *_, end, _, done = shapes.events(head + await answer.read())
    assert json.loads(end)["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"
    assert text.wait() == 0


async def test_a_chat_kills_an_engine_for_embeddings(client, vectors):
    """So nobody may send one: the router compares the task first."""
    with pytest.raises(aiohttp.ClientConnectionError):
        await chat(client, vectors).__aenter__()
    assert vectors.wait() == -signal.SIGKILL


def test_an_unknown_flag_ends_the_start_with_2(site):
    engine = site.new("text", "--nobody-knows")
    engine.start()
    assert engine.wait() == 2
    assert "unrecognized arguments: --nobody-knows" in engine.last_lines


def test_weights_that_are_not_there_end_the_start(site):
    engine = site.new("text", "--model-path", "/nowhere")
    engine.start()
    assert engine.wait() == 1


@pytest.mark.sglang
@pytest.mark.timeout(600)
def test_the_fake_knows_the_flags_of_the_real_one(real_program):
    python = Path(real_program).with_name("python")
    script = Path(fake.__file__).with_name("dump_flags.py")
    command = [str(python), "-P", str(script)]
    dumped = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=sys.stderr)
    assert dumped.stdout == FLAGS.read_bytes()
