import asyncio
import contextlib

import msgspec
import pytest

from caravan.contracts import topology
from caravan.contracts.events import Event
from caravan.kit import outbox
from caravan.kit.sql import Database

PATIENCE_S = 60


def note(session, name="n", **more):
    event = {"kind": "key", "tenant": "t", "what": "created", "at": 1.0} | more
    return outbox.record(session, name=name, **event)


async def add(db, *names):
    for name in names:
        await db.run(lambda session, name=name: note(session, name, at=4e9))


@contextlib.asynccontextmanager
async def relaying(db, bus):
    wake = asyncio.Event()
    task = asyncio.create_task(outbox.relay(db, bus, "auth", wake))
    try:
        yield wake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def published(bus, count):
    """The events in the stream, once there are ``count``."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Exception):
                info = await bus.js.stream_info("EVENTS")
                if info.state.messages >= count:
                    break
            await asyncio.sleep(0.05)
    found = []
    for number in range(info.state.first_seq, info.state.last_seq + 1):
        message = await bus.js.get_msg("EVENTS", number)
        found.append((message.subject, msgspec.json.decode(message.data, type=Event)))
    return found


async def names(bus, count):
    return [event.name for _, event in await published(bus, count)]


async def test_numbers_grow_by_one_and_a_taken_back_one_was_never_seen(db):
    assert await db.run(outbox.newest) == 0
    assert [await db.run(note) for _ in range(3)] == [1, 2, 3]

    def undone(session):
        note(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await db.run(undone)
    assert await db.run(note) == 4
    assert await db.run(outbox.newest) == 4


async def test_numbers_go_on_above_what_the_world_has_seen(db):
    assert await db.run(lambda session: note(session, above=40)) == 41
    assert await db.run(lambda session: note(session, above=7)) == 42


async def test_history_comes_in_pages_by_tenant_and_name(db):
    await add(db, "a", "b", "a", "a")
    await db.run(lambda session: note(session, "a", tenant="other"))

    def page(session):
        return outbox.history(session, owner="auth", tenant="t", name="a", after=1, limit=2)

    assert [(e.number, e.name, e.owner) for e in await db.run(page)] == [
        (3, "a", "auth"),
        (4, "a", "auth"),
    ]


async def test_events_are_published_in_order_with_all_that_they_say(db, bus):
    await db.run(lambda session: note(session, "k-1", actor="me", detail={"a": [1]}, at=4e9))
    async with relaying(db, bus) as wake:
        await published(bus, 1)
        await add(db, *"bcd")
        wake.set()
        found = await published(bus, 4)
    subject, event = found[0]
    assert subject == "caravan.events.key.t.k-1.created"
    assert (event.number, event.owner, event.actor) == (1, "auth", "me")
    assert msgspec.json.decode(event.detail) == {"a": [1]}
    assert [event.number for _, event in found] == [1, 2, 3, 4]


async def test_the_relay_goes_on_from_its_mark(db, bus):
    await add(db, *"ab")
    async with relaying(db, bus):
        await published(bus, 2)
        await marked(db, 2)
    await bus.js.purge_stream("EVENTS")  # so that what is published again would be seen
    await add(db, "c")
    async with relaying(db, bus):
        assert await names(bus, 1) == ["c"]


async def test_what_is_published_twice_is_kept_once(db, bus):
    await add(db, *"ab")
    async with relaying(db, bus):
        await published(bus, 2)
        await marked(db, 2)
    await db.run(lambda session: session.delete(session.get(outbox.RelayedRow, 1)))
    await add(db, "c")
    async with relaying(db, bus):
        assert await names(bus, 3) == ["a", "b", "c"]


async def test_the_relay_outlives_an_outage_of_nats(db, bus, nats_server):
    async with relaying(db, bus):
        await add(db, "a")
        await nats_server.kill()
        await add(db, "b")
        await nats_server.start()
        assert await names(bus, 2) == ["a", "b"]


async def test_a_stream_that_was_lost_is_told_again(db, bus, nats_server):
    await db.run(lambda session: note(session, "older than the stream keeps", at=1.0))
    await add(db, *"ab")
    async with relaying(db, bus):
        await marked(db, 3)
        await nats_server.kill()
        nats_server.wipe()
        await nats_server.start()
        assert await names(bus, 2) == ["a", "b"]


async def test_the_relay_outlives_an_outage_of_the_database(postgres_server, bus):
    from tests.unit.kit_run.conftest import MIGRATIONS  # noqa: PLC0415

    async with Database(postgres_server.url()) as db:
        await db.open(MIGRATIONS)
        await db.run(lambda session: session.connection().exec_driver_sql("DELETE FROM events"))
        await add(db, "a")
        async with relaying(db, bus) as wake:
            await published(bus, 1)
            postgres_server.stop()
            wake.set()
            postgres_server.start()
            await add(db, "b")
            assert await names(bus, 2) == ["a", "b"]


async def marked(db, number):
    """Wait until the relay has noted how far it is."""

    def mark(session):
        row = session.get(outbox.RelayedRow, 1)
        return row.number if row else 0

    async with asyncio.timeout(PATIENCE_S):
        while await db.run(mark) < number:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.02)


def test_an_event_has_a_subject_in_the_stream():
    (subjects,) = topology.EVENTS.subjects
    assert topology.event_subject("hold", "", "auth", "held").startswith(subjects.rstrip(">"))
