"""What every cluster promises a scheduler: one suite for processes and for Nomad."""

import asyncio
import os
import signal
import sys
import time

import pytest

from caravan.contracts.errors import InvalidRequestError
from services.scheduler.core.cluster import Mark
from services.scheduler.core.errors import ClusterRefusedError, InstanceNotFoundError
from tests.conformance.cluster_sites import eventually, in_state, ref, runs, until

pytestmark = pytest.mark.timeout(180)


async def test_a_started_instance_runs_until_it_is_stopped(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    seen = await until(cluster, in_state("i-aaaaaa", "running"))
    assert seen["i-aaaaaa"].ref == ref("i-aaaaaa")
    assert seen["i-aaaaaa"].failures == 0
    await until(cluster, lambda _: site.running("i-aaaaaa"))
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    assert not site.running("i-aaaaaa")


async def test_an_instance_that_is_started_twice_is_one_process(site, cluster):
    await asyncio.gather(*(cluster.start(site.spec("i-aaaaaa")) for _ in range(3)))
    await until(cluster, lambda _: site.lives("i-aaaaaa"))
    await cluster.start(site.spec("i-aaaaaa", generation=2))
    await cluster.start(site.spec("i-bbbbbb"))
    await until(cluster, lambda _: site.lives("i-bbbbbb"))
    assert len(site.lives("i-aaaaaa")) == 1
    assert site.running("i-aaaaaa")


async def test_a_stop_takes_the_one_that_it_names_and_leaves_the_others(site, cluster):
    names = ["i-aaaaaa", "i-bbbbbb", "i-cccccc"]
    for name in names:
        await cluster.start(site.spec(name))
    await until(cluster, lambda _: all(map(site.running, names)))
    before = {name: site.running(name) for name in names}
    await cluster.stop(ref("i-bbbbbb"))
    await until(cluster, in_state("i-bbbbbb", "ended"))
    assert [site.lives(name) for name in names] == list(before.values())
    assert site.running("i-aaaaaa") == before["i-aaaaaa"]
    assert site.running("i-cccccc") == before["i-cccccc"]


async def test_one_that_takes_its_time_is_stopping_until_nothing_of_it_runs(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--slow", "1.5"))
    await started(site, cluster, "i-aaaaaa")
    await cluster.stop(ref("i-aaaaaa"))
    states = []

    def ended(seen):
        states.append((seen["i-aaaaaa"].state, bool(site.running("i-aaaaaa"))))
        return seen["i-aaaaaa"].state == "ended"

    await until(cluster, ended)
    assert states[0] == ("stopping", True)
    assert states[-1] == ("ended", False)
    assert not any(alive for state, alive in states if state == "ended")


async def test_one_that_does_not_obey_is_killed_after_its_drain_time(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--deaf", drain_s=0.5))
    await started(site, cluster, "i-aaaaaa")
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    assert not site.running("i-aaaaaa")


async def test_what_a_worker_leaves_behind_ends_with_it(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--child"))
    await started(site, cluster, "i-aaaaaa")
    await until(cluster, lambda _: site.running("child"))
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    assert not site.running("child")


async def test_one_that_fails_is_started_again_and_says_why_and_when(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    [first] = await started(site, cluster, "i-aaaaaa")
    os.kill(first, signal.SIGUSR1)
    seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures == 1)
    assert "3" in seen["i-aaaaaa"].reason
    await until(cluster, lambda _: len(site.lives("i-aaaaaa")) == 2)
    await until(cluster, in_state("i-aaaaaa", "running"))
    assert not runs(first)


async def test_failures_in_a_row_are_counted_and_the_next_try_is_told(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--die", "7"))
    seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures >= 3)
    assert "7" in seen["i-aaaaaa"].reason
    seen = await until(cluster, in_state("i-aaaaaa", "restarting"))
    assert abs(seen["i-aaaaaa"].next_try_at - time.time()) < 60
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    lives = site.lives("i-aaaaaa")
    await cluster.start(site.spec("i-bbbbbb"))
    await until(cluster, lambda _: site.running("i-bbbbbb"))
    assert site.lives("i-aaaaaa") == lives


async def test_a_log_is_followed_by_its_cursor(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--print", "150"))
    await started(site, cluster, "i-aaaaaa")
    tail = await cluster.logs(ref("i-aaaaaa"), "")
    assert tail.lines == [*(f"line {number}" for number in range(51, 150)), "lives"]
    assert (await cluster.logs(ref("i-aaaaaa"), tail.cursor)).lines == []
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    rest = await cluster.logs(ref("i-aaaaaa"), tail.cursor)
    assert rest.lines == ["told", "ended in order"]
    assert (await cluster.logs(ref("i-aaaaaa"), rest.cursor)).lines == []


async def test_a_cursor_outlives_a_restart_of_the_instance(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", "--print", "2"))
    [first] = await started(site, cluster, "i-aaaaaa")
    cursor = (await cluster.logs(ref("i-aaaaaa"), "")).cursor
    os.kill(first, signal.SIGUSR1)
    await until(cluster, lambda _: len(site.running("i-aaaaaa")) == 1 and not runs(first))
    lines = []
    while lines[-3:] != ["line 0", "line 1", "lives"]:
        piece = await cluster.logs(ref("i-aaaaaa"), cursor)
        lines, cursor = lines + piece.lines, piece.cursor
        await asyncio.sleep(0.05)
    assert lines == ["line 0", "line 1", "lives"]


async def test_a_cursor_that_nobody_gave_is_refused(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    await started(site, cluster, "i-aaaaaa")
    with pytest.raises(InvalidRequestError, match="cursor"):
        await cluster.logs(ref("i-aaaaaa"), "yesterday")


async def test_one_that_was_forgotten_is_not_listed_and_may_be_forgotten_again(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    await started(site, cluster, "i-aaaaaa")
    with pytest.raises(ClusterRefusedError, match="has not ended"):
        await cluster.forget(ref("i-aaaaaa"))
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    await cluster.forget(ref("i-aaaaaa"))
    await until(cluster, lambda seen: "i-aaaaaa" not in seen)
    await cluster.forget(ref("i-aaaaaa"))


async def test_a_name_that_was_forgotten_can_be_started_again(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    await started(site, cluster, "i-aaaaaa")
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))
    await cluster.start(site.spec("i-aaaaaa"))
    assert len(site.lives("i-aaaaaa")) == 1
    await cluster.forget(ref("i-aaaaaa"))
    await cluster.start(site.spec("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "running"))
    await until(cluster, lambda _: len(site.lives("i-aaaaaa")) == 2)


async def test_one_that_is_not_there_can_be_stopped_and_forgotten_but_has_no_log(cluster):
    await cluster.stop(ref("i-zzzzzz", "nobody"))
    await cluster.forget(ref("i-zzzzzz", "nobody"))
    with pytest.raises(InstanceNotFoundError):
        await cluster.logs(ref("i-zzzzzz", "nobody"), "")
    assert await cluster.observed() == []


async def test_a_new_cluster_remembers_nobody_and_then_the_last_mark(site):
    async with site.opened() as cluster:
        assert await cluster.mark() is None
        await cluster.remember(Mark(installation="abc", epoch=7))
        await cluster.remember(Mark(installation="abc", epoch=8))
    async with site.opened() as cluster:
        assert await cluster.mark() == Mark(installation="abc", epoch=8)


async def test_a_new_scheduler_finds_what_runs_and_keeps_it(site):
    async with site.opened() as cluster:
        await cluster.start(site.spec("i-aaaaaa"))
        await cluster.start(site.spec("i-bbbbbb", name="other"))
        [pid] = await started(site, cluster, "i-aaaaaa")
        await started(site, cluster, "i-bbbbbb")
    async with site.opened() as cluster:
        seen = await until(cluster, in_state("i-aaaaaa", "running"))
        assert {each.ref for each in seen.values()} == {ref("i-aaaaaa"), ref("i-bbbbbb", "other")}
        await cluster.start(site.spec("i-aaaaaa"))
        os.kill(pid, signal.SIGUSR1)
        await until(cluster, lambda _: len(site.lives("i-aaaaaa")) == 2)
        assert len(site.lives("i-bbbbbb")) == 1


async def test_a_scheduler_that_is_killed_leaves_its_instances_to_the_next(site):
    code = f"import asyncio\n{site.another}\nasyncio.run(main())"
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, site.orders(site.spec("i-aaaaaa"))
    )
    pids = await eventually(lambda: site.running("i-aaaaaa"))
    assert killed.returncode is None
    killed.kill()
    await killed.wait()
    async with site.opened() as cluster:
        await until(cluster, in_state("i-aaaaaa", "running"))
        assert site.running("i-aaaaaa") == pids
        await cluster.stop(ref("i-aaaaaa"))
        await until(cluster, in_state("i-aaaaaa", "ended"))
        assert not runs(pids[0])


async def test_a_stop_goes_on_when_the_scheduler_that_asked_for_it_is_gone(site):
    async with site.opened() as cluster:
        await cluster.start(site.spec("i-aaaaaa", "--deaf", drain_s=1.0))
        [pid] = await started(site, cluster, "i-aaaaaa")
        await cluster.stop(ref("i-aaaaaa"))
    async with site.opened() as cluster:
        await until(cluster, in_state("i-aaaaaa", "ended"))
        assert not runs(pid)
        assert len(site.lives("i-aaaaaa")) == 1


async def test_of_twenty_instances_those_that_nobody_changed_keep_their_processes(site, cluster):
    names = [f"i-aaaa{letter}{other}" for letter in "abcd" for other in "abcde"]
    for name in names:
        await cluster.start(site.spec(name))
    await until(cluster, lambda _: all(map(site.running, names)))
    before = {name: site.running(name) for name in names}
    await cluster.start(site.spec("i-new222", generation=2))
    await cluster.stop(ref(names[7]))
    await until(cluster, in_state(names[7], "ended"))
    await until(cluster, lambda _: site.running("i-new222"))
    del before[names[7]]
    assert {name: site.running(name) for name in before} == before
    assert all(len(site.lives(name)) == 1 for name in names)


async def test_a_start_and_an_end_are_told_at_once(site, cluster):
    changes = cluster.changes()
    told = asyncio.ensure_future(anext(changes))
    await cluster.start(site.spec("i-aaaaaa"))
    await asyncio.wait_for(told, 30)
    [pid] = await started(site, cluster, "i-aaaaaa")
    told = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    seen = {}
    while not seen.get("i-aaaaaa"):
        await asyncio.wait_for(told, 30)
        told = asyncio.ensure_future(anext(changes))
        seen = {each.ref.instance: each.failures for each in await cluster.observed()}
    told.cancel()


async def started(site, cluster, instance):
    """Return its pids as soon as its first line is in its log."""

    async def printed():
        try:
            return "lives" in (await cluster.logs(site.refs[instance], "")).lines
        except InstanceNotFoundError:
            return False

    await until(cluster, lambda _: site.running(instance))
    await eventually(printed)
    return site.running(instance)
