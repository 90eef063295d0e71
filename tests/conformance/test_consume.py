"""One suite, two transports: what a handler may rely on."""

import asyncio
import contextlib

import pytest

from caravan.contracts import topology
from caravan.contracts.events import Event
from caravan.kit.buckets import open_stream
from caravan.kit.consume import RetryLater, consume
from caravan.kit.dead import bury
from caravan.testing.wait import until

CREATED = (
    b'{"type":"event.v1","number":1,"owner":"auth","at":1.0,"kind":"key",'
    b'"tenant":"u-8105f7322477","name":"k-1","what":"created"}'
)
SUBJECT = topology.event_subject("key", "u-8105f7322477", "k-1", "created")


class MemoryDelivery:
    def __init__(self, transport, data):
        self.transport, self.subject, self.data = transport, SUBJECT, data

    async def ack(self):
        self.transport.acked += 1

    async def term(self):
        self.transport.acked += 1

    async def nak(self, delay=None):  # noqa: ARG002 - memory needs no delay
        self.transport.queue.put_nowait(self)


class MemoryTransport:
    """Deliveries from a queue."""

    def __init__(self):
        self.queue, self.dead, self.acked = asyncio.Queue(), [], 0

    async def publish(self, data):
        self.queue.put_nowait(MemoryDelivery(self, data))

    async def deliveries(self):
        while True:
            yield await self.queue.get()

    async def bury(self, _subject, data):
        self.dead.append(data)

    async def buried(self):
        return self.dead

    async def unacked(self):
        return self.queue.qsize()


class NatsTransport:
    """Deliveries from a stream of a real server."""

    def __init__(self, bus):
        self.bus = bus

    async def publish(self, data):
        await self.bus.js.publish(SUBJECT, data)

    async def deliveries(self):
        subscription = await self.bus.js.pull_subscribe("caravan.events.>", durable="test")
        while True:
            with contextlib.suppress(TimeoutError):
                for message in await subscription.fetch(1, timeout=1):
                    yield message

    async def bury(self, subject, data):
        await bury(self.bus, subject, data)

    async def buried(self):
        state = (await self.bus.js.stream_info(topology.DEAD.name)).state
        numbers = range(1, state.last_seq + 1)
        return [(await self.bus.js.get_msg(topology.DEAD.name, n)).data for n in numbers]

    async def unacked(self):
        info = await self.bus.js.consumer_info(topology.EVENTS.name, "test")
        return info.num_ack_pending + info.num_pending


@pytest.fixture
def memory_transport():
    return MemoryTransport()


@pytest.fixture
async def nats_transport(bus):
    await open_stream(bus, topology.EVENTS)
    await open_stream(bus, topology.DEAD)
    return NatsTransport(bus)


@pytest.fixture(params=["memory", "nats"])
def transport(request):
    return request.getfixturevalue(f"{request.param}_transport")


class Consuming:
    """``consume`` as a task."""

    def __init__(self, transport, handle):
        self.transport, self.handle = transport, handle

    async def run(self):
        await consume(self.transport.deliveries(), Event, self.handle, self.transport.bury)


async def settled(transport):
    return await transport.unacked() == 0


async def test_an_event_that_cannot_be_read_is_kept_and_does_not_stop_the_next(transport, running):
    seen = []

    async def handle(event):
        seen.append(event)

    await transport.publish(b"\xff")
    await transport.publish(CREATED)
    running.start(Consuming(transport, handle))
    await until(lambda: seen)

    assert await transport.buried() == [b"\xff"]
    assert [event.what for event in seen] == ["created"]
    await until(lambda: settled(transport))


async def test_a_handler_may_ask_to_see_an_event_again(transport, running):
    tries = []

    async def handle(event):
        tries.append(event.number)
        if len(tries) == 1:
            raise RetryLater(0.05)

    await transport.publish(CREATED)
    running.start(Consuming(transport, handle))
    await until(lambda: len(tries) == 2)

    assert tries == [1, 1]
    await until(lambda: settled(transport))


async def test_an_event_is_acknowledged_only_after_it_was_handled(transport, running):
    go_on, began = asyncio.Event(), asyncio.Event()

    async def handle(_):
        began.set()
        await go_on.wait()

    await transport.publish(CREATED)
    await transport.publish(CREATED)
    running.start(Consuming(transport, handle))
    await asyncio.wait_for(began.wait(), 60)
    assert await transport.unacked() >= 1

    go_on.set()
    await until(lambda: settled(transport))


async def test_a_handler_that_fails_ends_the_consumer_and_acknowledges_nothing(transport):
    """Its service restarts, and the event is delivered once more."""

    async def handle(_):
        raise ZeroDivisionError

    await transport.publish(CREATED)
    with pytest.raises(ZeroDivisionError):
        await Consuming(transport, handle).run()

    assert await transport.buried() == []
    assert getattr(transport, "acked", 0) == 0
