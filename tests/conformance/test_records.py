"""Compare-and-set on a real server: who writes a key knows what stood there."""

import asyncio

import msgspec
import pytest

from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Record
from caravan.kit import records
from caravan.kit.buckets import open_bucket
from caravan.testing.wait import until

KEY = "u-8105f7322477.test.i-aaaaaa"


def record(term=1, state="starting"):
    return Record(incarnation=f"life {term}", term=term, generation=1, state=state)


@pytest.fixture
async def kv(bus):
    return await open_bucket(bus, topology.INSTANCES)


async def test_a_key_that_nobody_wrote_is_none(kv):
    assert await records.read(kv, KEY, Record) is None


async def test_what_was_written_is_read_with_its_revision(kv):
    revision = await records.write(kv, KEY, record(), revision=None)

    assert await records.read(kv, KEY, Record) == records.Entry(record(), revision)


async def test_the_first_write_finds_that_somebody_was_there_before(kv):
    await records.write(kv, KEY, record(), revision=None)

    with pytest.raises(records.ConflictError, match="read it again"):
        await records.write(kv, KEY, record(2), revision=None)


async def test_a_write_over_an_old_revision_changes_nothing(kv):
    first = await records.write(kv, KEY, record(), revision=None)
    await records.write(kv, KEY, record(2), revision=first)

    with pytest.raises(records.ConflictError):
        await records.write(kv, KEY, record(1, "ready"), revision=first)

    assert (await records.read(kv, KEY, Record)).value == record(2)


async def test_of_many_at_once_exactly_one_writes(kv):
    first = await records.write(kv, KEY, record(), revision=None)

    writes = [records.write(kv, KEY, record(n), revision=first) for n in range(2, 12)]
    results = await asyncio.gather(*writes, return_exceptions=True)

    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, records.ConflictError) for result in results) == 9


async def test_a_deleted_key_can_be_written_as_if_it_had_never_been(kv):
    await records.write(kv, KEY, record(), revision=None)
    await records.delete(kv, KEY)
    assert await records.read(kv, KEY, Record) is None

    await records.write(kv, KEY, record(2), revision=None)

    assert (await records.read(kv, KEY, Record)).value == record(2)


async def test_a_revision_of_before_the_deletion_conflicts(kv):
    first = await records.write(kv, KEY, record(), revision=None)
    await records.delete(kv, KEY)

    with pytest.raises(records.ConflictError):
        await records.write(kv, KEY, record(2), revision=first)


async def test_the_mark_of_a_deleted_key_does_not_last_for_ever(bus, kv):
    """Or a bucket would grow with every instance that there ever was."""
    await records.delete(kv, KEY)

    mark = await bus.js.get_msg("KV_instances", subject=f"$KV.instances.{KEY}")

    assert (mark.headers["KV-Operation"], mark.headers["Nats-TTL"]) == ("DEL", "86400")


async def test_deleting_what_is_not_there_is_no_error(kv):
    await records.delete(kv, KEY)


async def test_one_writer_puts_without_asking(kv):
    first = await records.put(kv, KEY, record())
    second = await records.put(kv, KEY, record(2))

    assert second > first
    assert await records.read(kv, KEY, Record) == records.Entry(record(2), second)


async def test_a_value_that_cannot_be_read_says_so(kv):
    await kv.put(KEY, b'{"type":"instance.v9"}')

    with pytest.raises(msgspec.DecodeError):
        await records.read(kv, KEY, Record)


@pytest.mark.parametrize(
    "act",
    [
        lambda kv: records.read(kv, KEY, Record),
        lambda kv: records.write(kv, KEY, record(), revision=None),
        lambda kv: records.put(kv, KEY, record()),
        lambda kv: records.delete(kv, KEY),
    ],
    ids=["read", "write", "put", "delete"],
)
async def test_without_nats_nothing_is_written_later(bus, kv, nats_server, act):
    """Refused at once, so that it cannot be waiting in a buffer when NATS is back."""
    await nats_server.stop()
    await until(lambda: not bus.connected)

    with pytest.raises(UnavailableError, match="caravan up"):
        await act(kv)

    await nats_server.start()
    await bus.reachable(60)
    assert await records.read(kv, KEY, Record) is None


async def test_a_bucket_that_was_lost_is_made_again_as_it_was(bus, kv, nats_server):
    await records.put(kv, KEY, record())
    await nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await bus.reachable(60)
    with pytest.raises(UnavailableError, match="emptied"):
        await records.put(kv, KEY, record())

    again = await open_bucket(bus, topology.INSTANCES)

    assert await records.read(again, KEY, Record) is None
    await records.put(again, KEY, record())


async def test_two_that_open_a_bucket_at_once_get_the_same(bus):
    buckets = await asyncio.gather(*(open_bucket(bus, topology.KEYS) for _ in range(5)))

    assert len({bucket._stream for bucket in buckets}) == 1
