"""What NomadCluster makes of a Nomad that refuses, is away, or that somebody else uses too."""

import asyncio
import contextlib

import pytest
import structlog

from caravan.contracts.instances import Spec
from caravan.testing.nomad import DENIED, INVALID, NO_LEADER, FakeNomad, Fault
from services.scheduler.adapters import nomad_events
from services.scheduler.adapters.nomad_jobs import Terms
from services.scheduler.core.cluster import Mark
from services.scheduler.core.errors import ClusterRefusedError, ClusterUnavailableError
from tests.conformance.cluster_sites import TENANT, eventually, nomad_cluster, ref

JOB = f"caravan-{TENANT}-test"


@pytest.fixture
async def fake():
    async with FakeNomad() as fake:
        yield fake


@pytest.fixture
async def cluster(fake):
    cluster = nomad_cluster(fake.address, Terms())
    running = asyncio.create_task(cluster.run())
    yield cluster
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def spec(instance):
    return Spec(
        tenant=TENANT, name="test", instance=instance, generation=1, task="t", source="file:///x"
    )


def groups(fake):
    return {group["Name"]: group["Count"] for group in fake.jobs[JOB]["TaskGroups"]}


def alloc(instance, client_status, desired_status="run", number=1, **more):
    return {
        "ID": f"alloc-{instance}-{number}",
        "JobID": JOB,
        "TaskGroup": instance,
        "ClientStatus": client_status,
        "DesiredStatus": desired_status,
        "NodeName": "node-1",
        "CreateIndex": number,
        "TaskStates": None,
        **more,
    }


async def states(cluster):
    return {each.ref.instance: each.state for each in await cluster.observed()}


async def test_a_change_that_came_between_is_kept_and_ours_is_made_anew(fake, cluster):
    await cluster.start(spec("i-aaaaaa"))
    others = iter([{"Name": "by-hand", "Count": 1, "Tasks": []}])

    def somebody_is_quicker(request):
        if (request.method, request.path) == ("POST", "/v1/jobs"):
            for group in others:
                job = fake.jobs[JOB]
                fake.put({**job, "TaskGroups": [*job["TaskGroups"], group]})

    fake.before = somebody_is_quicker
    await cluster.start(spec("i-bbbbbb"))
    assert groups(fake) == {"i-aaaaaa": 1, "by-hand": 1, "i-bbbbbb": 1}


async def test_changes_that_come_between_for_ever_make_it_unavailable(fake, cluster):
    await cluster.start(spec("i-aaaaaa"))

    def somebody_is_quicker(request):
        if (request.method, request.path) == ("POST", "/v1/jobs"):
            fake.put(fake.jobs[JOB])

    fake.before = somebody_is_quicker
    with pytest.raises(ClusterUnavailableError, match="try again"):
        await cluster.stop(ref("i-aaaaaa"))
    assert groups(fake) == {"i-aaaaaa": 1}


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (DENIED, ClusterRefusedError, "policy"),
        (INVALID, ClusterRefusedError, "validation failed"),
        (NO_LEADER, ClusterUnavailableError, "No cluster leader"),
        ((502, ""), ClusterUnavailableError, "502"),
        ((200, "<html>"), ClusterUnavailableError, "unreadable"),
    ],
)
async def test_a_refusal_for_good_is_told_from_one_that_passes(fake, cluster, answer, error, words):
    fake.faults.append(Fault("POST /v1/jobs", *answer, times=9))
    with pytest.raises(error, match=words):
        await cluster.start(spec("i-aaaaaa"))
    assert not fake.jobs


async def test_any_trouble_while_reading_passes(fake, cluster):
    fake.faults.append(Fault("GET /v1/allocations", 500, "boom"))
    with pytest.raises(ClusterUnavailableError, match="boom"):
        await cluster.observed()
    assert await cluster.observed() == []


async def test_a_nomad_that_is_away_is_unavailable_until_it_is_back(fake, cluster):
    await cluster.start(spec("i-aaaaaa"))
    await fake.vanish()
    for ask in (cluster.observed(), cluster.start(spec("i-bbbbbb")), cluster.mark()):
        with pytest.raises(ClusterUnavailableError, match="does not answer"):
            await ask
    await fake.appear()
    assert await states(cluster) == {"i-aaaaaa": "waiting"}


async def test_a_job_of_another_installation_is_neither_listed_nor_touched(fake, cluster):
    fake.put({"ID": JOB, "Meta": {"installation": "other"}, "TaskGroups": [{"Name": "i-aaaaaa"}]})
    before = dict(fake.jobs[JOB])
    assert await cluster.observed() == []
    for verb in (cluster.start(spec("i-bbbbbb")), cluster.stop(ref("i-aaaaaa"))):
        with pytest.raises(ClusterRefusedError, match="another installation"):
            await verb
    assert fake.jobs[JOB] == before


async def test_a_stopped_group_stays_until_it_is_forgotten_and_the_job_goes_with_the_last(
    fake, cluster
):
    for name in ("i-aaaaaa", "i-bbbbbb"):
        await cluster.start(spec(name))
        fake.allocations.append(alloc(name, "running"))
    await cluster.stop(ref("i-aaaaaa"))
    assert groups(fake) == {"i-aaaaaa": 0, "i-bbbbbb": 1}
    assert await states(cluster) == {"i-aaaaaa": "stopping", "i-bbbbbb": "running"}
    fake.allocations[0]["ClientStatus"] = "complete"
    assert (await states(cluster))["i-aaaaaa"] == "ended"
    await cluster.forget(ref("i-aaaaaa"))
    assert groups(fake) == {"i-bbbbbb": 1}
    await cluster.stop(ref("i-bbbbbb"))
    fake.allocations[1]["ClientStatus"] = "complete"
    await cluster.forget(ref("i-bbbbbb"))
    assert JOB not in fake.jobs
    await cluster.forget(ref("i-bbbbbb"))


async def test_nothing_is_purged_while_an_allocation_of_the_job_runs(fake, cluster):
    await cluster.start(spec("i-aaaaaa"))
    fake.allocations += [alloc("i-aaaaaa", "complete"), alloc("i-before", "running", "stop")]
    await cluster.stop(ref("i-aaaaaa"))
    await cluster.forget(ref("i-aaaaaa"))
    assert fake.jobs[JOB]["Stop"]
    assert await states(cluster) == {"i-aaaaaa": "ended", "i-before": "stopping"}
    fake.allocations[1]["ClientStatus"] = "complete"
    await cluster.forget(ref("i-aaaaaa"))
    assert JOB not in fake.jobs


async def test_a_group_is_not_taken_out_while_a_plan_may_name_it(fake, cluster):
    for name in ("i-aaaaaa", "i-bbbbbb"):
        await cluster.start(spec(name))
    await cluster.stop(ref("i-aaaaaa"))
    fake.evaluations = [{"ID": "e", "JobID": JOB, "Status": "pending", "WaitUntil": None}]
    forgetting = asyncio.create_task(cluster.forget(ref("i-aaaaaa")))
    looked = f"GET /v1/job/{JOB}/evaluations"
    await eventually(lambda: fake.requests.count(looked) > 2)
    assert groups(fake) == {"i-aaaaaa": 0, "i-bbbbbb": 1}
    fake.evaluations[0]["Status"] = "complete"
    await forgetting
    assert groups(fake) == {"i-bbbbbb": 1}


async def test_a_job_that_somebody_stopped_begins_anew(fake, cluster):
    for name in ("i-aaaaaa", "i-bbbbbb"):
        await cluster.start(spec(name))
    fake.allocations.append(alloc("i-aaaaaa", "complete", "stop"))
    fake.put({**fake.jobs[JOB], "Stop": True})
    assert await states(cluster) == {"i-aaaaaa": "ended", "i-bbbbbb": "ended"}
    await cluster.forget(ref("i-aaaaaa"))
    await cluster.start(spec("i-aaaaaa"))
    assert groups(fake) == {"i-aaaaaa": 1}
    assert not fake.jobs[JOB]["Stop"]


async def test_a_group_that_somebody_scaled_to_zero_waits_and_says_so(fake, cluster):
    await cluster.start(spec("i-aaaaaa"))
    fake.jobs[JOB]["TaskGroups"][0]["Count"] = 0
    fake.put(fake.jobs[JOB])
    [seen] = await cluster.observed()
    assert seen.state == "waiting"
    assert "set its count to 0 in Nomad" in seen.reason
    await cluster.stop(ref("i-aaaaaa"))
    assert await states(cluster) == {"i-aaaaaa": "ended"}


async def test_two_schedulers_that_mark_the_same_nomad_are_told(fake, cluster):
    await cluster.remember(Mark(installation="abc", epoch=1))

    def another_marks(request):
        if request.method == "PUT":
            fake.variables["caravan/scheduler"]["ModifyIndex"] += 1

    fake.before = another_marks
    with pytest.raises(ClusterUnavailableError, match="another scheduler"):
        await cluster.remember(Mark(installation="abc", epoch=2))


async def test_a_mark_that_is_not_readable_is_refused_rather_than_taken_for_none(fake, cluster):
    fake.variables["caravan/scheduler"] = {"Items": {"epoch": "many"}, "ModifyIndex": 3}
    with pytest.raises(ClusterRefusedError, match="not readable"):
        await cluster.mark()


async def heard(changes):
    return await asyncio.wait_for(anext(changes), 30)


async def test_an_end_of_the_stream_is_heard_and_it_goes_on_from_where_nomad_is(fake, cluster):
    changes = cluster.changes()
    await eventually(lambda: fake.streams)
    await heard(changes)
    fake.index = 70
    fake.streams[0].put_nowait(None)
    await heard(changes)
    assert fake.asked_from == [11, 71]


async def test_a_nomad_that_comes_back_is_heard(fake, cluster):
    changes = cluster.changes()
    await heard(changes)
    await fake.vanish()
    await fake.appear()
    await heard(changes)


async def test_only_what_concerns_our_jobs_or_a_node_is_heard(fake, cluster):
    changes = cluster.changes()
    await heard(changes)
    waiting = asyncio.ensure_future(anext(changes))
    fake.tell("Allocation", "AllocationUpdated", JobID="somebody-elses")
    fake.tell("Node", "AllocationUpdated", ID="node-1")
    fake.tell("Allocation", "AllocationUpdated", JobID=JOB)
    await asyncio.wait_for(waiting, 30)
    for told in ({"JobID": "somebody-elses"}, {"JobID": "caravansary"}):
        fake.tell("Evaluation", "EvaluationUpdated", **told)
    waiting = asyncio.ensure_future(anext(changes))
    fake.tell("Node", "NodeDrain", ID="node-1")
    await asyncio.wait_for(waiting, 30)


async def test_a_stream_without_a_word_is_told_once_and_tried_again(fake, monkeypatch):
    monkeypatch.setattr(nomad_events, "FIRST_WORD_S", 0.05)
    fake.silent = True
    cluster = nomad_cluster(fake.address, Terms())
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(cluster.run())
        await eventually(lambda: len(fake.asked_from) >= 3)
        fake.silent = False
        await heard(cluster.changes())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [log["event"] for log in logs].count("nomad.stream_denied") == 1


async def test_a_stream_that_falls_silent_is_asked_for_again(fake, monkeypatch):
    monkeypatch.setattr(nomad_events, "SILENCE_S", 0.1)
    cluster = nomad_cluster(fake.address, Terms())
    running = asyncio.create_task(cluster.run())
    await eventually(lambda: len(fake.asked_from) >= 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_line_that_nobody_can_read_ends_the_stream_and_not_the_reader(fake, cluster):
    changes = cluster.changes()
    await heard(changes)
    fake.streams[0].put_nowait({"Events": "none"})
    await heard(changes)
    assert len(fake.asked_from) == 2
