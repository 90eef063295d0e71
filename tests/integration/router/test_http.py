"""HTTP itself: request ids, CORS, keep-alive, pipelining; seen on bare connections."""

import asyncio
import re

import pytest

from services.router.api.lane import ClientConnection
from tests.integration.router.engine import polite
from tests.integration.router.world import CHAT, MODEL, SECRET, body, eventually, head, until

ORIGIN = {"origin": "https://app.example"}
GOOD = b'{"model":"u-8105f7322477/test"}'


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 128])
async def test_the_clients_request_id_is_kept(world, engine, given):
    await world.serving(engine)

    async with world.post(body(), headers={"x-request-id": given}) as response:
        assert response.headers["x-request-id"] == given
    assert engine.requests[0].headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "ü"])
async def test_another_one_is_made_where_it_does_not_fit(world, engine, given):
    await world.serving(engine)

    async with world.post(body(), headers={"x-request-id": given}) as response:
        made = response.headers["x-request-id"]
    assert made.startswith("req-")
    assert engine.requests[0].headers["x-request-id"] == made


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CHAT), ("GET", "/none"), ("GET", "/health"), ("GET", "/v1/models")],
)
async def test_every_answer_has_a_request_id_and_its_time(world, engine, method, path):
    await world.serving(engine)

    async with world.http.request(method, world.base + path) as response:
        assert response.headers["x-request-id"].startswith("req-")
        assert response.headers["openai-processing-ms"].isdigit()
        assert len(response.headers.getall("x-request-id")) == 1


async def test_a_preflight_passes_without_a_key(world, engine):
    await world.serving(engine)
    asks = "authorization,content-type,x-stainless-os,x-stainless-retry-count,x-request-id,x-evil"
    headers = ORIGIN | {
        "access-control-request-method": "POST",
        "access-control-request-headers": asks,
    }

    async with world.http.options(world.base + CHAT, headers=headers) as response:
        assert response.status == 204
        assert await response.read() == b""

    assert response.headers["access-control-allow-origin"] == "*"
    assert "POST" in response.headers["access-control-allow-methods"]
    allowed = response.headers["access-control-allow-headers"].split(", ")
    assert set(asks.split(",")) - {"x-evil"} <= set(allowed)
    assert "x-evil" not in allowed


@pytest.mark.parametrize(
    ("path", "secret", "status"),
    [(CHAT, SECRET, 200), (CHAT, None, 401), ("/none", None, 404), ("/v1/models", None, 405)],
)
async def test_every_answer_to_an_origin_can_be_read_by_its_page(
    world, engine, path, secret, status
):
    await world.serving(engine)

    async with world.post(body(), path, secret=secret, headers=ORIGIN) as response:
        assert response.status == status
        assert response.headers["access-control-allow-origin"] == "*"
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "x-ratelimit-remaining-tokens"} <= set(exposed)


async def test_without_an_origin_there_are_no_cors_headers(world, engine):
    await world.serving(engine)

    async with world.post(body()) as response:
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def one(reader):
    """Read one answer with a content-length."""
    top = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in top.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return top, await reader.readexactly(int(lengths[0].split(b":")[1]))


async def test_a_connection_carries_one_request_after_another_refused_ones_too(world, engine):
    await world.serving(engine)

    async with world.raw() as (reader, writer):
        for data, status in ((GOOD, b"200"), (b"{", b"400"), (GOOD, b"200")):
            writer.write(head(data))
            top, _ = await one(reader)
            assert top.split(b" ")[1] == status


async def test_pipelined_requests_are_answered_in_order(world, engine):
    await world.serving(engine)
    ids = [f"X-Request-Id: r{n}\r\n" for n in range(3)]
    data = [head(b"{", extra=ids[0]), head(GOOD, extra=ids[1]), head(GOOD, extra=ids[2])]

    async with world.raw(b"".join(data)) as (reader, _):
        tops = [(await one(reader))[0] for _ in data]

    for n, top in enumerate(tops):
        assert b"x-request-id: r%d\r\n" % n in top


async def test_a_refused_body_that_comes_late_does_not_disturb_the_next_request(world, engine):
    await world.serving(engine)
    late = b"x" * 200_000

    async with world.raw(head(late, secret=None)[:-200_000]) as (reader, writer):
        top, _ = await one(reader)
        assert b" 401 " in top
        writer.write(late + head(GOOD))
        top, _ = await one(reader)
        assert b" 200 " in top


async def test_expect_100_continue_is_answered_only_when_the_body_is_wanted(world, engine):
    await world.serving(engine)
    whole = head(GOOD, extra="Expect: 100-continue\r\n")

    async with world.raw(whole[: -len(GOOD)]) as (reader, writer):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(GOOD)
        assert b" 200 " in (await one(reader))[0]

    whole = head(GOOD, secret=None, extra="Expect: 100-continue\r\n")
    async with world.raw(whole[: -len(GOOD)]) as (reader, _):
        assert (await one(reader))[0].startswith(b"HTTP/1.1 401 ")


async def test_garbage_behind_a_running_stream_does_not_get_into_it(world, engine):
    await world.serving(engine)
    stream = head(b'{"model":"u-8105f7322477/test","stream":true}')

    async with world.raw(stream + b"garbage\r\n\r\n") as (reader, _):
        answer = await reader.read()

    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1


async def test_http_1_0_is_answered_and_closed(world, engine):
    await world.serving(engine)

    async with world.raw(head(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0")) as (reader, _):
        answer = await reader.read()

    assert b" 200 " in answer.split(b"\r\n")[0]
    assert b"chat.completion" in answer


async def test_an_upgrade_that_is_not_offered_is_no_obstacle(world, engine):
    await world.serving(engine)
    extra = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"

    async with world.raw(head(GOOD, extra=extra)) as (reader, _):
        assert b" 200 " in (await one(reader))[0]


async def test_one_line_per_request_tells_it_all_but_what_was_said(world, engine, capfd):
    await world.serving(engine)
    await world.asked(body(messages=[{"role": "user", "content": "my secret prompt"}]))

    def lines():
        out, err = capfd.readouterr()
        found.append(out + err)
        return [line for line in "".join(found).splitlines() if "attempts=1" in line]

    found = []
    [line] = await until(lines)
    for word in (
        "request_id=",
        "key=k-1",
        f"deployment={MODEL}",
        "instance=i-aaaaaa",
        "status=200",
    ):
        assert word in line
    assert "completion_tokens=2" in line
    assert "my secret prompt" not in "".join(found)
    assert SECRET not in "".join(found)
    assert "ek-i-aaaaaa" not in "".join(found)


async def test_metrics_count_requests_retries_and_ages(world, engine, other):
    async def refuses_first(request, connection):
        if len(engine.requests) + len(other.requests) == 1:
            await connection.answer({}, 503)
        else:
            await polite(request, connection)

    engine.script = other.script = refuses_first  # whichever is asked first
    await world.serving(engine, other)
    for _ in range(8):
        assert (await world.asked(body()))[0] == 200

    async with world.http.get(world.base + "/metrics") as response:
        text = await response.text()

    requests = (
        f'caravan_router_requests_total{{outcome="complete",route="{CHAT}",status="200"}} 8.0'
    )
    assert requests in text
    assert 'caravan_router_retries_total{why="refused"} 1.0' in text
    assert f'caravan_router_first_byte_seconds_count{{route="{CHAT}"}} 8.0' in text
    assert 'caravan_router_view_age_seconds{bucket="keys"}' in text


@pytest.mark.parametrize("extra", ["Connection: close\r\n", "Expect: 100-continue\r\n"])
async def test_a_refusal_can_be_read_by_a_client_that_still_sends_its_body(world, engine, extra):
    await world.serving(engine)
    begin = head(b"", secret="ck-" + "0" * 49, extra=extra)
    begin = begin.replace(b"Content-Length: 0", b"Content-Length: 8388608")
    async with world.raw(begin) as (reader, writer):
        for _ in range(128):
            writer.write(b"x" * 65536)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"invalid_api_key" in await asyncio.wait_for(reader.read(), 60)


async def test_what_is_no_http_is_told_of_too(world, engine):
    await world.serving(engine)
    async with world.raw(b"this is no HTTP\r\n\r\n") as (reader, _):
        answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 400 ")
    found = re.search(rb"x-request-id: (\S+)", answer)[1].decode()

    async with world.http.get(world.base + "/metrics") as response:
        assert 'status="400"' in await response.text()
    assert found.startswith("req-")


async def test_a_page_may_use_the_messages_api(world, engine):
    await world.serving(engine)
    asked = {
        "origin": "http://page",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, anthropic-version, x-evil",
    }
    async with world.http.options(world.base + "/v1/messages", headers=asked) as response:
        allowed = response.headers["access-control-allow-headers"]
    assert "x-api-key" in allowed
    assert "anthropic-version" in allowed
    assert "x-evil" not in allowed
    async with world.http.get(world.base + "/v1/messages") as response:
        assert response.headers["request-id"] == response.headers["x-request-id"]
        assert (await response.json())["type"] == "error"


async def test_a_head_that_comes_again_means_what_it_meant(world, engine):
    """Also when it had come together with another one, which has the same length."""
    await world.serving(engine)
    good, bad = head(GOOD), head(GOOD, secret="ck-" + "0" * 49)
    async with world.raw(good + bad) as (reader, writer):
        assert [await answer(reader) for _ in range(2)] == [200, 401]
        for sent in (good, bad, good, good, bad, bad, good):
            writer.write(sent)
            assert await answer(reader) == (200 if sent is good else 401)
        writer.write(head(GOOD + b" " * 1000) + head(b"{}") + good[:40])
        assert [await answer(reader) for _ in range(2)] == [200, 400]
        writer.write(good[40:])
        assert await answer(reader) == 200
    assert [len(request.body) for request in engine.requests][-2:] == [len(GOOD) + 1000, len(GOOD)]


async def test_a_revoked_key_is_refused_though_its_head_is_known(world, engine):
    await world.serving(engine)
    async with world.raw(head(GOOD)) as (reader, writer):
        assert await answer(reader) == 200
        await world.key(state="revoked")

        async def refused():
            writer.write(head(GOOD))
            return await answer(reader) == 401

        await eventually(refused)


async def test_what_was_not_told_yet_is_told_when_the_router_stops(
    world, engine, capfd, monkeypatch
):
    monkeypatch.setattr("services.router.api.telling.LATER_S", 1000.0)
    await world.serving(engine)
    await world.asked(body())

    await world.stop()
    assert "".join(capfd.readouterr()).count("attempts=1") == 1


async def test_a_head_that_is_known_of_one_connection_says_the_same_on_another(world, engine):
    """On the first request of a connection, too: the right key, and all of its body."""
    await world.serving(engine)
    other = "k" + SECRET[1:]
    bodies = [GOOD + b" " * more for more in (0, 3, 90)]
    for good in bodies:
        async with world.raw(head(good)) as (reader, writer):
            assert await answer(reader) == 200
            writer.write(head(good).replace(SECRET.encode(), other.encode()))
            assert await answer(reader) == 401
            writer.write(head(good) + head(b"{}") + head(good))
            assert [await answer(reader) for _ in range(3)] == [200, 400, 200]
    assert [request.body for request in engine.requests] == [
        good for good in bodies for _ in range(3)
    ]


async def test_a_head_that_is_known_is_not_parsed_again(world, engine, monkeypatch):
    await world.serving(engine)
    async with world.raw(head(GOOD)) as (reader, _):
        assert await answer(reader) == 200

    monkeypatch.setattr(ClientConnection, "_parse", lambda *_: pytest.fail("it is known"))
    for _ in range(2):
        async with world.raw(head(GOOD)) as (reader, writer):
            assert await answer(reader) == 200
            writer.write(head(GOOD + b" "))
            assert await answer(reader) == 200


async def test_a_known_head_may_come_in_pieces_on_a_new_connection(world, engine):
    await world.serving(engine)
    whole = head(GOOD)
    for cut in (0, 1, 40, len(whole) - len(GOOD) - 1, len(whole) - len(GOOD), len(whole) - 1):
        async with world.raw(whole[:cut]) as (reader, writer):
            await writer.drain()
            writer.write(whole[cut:])
            assert await answer(reader) == 200
    assert {request.body for request in engine.requests} == {GOOD}


async def answer(reader):
    """Read one answer whole; return its status."""
    top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", top)[1]))
    return int(top.split()[1])


@pytest.mark.parametrize("first", [b"", head(GOOD)], ids=["at once", "behind one that is answered"])
async def test_any_number_of_refused_requests_may_be_pipelined(world, engine, first):
    go = asyncio.Event()

    async def waits(request, connection):
        await go.wait()
        await polite(request, connection)

    engine.script = waits
    await world.serving(engine)
    bad = head(b"{}")
    async with world.raw(bad) as (reader, writer):
        assert await answer(reader) == 400  # from now on its head is known
        writer.write(first + bad * 1000)
        go.set()
        found = [await answer(reader) for _ in range(1000 + bool(first))]
    assert found == [200] * bool(first) + [400] * 1000
