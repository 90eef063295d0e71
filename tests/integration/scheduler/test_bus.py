"""What the scheduler does when the bus fails, and what it does because of what it hears there."""

import asyncio
import re
import time

import pytest

from caravan.contracts import names, topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.reports import InstanceUse, Position
from caravan.kit import records
from caravan.kit.buckets import open_bucket
from caravan.kit.publish import epoch_in
from tests.integration.scheduler.conftest import TENANT, until

KEY = names.deployment_key(TENANT, "test")


async def entry(bus):
    kv = await open_bucket(bus, topology.DEPLOYMENTS)
    found = await records.read(kv, KEY, DeploymentEntry)
    return found.value if found else None


@pytest.mark.usefixtures("scheduler")
async def test_an_instance_is_stopped_when_all_routers_have_let_go(stage, router):
    operator, cluster, workers = stage.operator, stage.cluster, stage.workers
    bus, model = stage.bus, stage.model
    await operator.create(model, drain_s=3000)
    await operator.reach("running")
    [instance] = cluster.running()
    key = names.instance_key(TENANT, "test", instance)
    router.busy[key] = 1
    await until(lambda: busy(operator))
    await operator.change(topology.STOP_DEPLOYMENT, name="test")
    draining = await until(lambda: has_drain(bus))
    assert draining.verdicts[instance].deadline > 0
    told = await operator.get()
    assert told.truth[0].text.startswith("draining, 1 in flight")

    await router.obey()  # it sends nothing new, and its open request goes on
    await asyncio.sleep(3)
    assert cluster.running() == [instance]
    router.busy.clear()
    workers.busy[instance] = 1  # the engine still works on it
    await asyncio.sleep(3)
    assert cluster.running() == [instance]
    workers.busy.clear()
    await operator.reach("stopped")
    assert cluster.stopped == [instance]


@pytest.mark.usefixtures("scheduler")
async def test_what_a_router_holds_against_an_instance_stands_in_its_truth_line(
    operator, cluster, model, router
):
    await operator.create(model)
    await operator.reach("running")
    [instance] = cluster.running()
    router.failing[names.instance_key(TENANT, "test", instance)] = InstanceUse(
        last_error_at=time.time(), last_error="no connection in time", ejected=True, failures=3
    )

    async def ejected():
        told = await operator.get()
        return told if told.truth[0].routers == "ejected" else None

    told = await until(ejected)
    assert told.state == "running"  # a router's view of it decides nothing but its own choice
    said = re.sub(r"\d+ s ago", "_ s ago", told.truth[0].text)
    assert said == (
        "ready, 0 in flight: ejected by 1 of 1 router, "
        "last error: no connection in time, _ s ago, probed until it answers"
    )
    router.failing.clear()
    await until(lambda: _truth(operator, "ready, 0 in flight"))


async def _truth(operator, text):
    return (await operator.get()).truth[0].text == text


async def busy(operator):
    return (await operator.get()).truth[0].in_flight == 1


async def has_drain(bus):
    found = await entry(bus)
    return found if found and any(v.word == "drain" for v in found.verdicts.values()) else None


@pytest.mark.usefixtures("scheduler")
async def test_a_router_that_has_not_read_the_verdict_holds_the_instance(stage, router):
    operator, cluster, model = stage.operator, stage.cluster, stage.model
    await operator.create(model, drain_s=3000)
    await operator.reach("running")
    router.position = Position(created="another stream", sequence=10**9)
    await operator.change(topology.STOP_DEPLOYMENT, name="test")
    await operator.reach("stopping")
    await asyncio.sleep(9)  # longer than all that is waited for, were there no router
    assert len(cluster.running()) == 1
    await router.obey()
    await operator.reach("stopped")


async def test_a_new_scheduler_goes_on_with_what_runs(schedulers, stage):
    operator, cluster, model = stage.operator, stage.cluster, stage.model
    async with schedulers():
        await operator.create(model, instances=2)
        await operator.reach("running")
        running = cluster.running()
    async with schedulers():
        await operator.reach("running", ready=2)
        await operator.scale(add=1)
        await operator.reach("running", ready=3)
        assert set(running) < set(cluster.running())
        assert cluster.stopped == []


async def test_an_empty_database_holds_shows_and_stops_nothing(schedulers, stage, new_database):
    operator, cluster, model, bus = stage.operator, stage.cluster, stage.model, stage.bus
    async with schedulers():
        await operator.create(model, instances=2)
        await operator.reach("running")
        running = cluster.running()
        said = await until(lambda: has_state(bus, "running"))
    async with schedulers(new_database()):
        page = await operator.list()
        assert "emptied or is an older copy" in page.hold or "another database" in page.hold
        await until(lambda: shown(operator, [f"test/{i}" for i in running]))
        assert (await operator.refusal(operator.create(model)))[0] == "on_hold"
        assert cluster.running() == running
        assert await entry(bus) == said
        await operator.change(topology.HOLD_SCHEDULER, "", release=True)
        await until(lambda: released(operator))
        await operator.create(model, name="new")
        await operator.reach("running", "new")
        assert set(running) < set(cluster.running())


async def has_state(bus, state):
    found = await entry(bus)
    return found if found and found.state == state else None


async def shown(operator, unclaimed):
    return (await operator.list()).unclaimed == unclaimed


async def released(operator):
    return not (await operator.list()).hold


@pytest.mark.usefixtures("scheduler")
async def test_a_nats_that_lost_its_disk_is_written_again_and_nothing_is_stopped(
    stage, nats_server
):
    operator, cluster, model, bus = stage.operator, stage.cluster, stage.model, stage.bus
    await operator.create(model, instances=2)
    await operator.reach("running")
    running, epoch = cluster.running(), await epoch_in(bus, topology.DEPLOYMENTS)
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    await until(lambda: same_entry(bus, running))
    assert await until(lambda: epoch_in(bus, topology.DEPLOYMENTS)) >= epoch
    await operator.reach("running", ready=2)
    assert cluster.running() == running
    assert cluster.stopped == []
    await operator.scale(add=1)
    await operator.reach("running", ready=3)


async def same_entry(bus, running):
    found = await entry(bus)
    return found is not None and sorted(found.verdicts) == running


@pytest.mark.usefixtures("scheduler")
async def test_a_silent_worker_is_used_last_until_it_is_heard_again(stage):
    operator, cluster, workers, bus = stage.operator, stage.cluster, stage.workers, stage.bus
    await operator.create(stage.model, instances=2)
    await operator.reach("running")
    silent = cluster.running()[0]
    workers.silent.add(silent)
    await until(lambda: word(bus, silent, "suspect"), 90)
    assert (await operator.get()).state == "degraded"
    assert cluster.stopped == []
    workers.silent.clear()
    await until(lambda: word(bus, silent, "serve"))
    await operator.reach("running")


async def word(bus, instance, verdict):
    found = await entry(bus)
    return found is not None and found.verdicts[instance].word == verdict


async def test_what_nats_cannot_take_is_accepted_and_follows(stage, schedulers):
    """The row is written; the bucket is made anew under the scheduler's feet."""
    operator, model, bus = stage.operator, stage.model, stage.bus
    async with schedulers():
        await bus.js.delete_stream("KV_deployments")
        await bus.js.add_stream(name="blocked", subjects=["$KV.deployments.>"], no_ack=True)
        created = await operator.create(model)
        assert created.accepted
        await bus.js.delete_stream("blocked")
        await operator.reach("running")
        assert await entry(bus)
