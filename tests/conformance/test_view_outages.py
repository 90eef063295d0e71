"""What a view still says when NATS is away, killed or emptied, on a real server."""

import asyncio
import contextlib
import os
import shutil
import signal

import msgspec
import pytest

from caravan.contracts import topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Lease, Record
from caravan.kit import lease, records
from caravan.kit.buckets import open_bucket, write_complete, write_complete_for
from caravan.kit.bus import Bus
from caravan.kit.table import Missing
from caravan.kit.view import View
from caravan.testing.nats import NatsServer
from caravan.testing.wait import until

BUCKET = topology.DEPLOYMENTS
LEASES = topology.Bucket(
    name="leases", key="", writer="worker", value=Lease, readers=(), ttl_s=1, memory=True
)


def entry(state="running"):
    return DeploymentEntry(task="text-generation", generations=[1], state=state)


def record(state="ready"):
    return Record(incarnation="one", term=1, generation=1, state=state)


@pytest.fixture
async def kv(bus):
    return await open_bucket(bus, BUCKET)


@pytest.fixture
async def view(bus, kv, running):
    """A complete view of two deployments, which are `running`."""
    await records.put(kv, "t.a", entry())
    await records.put(kv, "t.b", entry())
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET))
    assert await view.wait_complete(60)
    return view


@contextlib.asynccontextmanager
async def unheard(bus, nats_server):
    """NATS goes on elsewhere with the same disk, so that the view hears nothing of it."""
    await nats_server.stop()
    elsewhere = NatsServer(nats_server.folder)
    async with elsewhere, Bus(elsewhere.url, name="elsewhere") as other:
        yield other
    await nats_server.start()
    await bus.reachable(60)


async def test_a_look_up_under_way_when_nats_is_restarted_is_answered(bus, kv, nats_server):
    """What the server that died was asked has no answer any more."""
    await records.put(kv, "t.a", entry())
    sent = bus.client.stats["out_msgs"]
    os.kill(nats_server.pid, signal.SIGSTOP)
    asked = asyncio.create_task(View(bus, BUCKET).look_up("t.a"))
    await until(lambda: bus.client.stats["out_msgs"] > sent and not bus.client.pending_data_size)

    await nats_server.kill()
    await nats_server.start()

    assert await asked == entry()


async def test_a_look_up_waits_for_a_nats_that_went_a_moment_ago(bus, kv, nats_server):
    await records.put(kv, "t.a", entry())
    await nats_server.stop()
    await until(lambda: not bus.connected)
    asked = asyncio.create_task(View(bus, BUCKET).look_up("t.a"))

    await nats_server.start()

    assert await asked == entry()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_view_goes_on_after_the_server_was_restarted(view, bus, nats_server, end):
    before = view.position
    await getattr(nats_server, end)()
    await until(lambda: not bus.connected)
    assert len(view) == 2

    await nats_server.start()
    await bus.reachable(60)
    revision = await records.put(await open_bucket(bus, BUCKET), "t.a", entry("failed"))
    await until(lambda: view.position.sequence >= revision)

    assert dict(view.items()) == {"t.a": entry("failed"), "t.b": entry()}
    assert view.position.created == before.created
    assert view.position.complete


async def test_what_was_missed_during_an_outage_is_made_up_for(bus, kv, nats_server, running):
    """Changed, deleted and new entries, none of which the view could hear of."""
    await records.put(kv, "t.a", entry())
    await records.put(kv, "t.b", entry())
    await write_complete(bus, BUCKET, epoch=1)
    told = []
    view = View(bus, BUCKET, changed=lambda key, value: told.append((key, value)))
    running.start(view)
    assert await view.wait_complete(60)
    told.clear()

    async with unheard(bus, nats_server) as other:
        elsewhere = await open_bucket(other, BUCKET)
        await records.put(elsewhere, "t.a", entry("failed"))
        await records.delete(elsewhere, "t.b")
        revision = await records.put(elsewhere, "t.c", entry())
    await until(lambda: view.position.sequence >= revision)

    assert told == [("t.a", entry("failed")), ("t.b", None), ("t.c", entry())]
    assert dict(view.items()) == {"t.a": entry("failed"), "t.c": entry()}
    assert view.position.complete


async def test_a_key_that_expired_unheard_is_gone_even_when_its_marker_is(
    bus, nats_server, running
):
    bucket = msgspec.structs.replace(LEASES, memory=False)
    await open_bucket(bus, bucket)
    view = running.start(View(bus, bucket, missing=Missing.STREAM))
    await lease.renew(bus, bucket, "t.a.i-aaaaaa", Lease(incarnation="one"))
    await until(lambda: len(view) == 1)

    async with unheard(bus, nats_server) as other:
        await other.established(60)
        await until(lambda: emptied(other, "KV_leases"))

    await until(lambda: len(view) == 0)


async def emptied(bus, stream):
    return (await bus.js.stream_info(stream)).state.messages == 0


async def test_leases_in_memory_are_gone_with_the_server(bus, nats_server, running):
    await open_bucket(bus, LEASES)
    view = running.start(View(bus, LEASES))
    await lease.renew(bus, LEASES, "t.a.i-aaaaaa", Lease(incarnation="one"))
    await until(lambda: len(view) == 1)

    await nats_server.kill()
    await nats_server.start()
    await until(lambda: len(view) == 0)

    await bus.reachable(60)
    await open_bucket(bus, LEASES)
    await lease.renew(bus, LEASES, "t.a.i-bbbbbb", Lease(incarnation="two"))
    await until(lambda: view.get("t.a.i-bbbbbb") is not None)


async def test_an_emptied_nats_deletes_nothing_until_the_owner_has_compared(view, bus, nats_server):
    await nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    before = view.position.created
    await bus.reachable(60)
    await until(lambda: view.position.created not in {"", before})

    assert len(view) == 2
    assert view.complete
    assert not view.position.complete
    assert view.kept == {"t.a", "t.b"}

    kv = await open_bucket(bus, BUCKET)
    await records.put(kv, "t.a", entry("stopped"))
    await write_complete(bus, BUCKET, epoch=2)
    await until(lambda: view.position.complete)

    assert dict(view.items()) == {"t.a": entry("stopped")}
    assert view.epoch == 2


async def test_the_word_of_the_owner_for_another_stream_is_not_believed(view, bus, nats_server):
    """An owner that compared before NATS lost its disk, and wrote after, has compared nothing."""
    old = view.position.created
    await nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await bus.reachable(60)
    await until(lambda: view.position.created != old)

    await write_complete_for(bus, BUCKET, old, epoch=9)
    await until(lambda: view.epoch == 9)

    assert len(view) == 2
    assert not view.position.complete


async def test_records_stay_after_an_emptied_disk_until_the_caller_lets_go(
    bus, nats_server, running
):
    """Nobody owns the whole of `instances`: the caller prunes what `deployments` does not name."""
    kv = await open_bucket(bus, topology.INSTANCES)
    for key in ("t.a.i-aaaaaa", "t.a.i-bbbbbb", "t.a.i-cccccc"):
        await records.put(kv, key, record())
    view = running.start(View(bus, topology.INSTANCES))
    assert await view.wait_complete(60)
    before = view.position.created
    await nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await until(lambda: view.position.created != before)
    assert len(view) == 3

    await records.put(await open_bucket(bus, topology.INSTANCES), "t.a.i-aaaaaa", record("loading"))
    await until(lambda: view.kept == {"t.a.i-bbbbbb", "t.a.i-cccccc"})

    assert view.prune(lambda key: key == "t.a.i-bbbbbb") == ["t.a.i-cccccc"]
    assert dict(view.items()) == {"t.a.i-aaaaaa": record("loading"), "t.a.i-bbbbbb": record()}


async def test_a_stream_that_lost_its_end_neither_deletes_nor_sets_back_by_itself(
    view, bus, nats_server, tmp_path
):
    """A disk restored from a copy: the same stream, at an earlier sequence."""
    await nats_server.stop()
    shutil.copytree(nats_server.folder / "data", tmp_path / "backup")
    await nats_server.start()
    await bus.reachable(60)
    kv = await open_bucket(bus, BUCKET)
    await records.put(kv, "t.a", entry("failed"))
    revision = await records.put(kv, "t.new", entry())
    await until(lambda: view.position.sequence >= revision)

    await nats_server.stop()
    nats_server.wipe()
    shutil.copytree(tmp_path / "backup", nats_server.folder / "data")
    await nats_server.start()
    await until(lambda: view.kept == {"t.a", "t.new"})
    assert not view.position.complete
    assert (view.get("t.a"), view.get("t.new")) == (entry("failed"), entry())

    await bus.reachable(60)
    await write_complete(bus, BUCKET, epoch=2)
    await until(lambda: view.position.complete)

    assert dict(view.items()) == {"t.a": entry(), "t.b": entry()}


async def test_a_view_grows_old_while_nats_is_away(view, bus, nats_server):
    await nats_server.stop()
    await until(lambda: not bus.connected)
    age_s = view.age_s

    await until(lambda: view.age_s > age_s + 0.1)

    assert view.complete
