"""What a client sees of a stream, and what an engine sees of a client."""

import asyncio
import re
import time

import pytest

from tests.integration.router.engine import STREAM, USAGE_EVENT, event, polite, token
from tests.integration.router.world import body, head, until

FAILED = '"code":"engine_failed"'


def faulty(end):
    """A stream of one token, then ``end(connection)``."""

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        await end(connection)

    return script


async def test_a_stream_passes_and_says_how_it_wants_to_be_carried(world, engine):
    await world.serving(engine)

    async with world.post(body(stream=True)) as response:
        text = (await response.read()).decode()

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    events = [token("hel"), token("lo"), token("", "stop"), "[DONE]"]
    assert text == b"".join(map(event, events)).decode()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True}, True),
    ],
)
async def test_only_who_asks_for_usage_sees_it(world, engine, options, shown):
    await world.serving(engine)

    _, text = await world.streamed(body(stream_options=options) if options is not None else body())

    assert (event(USAGE_EVENT).decode() in text) == shown
    assert text.endswith("data: [DONE]\n\n")


async def test_the_status_waits_for_the_first_event(world, engine):
    go = asyncio.Event()

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(b": a comment is no event\n\n")
        await go.wait()
        await polite_rest(connection)

    async def polite_rest(connection):
        await connection.chunk(token("x", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with world.raw(head(b'{"model":"u-8105f7322477/test","stream":true}')) as (reader, _):
        await until(lambda: engine.requests)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        go.set()
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"


async def test_each_event_is_passed_on_before_the_next_comes(world, engine):
    events = [token(f"{number}") for number in range(5)]
    read = asyncio.Semaphore(0)

    async def script(_, connection):
        await connection.begin()
        for one in events:
            await connection.chunk(one)
            await read.acquire()
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    for _ in range(2):  # the second one begins as the first one did
        async with world.post(body(stream=True)) as response:
            for one in events:
                got = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 60)
                assert got == event(one)
                read.release()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("together", [True, False], ids=["one chunk", "two chunks"])
async def test_an_error_that_comes_with_an_ordinary_event_behind_it_is_seen(
    world, engine, together
):
    go = asyncio.Event()
    error = event({"error": {"message": "CUDA at /opt/x/y.py", "code": 500}})
    chunks = [error + event(token("lo"))] if together else [error, event(token("lo"))]

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        await go.wait()
        await connection.raw(b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks))
        await connection.gone.wait()

    engine.script = script
    await world.serving(engine)
    async with world.post(body(stream=True)) as response:
        assert await response.content.readuntil(b"\n\n") == event(token("hel"))
        go.set()
        rest = (await response.read()).decode()

    assert FAILED in rest
    assert "/opt/x" not in rest
    assert "[DONE]" not in rest


async def test_a_chunk_ends_where_its_head_says_whatever_stands_in_it(world, engine):
    go = [asyncio.Event(), asyncio.Event()]
    first, second = event(token("lo")), event(token("!"))
    within = b"%x\r\n%b\r\n" % (len(second), second)
    chunk = first + b"\r\n" + within

    async def script(_, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        await go[0].wait()
        await connection.raw(b"%x\r\n%b\r\n" % (len(chunk), first))
        await go[1].wait()
        await connection.raw(within)
        await connection.raw(b"\r\n")
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with world.post(body(stream=True)) as response:
        assert await response.content.readuntil(b"\n\n") == event(token("hel"))
        go[0].set()
        assert await response.content.readuntil(b"\n\n") == first
        go[1].set()
        rest = await response.read()

    assert rest == b"\r\n" + within + event(token("", "stop")) + event("[DONE]")
    assert await world.streamed(body())


async def reset(connection):
    connection.reset()


async def end_early(connection):
    await connection.end()


async def half_an_event(connection):
    await connection.chunk(b'data: {"choices":[{"del')
    await connection.end()


async def done_without_finish(connection):
    await connection.chunk("[DONE]")
    await connection.end()


async def finish_without_done(connection):
    await connection.chunk(token("", "stop"))
    await connection.end()


async def error_event(connection):
    await connection.chunk({"error": {"message": "CUDA at /opt/x/y.py", "code": 500}})
    await connection.chunk("[DONE]")
    await connection.end()


async def stall(connection):
    await connection.gone.wait()


ENDS = [
    reset,
    end_early,
    half_an_event,
    done_without_finish,
    finish_without_done,
    error_event,
    stall,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_stream_that_is_not_complete_never_looks_so(world, engine, end):
    engine.script = faulty(end)
    await world.serving(engine)
    await world.stop()
    await world.start(patience_s=0.5)

    status, text = await world.streamed(body())

    *events, last, rest = text.split("\n\n")
    assert status == 200
    assert rest == ""
    assert last.startswith('data: {"error":{')
    assert FAILED in last
    assert "[DONE]" not in text
    assert "/opt" not in text
    assert events[0] + "\n\n" == event(token("hel")).decode()
    assert all(one.startswith("data: {") for one in events)


async def test_a_long_line_passes_and_is_finished_when_it_breaks(world, engine):
    async def script(_, connection):
        await connection.begin()
        await connection.chunk(b'data: {"image":"' + b"A" * 3_000_000)
        await connection.end()

    engine.script = script
    await world.serving(engine)

    _, text = await world.streamed(body())

    first, last, rest = text.split("\n\n")
    assert len(first) == 3_000_016
    assert FAILED in last
    assert rest == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_ends_the_engines_connection(world, engine, stream):
    took = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def script(_, connection):
        if stream:
            await connection.begin()
            await connection.chunk(token("x"))
        begun.set()
        await connection.gone.wait()
        took.set_result(time.monotonic())

    engine.script = script
    await world.serving(engine)
    raw = b'{"model":"u-8105f7322477/test","stream":%b}' % str(stream).lower().encode()
    async with world.raw(head(raw)) as (_, writer):
        await begun.wait()
        writer.transport.abort()
        left = time.monotonic()
        assert await took - left < 30  # 0.1 on a machine that does nothing else; measured apart

    assert len(engine.requests) == 1


async def test_a_client_that_goes_while_its_body_is_read_leaves_nothing(world, engine):
    await world.serving(engine)
    async with world.raw(head(b'{"model":"x"}')[:-3]) as (_, writer):
        writer.transport.abort()

    assert (await world.asked(body()))[0] == 200
    assert len(engine.requests) == 1


async def test_reading_stops_when_the_client_does_not_read_and_goes_on_when_it_does(world, engine):
    sent, block = 0, event(token("x" * 60_000))

    async def script(_, connection):
        nonlocal sent
        await connection.begin()
        for _ in range(1000):
            await connection.chunk(block)
            sent += 1
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)
    async with world.raw(head(b'{"model":"u-8105f7322477/test","stream":true}')) as (
        reader,
        writer,
    ):
        reader._transport.pause_reading()
        await until(lambda: sent > 10, "the beginning")
        seen = -1
        while seen != sent:  # until nothing moves any more
            seen = sent
            await asyncio.sleep(0.5)
        assert sent < 900
        reader._transport.resume_reading()
        total = 0
        while not (data := await reader.read(2**20)).endswith(b"0\r\n\r\n"):
            total += len(data)
        assert sent == 1000
        assert total > 59_000_000
        writer.close()


async def test_a_client_that_reads_nothing_for_long_is_cut(world, engine):
    gone = asyncio.Event()

    async def script(_, connection):
        await connection.begin()
        try:
            while True:
                await connection.chunk(token("x" * 60_000))
        except ConnectionError:
            gone.set()
            raise

    engine.script = script
    await world.serving(engine)
    await world.stop()
    await world.start(client_patience_s=0.5)
    async with world.raw(head(b'{"model":"u-8105f7322477/test","stream":true}')) as (reader, _):
        reader._transport.pause_reading()
        await asyncio.wait_for(gone.wait(), 60)


async def test_a_plain_answer_that_breaks_after_its_first_part_does_not_look_whole(world, engine):
    async def script(_, connection):
        await connection.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"x" * 600_000)
        connection.reset()

    engine.script = script
    await world.serving(engine)
    async with world.raw(head(b'{"model":"u-8105f7322477/test"}')) as (reader, _):
        answer = await read_all(reader)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer) < 900_000


async def read_all(reader):
    found = b""
    try:
        while data := await reader.read(2**16):
            found += data
    except ConnectionError:
        pass
    return found


async def test_a_large_plain_answer_passes(world, engine):
    picture = {"data": [{"b64_json": "A" * 3_000_000}]}

    async def script(_, connection):
        await connection.answer(picture)

    engine.script = script
    await world.serving(engine)

    assert (await world.asked(body()))[2] == picture


async def test_the_connection_to_an_engine_is_used_again(world, engine):
    connections = set()

    async def script(request, connection):
        connections.add(connection.writer)
        await polite(request, connection)

    engine.script = script
    await world.serving(engine)
    for _ in range(3):
        await world.streamed(body())
        await world.asked(body())

    assert len(connections) == 1


@pytest.mark.parametrize("stays", [True, False])
async def test_large_streams_that_come_whole_are_passed_and_counted_alike(world, engine, stays):
    connections, answers = set(), []
    events = [event(token(f"t{n}")) for n in range(100)]
    events += [event(token("", "stop")), event(USAGE_EVENT), event("[DONE]")]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in events) + b"0\r\n\r\n"
    close = b"" if stays else b"connection: close\r\n"

    async def script(_, connection):
        connections.add(connection.writer)
        await connection.raw(STREAM[:-2] + close + b"\r\n" + wire)

    engine.script = script
    await world.serving(engine)
    for shown in (True, False, True, False):
        options = {"include_usage": shown}
        answers.append((await world.streamed(body(stream_options=options)))[1].encode())

    whole, without = b"".join(events), b"".join([*events[:-2], events[-1]])
    assert answers == [whole, without, whole, without]
    assert len(connections) == (1 if stays else 4)
    assert (await world.report()).keys == {"k-1": 4}


async def test_a_large_part_of_a_stream_is_not_taken_for_all_of_it(world, engine):
    go = asyncio.Event()
    go.set()
    events = [*(event(token(f"t{n}")) for n in range(100)), event(token("", "stop"))]
    begin, end = (
        b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in part)
        for part in (events, [event("[DONE]")])
    )

    async def script(_, connection):
        if go.is_set():  # for once whole, so that it is known
            await connection.raw(STREAM + begin + end + b"0\r\n\r\n")
            return
        await connection.raw(STREAM + begin)
        await go.wait()
        await connection.raw(end + b"0\r\n\r\n")

    engine.script = script
    await world.serving(engine)
    await world.streamed(body())
    go.clear()
    async with world.post(body(stream=True)) as response:
        assert await response.content.readuntil(b"\n\n") == events[0]
        go.set()
        rest = await response.read()

    assert rest == b"".join([*events[1:], event("[DONE]")])


async def test_an_error_in_a_large_stream_that_comes_whole_is_seen_each_time(world, engine):
    good = [event(token(f"t{n}")) for n in range(100)]
    end = [event(token("", "stop")), event(USAGE_EVENT), event("[DONE]")]
    error = event({"error": {"message": "CUDA at /opt/x/y.py", "code": 500}})
    sent = iter([[*good, *end], [*good[:50], error, *good[50:], *end]] * 2)

    async def script(_, connection):
        chunks = (b"%x\r\n%b\r\n" % (len(one), one) for one in next(sent))
        await connection.raw(STREAM + b"".join(chunks) + b"0\r\n\r\n")

    engine.script = script
    await world.serving(engine)
    for failed in (False, True, False, True):
        _, text = await world.streamed(body())
        assert text.endswith("data: [DONE]\n\n") is not failed
        assert (FAILED in text) is failed
        assert "/opt/x" not in text


async def test_an_engine_that_goes_on_is_not_silent_however_long_it_takes(world, engine):
    async def script(_, connection):
        await connection.begin()
        for _ in range(16):
            await connection.chunk(token("more"))
            await asyncio.sleep(0.1)  # how an engine paces its tokens
        await connection.chunk(token("", "stop"))
        await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    world.settings |= {"patience_s": 0.6}
    await world.serving(engine)

    _, text = await world.streamed(body())

    assert text.endswith("data: [DONE]\n\n")
    assert text.count("more") == 16


@pytest.mark.parametrize("ends", [True, False])
async def test_the_log_counts_every_byte_of_a_stream(world, engine, capsys, ends):
    async def script(_, connection):
        await connection.begin()
        for _ in range(9):
            await connection.chunk(token("more"))
            await asyncio.sleep(0.02)  # so that each comes by itself
        if ends:
            await connection.chunk(token("", "stop"))
            await connection.chunk("[DONE]")
        await connection.end()

    engine.script = script
    await world.serving(engine)

    async with world.raw(head(b'{"model":"u-8105f7322477/test","stream":true}')) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        sent = await reader.readuntil(b"\r\n0\r\n\r\n")

    def counted():
        said.extend(capsys.readouterr())
        return re.findall(r"bytes_out=\S*?(\d+)", "".join(said))

    said = []
    [found] = await until(counted)
    assert int(found) == len(sent)


async def test_what_an_engine_says_after_the_end_reaches_nobody(world, engine):
    said = asyncio.Event()

    async def script(_, connection):
        await connection.begin()
        for data in [
            token("a"),
            token("b"),
            token("c"),
            token("", "stop"),
            "[DONE]",
            token("late"),
        ]:
            await connection.chunk(data)
            await asyncio.sleep(0.02)  # so that each comes by itself
        said.set()
        await connection.end()

    engine.script = script
    await world.serving(engine)

    asked = head(b'{"model":"u-8105f7322477/test","stream":true}')
    async with world.raw(asked) as (reader, writer):
        for _ in range(2):
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"late" not in answer
            await said.wait()
            said.clear()
            writer.write(asked)
