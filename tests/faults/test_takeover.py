"""What ``caravan up`` makes of what it finds: a platform that lost some parts, or all of them."""

import asyncio

import pytest

from caravan.kit.process import alive
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until
from tests.faults.clients import clients
from tests.faults.standing import never_twice
from tests.faults.unwatched import all_whole, killed, more

pytestmark = pytest.mark.timeout(600)
NAME = "taken-over"
PARTS = ("supervisor", "scheduler", "auth", "router", "nats")


@pytest.fixture
async def serving(own, model):
    """A platform of this test's own, with two instances and a key."""
    await own.ok("deploy", NAME, "--source", str(model), "--instances", "2", "--wait")
    own.first = await own.key(label="first")
    return own


async def test_after_a_loss_of_power_up_brings_everything_back_once(serving):
    platform, before = serving, serving.workers()
    engines = [one for found in platform.engines().values() for one in found]
    await asyncio.gather(*(platform.kill(platform.process(part)) for part in PARTS))
    await asyncio.gather(*(platform.kill(who) for who in before.values()))
    await until(lambda: not any(map(alive, engines)), PATIENCE_S)

    async with never_twice(platform.home.instances):
        await asyncio.to_thread(platform.up)
        reached = await platform.reached(NAME, "running", 2)

    assert {truth.instance for truth in reached.truth} == set(before)
    assert set(platform.workers()) == set(before)
    async with clients(platform, platform.first, NAME) as asking:
        all_whole([await asking.ask(number) for number in range(4)])


async def test_an_up_that_cannot_start_a_part_ends_nothing_that_serves(serving):
    platform, before = serving, serving.workers()
    database = platform.home.root / "scheduler.db"
    async with clients(platform, platform.first, NAME) as asking, asking.crowd() as came:
        await killed(platform, "supervisor", "scheduler")
        database.rename(database.with_suffix(".away"))
        database.mkdir()  # a folder is no database

        ran = await platform.cli("up", "--detach", "--wait", "60s")

        assert ran.exit in {1, 3}, ran
        assert "goes on" in ran.stderr
        await more(came)
        assert platform.workers() == before
        database.rmdir()
        database.with_suffix(".away").rename(database)
        await until(lambda: platform.run("status", "--json").exit == 0, PATIENCE_S)
        await platform.ok("scale", NAME, "--add", "1", "--wait")
        await more(came)
    all_whole(came)
    assert before.items() <= platform.workers().items()
