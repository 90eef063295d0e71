"""The life of a deployment by the command line, with clients that must not notice."""

import pytest

from caravan.testing.wait import until
from tests.e2e.streams import client

pytestmark = pytest.mark.timeout(2400)
NAME = "story"


async def test_a_deployment_lives_through_scaling_update_stop_and_trash(site):
    platform = site.platform
    await deployed(site)
    async with client(site, NAME) as asking:
        await scaled_up_all_three_answer(platform, asking)
        await scaled_down_while_streams_run(platform, asking)
        await updated_while_streams_run(platform, asking)
        await stopped_and_started(platform, asking)
        await deleted_by_its_right_name_only(platform, asking)
        await restored(platform, asking)


async def deployed(site):
    source = f"file://{site.model}"
    made = await site.platform.ok("deploy", NAME, "--source", source, "--wait")

    assert (made["state"], made["ready"], made["generation"]) == ("running", 1, 1)


async def scaled_up_all_three_answer(platform, asking):
    scaled = await platform.ok("scale", NAME, "--add", "2", "--wait")
    assert (scaled["state"], scaled["ready"]) == ("running", 3)

    async with asking.crowd() as came:
        await until(lambda: len({one.instance for one in came}) == 3)

    all_whole(asking, came)
    assert {one.instance for one in came} == instances(scaled)


async def scaled_down_while_streams_run(platform, asking):
    async with asking.crowd() as came:
        await until(lambda: len({one.instance for one in came}) == 3)
        scaled = await platform.ok("scale", NAME, "--to", "2", "--wait")
        await until(lambda: len(platform.workers()) == 2 or not platform.embedded)
        seen = len(came)
        await until(lambda: len(came) >= seen + 8)

    all_whole(asking, came)
    assert scaled["ready"] == 2
    assert {one.instance for one in came[seen + 4 :]} <= instances(scaled)


async def updated_while_streams_run(platform, asking):
    before = instances(await platform.ok("show", NAME))
    async with asking.crowd() as came:
        await until(lambda: len(came) >= 4)
        flags = ("--engine-arg", "--max-running-requests 64")
        updated = await platform.ok("update", NAME, *flags, "--wait")
        seen = len(came)
        await until(lambda: len(came) >= seen + 8)

    all_whole(asking, came)
    assert (updated["generation"], updated["ready"]) == (2, 2)
    assert not before & {one.instance for one in came[seen + 4 :]}


async def stopped_and_started(platform, asking):
    stopped = await platform.ok("stop", NAME, "--wait")
    assert (stopped["state"], stopped["ready"]) == ("stopped", 0)
    refused = await asking.ask()
    assert (refused.status, "model_stopped" in refused.error) == (503, True)

    started = await platform.ok("start", NAME, "--wait")
    assert (started["state"], started["ready"]) == ("running", 2)
    all_whole(asking, [await asking.ask()])


async def deleted_by_its_right_name_only(platform, asking):
    wrong = await platform.cli("delete", NAME, "--confirm", "storey", "--json")
    assert (wrong.exit, wrong.problem["code"]) == (4, "confirmation_mismatch")
    assert (await platform.deployment(NAME)).state == "running"

    await platform.ok("delete", NAME, "--confirm", NAME)
    await platform.reached(NAME, "deleted", 0)
    refused = await asking.ask()
    assert (refused.status, "model_not_found" in refused.error) == (404, True)
    taken = await platform.cli("deploy", NAME, "--source", "hf://a/b", "--json")
    assert (taken.exit, taken.problem["code"]) == (4, "name_in_trash")


async def restored(platform, asking):
    back = await platform.ok("restore", NAME)
    assert back["state"] in {"stopped", "stopping"}

    started = await platform.ok("start", NAME, "--wait")
    assert (started["state"], started["ready"]) == ("running", 2)
    all_whole(asking, [await asking.ask()])


def instances(deployment):
    """Return the names of the instances that serve."""
    return {truth["instance"] for truth in deployment["truth"] if truth["ready"]}


def all_whole(asking, came):
    """Fail with the first answer that was cut, refused or is not what the engine says."""
    broken = [one for one in came if not one.whole]
    assert not broken, f"{len(broken)} of {len(came)}: {broken[0]}"
    if asking.fake:
        assert all(one.text == asking.expected(one.number) for one in came)
