"""HTTP.md once more, through the official Node SDK: one process asks for every case in turn."""

import asyncio
import json
import os
import time

import pytest
import pytest_asyncio

from caravan.contracts import keys
from caravan.kit.bus import Bus
from caravan.testing.nats import NatsServer
from tests.clients.conftest import NODE, PATIENCE_S
from tests.integration.router.engine import (
    FLAT,
    USAGE,
    USAGE_EVENT,
    Engine,
    polite,
    token,
)
from tests.integration.router.test_streams import ENDS, faulty
from tests.integration.router.world import MODEL, SECRET, TENANT, World, until

REVOKED = keys.mint(2**254 + 3)
VECTORS = f"{TENANT}/vectors"
LONG = 2_000_000
TOOK = "engine_connection_closed_after_ms"


async def full(_, connection):
    await connection.answer(FLAT | {"message": "full"}, 503, "retry-after: 0.2\r\n")


async def full_once(request, connection):
    script = polite if full_once.asked else full
    full_once.asked = True
    await script(request, connection)


async def refuses(_, connection):
    await connection.answer(FLAT | {"message": "bad at /opt/x/y.py", "param": "n"}, 400)


async def refuses_a_stream(_, connection):
    await connection.begin()
    await connection.chunk({"error": {"message": "bad stop", "code": 400}})
    await connection.chunk("[DONE]")
    await connection.end()


async def crashes(_, connection):
    await connection.answer(b"Internal Server Error", 500)


async def echoes(request, connection):
    await connection.begin()
    for n in range(10):
        await connection.chunk(token(f"{request.json['messages'][0]['content']}.{n} "))
        await asyncio.sleep(0)
    await connection.chunk(token("", "stop"))
    await connection.chunk("[DONE]")
    await connection.end()


async def long(_, connection):
    await connection.begin()
    await connection.chunk(token("A" * LONG, "stop"))
    await connection.chunk(USAGE_EVENT)
    await connection.chunk("[DONE]")
    await connection.end()


async def vectors(_, connection):
    await connection.answer({"object": "list", "data": [{"index": 0, "embedding": [0.5]}]})


async def completes(_, connection):
    await connection.answer({"choices": [{"index": 0, "text": "whole", "finish_reason": "stop"}]})


async def waits(_, connection):
    await connection.begin()
    await connection.chunk(token("x"))
    await connection.gone.wait()
    waits.gone = time.time()


SCRIPTS = {
    one.__name__: one
    for one in (
        polite,
        full,
        full_once,
        refuses,
        refuses_a_stream,
        crashes,
        echoes,
        long,
        vectors,
        completes,
        waits,
    )
} | {end.__name__: faulty(end) for end in ENDS}


def case(name, ask="chat", script="polite", *, model=MODEL, client=None, request=None, **body):
    """Return what the Node process shall ask for; the engine finds its script in ``user``."""
    pad = body.pop("pad", 0)
    return {
        "name": name,
        "ask": ask,
        "body": {"model": model, "user": script} | body,
        "client": client or {},
        "request": request or {},
        "pad": pad,
    }


RETRIES = {"maxRetries": 2}
USAGE_WANTED = {"include_usage": True}
CASES = [
    case("leaves", "leave", "waits"),  # long before the process ends
    case("answer", request={"headers": {"x-request-id": "mine.1"}}, a_field_of_tomorrow={"é": [1]}),
    case("stream", "stream"),
    case("stream with usage", "stream", stream_options=USAGE_WANTED),
    case("stream without usage", "stream", stream_options={"include_usage": False}),
    case("long", "stream", "long"),
    case("parallel", "parallel", "echoes"),
    case("completion", "completion", "completes"),
    case("embedding", "embedding", "vectors", model=VECTORS, encoding_format="float"),
    case("models", "models"),
    case("model", "model"),
    case("no such model", "model", model=f"{TENANT}/none"),
    case("unknown", model="gpt-4o"),
    case("malformed", client={"apiKey": "sk-1"} | RETRIES),
    case("revoked", client={"apiKey": REVOKED} | RETRIES),
    case("revoked for models", "models", client={"apiKey": REVOKED} | RETRIES),
    case("no route", "get", path="/none"),
    case("no method", "remove"),
    case("refused", script="refuses"),
    case("refused stream", "stream", "refuses_a_stream"),
    case("crashed", script="crashes"),
    case("large", pad=2_000_000),
    case("after large"),
    case("encoded", request={"headers": {"content-encoding": "br"}}),
    case("full", script="full", client=RETRIES),
    case("full once", script="full_once", client=RETRIES),
    case("stopped", model=f"{TENANT}/stopped", client={"maxRetries": 5}),
    case("starting", model=f"{TENANT}/starting"),
    *(case(end.__name__, "stream", end.__name__, client=RETRIES) for end in ENDS),
]


class Told:
    """What the Node process printed, and what the engine saw of it."""

    def __init__(self, found, requests, gone):
        self.found, self.requests, self.gone = found, requests, gone

    def __getitem__(self, name):
        return self.found[name]

    def error(self, name, kind, status, code):
        """Return the error of a case after looking at its class, status and code."""
        error = self.found[name]["error"]
        assert (error["class"], error["status"], error["code"]) == (kind, status, code)
        assert error["message"]
        if status:
            assert error["requestID"] == self.found[name]["headers"]["x-request-id"]
            assert self.found[name]["headers"]["content-type"] == "application/json"
        return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(node_modules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    async with NatsServer(folder / "nats") as server, Bus(server.url, name="test") as bus:
        await bus.established(30)
        async with World(bus, folder) as world, Engine() as engine:
            await _fill(world, engine)
            yield await _ask(world, engine, node_modules)


async def _fill(world, engine):
    async def script(request, connection):
        await SCRIPTS[request.json["user"]](request, connection)

    engine.script = script
    full_once.asked, waits.gone = False, None
    await world.key(REVOKED, id="k-2", state="revoked")
    for state in ("stopped", "starting"):
        await world.deploy(f"{TENANT}/{state}", state=state)
    await world.deploy(VECTORS, ["i-aaaaaa"], task="embedding")
    await world.record("i-aaaaaa", engine.url, VECTORS)
    world.settings |= {"body_limit_bytes": 1_000_000, "patience_s": 0.5}
    await world.serving(engine)


async def _ask(world, engine, node_modules):
    child = await asyncio.create_subprocess_exec(
        *("node", NODE / "http.cjs"),
        env=os.environ | {"NODE_PATH": str(node_modules)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    what = {"baseURL": world.base + "/v1", "key": SECRET, "cases": CASES}
    out, err = await asyncio.wait_for(child.communicate(json.dumps(what).encode()), PATIENCE_S)
    assert (err.decode(), child.returncode) == ("", 0)
    await until(lambda: waits.gone, "the end of the engine's connection")
    return Told(json.loads(out), engine.requests, waits.gone)


def test_an_answer_with_its_id_and_every_field_on_its_way(told):
    """Rows "x-request-id" and "other headers", and the sentence under "Routes"."""
    got = told["answer"]

    assert (got["text"], got["finish"]) == ("hi", "stop")
    assert got["requestID"] == "mine.1"
    assert got["headers"]["x-caravan-instance"] == "i-aaaaaa"
    assert got["headers"]["openai-processing-ms"].isdigit()
    assert "content-encoding" not in got["headers"]
    [request] = [one for one in told.requests if one.headers["x-request-id"] == "mine.1"]
    assert request.body.decode() == got["sent"]
    assert request.json["a_field_of_tomorrow"] == {"é": [1]}


def test_streams_and_their_usage(told):
    """Lines "Content-Type", "Usage" and "The end"."""
    asked = {"stream": None, "stream without usage": None, "stream with usage": USAGE}
    for name, usage in asked.items():
        got = told[name]
        assert (got["text"], got["finish"], got["usage"]) == ("hello", "stop", usage)
        assert got["chunks"] == (4 if usage else 3)
        assert got["headers"]["content-type"] == "text/event-stream"
        assert got["headers"]["cache-control"] == "no-cache"
        assert got["headers"]["x-accel-buffering"] == "no"


def test_a_long_line_passes(told):
    """Line "Lines of any length pass"."""
    assert told["long"]["length"] == LONG
    assert (told["long"]["finish"], told["long"]["usage"]) == ("stop", None)


def test_parallel_streams_do_not_mix(told):
    """Streams, many over one client."""
    for n, text in enumerate(told["parallel"]["texts"]):
        assert text == "".join(f"s{n}.{part} " for part in range(10))


def test_the_other_routes(told):
    """The routes that have a method in the SDK."""
    assert told["completion"]["text"] == "whole"
    assert told["embedding"]["embedding"] == [0.5]
    assert set(told["models"]["ids"]) == {MODEL, VECTORS, f"{TENANT}/stopped", f"{TENANT}/starting"}
    model = told["model"]["model"]
    assert (model["id"], model["object"], model["owned_by"]) == (MODEL, "model", TENANT)
    assert model["created"] > 0


def test_what_a_key_cannot_name_is_a_not_found_error(told):
    """Row "unknown model"."""
    for name in ("no such model", "unknown"):
        error = told.error(name, "NotFoundError", 404, "model_not_found")
        assert (error["type"], error["param"]) == ("invalid_request_error", "model")


@pytest.mark.parametrize("name", ["malformed", "revoked", "revoked for models"])
def test_a_key_that_may_not_ask_is_an_authentication_error_at_once(told, name):
    """Row "key"."""
    error = told.error(name, "AuthenticationError", 401, "invalid_api_key")

    assert error["type"] == "invalid_request_error"
    assert told[name]["requests"] == 1


def test_a_wrong_route_or_method_has_the_envelope(told):
    """Row "errors"."""
    told.error("no route", "NotFoundError", 404, "route_not_found")
    told.error("no method", "APIError", 405, "method_not_allowed")


def test_what_an_engine_refuses_is_typed_too(told):
    """Row "errors": the engine's flat ones, and its streams refused with 200."""
    error = told.error("refused", "BadRequestError", 400, "invalid_request")
    assert (error["message"], error["param"]) == ("400 bad at [path]", "n")
    error = told.error("refused stream", "BadRequestError", 400, "invalid_request")
    assert error["message"] == "400 bad stop"
    error = told.error("crashed", "InternalServerError", 500, "engine_failed")
    assert error["type"] == "server_error"


def test_a_body_over_the_limit_is_413_and_the_next_one_is_answered(told):
    """Row "body over the limit"."""
    told.error("large", "APIError", 413, "request_too_large")
    assert told["after large"]["text"] == "hi"


def test_another_encoding_is_415(told):
    """Row "compressed request"."""
    told.error("encoded", "APIError", 415, "unsupported_encoding")


def test_nothing_ready_is_retried_as_often_as_the_sdk_does(told):
    """Row "nothing ready"."""
    told.error("full", "InternalServerError", 503, "model_not_ready")
    assert told["full"]["requests"] == 3
    assert 0 < int(told["full"]["headers"]["retry-after-ms"]) <= 200
    assert (told["full once"]["requests"], told["full once"]["text"]) == (2, "hi")
    error = told.error("starting", "InternalServerError", 503, "model_not_ready")
    assert error["type"] == "service_unavailable_error"


def test_a_stopped_model_is_asked_for_once(told):
    """Row "nothing ready": ``x-should-retry: false``."""
    told.error("stopped", "InternalServerError", 503, "model_stopped")
    assert told["stopped"]["requests"] == 1
    assert told["stopped"]["headers"]["x-should-retry"] == "false"


@pytest.mark.parametrize("end", [end.__name__ for end in ENDS])
def test_a_stream_that_is_not_complete_ends_in_an_api_error(told, end):
    """Line "The end"."""
    error = told.error(end, "APIError", None, "engine_failed")

    assert error["type"] == "server_error"
    assert told[end]["text"] == "hel"
    assert told[end]["requests"] == 1


def test_a_client_that_goes_ends_the_engines_connection(told, request):
    """Line "The client goes"."""
    took = told.gone - told["leaves"]["left"]

    request.node.user_properties.append((TOOK, round(took * 1000, 1)))
    assert took < 2.0
