"""What processes of this machine promise beside what every cluster does."""

import asyncio
import json
import os
import resource
import signal
import sys
import time

import pytest

from services.scheduler.adapters.process import ProcessCluster
from services.scheduler.adapters.process_life import Pace
from services.scheduler.core.errors import ClusterRefusedError, ClusterUnavailableError
from tests.conformance.cluster_sites import ProcessSite, eventually, in_state, ref, runs, until
from tests.conformance.test_cluster import started


@pytest.fixture
def site(tmp_path):
    site = ProcessSite(tmp_path)
    yield site
    site.close()


def note(site, instance):
    return site.folder / "instances" / instance / "process.json"


async def running(site, cluster, instance="i-aaaaaa", *orders):
    await cluster.start(site.spec(instance, *orders))
    [pid] = await started(site, cluster, instance)
    return pid


async def printed(cluster):
    return (await cluster.logs(ref("i-aaaaaa"), "")).lines


async def has_printed(cluster, line):
    return line in await printed(cluster)


async def test_the_folder_names_the_worker_by_pid_and_start_time(site, cluster):
    pid = await running(site, cluster)
    noted = json.loads(note(site, "i-aaaaaa").read_bytes())
    assert noted["pid"] == pid
    assert noted["started"] > 0
    assert os.getsid(pid) == pid


async def test_a_pid_that_became_another_process_is_left_alone_and_the_instance_begins_anew(site):
    async with site.opened() as cluster:
        pid = await running(site, cluster)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not runs(pid))
    noted = json.loads(note(site, "i-aaaaaa").read_bytes())
    noted["pid"], noted["started"] = os.getpid(), 1
    note(site, "i-aaaaaa").write_text(json.dumps(noted))
    async with site.opened() as cluster:
        await until(cluster, lambda _: len(site.lives("i-aaaaaa")) == 2)
        await cluster.stop(ref("i-aaaaaa"))
        await until(cluster, in_state("i-aaaaaa", "ended"))


async def test_a_worker_that_died_unseen_is_started_at_once_unless_it_had_failed(site):
    async with site.opened() as cluster:
        first = await running(site, cluster, "i-aaaaaa")
        second = await running(site, cluster, "i-bbbbbb")
    left = {"reason": "the engine ran out of memory", "code": "internal_error", "at": time.time()}
    (note(site, "i-bbbbbb").parent / "exit.json").write_text(json.dumps(left))
    for pid in (first, second):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not runs(first) and not runs(second))
    site.pace = Pace(first_s=60.0)
    async with site.opened() as cluster:
        await until(cluster, lambda _: len(site.lives("i-aaaaaa")) == 2)
        seen = await until(cluster, in_state("i-bbbbbb", "restarting"))
        assert seen["i-bbbbbb"].reason == "the engine ran out of memory"
        assert seen["i-bbbbbb"].failures == 1
        assert len(site.lives("i-bbbbbb")) == 1


async def test_folders_without_a_whole_spec_are_nobodys_until_they_are_started(site):
    folder = site.folder / "instances"
    for name, content in (("i-aaaaaa", None), ("i-bbbbbb", '{"tenant": "u-'), ("other", "{}")):
        (folder / name).mkdir(parents=True)
        if content is not None:
            (folder / name / "spec.json").write_text(content)
    async with site.opened() as cluster:
        assert await cluster.observed() == []
        await running(site, cluster, "i-aaaaaa")
        await running(site, cluster, "i-bbbbbb")


async def test_a_worker_that_its_note_does_not_survive_is_not_started_twice(site):
    """The note is lost or torn: the lock that the worker holds tells."""
    async with site.opened() as cluster:
        await running(site, cluster, "i-aaaaaa", "--lock")
    note(site, "i-aaaaaa").write_text("")
    async with site.opened() as cluster:
        seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures == 1)
        assert "holds the lock" in seen["i-aaaaaa"].reason
        assert len(site.running("i-aaaaaa")) == 1


async def test_a_worker_gets_a_clean_environment(site, monkeypatch):
    monkeypatch.setenv("SCHEDULER_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://egress.example.test")
    code = "import os; print(sorted(os.environ), flush=True); import signal; signal.pause()"
    folder = site.folder / "instances"
    cluster = ProcessCluster(folder, [sys.executable, "-c", code], {"WORKER_NATS_URL": "nats://x"})
    async with site.keeping(cluster):
        await cluster.start(site.spec("i-aaaaaa"))
        lines = await eventually(lambda: printed(cluster))
        await cluster.stop(ref("i-aaaaaa"))
        await until(cluster, in_state("i-aaaaaa", "ended"))
    assert "SCHEDULER_DATABASE_URL" not in lines[0]
    for name in ("PATH", "HTTPS_PROXY", "WORKER_NATS_URL", "WORKER_SPEC", "WORKER_FOLDER"):
        assert f"'{name}'" in lines[0]


async def test_a_command_that_is_not_there_is_a_failure_that_says_so(site):
    cluster = ProcessCluster(site.folder / "instances", ["/no/such/worker"], {}, pace=site.pace)
    async with site.keeping(cluster):
        await cluster.start(site.spec("i-aaaaaa"))
        seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures == 1)
        assert "was not found" in seen["i-aaaaaa"].reason


async def test_a_worker_that_cannot_be_noted_never_begins(site):
    """Else it would run, and nobody would know whom to stop."""
    async with site.opened() as cluster:
        pid = await running(site, cluster)
        blocker = note(site, "i-aaaaaa").with_name("process.json.new")
        blocker.mkdir()
        os.kill(pid, signal.SIGKILL)
        seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures >= 2)
        assert "could not be started" in seen["i-aaaaaa"].reason
        assert site.lives("i-aaaaaa") == [pid]
        blocker.rmdir()
        await until(cluster, lambda _: len(site.running("i-aaaaaa")) == 1)


async def test_a_killed_worker_is_told_by_its_signal(site, cluster):
    pid = await running(site, cluster)
    os.kill(pid, signal.SIGKILL)
    seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures == 1)
    assert seen["i-aaaaaa"].reason == "its worker was killed by SIGKILL"


async def test_two_deployments_cannot_have_the_same_instance(site, cluster):
    await running(site, cluster)
    with pytest.raises(ClusterRefusedError, match="another name"):
        await cluster.start(site.spec("i-aaaaaa", name="other"))


async def test_a_folder_that_cannot_be_used_is_said_to_be_unavailable(site):
    site.folder.joinpath("instances").write_text("a file")
    cluster = ProcessCluster(site.folder / "instances", ["/bin/true"], {})
    with pytest.raises(ClusterUnavailableError, match="cannot be used"):
        await cluster.start(site.spec("i-aaaaaa"))
    with pytest.raises(ClusterUnavailableError, match="cannot be used"):
        await cluster.mark()


async def test_a_mark_that_is_not_readable_is_refused_rather_than_taken_for_none(site, cluster):
    site.folder.joinpath("instances").mkdir(exist_ok=True)
    site.folder.joinpath("instances", "mark.json").write_text("{")
    with pytest.raises(ClusterRefusedError, match="not readable"):
        await cluster.mark()


async def test_nothing_is_done_while_nothing_happens(site):
    async with site.opened() as cluster:
        for name in ("i-aaaaaa", "i-bbbbbb", "i-cccccc"):
            await running(site, cluster, name)
        loop_turns = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        await asyncio.sleep(1.0)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - loop_turns < 20


async def test_a_stop_is_told_once_also_by_a_second_scheduler(site):
    """A second SIGTERM means *at once* to a worker."""
    async with site.opened() as cluster:
        await running(site, cluster, "i-aaaaaa", "--deaf")
        await cluster.stop(ref("i-aaaaaa"))
        await eventually(lambda: has_printed(cluster, "told"))
    async with site.opened() as cluster:
        await until(cluster, in_state("i-aaaaaa", "stopping"))
        os.kill(site.running("i-aaaaaa")[0], signal.SIGUSR1)
        await until(cluster, in_state("i-aaaaaa", "ended"))
        assert (await cluster.logs(ref("i-aaaaaa"), "")).lines.count("told") == 1


async def test_an_adopted_worker_may_be_nobodys_child(site):
    """Started by a process that is gone, and ended under the eyes of one that is not its parent."""
    code = f"import asyncio\n{site.another}\nasyncio.run(main())"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, site.orders(site.spec("i-aaaaaa"))
    )
    await eventually(lambda: site.running("i-aaaaaa"))
    other.kill()
    await other.wait()
    async with site.opened() as cluster:
        [pid] = site.running("i-aaaaaa")
        await until(cluster, in_state("i-aaaaaa", "running"))
        os.kill(pid, signal.SIGUSR1)
        seen = await until(cluster, lambda seen: seen["i-aaaaaa"].failures == 1)
        assert "another scheduler" in seen["i-aaaaaa"].reason
        await until(cluster, lambda _: len(site.running("i-aaaaaa")) == 1)
        assert not runs(pid)
