"""What a view may be relied on for while NATS is there, on a real server."""

import pytest
from nats.js.errors import NotFoundError

from caravan.contracts import topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Lease
from caravan.kit import lease, records
from caravan.kit.buckets import open_bucket, write_complete
from caravan.kit.view import View
from caravan.testing.wait import until

BUCKET = topology.DEPLOYMENTS


def entry(state="running"):
    return DeploymentEntry(task="text-generation", generations=[1], state=state)


@pytest.fixture
async def kv(bus):
    return await open_bucket(bus, BUCKET)


async def test_two_thousand_entries_are_all_there_before_a_view_is_complete(bus, kv, running):
    await write_complete(bus, BUCKET, epoch=7)
    for number in range(2000):
        await records.put(kv, f"t.d{number}", entry())
    sizes = []

    view = View(bus, BUCKET, changed=lambda _key, _value: sizes.append(view.complete))
    running.start(view)

    assert await view.wait_complete(60)
    assert len(view) == 2000
    assert sizes == [False] * 2000
    assert (view.epoch, view.position.complete) == (7, True)


async def test_an_entry_is_in_the_view_when_its_position_says_so(bus, kv, running):
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET))
    assert await view.wait_complete(60)

    revision = await records.put(kv, "t.a", entry())
    await until(lambda: view.position.sequence >= revision)

    assert view.get("t.a") == entry()


async def test_changes_are_told_once_each_and_in_order(bus, kv, running):
    told = []
    running.start(View(bus, BUCKET, changed=lambda key, value: told.append((key, value))))

    await records.put(kv, "t.a", entry("starting"))
    await until(lambda: len(told) == 1)
    await records.put(kv, "t.a", entry("running"))
    await records.put(kv, "t.b", entry())
    await records.delete(kv, "t.a")
    await until(lambda: len(told) == 4)

    assert told == [
        ("t.a", entry("starting")),
        ("t.a", entry("running")),
        ("t.b", entry()),
        ("t.a", None),
    ]


async def test_a_write_of_the_same_value_is_heard_and_changes_nothing(bus, kv, running):
    """A lease that is renewed with the same words is a sign of life all the same."""
    heard, told = [], []
    running.start(
        View(
            bus,
            BUCKET,
            changed=lambda key, _value: told.append(key),
            heard=lambda key, value, revision: heard.append((key, value, revision)),
        )
    )
    first = await records.put(kv, "t.a", entry())
    second = await records.put(kv, "t.a", entry())

    await until(lambda: heard and heard[-1][2] == second)

    assert told == ["t.a"]
    assert heard in (
        [("t.a", entry(), first), ("t.a", entry(), second)],
        [("t.a", entry(), second)],
    )


async def test_a_lease_that_lapses_is_gone(bus, running):
    bucket = topology.Bucket(
        name="leases", key="", writer="worker", value=Lease, readers=(), ttl_s=1, memory=True
    )
    await open_bucket(bus, bucket)
    view = running.start(View(bus, bucket))

    await lease.renew(bus, bucket, "t.d.i", Lease(incarnation="one"))
    await until(lambda: view.get("t.d.i") is not None)

    await until(lambda: view.get("t.d.i") is None)


async def test_a_bucket_that_nobody_has_made_yet_is_made(bus, running):
    view = running.start(View(bus, topology.INSTANCES))

    assert await view.wait_complete(60)
    assert len(view) == 0


async def test_a_view_is_not_complete_before_the_owner_has_compared_the_bucket(bus, kv, running):
    """An empty bucket that nobody has filled yet is no "there are no keys"."""
    await records.put(kv, "t.a", entry())
    view = running.start(View(bus, BUCKET))
    await until(lambda: len(view) == 1)
    assert not view.complete
    assert not view.position.complete

    await write_complete(bus, BUCKET, epoch=3)

    assert await view.wait_complete(60)


@pytest.mark.parametrize(
    "bad", [b'{"type":"deployment.v9"}', b"{", b"\xff", b'{"type":"\xff"}', b"[" * 100_000]
)
async def test_an_entry_that_cannot_be_read_keeps_its_last_good_value(bus, kv, running, bad):
    """Its bytes are kept in DEAD once, and the entries beside it arrive."""
    view = running.start(View(bus, BUCKET))
    await records.put(kv, "t.a", entry())
    await until(lambda: view.get("t.a") is not None)

    await kv.put("t.a", bad)
    await records.put(kv, "t.b", entry())
    await until(lambda: view.get("t.b") is not None)

    assert view.get("t.a") == entry()
    assert view.unreadable == 1
    await until(lambda: messages(bus, topology.DEAD.name))
    buried = await bus.js.get_msg(topology.DEAD.name, 1)
    assert buried.data == bad
    assert buried.headers["Caravan-Subject"] == "$KV.deployments.t.a"
    await bus.client.force_reconnect()
    revision = await replayed(view, kv, bus)
    assert (view.position.sequence, view.unreadable) == (revision, 1)
    assert await messages(bus, topology.DEAD.name) == 1


async def messages(bus, stream):
    """Return how many messages the stream holds; none where there is no stream yet."""
    try:
        return (await bus.js.stream_info(stream)).state.messages
    except NotFoundError:
        return 0


async def replayed(view, kv, bus):
    """Write after a reconnection; return the revision when the view has replayed and heard it."""
    await bus.reachable(60)
    revision = await records.put(kv, "t.c", entry())
    await until(lambda: view.position.sequence == revision)
    return revision


async def test_a_look_up_finds_what_was_written_a_moment_ago(bus, kv, running):
    """The answer is taken in, so the next reader has it without asking."""
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET))
    assert await view.wait_complete(60)

    await records.put(kv, "t.b", entry("late"))

    assert await view.look_up("t.b") == entry("late")
    assert view.get("t.b") == entry("late")


async def test_a_look_up_of_what_a_view_does_not_follow_is_answered_but_not_kept(bus, kv, running):
    """It would never be told of a change."""
    await records.put(kv, "t.b", entry())
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET, keys="t.a"))
    assert await view.wait_complete(60)

    assert await view.look_up("t.b") == entry()
    assert view.get("t.b") is None


async def test_a_look_up_of_a_missing_or_deleted_key_finds_nothing(bus, kv, running):
    await records.put(kv, "t.gone", entry())
    await records.delete(kv, "t.gone")
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET))
    assert await view.wait_complete(60)

    assert await view.look_up("t.never") is None
    assert await view.look_up("t.gone") is None


async def test_a_look_up_without_nats_is_refused_with_what_to_do(bus, nats_server):
    await nats_server.stop()
    await until(lambda: not bus.connected)

    with pytest.raises(UnavailableError, match="caravan up"):
        await View(bus, BUCKET).look_up("t.a")


async def test_a_view_of_one_key_hears_of_no_other(bus, kv, running):
    await records.put(kv, "t.a", entry())
    await records.put(kv, "t.b", entry())
    await write_complete(bus, BUCKET, epoch=1)

    view = running.start(View(bus, BUCKET, keys="t.a"))

    assert await view.wait_complete(60)
    assert dict(view.items()) == {"t.a": entry()}


async def test_a_stream_that_is_made_anew_under_a_live_connection_is_noticed(bus, kv, running):
    """No connection breaks when somebody deletes a bucket; a missed heartbeat tells."""
    await records.put(kv, "t.a", entry())
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET, heartbeat_s=0.2))
    assert await view.wait_complete(60)
    before = view.position.created

    await bus.js.delete_stream("KV_deployments")
    await until(lambda: view.position.created != before)

    assert view.get("t.a") == entry()
    assert not view.position.complete


async def test_a_heartbeat_makes_a_quiet_view_young_again(bus, running):
    await open_bucket(bus, BUCKET)
    await write_complete(bus, BUCKET, epoch=1)
    view = running.start(View(bus, BUCKET, heartbeat_s=0.2))
    assert await view.wait_complete(60)
    await until(lambda: view.age_s > 0.1)
    old_s = view.age_s

    await until(lambda: view.age_s < old_s)
