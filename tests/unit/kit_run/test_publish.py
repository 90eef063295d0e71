"""A bucket made equal to rows, on a real server."""

import pytest

from caravan.contracts.deployments import COMPLETE_KEY, Complete
from caravan.contracts.errors import UnavailableError
from caravan.contracts.keys import KeyEntry
from caravan.contracts.topology import KEYS
from caravan.kit.buckets import bucket_created, open_bucket
from caravan.kit.publish import behind, contents, epoch_in, publish_all
from caravan.kit.records import delete, put, read


def entry(name, state="active"):
    return KeyEntry(id=name, tenant="u-000000000001", state=state)


async def states(bus):
    kv = await open_bucket(bus, KEYS)
    found = {}
    for key in await contents(bus, KEYS):
        if key != COMPLETE_KEY:
            found[key] = (await read(kv, key, KeyEntry)).value.state
    return found


async def test_the_bucket_ends_up_with_exactly_the_entries(bus):
    kv = await open_bucket(bus, KEYS)
    for name in "abc":
        await put(kv, name, entry(name))
    await delete(kv, "c")
    wanted = {"a": entry("a"), "b": entry("b", "revoked"), "d": entry("d")}
    await put(kv, "e", entry("e"))
    assert sorted(await publish_all(bus, KEYS, wanted, 7)) == ["b", "d", "e"]
    assert await states(bus) == {"a": "active", "b": "revoked", "d": "active"}


async def test_what_is_right_already_is_not_written_again(bus):
    wanted = {"a": entry("a")}
    await publish_all(bus, KEYS, wanted, 1)
    kv = await open_bucket(bus, KEYS)
    before = (await read(kv, "a", KeyEntry)).revision
    assert await publish_all(bus, KEYS, wanted, 2) == []
    assert (await read(kv, "a", KeyEntry)).revision == before


async def test_completeness_names_the_stream_and_the_epoch(bus):
    assert await epoch_in(bus, KEYS) == 0
    await publish_all(bus, KEYS, {}, 12)
    assert await epoch_in(bus, KEYS) == 12
    kv = await open_bucket(bus, KEYS)
    complete = (await read(kv, COMPLETE_KEY, Complete)).value
    assert complete.created == await bucket_created(bus, KEYS)


async def test_a_large_bucket_is_read_whole(bus):
    wanted = {f"key{number}": entry("x") for number in range(1201)}
    await publish_all(bus, KEYS, wanted, 1)
    assert len(await contents(bus, KEYS)) == 1202
    assert len(await publish_all(bus, KEYS, {}, 2)) == 1201
    assert list(await contents(bus, KEYS)) == [COMPLETE_KEY]


async def test_without_nats_nothing_is_complete(bus, nats_server):
    await nats_server.stop()
    with pytest.raises(UnavailableError):
        await publish_all(bus, KEYS, {"a": entry("a")}, 3)
    nats_server.wipe()
    await nats_server.start()


@pytest.mark.parametrize(
    ("newest", "epoch", "words"),
    [(0, 0, ""), (5, 5, ""), (6, 5, ""), (0, 5, "is empty"), (4, 5, "ends at event 4")],
)
def test_an_owner_is_behind_when_more_was_published_than_it_knows(newest, epoch, words):
    why = behind(newest, epoch)
    assert bool(why) == bool(words)
    assert words in why
