"""Leases on a real server: a sign of life ends by itself."""

import msgspec
import pytest

from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Lease
from caravan.kit import lease, records
from caravan.kit.buckets import open_bucket
from caravan.kit.view import View
from caravan.testing.wait import until

BUCKET = msgspec.structs.replace(topology.LEASES, ttl_s=1)
KEY = "u-8105f7322477.test.i-aaaaaa"


@pytest.fixture
async def kv(bus):
    return await open_bucket(bus, BUCKET)


@pytest.fixture
async def view(bus, kv, running):  # noqa: ARG001 - the bucket with the short TTL comes first
    return running.start(View(bus, BUCKET))


async def test_a_lease_lapses_unless_it_is_renewed(bus, kv, view):
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one"))
    await until(lambda: KEY in dict(view.items()))

    await until(lambda: KEY not in dict(view.items()))

    assert await records.read(kv, KEY, Lease) is None


async def test_a_renewal_carries_the_newest_load(bus, view):
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one", running=1))
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one", running=2))

    await until(lambda: view.get(KEY) == Lease(incarnation="one", running=2))


async def test_a_renewal_starts_the_term_anew(bus, kv):
    """What lapses is the newest renewal: an earlier one takes nothing with it."""
    other = KEY.replace("aaaaaa", "bbbbbb")
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one"))
    await lease.renew(bus, BUCKET, other, Lease(incarnation="two"))
    await until(lambda: renewed_until_gone(bus, kv, KEY, other))

    assert (await records.read(kv, KEY, Lease)).value.incarnation == "one"


async def renewed_until_gone(bus, kv, renewed, other):
    await lease.renew(bus, BUCKET, renewed, Lease(incarnation="one"))
    return await records.read(kv, other, Lease) is None


async def test_a_lapsed_key_can_be_written_as_if_it_had_never_been(bus, kv):
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one"))
    await until(lambda: lapsed(kv))

    await records.write(kv, KEY, Lease(incarnation="two"), revision=None)

    assert (await records.read(kv, KEY, Lease)).value.incarnation == "two"


async def lapsed(kv):
    return await records.read(kv, KEY, Lease) is None


async def test_a_released_lease_is_gone_at_once(bus, kv):
    await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one"))

    await lease.release(bus, BUCKET, KEY)

    assert await records.read(kv, KEY, Lease) is None


async def test_leases_live_in_memory_and_leave_a_mark_when_they_lapse(bus, kv):  # noqa: ARG001
    config = (await bus.js.stream_info("KV_leases")).config

    assert config.storage == "memory"
    assert config.subject_delete_marker_ttl == BUCKET.ttl_s


async def test_a_renewal_without_nats_is_refused_and_not_sent_later(bus, nats_server):
    await open_bucket(bus, BUCKET)
    await nats_server.stop()
    await until(lambda: not bus.connected)
    with pytest.raises(UnavailableError):
        await lease.renew(bus, BUCKET, KEY, Lease(incarnation="one"))

    await nats_server.start()
    await bus.reachable(60)

    again = await open_bucket(bus, BUCKET)
    assert await records.read(again, KEY, Lease) is None
