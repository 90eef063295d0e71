"""Auth changes nothing while a person says so, or while its database may be the wrong one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal
from caravan.kit.publish import contents, epoch_in
from tests.integration.auth.conftest import PATIENCE_S, new_id


async def hold(auth, *, release=False):
    ask = admin.Hold(request_id=new_id(), release=release)
    return await auth.ask(topology.HOLD_AUTH, ask)


async def refusals(auth, key_id):
    """What each changing message is answered."""
    asked = {
        topology.CREATE_KEY: admin.CreateKey(request_id=new_id()),
        topology.REVOKE_KEY: admin.RevokeKey(request_id=new_id(), id=key_id),
        topology.ROTATE_KEY: admin.RotateKey(request_id=new_id(), id=key_id),
        topology.CREATE_TENANT: admin.CreateTenant(request_id=new_id(), label="new"),
    }
    found = []
    for endpoint, request in asked.items():
        with pytest.raises(RemoteRefusal) as refusal:
            await auth.ask(endpoint, request)
        found.append(refusal.value.problem)
    return found


def file_of(auth):
    return Path(auth.database_url.removeprefix("sqlite:///"))


async def copy(auth, name):
    """Stop auth and keep its database under ``name``."""
    await auth.stop()
    return shutil.copy(file_of(auth), file_of(auth).with_name(name))


async def test_a_hold_by_hand_lasts_over_a_restart_and_until_it_is_released(auth):
    made = await auth.create()
    answer = await hold(auth)
    assert answer.on_hold
    assert "by hand" in answer.reason
    await auth.kill()
    await auth.start()
    assert {problem.code for problem in await refusals(auth, made.key.id)} == {"on_hold"}
    page = await auth.ask(topology.LIST_KEYS, admin.ListKeys())
    assert "caravan hold --release" in page.hold
    assert (await auth.entry(made.secret)).state == "active"

    assert not (await hold(auth, release=True)).on_hold
    revoke = admin.RevokeKey(request_id=new_id(), id=made.key.id)
    await auth.ask(topology.REVOKE_KEY, revoke)
    assert (await auth.entry(made.secret)).state == "revoked"


async def test_what_was_refused_on_hold_works_with_the_same_request_id_afterwards(auth):
    await hold(auth)
    ask = admin.CreateKey(request_id="r1")
    with pytest.raises(RemoteRefusal):
        await auth.ask(topology.CREATE_KEY, ask)
    await hold(auth, release=True)
    assert (await auth.ask(topology.CREATE_KEY, ask)).secret


async def test_auth_holds_all_or_nothing(auth):
    ask = admin.Hold(request_id=new_id(), path=f"{auth.tenant}/demo")
    with pytest.raises(RemoteRefusal) as refusal:
        await auth.ask(topology.HOLD_AUTH, ask)
    assert refusal.value.problem.param == "path"


async def test_an_empty_database_revokes_nothing_and_says_why(auth):
    made = await auth.create()
    epoch = await epoch_in(auth.bus, topology.KEYS)
    before = await contents(auth.bus, topology.KEYS)
    await copy(auth, "newest.db")
    for file in file_of(auth).parent.glob("auth.db*"):
        file.unlink()
    await auth.start()
    problems = await refusals(auth, made.key.id)
    assert {problem.code for problem in problems} == {"on_hold"}
    assert all("the database is empty" in problem.message for problem in problems)
    assert await contents(auth.bus, topology.KEYS) == before

    # The newest copy comes back: nothing was lost, and no release is needed.
    await auth.stop()
    for file in file_of(auth).parent.glob("auth.db*"):
        file.unlink()
    shutil.copy(file_of(auth).with_name("newest.db"), file_of(auth))
    await auth.start()
    assert await auth.keys() == [made.key]
    await auth.create()
    assert await epoch_in(auth.bus, topology.KEYS) > epoch


async def test_a_restored_older_database_revokes_nothing_until_it_is_released(auth):
    kept = await auth.create("kept")
    older = await copy(auth, "older.db")
    await auth.start()
    newer = await auth.create("newer")
    epoch = await epoch_in(auth.bus, topology.KEYS)
    await auth.stop()
    for file in file_of(auth).parent.glob("auth.db*"):
        file.unlink()
    shutil.copy(older, file_of(auth))
    await auth.start()
    problems = await refusals(auth, kept.key.id)
    assert all("restored from an older copy" in problem.message for problem in problems)
    for made in (kept, newer):
        assert (await auth.entry(made.secret)).state == "active"

    # A hold by hand, a restart and an emptied NATS do not end it.
    await hold(auth)
    await auth.kill()
    await auth.start()
    assert (await refusals(auth, kept.key.id))[0].code == "on_hold"

    # Released: the bucket says what this database says, and no number comes twice.
    assert not (await hold(auth, release=True)).on_hold
    await auth.entry_becomes(newer.secret, lambda entry: entry is None)
    assert (await auth.entry(kept.secret)).state == "active"
    assert await epoch_in(auth.bus, topology.KEYS) > epoch


async def test_an_emptied_nats_ends_no_hold(auth, nats_server):
    made = await auth.create()
    await auth.stop()
    for file in file_of(auth).parent.glob("auth.db*"):
        file.unlink()
    await auth.start()
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    page = await auth.patiently(topology.LIST_TENANTS, admin.ListTenants())
    assert page.items == []
    assert {problem.code for problem in await refusals(auth, made.key.id)} == {"on_hold"}


async def test_nats_that_lost_its_disk_is_told_everything_again(auth, nats_server):
    made = [await auth.create(str(number)) for number in range(3)]
    revoke = admin.RevokeKey(request_id=new_id(), id=made[0].key.id)
    await auth.ask(topology.REVOKE_KEY, revoke)
    epoch = await epoch_in(auth.bus, topology.KEYS)
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    for created, state in zip(made, ("revoked", "active", "active"), strict=True):
        wanted = await auth.entry_becomes(created.secret, lambda entry: entry is not None)
        assert wanted.state == state
    async with asyncio.timeout(PATIENCE_S):
        while await epoch_in(auth.bus, topology.KEYS) < epoch:  # noqa: ASYNC110 - a bucket to poll
            await asyncio.sleep(0.05)
    assert len(await auth.keys()) == 3
