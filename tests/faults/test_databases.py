"""A database that was lost or is an older copy decides nothing: what runs goes on, keys too."""

import contextlib
import shutil
import sqlite3

import pytest

from caravan.testing.wait import until
from tests.faults.clients import clients
from tests.faults.unwatched import all_whole, down, more

pytestmark = pytest.mark.timeout(600)
NAME = "kept"


@pytest.fixture
async def serving(own, model):
    """A platform of this test's own, with two instances and a key."""
    await own.ok("deploy", NAME, "--source", str(model), "--instances", "2", "--wait")
    own.first = await own.key(label="first")
    return own


def copied(platform, part):
    """Return a copy of a service's database as it is now."""
    file = platform.home.root / f"{part}.db"
    copy = platform.folder / f"{part}.copy.db"
    with (
        contextlib.closing(sqlite3.connect(file)) as here,
        contextlib.closing(sqlite3.connect(copy)) as there,
    ):
        here.backup(there)
    return copy


async def replaced(platform, part, by=None):
    """Give a service another database; without one, an empty one. Streams do not notice."""
    async with down(platform, part):
        for suffix in ("", "-wal", "-shm"):
            (platform.home.root / f"{part}.db{suffix}").unlink(missing_ok=True)
        if by is not None:
            shutil.copy(by, platform.home.root / f"{part}.db")


async def refused(platform, *arguments):
    """Return the sentence of a command that the hold refuses."""
    ran = await platform.cli(*arguments, "--json")
    assert (ran.exit, ran.problem["code"]) == (4, "on_hold"), ran
    return ran.problem["message"]


async def test_a_scheduler_on_an_empty_database_stops_nothing_and_says_why(serving, model):
    platform, workers = serving, serving.workers()
    right = copied(platform, "scheduler")
    async with clients(platform, platform.first, NAME) as asking, asking.crowd() as came:
        await replaced(platform, "scheduler")

        listed = await platform.ok("list")
        assert "caravan hold --release" in listed["hold"]
        assert "another database" in listed["hold"]
        assert sorted(listed["unclaimed"]) == sorted(f"{NAME}/{one}" for one in workers)
        why = await refused(platform, "deploy", "new", "--source", str(model))
        assert "caravan hold --release" in why
        await more(came)
        assert platform.workers() == workers

        # The right one comes back: no release is needed, and it goes on.
        await replaced(platform, "scheduler", right)
        assert not (await platform.ok("list"))["hold"]
        await platform.ok("scale", NAME, "--add", "1", "--wait")
        await more(came)
    all_whole(came)
    assert workers.items() <= platform.workers().items()


async def test_released_on_an_empty_database_it_goes_on_and_leaves_alone_what_it_does_not_know(
    serving, model
):
    platform, workers = serving, serving.workers()
    await replaced(platform, "scheduler")

    released = await platform.ok("hold", "--release")
    assert not released["scheduler"]["on_hold"]
    await platform.ok("deploy", "new", "--source", str(model), "--wait")

    assert workers.items() <= platform.workers().items()
    listed = await platform.ok("list")
    assert [one["name"] for one in listed["items"]] == ["new"]
    assert sorted(listed["unclaimed"]) == sorted(f"{NAME}/{one}" for one in workers)


async def test_a_scheduler_on_an_older_copy_stops_nothing_until_it_is_released(serving):
    platform = serving
    older = copied(platform, "scheduler")
    await platform.ok("scale", NAME, "--add", "1", "--wait")
    workers = platform.workers()
    async with clients(platform, platform.first, NAME) as asking, asking.crowd() as came:
        await replaced(platform, "scheduler", older)

        listed = await platform.ok("list")
        assert "older copy" in listed["hold"]
        assert "older copy" in await refused(platform, "scale", NAME, "--to", "1")
        await until(lambda: {one.instance for one in came[-12:]} == set(workers))
        assert platform.workers() == workers

        # Released, this copy counts: the third instance is none of its own, and is left alone.
        await platform.ok("hold", "--release")
        await platform.reached(NAME, "running", 2)
        await more(came)
        assert platform.workers() == workers
        unclaimed = (await platform.ok("list"))["unclaimed"]
        await platform.ok("scale", NAME, "--add", "1", "--wait")
    all_whole(came)
    assert len(unclaimed) == 1
    assert workers.items() <= platform.workers().items()


async def test_auth_on_an_empty_database_revokes_nothing_and_says_why(serving):
    platform = serving
    right = copied(platform, "auth")
    async with clients(platform, platform.first, NAME) as asking, asking.crowd() as came:
        await replaced(platform, "auth")

        assert "caravan hold --release" in (await platform.ok("keys", "list"))["hold"]
        assert "the database is empty" in await refused(platform, "keys", "create")
        await more(came)

        await replaced(platform, "auth", right)
        await platform.ok("keys", "create", "--label", "second")
        assert len((await platform.ok("keys", "list"))["items"]) == 2
        await more(came)
    all_whole(came)


async def test_auth_on_an_older_copy_revokes_nothing_until_it_is_released(serving):
    platform = serving
    older = copied(platform, "auth")
    newer = await platform.key(label="newer")
    async with (
        clients(platform, platform.first, NAME) as asking,
        asking.crowd() as came,
        clients(platform, newer, NAME) as newcomer,
    ):
        await replaced(platform, "auth", older)

        assert "older copy" in (await platform.ok("keys", "list"))["hold"]
        assert "older copy" in await refused(platform, "keys", "create")
        all_whole([await newcomer.ask()])

        await platform.ok("hold", "--release")

        async def unknown():
            return (await newcomer.ask()).status == 401

        await until(unknown)
        await platform.ok("keys", "create")
        await more(came)
    all_whole(came)
