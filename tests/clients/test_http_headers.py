"""HTTP.md, the rows about headers and connections: ids, CORS, compression, keep-alive, HTTP/2.

Also said there, through another client: tests/integration/router/test_http.py.
"""

import json
import re
import shutil

import openai
import pytest

from tests.clients.calls import (
    GOOD,
    STREAMED,
    answer,
    asked,
    chat,
    checked,
    chunked_top,
    chunks,
    official,
    text_of,
    top,
)
from tests.clients.conftest import run
from tests.integration.router.engine import ANSWER
from tests.integration.router.world import CHAT, MODEL, SECRET, body, head, until

MADE = re.compile(r"req-[0-9a-f]{32}")
ORIGIN = "Origin: https://app.example\r\n"
LIMITS = {f"x-ratelimit-{w}-{u}" for w in ("limit", "remaining") for u in ("requests", "tokens")}
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\n"


def get(path, extra=""):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 128, "0191e-7f.b_2"])
async def test_the_clients_own_id_comes_back_and_goes_to_the_engine(world, engine, given):
    """Row "x-request-id"."""
    await world.serving(engine)

    async with official(world) as client:
        found = await chat(client, extra_headers={"X-Request-Id": given})
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[], stream=True, extra_headers={"X-Request-ID": given}
        )
        assert await text_of(raw.parse()) == "hello"

    assert (found._request_id, raw.request_id) == (given, given)
    assert [one.headers["x-request-id"] for one in engine.requests] == [given, given]


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a/b", "a,b", "a\tb", "'; drop"])
async def test_without_one_that_fits_an_id_is_made(world, engine, given):
    """Row "x-request-id"."""
    await world.serving(engine)
    extra = f"X-Request-Id: {given}\r\n" if given is not None else ""

    got = await asked(world, head(GOOD, extra=extra))

    assert MADE.fullmatch(got["x-request-id"])
    assert engine.requests[0].headers["x-request-id"] == got["x-request-id"]


async def test_each_request_gets_an_id_of_its_own_on_one_connection(world, engine):
    """Row "x-request-id"."""
    await world.serving(engine)

    async with official(world) as client:
        ids = {(await chat(client))._request_id for _ in range(5)}

    assert len(ids) == 5
    assert {one.headers["x-request-id"] for one in engine.requests} == ids


ANSWERS = {
    "chat": (head(GOOD), 200),
    "stream": (head(STREAMED), 200),
    "models": (get("/v1/models", f"Authorization: Bearer {SECRET}\r\n"), 200),
    "health": (get("/health"), 200),
    "ready": (get("/ready"), 200),
    "metrics": (get("/metrics"), 200),
    "no json": (head(b"{"), 400),
    "no http": (b"garbage\r\n\r\n", 400),
    "no key": (head(GOOD, secret=None), 401),
    "no key for models": (get("/v1/models"), 401),
    "no model": (head(b'{"model":"x"}'), 404),
    "no route": (get("/none"), 404),
    "no route for a body": (head(GOOD, "/v1/none"), 404),
    "no method": (get(CHAT), 405),
    "no method for a body": (head(GOOD, "/v1/models"), 405),
    "slow": (head(GOOD)[:-1], 408),
    "large": (top(b"x" * 100_001), 413),
    "large in chunks": (chunked_top() + chunks(b"x" * 100_001), 413),
    "encoded": (head(GOOD, extra="Content-Encoding: br\r\n"), 415),
    "large head": (get("/", f"X-Pad: {'a' * 70_000}\r\n"), 431),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_every_answer_has_an_id_its_time_and_can_be_read_by_a_page(world, engine, case):
    """Rows "x-request-id", "other headers" and "CORS"; errors too are the envelope."""
    world.settings |= {"body_limit_bytes": 100_000, "body_patience_s": 0.3}
    await world.serving(engine)
    data, status = ANSWERS[case]
    line, _, rest = data.partition(b"\r\n")

    got = await asked(world, line + b"\r\n" + ORIGIN.encode() + rest)

    assert got.status == status
    assert MADE.fullmatch(got["x-request-id"])
    assert got["openai-processing-ms"].isdigit()
    assert got["access-control-allow-origin"] == "*"
    exposed = set(got["access-control-expose-headers"].split(", "))
    assert {"x-request-id", *LIMITS} <= exposed
    assert status < 400 or got.error["message"]


async def test_without_an_origin_an_answer_has_no_cors_headers(world, engine):
    """Row "CORS"."""
    await world.serving(engine)

    for data, _ in (ANSWERS["chat"], ANSWERS["no key"], ANSWERS["no route"], ANSWERS["models"]):
        got = await asked(world, data)
        assert not [name for name, _ in got.headers if name.startswith("access-control")]


PREFLIGHT = (
    "OPTIONS {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nOrigin: https://app.example\r\n"
    "Access-Control-Request-Method: POST\r\n"
    "Access-Control-Request-Headers: authorization,content-type,x-evil,x-request-id,"
    "x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout\r\n"
    "Sec-Fetch-Mode: cors\r\nUser-Agent: Mozilla/5.0 Chrome/140.0\r\n\r\n"
)


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/models", f"/v1/models/{MODEL}"])
async def test_the_preflight_of_the_sdk_in_a_browser_passes_without_a_key(world, engine, path):
    """Row "CORS"."""
    await world.serving(engine)
    question = PREFLIGHT.format(path=path).encode()
    sent = set(re.search(rb"-Headers: (.*)\r\n", question)[1].decode().split(","))

    async with world.raw(question) as (reader, writer):
        got = await answer(reader)
        writer.write(head(GOOD, extra=ORIGIN))
        assert (await answer(reader))["access-control-allow-origin"] == "*"

    assert (got.status, got.body) == (204, b"")
    assert got["access-control-allow-origin"] == "*"
    assert {"GET", "POST"} <= set(got["access-control-allow-methods"].split(", "))
    allowed = set(got["access-control-allow-headers"].split(", "))
    assert sent - {"x-evil"} <= allowed
    assert "x-evil" not in allowed
    assert "access-control-allow-credentials" not in dict(got.headers)


@pytest.mark.parametrize("missing", ["Origin", "Access-Control-Request-Method"])
async def test_an_options_that_is_no_preflight_is_405(world, engine, missing):
    """Row "CORS": a real preflight."""
    await world.serving(engine)
    question = PREFLIGHT.format(path=CHAT)
    question = re.sub(rf"{missing}: .*\r\n", "", question)

    got = await asked(world, question.encode())

    assert (got.status, got.error["code"]) == (405, "method_not_allowed")


async def test_an_answer_is_never_compressed_though_the_sdk_would_take_it(world, engine):
    """Row "compressed response"."""

    async def long(_, connection):
        await connection.answer(ANSWER | {"pad": "a" * 100_000})

    await world.serving(engine)
    async with official(world) as client:
        ask = client.chat.completions.with_raw_response.create
        streamed = await ask(model=MODEL, messages=[], stream=True)
        assert await text_of(streamed.parse()) == "hello"
        engine.script = long
        plain = await ask(model=MODEL, messages=[])

    for raw in (streamed, plain):
        assert "gzip" in raw.http_request.headers["accept-encoding"]
        assert "content-encoding" not in raw.headers
    assert len(plain.content) > 100_000
    assert not [one for one in engine.requests if "accept-encoding" in one.headers]


async def test_the_raw_headers_of_an_answer_are_ours_and_no_engines(world, engine):
    """Row "other headers"."""

    async def script(_, connection):
        await connection.answer(ANSWER, headers="server: gpu7\r\nx-request-id: e-1\r\nvia: a\r\n")

    engine.script = script
    await world.serving(engine)
    async with official(world) as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=[])

    assert raw.headers["x-caravan-instance"] == "i-aaaaaa"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["content-type"] == "application/json"
    assert MADE.fullmatch(raw.headers["x-request-id"])
    assert "gpu7" not in str(raw.headers)
    assert "via" not in raw.headers


async def test_one_connection_carries_answers_and_refusals_of_every_kind(world, engine):
    """Row "HTTP/1.1 keep-alive": across errors, streams and routes of all lanes."""
    world.settings["body_limit_bytes"] = 100_000
    await world.serving(engine)
    cases = ["chat", "no json", "models", "stream", "no key", "no route", "encoded", "no method"]
    cases += [
        "no route for a body",
        "health",
        "no model",
        "metrics",
        "no method for a body",
        "chat",
    ]

    async with world.raw() as (reader, writer):
        for case in cases:
            data, status = ANSWERS[case]
            writer.write(data)
            assert (await answer(reader)).status == status, case


async def test_the_sdk_keeps_its_connection_across_errors(world, engine):
    """Row "HTTP/1.1 keep-alive"."""
    await world.serving(engine)
    ports = set()

    async with official(world) as client:
        for model in (MODEL, "none", MODEL):
            try:
                raw = await client.chat.completions.with_raw_response.create(
                    model=model, messages=[]
                )
                response = raw.http_response
            except openai.NotFoundError as error:
                response = checked(error).response
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))

    assert len(ports) == 1


async def test_pipelined_requests_of_all_kinds_are_answered_in_their_order(world, engine):
    """Row "pipelining"."""
    await world.serving(engine)
    cases = ["stream", "chat", "no json", "models", "stream", "no key", "health", "chat"]

    async with world.raw(b"".join(ANSWERS[case][0] for case in cases)) as (reader, _):
        found = [await answer(reader) for _ in cases]

    assert [one.status for one in found] == [ANSWERS[case][1] for case in cases]
    assert found[0].body.endswith(b"data: [DONE]\n\n")
    assert json.loads(found[1].body) == ANSWER
    assert json.loads(found[3].body)["object"] == "list"
    assert found[4].body == found[0].body


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(world, engine):
    """Row "Expect: 100-continue"; chunked ones too, and not when the body is there already."""
    await world.serving(engine)
    expects = {"extra": "Expect: 100-continue\r\n"}

    async with world.raw() as (reader, writer):
        for start, rest in (
            (top(GOOD, **expects), GOOD),
            (chunked_top(**expects), chunks(GOOD) + b"0\r\n\r\n"),
        ):
            writer.write(start)
            assert (await answer(reader)).line == "HTTP/1.1 100 Continue"
            writer.write(rest)
            assert (await answer(reader)).status == 200

    assert [one.body for one in engine.requests] == [GOOD, GOOD]


async def test_expect_100_continue_of_a_refused_request_is_answered_with_why(world, engine):
    """Row "Expect: 100-continue": nothing but the refusal."""
    await world.serving(engine)
    extra = "Expect: 100-continue\r\n"

    for data, status in (
        (top(GOOD, secret=None, extra=extra), 401),
        (top(GOOD, extra=extra + "Content-Encoding: br\r\n"), 415),
        (top(GOOD, path="/v1/none", extra=extra), 404),
    ):
        got = await asked(world, data)
        assert got.status == status
        assert got.error["message"]


async def test_http_1_0_gets_its_answer_and_the_end(world, engine):
    """Row "HTTP/1.1"."""
    await world.serving(engine)

    async with world.raw(head(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0")) as (reader, _):
        got = await answer(reader)
        assert (got.status, json.loads(got.body)) == (200, ANSWER)
        assert await reader.read() == b""


async def test_connection_close_is_obeyed(world, engine):
    """Row "HTTP/1.1 keep-alive"."""
    await world.serving(engine)

    for data in (head(GOOD), head(STREAMED), head(b"{"), get("/health"), get("/none")):
        line, _, rest = data.partition(b"\r\n")
        async with world.raw(line + b"\r\nConnection: close\r\n" + rest) as (reader, _):
            assert (await answer(reader)).status in {200, 400, 404}
            assert await reader.read() == b""


async def test_an_offer_of_http_2_with_a_body_is_answered_in_http_1_1(world, engine):
    """Row "HTTP/2 is not offered": Java's client makes this offer with every first request."""
    await world.serving(engine)

    async with world.raw() as (reader, writer):
        for data in (GOOD, STREAMED, GOOD):
            writer.write(head(data, extra=H2C))
            got = await answer(reader)
            assert (got.line, got.all("upgrade")) == ("HTTP/1.1 200 OK", [])
        writer.write(get("/v1/models", f"Authorization: Bearer {SECRET}\r\n{H2C}"))
        assert (await answer(reader)).status == 200

    assert [one.body for one in engine.requests] == [GOOD, STREAMED, GOOD]


async def test_http_2_without_asking_is_refused(world, engine):
    """Row "HTTP/2 is not offered"."""
    await world.serving(engine)

    async with world.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0") as (
        reader,
        _,
    ):
        got = await answer(reader)
        assert (got.status, got.error["code"]) == (400, "invalid_request")
        assert await reader.read() == b""


async def test_curl_that_prefers_http_2_gets_http_1_1(world, engine):
    """Row "HTTP/2 is not offered"."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    await world.serving(engine)

    out, err, status = await run(
        *("curl", "-sS", "--http2", "-H", f"Authorization: Bearer {SECRET}"),
        *("-d", json.dumps(body()), "-w", "\n%{http_version}", world.base + CHAT),
    )

    assert (err, status) == ("", 0)
    text, _, version = out.rpartition("\n")
    assert (json.loads(text), version) == (ANSWER, "1.1")


async def test_an_errors_request_id_finds_its_line_in_the_log(world, engine, capfd):
    """Row "x-request-id": in the log line."""
    await world.serving(engine)
    async with official(world) as client:
        with pytest.raises(openai.NotFoundError) as refusal:
            await chat(client, model="none")
    found = []

    def line():
        found.extend(capfd.readouterr())
        return [one for one in "".join(found).splitlines() if refusal.value.request_id in one]

    [told] = await until(line)
    assert "status=404" in told
    assert "model_not_found" in told
