"""The connection: made in the background, kept for ever, honest about what it does not know."""

import asyncio
import contextlib
import signal

import pytest
import structlog.testing

from caravan.contracts import admin, topology
from caravan.contracts.errors import InvalidRequestError, RemoteRefusal, UnavailableError
from caravan.contracts.instances import Lease
from caravan.kit.bus import Bus, NatsTooOldError
from caravan.testing.nats import NatsServer
from caravan.testing.wait import until

LEASE = Lease(incarnation="one")


async def test_entering_waits_for_nobody_and_connects_when_nats_comes(tmp_path):
    server = NatsServer(tmp_path)
    async with Bus(server.url, name="early") as bus:
        assert not bus.connected
        assert (bus.lost_at, bus.back_at) == (0.0, 0.0)

        async with server:
            await bus.established(60)

            assert bus.connected
            assert bus.back_at > 0


async def test_who_cannot_wait_is_told_where_there_is_no_nats(free_port):
    async with Bus(f"nats://ada:secret@127.0.0.1:{free_port}", name="test") as bus:
        with pytest.raises(UnavailableError) as refused:
            await bus.established(0.05)

    assert f"nats://127.0.0.1:{free_port} within 0.05 s" in str(refused.value)
    assert "secret" not in str(refused.value)


class Seed:
    def reveal(self):
        return "SUNOTASEED"


@pytest.mark.parametrize(
    ("url", "seed"), [("nats://127.0.0.1:port", None), ("nats://127.0.0.1:4222", Seed())]
)
async def test_a_url_or_a_seed_that_is_none_is_refused_and_not_waited_for(url, seed):
    async with Bus(url, name="test", seed=seed) as bus:
        with pytest.raises(InvalidRequestError, match="URL or seed") as refused:
            await bus.established(60)

    assert "SUNOTASEED" not in str(refused.value)


@contextlib.asynccontextmanager
async def server_of_version(version):
    """Somebody who says hello as NATS of ``version`` does."""

    async def hello(reader, writer):
        info = f'{{"version":"{version}","max_payload":1048576,"proto":1,"headers":true}}'
        writer.write(f"INFO {info}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("version", ["2.9.10", "2.10.22", "1.4.1"])
async def test_a_nats_that_is_too_old_is_refused_with_what_to_do(version):
    async with server_of_version(version) as url, Bus(url, name="test") as bus:
        with pytest.raises(NatsTooOldError, match=r"needs 2\.11 or newer") as refused:
            await bus.established(60)

    assert refused.value.problem.code == "nats_too_old"
    assert refused.value.exit == 3


@pytest.mark.parametrize("version", ["2.11.0", "2.12.0-RC.1", "3.0.0"])
async def test_a_nats_that_is_new_enough_is_not(version):
    async with server_of_version(version) as url, Bus(url, name="test") as bus:
        await bus.established(60)


async def test_a_loss_and_a_return_are_noticed_and_told(bus, nats_server):
    told = []
    bus.on_loss(lambda: told.append("lost"))
    end = bus.on_reconnect(lambda: told.append("back"))
    before = bus.back_at

    await nats_server.kill()
    await until(lambda: told == ["lost"])
    await nats_server.start()
    await until(lambda: told == ["lost", "back"])

    assert before < bus.lost_at < bus.back_at
    end()
    await bus.client.force_reconnect()
    await until(lambda: told.count("lost") == 2)
    await bus.reachable(60)
    assert told.count("back") == 1


async def test_while_nats_is_away_the_log_says_so_once_and_not_every_try(bus, nats_server):
    tries = []
    with structlog.testing.capture_logs() as lines:
        await nats_server.stop()
        original = bus.client._error_cb

        async def count(error):
            tries.append(error)
            await original(error)

        bus.client._error_cb = count
        await until(lambda: len(tries) > 5)

    said = [line["event"] for line in lines]
    assert said.count("bus.lost") == 1
    assert len(said) < len(tries)
    assert not any("exc_info" in line for line in lines)


async def test_what_a_person_mends_on_the_server_needs_no_restart(tmp_path):
    """nats-py gives up for good when the server takes its user away."""
    config = tmp_path / "nats.conf"

    def write(password):
        config.write_text(f"authorization {{ user: ada, password: {password} }}\n")

    write("right")
    async with NatsServer(tmp_path / "nats", options=("--config", str(config))) as server:
        url = server.url.replace("//", "//ada:right@")
        async with Bus(url, name="test") as bus:
            await bus.established(60)

            write("wrong")
            server._process.send_signal(signal.SIGHUP)
            await until(lambda: not bus.connected)
            write("right")
            server._process.send_signal(signal.SIGHUP)

            await bus.reachable(60)
            await bus.client.flush()


@pytest.mark.parametrize("error", ["Authorization Violation", "Slow Consumer"])
async def test_an_error_that_the_server_sends_ends_a_connection_and_not_the_bus(error):
    greeted = []

    async def hello(reader, writer):
        writer.write(b'INFO {"version":"2.11.0","max_payload":1024,"proto":1}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
                greeted.append(line)
                if len(greeted) == 1:
                    writer.write(f"-ERR '{error}'\r\n".encode())
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Bus(url, name="test") as bus:
        await until(lambda: bus.lost_at)
        await bus.reachable(60)


async def test_asking_who_does_not_run_says_who_and_how_to_start_it(bus):
    with pytest.raises(UnavailableError, match="the auth does not run: start it with `caravan up`"):
        await bus.ask(topology.LIST_TENANTS, admin.ListTenants())


async def test_asking_who_is_silent_says_to_ask_again(bus):
    heard = []
    await bus.subscribe(topology.LIST_TENANTS.subject, admin.ListTenants, heard.append)

    with pytest.raises(UnavailableError, match=r"did not answer within 0.05 s: ask again"):
        await bus.ask(topology.LIST_TENANTS, admin.ListTenants(), timeout_s=0.05)


async def test_asking_without_nats_says_what_to_start(free_port):
    async with Bus(f"nats://127.0.0.1:{free_port}", name="test") as bus:
        with pytest.raises(UnavailableError, match="caravan up"):
            await bus.ask(topology.LIST_TENANTS, admin.ListTenants(), timeout_s=0.05)


async def test_an_answer_that_cannot_be_read_is_no_answer(bus):
    async def garbage(message):
        await message.respond(b'{"items":"none"}')

    await bus.client.subscribe(topology.LIST_TENANTS.subject, cb=garbage)

    with pytest.raises(RemoteRefusal, match="cannot be read: is it of the same version"):
        await bus.ask(topology.LIST_TENANTS, admin.ListTenants())


async def test_what_is_published_without_a_connection_is_dropped(bus, nats_server):
    """Reports are of now: one of before the outage would be a lie after it."""
    heard = []
    await bus.subscribe("caravan.report.*", Lease, heard.append)
    await nats_server.stop()
    await until(lambda: not bus.connected)
    await bus.publish("caravan.report.old", Lease(incarnation="old"))
    await nats_server.start()
    await bus.reachable(60)

    await bus.publish("caravan.report.new", Lease(incarnation="new"))
    await until(lambda: heard)

    assert heard == [Lease(incarnation="new")]


async def test_a_message_that_cannot_be_read_is_counted_and_the_next_is_heard(bus):
    heard = []
    await bus.subscribe("caravan.report.*", Lease, heard.append)

    await bus.client.publish("caravan.report.bad", b"{")
    await bus.publish("caravan.report.good", LEASE)
    await until(lambda: heard)

    assert heard == [LEASE]
    assert bus.unreadable == 1


async def test_a_message_whose_handling_fails_does_not_stop_the_next(bus):
    heard = []

    async def handle(value):
        heard.append(value)
        if len(heard) == 1:
            raise ZeroDivisionError

    end = await bus.subscribe("caravan.report.*", Lease, handle)
    with structlog.testing.capture_logs() as lines:
        await bus.publish("caravan.report.a", LEASE)
        await bus.publish("caravan.report.b", LEASE)
        await until(lambda: len(heard) == 2)

    assert [line["event"] for line in lines] == ["bus.handler_failed"]
    await end()
    await bus.publish("caravan.report.c", LEASE)
    await bus.client.flush()
    assert len(heard) == 2


async def test_a_subscription_lasts_over_a_restart(bus, nats_server):
    heard = []
    await bus.subscribe("caravan.report.*", Lease, heard.append)
    await nats_server.kill()
    await nats_server.start()
    await bus.reachable(60)

    await bus.publish("caravan.report.a", LEASE)

    await until(lambda: heard == [LEASE])


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.request("asked", timeout=60),
        lambda client: client.request("nobody.there", timeout=60),
        lambda client: client.flush(60),
    ],
    ids=["answer", "no responders", "flush"],
)
async def test_a_cancellation_that_meets_the_answer_is_not_lost(bus, ask):
    async def answer(message):
        await message.respond(b"")

    await bus.client.subscribe("asked", cb=answer)
    asking = asyncio.create_task(ask(bus.client))
    while not (waited := [*bus.client._resp_map.values(), *bus.client._pongs]):  # noqa: ASYNC110
        await asyncio.sleep(0)
    waited[0].add_done_callback(lambda _: asking.cancel())

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not waited[0].cancelled()


async def test_an_answer_whose_waiter_was_not_cancelled_comes_as_it_is(bus):
    async def answer(message):
        await message.respond(b"yes")

    await bus.client.subscribe("asked", cb=answer)
    task = asyncio.current_task()
    task.cancel()  # before, and taken notice of: it is no reason to lose what is asked later
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)

    assert (await bus.client.request("asked", timeout=60)).data == b"yes"
    task.uncancel()
