"""The life of a deployment, asked for over a real bus."""

import asyncio

import pytest

from caravan.contracts import admin, names, topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.kit import records
from caravan.kit.buckets import open_bucket
from tests.integration.scheduler.conftest import TENANT, until

KEY = names.deployment_key(TENANT, "test")
OTHER = "u-ba9876543210"


async def entry(bus):
    """Return what the bucket says of the deployment."""
    kv = await open_bucket(bus, topology.DEPLOYMENTS)
    found = await records.read(kv, KEY, DeploymentEntry)
    return found.value if found else None


@pytest.mark.usefixtures("scheduler")
async def test_from_create_to_purge_everything_is_reached(operator, cluster, model, bus):
    created = await operator.create(model, instances=2, drain_s=5)
    assert not created.accepted
    assert created.path == f"{TENANT}/test"
    assert await entry(bus)
    await operator.reach("running", ready=2)
    told = await entry(bus)
    assert sorted(told.verdicts) == cluster.running()
    assert {v.word for v in told.verdicts.values()} == {"serve"}

    await operator.scale(add=1)
    grown = await operator.reach("running", ready=3)
    victim = grown.truth[0].instance
    await operator.scale(add=-1, remove=[victim])
    await until(lambda: cluster.stopped == [victim])
    await operator.reach("running", ready=2)

    before = cluster.running()
    updated = await operator.change(topology.UPDATE_DEPLOYMENT, name="test", engine_args=["--x"])
    assert updated.generation == 2
    await until(lambda: len(cluster.running()) == 2 and not set(before) & set(cluster.running()))
    await operator.reach("running", ready=2)
    assert (await entry(bus)).generations == [2]

    await operator.change(topology.STOP_DEPLOYMENT, name="test")
    await operator.reach("stopped")
    assert cluster.instances == {}
    started = await operator.change(topology.START_DEPLOYMENT, name="test")
    assert started.instances == 2
    await operator.reach("running", ready=2)

    delete = topology.DELETE_DEPLOYMENT
    wrong = operator.change(delete, name="test", confirm=f"{TENANT}/test")
    assert await operator.refusal(wrong) == ("confirmation_mismatch", "confirm")
    deleted = await operator.change(delete, name="test", confirm="test")
    assert deleted.restorable_until > 0
    await operator.reach("deleted")
    await until(lambda: gone(bus))
    assert await operator.refusal(operator.create(model)) == ("name_in_trash", "name")
    restored = await operator.change(topology.RESTORE_DEPLOYMENT, name="test")
    assert restored.state == "stopped"
    assert await entry(bus)


async def gone(bus):
    return await entry(bus) is None


@pytest.mark.usefixtures("scheduler")
async def test_a_request_that_is_sent_again_is_done_once(operator, model):
    await operator.create(model, request_id="one")
    first = await operator.scale(add=2, request_id="two")
    again = await asyncio.gather(*(operator.scale(add=2, request_id="two") for _ in range(3)))
    assert [first.instances, *(a.instances for a in again)] == [3, 3, 3, 3]
    assert (await operator.get()).instances == 3
    reused = operator.scale(add=1, request_id="two")
    assert await operator.refusal(reused) == ("request_id_reused", "request_id")
    assert (await operator.create(model, request_id="one")).instances == 1


@pytest.mark.usefixtures("scheduler")
async def test_what_is_wrong_is_refused_by_its_code_and_changes_nothing(operator, model, tmp_path):
    refusal, create = operator.refusal, operator.create
    assert await refusal(create(f"file://{tmp_path}/no")) == ("weights_not_found", "source")
    assert await refusal(create(f"file://{tmp_path}")) == ("weights_not_found", "source")
    assert await refusal(create("s3://b/m")) == ("source_not_supported", "source")
    assert await refusal(create(model, name="Test")) == ("invalid_request", "name")
    assert await refusal(create(model, task="rerank")) == ("task_not_supported", "task")
    assert await refusal(create(model, instances=65)) == ("too_many_instances", "instances")
    assert await refusal(operator.get("none")) == ("deployment_not_found", "name")
    assert (await operator.list()).items == []
    await create(model)
    assert await refusal(create(model)) == ("name_taken", "name")
    assert await refusal(operator.scale(add=-2)) == ("invalid_request", "add")
    assert await refusal(operator.scale(instances=65)) == ("too_many_instances", "instances")
    missing = operator.change(topology.UPDATE_DEPLOYMENT, name="test", source="file:///no/such")
    assert await refusal(missing) == ("weights_not_found", "source")
    assert (await operator.get()).generation == 1


@pytest.mark.usefixtures("scheduler")
async def test_a_tenant_sees_its_own_deployments_only(operator, model):
    for name in ("b", "a", "c"):
        await operator.create(model, name=name)
    await operator.change(topology.CREATE_DEPLOYMENT, OTHER, name="a", source=model)
    first = await operator.list(limit=2)
    assert [d.name for d in first.items] == ["a", "b"]
    rest = await operator.list(limit=2, cursor=first.cursor)
    assert ([d.name for d in rest.items], rest.cursor) == (["c"], "")
    assert await operator.refusal(operator.get("b", OTHER)) == ("deployment_not_found", "name")


@pytest.mark.usefixtures("scheduler")
async def test_events_are_followed_by_asking_again(operator, model):
    async def events(**more):
        return await operator.ask(topology.LIST_EVENTS, admin.ListEvents(**more))

    end = await events(cursor="end")
    waiting = asyncio.create_task(events(cursor=end.cursor, wait_s=20.0, name="test"))
    await operator.create(model)
    page = await waiting
    assert [e.what for e in page.items][:1] == ["created"]
    await operator.reach("running")
    everything = await events(name="test")
    assert [(e.kind, e.what) for e in everything.items] == [
        ("deployment", "created"),
        ("instance", "named"),
    ]
    assert everything.items[0].owner == "scheduler"
    assert (await events(cursor=everything.cursor)).items == []
    assert await operator.refusal(events(cursor="x")) == ("invalid_request", "cursor")
    assert await operator.refusal(events(wait_s=21.0)) == ("invalid_request", "wait_s")


@pytest.mark.usefixtures("scheduler")
async def test_events_reach_the_stream_in_order(operator, bus, model):
    await operator.create(model)
    await operator.scale(add=1)

    async def published():
        info = await bus.js.stream_info("EVENTS")
        return info.state.messages >= 2

    await until(published)
    first = await bus.js.get_msg("EVENTS", 1)
    assert first.subject == f"caravan.events.deployment.{TENANT}.test.created"


@pytest.mark.usefixtures("scheduler")
async def test_logs_come_from_the_newest_instance_and_wait_for_more(operator, cluster, model):
    async def logs(**more):
        return await operator.ask(topology.READ_LOGS, admin.ReadLogs(name="test", **more))

    await operator.create(model, instances=0)
    assert await operator.refusal(logs()) == ("instance_not_found", "instance")
    await operator.scale(instances=1)
    await operator.reach("running")
    [instance] = cluster.running()
    cluster.printed[instance] = ["a", "b"]
    page = await logs()
    assert (page.items, page.instance) == (["a", "b"], instance)
    waiting = asyncio.create_task(logs(cursor=page.cursor, instance=instance, wait_s=20.0))
    await asyncio.sleep(0)
    cluster.printed[instance].append("c")
    assert (await waiting).items == ["c"]
    assert await operator.refusal(logs(instance="../x")) == ("instance_not_found", "instance")


@pytest.mark.usefixtures("scheduler")
async def test_a_change_at_a_worker_shows_in_the_truth_line(operator, cluster, workers, model):
    workers.ready = False
    await operator.create(model)
    loading = await operator.reach("starting")
    assert loading.ready == 0
    [instance] = await until(cluster.running)
    cluster.set(instance, "restarting", failures=3, reason="it ran out of memory")
    failed = await operator.reach("failed")
    assert failed.reason == "it ran out of memory"
    assert failed.truth[0].cluster == "restarting"


@pytest.mark.usefixtures("scheduler")
async def test_a_held_deployment_is_left_as_it_is(operator, cluster, model):
    await operator.create(model)
    await operator.create(model, name="free")
    await operator.reach("running")
    path = f"{TENANT}/test"
    held = await operator.change(topology.HOLD_SCHEDULER, "", path=path)
    assert (held.on_hold, held.paths) == (False, [path])
    assert (await operator.get()).held
    assert await operator.refusal(operator.scale(add=1)) == ("on_hold", "name")
    await operator.scale("free", add=1)
    await operator.reach("running", "free", ready=2)
    assert len(cluster.running()) == 3
    await operator.change(topology.HOLD_SCHEDULER, "", path=path, release=True)
    await operator.scale(add=1, request_id="again")
    await operator.reach("running", ready=2)
    wrong = operator.change(topology.HOLD_SCHEDULER, "", path="test")
    assert await operator.refusal(wrong) == ("invalid_request", "path")


@pytest.mark.usefixtures("scheduler")
async def test_on_hold_by_hand_nothing_changes_until_it_is_released(operator, cluster, model):
    await operator.create(model)
    await operator.reach("running")
    held = await operator.change(topology.HOLD_SCHEDULER, "")
    assert held.on_hold
    assert "caravan hold" in (await operator.list()).hold
    refused = operator.scale(add=1, request_id="kept")
    assert await operator.refusal(refused) == ("on_hold", None)
    released = await operator.change(topology.HOLD_SCHEDULER, "", release=True)
    assert not released.on_hold

    async def scaled():  # a refusal for the hold is not kept: the same request works now
        page = await operator.list()
        return not page.hold and await operator.scale(add=1, request_id="kept")

    await until(scaled)
    await operator.reach("running", ready=2)
    assert len(cluster.running()) == 2
