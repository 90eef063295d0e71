"""A view that starts from its copy on disk, on a real server."""

import json
import stat

import pytest

from caravan.contracts import topology
from caravan.contracts.keys import KeyEntry, digest, mint
from caravan.kit import records
from caravan.kit.buckets import open_bucket, write_complete
from caravan.kit.bus import Bus
from caravan.kit.view import View
from caravan.testing.nats import free_port
from caravan.testing.wait import until

BUCKET = topology.KEYS
ONE, TWO = digest(mint(1)), digest(mint(2))


def key(name):
    return KeyEntry(id=name, tenant="u-8105f7322477", state="active")


@pytest.fixture
async def path(bus, running, tmp_path):
    """A copy on disk of two keys, left by a view that has ended."""
    kv = await open_bucket(bus, BUCKET)
    await records.put(kv, ONE, key("one"))
    await records.put(kv, TWO, key("two"))
    await write_complete(bus, BUCKET, epoch=5)
    path = tmp_path / "views" / "keys.json"
    view = running.start(View(bus, BUCKET, disk=path))
    assert await view.wait_complete(60)
    await running.stop(view)
    return path


@pytest.fixture
async def away():
    """A bus whose NATS does not answer."""
    async with Bus(f"nats://127.0.0.1:{free_port()}", name="away") as bus:
        yield bus


async def test_a_view_starts_from_its_copy_when_nats_does_not_answer(path, away, running):
    told = []
    view = View(away, BUCKET, disk=path, changed=lambda name, _value: told.append(name))
    running.start(view)

    assert await view.wait_complete(0.2)
    assert dict(view.items()) == {ONE: key("one"), TWO: key("two")}
    assert sorted(told) == sorted([ONE, TWO])
    assert view.epoch == 5
    assert not view.position.complete


async def test_without_a_copy_and_without_nats_a_view_is_not_complete(away, running, tmp_path):
    view = running.start(View(away, BUCKET, disk=tmp_path / "none.json"))

    assert not await view.wait_complete(0.2)


async def test_a_copy_is_made_equal_to_the_bucket_as_soon_as_nats_answers(path, bus, running):
    """What was revoked while the process was away does not live on."""
    kv = await open_bucket(bus, BUCKET)
    await records.delete(kv, ONE)

    view = running.start(View(bus, BUCKET, disk=path))
    await until(lambda: view.position.complete)

    assert dict(view.items()) == {TWO: key("two")}


async def test_a_copy_outlives_an_emptied_nats(path, bus, nats_server, running):
    """A router that restarts after NATS lost its disk serves the same keys."""
    await nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await bus.reachable(60)

    view = running.start(View(bus, BUCKET, disk=path))
    await until(lambda: view.kept == {ONE, TWO})
    await running.stop(view)
    again = running.start(View(bus, BUCKET, disk=path))
    await until(lambda: again.kept == {ONE, TWO})
    assert again.complete
    assert not again.position.complete

    await records.put(await open_bucket(bus, BUCKET), ONE, key("one"))
    await write_complete(bus, BUCKET, epoch=6)
    await until(lambda: again.position.complete)

    assert dict(again.items()) == {ONE: key("one")}


async def test_a_copy_follows_the_changes_and_is_for_its_user_only(path, bus, running):
    view = running.start(View(bus, BUCKET, disk=path))
    assert await view.wait_complete(60)
    await records.delete(await open_bucket(bus, BUCKET), TWO)

    await until(lambda: TWO not in json.loads(path.read_bytes())["entries"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]
    assert mint(1).encode() not in path.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"type":"view-copy.v9"}'])
async def test_a_damaged_copy_is_as_good_as_none(path, bus, running, damage):
    path.write_bytes(damage)

    view = running.start(View(bus, BUCKET, disk=path))

    assert await view.wait_complete(60)
    assert len(view) == 2


async def test_the_copy_of_another_bucket_is_not_taken(path, away, running):
    view = running.start(View(away, topology.DEPLOYMENTS, disk=path))

    assert not await view.wait_complete(0.2)


async def test_an_entry_of_the_copy_that_cannot_be_read_is_left_out(path, away, running):
    copy = json.loads(path.read_bytes())
    copy["entries"][ONE] = [1, 1, {"type": "key.v9"}]
    path.write_text(json.dumps(copy))

    view = running.start(View(away, BUCKET, disk=path))
    await view.wait_complete(0.2)

    assert dict(view.items()) == {TWO: key("two")}


async def test_a_view_that_shares_a_copy_and_does_not_write_it_leaves_it_as_it_is(
    path, bus, running
):
    before = path.read_bytes()
    view = running.start(View(bus, BUCKET, disk=path, writes=False))
    kv = await open_bucket(bus, BUCKET)
    await records.put(kv, ONE, key("another"))
    await until(lambda: view.get(ONE) == key("another"))
    await running.stop(view)

    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
