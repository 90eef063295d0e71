"""NATS goes, or loses its disk: the same keys, models and instances serve all the time."""

import asyncio
import shutil
import time
from contextlib import asynccontextmanager

import pytest

from caravan.contracts import topology
from caravan.contracts.deployments import SERVE
from caravan.contracts.reports import Report
from caravan.kit.view import View
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until
from tests.faults.clients import clients
from tests.faults.kills import Kill, answers
from tests.faults.unwatched import begun, killed, more

pytestmark = pytest.mark.timeout(600)
NAME = "kept"
AWAY_S = 60.0


@pytest.fixture
async def serving(own, model):
    """A platform of this test's own, with two instances and a key."""
    await own.ok("deploy", NAME, "--source", str(model), "--instances", "2", "--wait")
    own.first = await own.key(label="first")
    return own


@asynccontextmanager
async def verdicts(platform):
    """Give every word that the scheduler says of any instance from now on."""
    words = set()

    def changed(_key, entry):
        words.update(verdict.word for verdict in entry.verdicts.values() if entry)

    view = View(platform.bus, topology.DEPLOYMENTS, changed=changed)
    task = asyncio.create_task(view.run())
    yield words
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def restarted_router(platform):
    """Kill the router and start it again from its disk; return the kill, for what it cuts."""
    kill = Kill(part="router", at=time.monotonic())
    await killed(platform, "router")
    begun(platform, "router")
    await until(lambda: answers(platform), PATIENCE_S)
    kill.back = time.monotonic()
    return kill


async def reported(platform, complete):
    """Wait until a router says that it has all of keys and deployments, or that it cannot know."""
    heard = []
    end = await platform.bus.subscribe(f"{topology.REPORT}.*", Report, heard.append)

    def said():
        found = [report.positions[name].complete for report in heard[-1:] for name in VIEWS]
        return bool(found) and (all(found) if complete else not any(found))

    await until(said, PATIENCE_S)
    await end()


VIEWS = (topology.KEYS.name, topology.DEPLOYMENTS.name)


def uninterrupted(came, *kills):
    """Fail with the first answer that is not whole and was not at the killed router."""
    broken = [one for one in came if not one.whole and not any(k.excuses(one) for k in kills)]
    assert not broken, f"{len(broken)} of {len(came)}: {broken[0]}"
    assert not any(one.looks_whole and not one.whole for one in came)


async def test_nats_that_lost_its_disk_loses_no_key_no_model_and_no_instance(serving):
    platform, workers = serving, serving.workers()
    async with clients(platform, platform.first, NAME) as asking, asking.crowd() as came:
        await killed(platform, "supervisor", "auth", "scheduler", "nats")
        shutil.rmtree(platform.home.root / "nats" / "jetstream")
        begun(platform, "nats")

        # Nobody has written anything again: routers and workers alone find it empty.
        await reported(platform, complete=False)
        await more(came)
        kill = await restarted_router(platform)
        after = await more(came)
        await until(lambda: {one.instance for one in came[-12:]} == set(workers))

        # Their owners write it again.
        await asyncio.to_thread(platform.up)
        await reported(platform, complete=True)
        await until(lambda: {one.instance for one in came[-12:]} == set(workers))
        assert len((await platform.ok("keys", "list"))["items"]) == 1
        await platform.ok("scale", NAME, "--add", "1", "--wait")
        await until(lambda: {one.instance for one in came[-12:]} == set(platform.workers()))
    uninterrupted(came, kill)
    assert {one.status for one in after} <= {0, 200}
    assert workers.items() <= platform.workers().items()
    assert len(platform.workers()) == 3


async def test_nats_that_was_away_for_a_minute_costs_no_instance(serving):
    platform, workers = serving, serving.workers()
    async with (
        verdicts(platform) as words,
        clients(platform, platform.first, NAME) as asking,
        asking.crowd() as came,
    ):
        await more(came)
        went = time.monotonic()
        await killed(platform, "supervisor", "nats")

        await more(came)
        kill = await restarted_router(platform)
        await until(lambda: time.monotonic() - went >= AWAY_S, 2 * AWAY_S)
        await until(lambda: {one.instance for one in came[-12:]} == set(workers))

        await asyncio.to_thread(platform.up)
        await reported(platform, complete=True)
        await platform.ok("scale", NAME, "--add", "1", "--wait")
        await until(lambda: {one.instance for one in came[-12:]} == set(platform.workers()))
    uninterrupted(came, kill)
    assert words == {SERVE}
    assert workers.items() <= platform.workers().items()
    assert len(platform.workers()) == 3
