"""The command's own NATS connection, on a real server and on things that only look like one."""

import asyncio

import pytest

from caravan.cli import wire
from caravan.cli.errors import NatsTooOldError
from caravan.cli.wire import NoRespondersError, SlowReplyError, Wire
from caravan.contracts.errors import UnavailableError


async def asked(url, subject, payload=b"", timeout_s=30.0, headers=()):
    """Ask from a thread, as the connection blocks."""

    def ask():
        with Wire(url) as connection:
            return connection.request(subject, payload, dict(headers), timeout_s)

    return await asyncio.to_thread(ask)


async def test_a_request_gets_its_answer_with_headers_and_any_bytes(bus):
    async def echo(message):
        headers = {"Heard": message.headers["Caravan-Actor"]}
        await bus.client.publish(message.reply, message.data, headers=headers)

    await bus.client.subscribe("echo", cb=echo)
    await bus.client.flush()
    payload = bytes(range(256)) * 3000 + b"\r\nMSG x 1 3\r\n"

    reply = await asked(bus.url, "echo", payload, headers={"Caravan-Actor": "ann"}.items())

    assert reply.data == payload
    assert reply.headers == {"Heard": "ann"}


async def test_nobody_on_the_subject_is_known_at_once(bus):
    with pytest.raises(NoRespondersError):
        await asked(bus.url, "nobody.there")


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(bus):
    replies = []

    async def keep(message):
        replies.append(message)
        if len(replies) == 2:
            await replies[0].respond(b"first")
            await replies[1].respond(b"second")

    await bus.client.subscribe("slow", cb=keep)
    await bus.client.flush()

    def ask_twice():
        with Wire(bus.url) as connection:
            with pytest.raises(SlowReplyError):
                connection.request("slow", b"", {}, 0.2)
            return connection.request("slow", b"", {}, 30.0)

    assert (await asyncio.to_thread(ask_twice)).data == b"second"


async def test_without_a_server_the_sentence_says_where_it_was_looked_for(free_port):
    with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{free_port} .*`caravan up`"):
        await asked(f"nats://127.0.0.1:{free_port}", "x")


async def test_credentials_are_never_part_of_a_sentence(free_port):
    with pytest.raises(UnavailableError) as raised:
        await asked(f"nats://ann:secret@127.0.0.1:{free_port}", "x")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("greeting", "error", "sentence"),
    [
        (b'INFO {"version":"2.9.10"}\r\n', NatsTooOldError, "2.9.10, and 2.11 is the oldest"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", UnavailableError, "is no NATS server"),
        (b"", UnavailableError, "does not answer"),
    ],
)
async def test_what_is_no_usable_server_is_told_from_one(greeting, error, sentence):
    async def greet(_, writer):
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(error, match=sentence):
            await asked(f"nats://127.0.0.1:{port}", "x")


async def test_a_server_that_refuses_us_is_quoted(tmp_path):
    from caravan.testing.nats import NatsServer  # noqa: PLC0415 - this test alone starts its own

    async with NatsServer(tmp_path, options=("--user", "ann", "--pass", "right")) as server:
        right = server.url.replace("//", "//ann:right@")
        with pytest.raises(UnavailableError, match="Authorization Violation"):
            await asked(server.url.replace("//", "//ann:wrong@"), "x")
        with pytest.raises(NoRespondersError):
            await asked(right, "x")


def test_versions_are_compared_as_numbers():
    wire.check_version("2.11.0", "nats://x")
    wire.check_version("10.0.1", "nats://x")
    with pytest.raises(NatsTooOldError):
        wire.check_version("2.9.25", "nats://x")
