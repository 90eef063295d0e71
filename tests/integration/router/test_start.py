"""Starts, and NATS going away and coming back: what was known goes on being served."""

import pytest

from tests.integration.router.world import SECRET, TENANT, body, eventually


async def test_a_router_starts_without_nats_from_its_copies_on_disk(world, engine, nats_server):
    await world.serving(engine)
    await world.stop()
    await nats_server.stop()

    await world.start(start_wait_s=0.5)

    assert (await world.asked(body()))[0] == 200
    async with world.http.get(world.base + "/ready") as response:
        assert response.status == 200


async def test_without_copies_and_nats_it_answers_503_and_recovers(world, engine, nats_server):
    await world.serving(engine)
    await world.stop()
    await nats_server.stop()
    await world.start(start_wait_s=0.2, views_dir=world.folder / "empty")
    assert (await world.refused(body()))[0] == 503

    await nats_server.start()

    async def serves():
        return (await world.asked(body()))[0] == 200

    await eventually(serves)


async def test_no_key_is_on_the_disk(world, engine):
    await world.serving(engine)
    await world.stop()

    found = "".join(p.read_text() for p in (world.folder / "views").iterdir())
    assert TENANT in found
    assert SECRET not in found
    assert {p.stat().st_mode & 0o077 for p in (world.folder / "views").iterdir()} == {0}


async def test_what_nats_says_counts_more_than_the_disk(world, engine):
    await world.serving(engine)
    await world.stop()
    await world.key(state="revoked")

    await world.start()

    assert (await world.refused(body()))[0] == 401


async def test_nats_away_and_back_changes_nothing_for_clients(world, engine, nats_server):
    await world.serving(engine)
    await nats_server.kill()
    assert (await world.asked(body()))[0] == 200
    await nats_server.start()
    await world.bus.established(30)
    await eventually(lambda: _connected(world))
    await world.deploy(state="stopped")

    async def stopped():
        return (await world.asked(body()))[2].get("error", {}).get("code") == "model_stopped"

    await eventually(stopped)


async def _connected(world):
    return world.bus.connected


async def test_an_emptied_nats_is_no_all_deleted(world, engine, nats_server):
    """The same keys, models and instances serve, before and after the owners have written again."""
    await world.serving(engine)
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    await eventually(lambda: _connected(world))
    await world.open_buckets()

    async def anew():
        return not (await world.report()).positions["keys"].complete

    await eventually(anew)
    assert (await world.asked(body()))[0] == 200

    await world.key()
    await world.deploy(instances=["i-aaaaaa"])
    await world.complete()

    async def confirmed():
        return (await world.report()).positions["deployments"].complete

    await eventually(confirmed)
    assert (await world.asked(body()))[0] == 200


async def test_an_instance_that_no_deployment_names_any_more_goes_after_a_new_stream(
    world, engine, nats_server
):
    await world.serving(engine)
    assert (await world.asked(body()))[0] == 200
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    await eventually(lambda: _connected(world))
    await world.open_buckets()
    await world.key()
    await world.deploy(instances=[])
    await world.complete()

    async def pruned():
        report = await world.report()
        return report.positions["deployments"].complete and not report.instances

    await eventually(pruned)
    assert (await world.refused(body()))[1]["code"] == "model_not_ready"


async def test_views_may_have_an_age_limit(world, engine, nats_server):
    await world.serving(engine)
    await world.stop()
    await world.start(views_age_limit_s=3.0)
    assert (await world.asked(body()))[0] == 200
    await nats_server.stop()

    async def refused():
        return (await world.asked(body()))[0] == 503

    await eventually(refused)


@pytest.mark.parametrize("count", [2])
async def test_every_router_answers_for_itself(world, engine, count):
    await world.serving(engine)
    inbox = world.bus.client.new_inbox()
    heard = []

    async def hear(message):
        heard.append(message.data)

    second = type(world)(world.bus, world.folder / "second")
    async with second:
        await second.start()
        subscription = await world.bus.client.subscribe(inbox, cb=hear)

        async def answered():
            await world.bus.client.publish("caravan.router.status", b"{}", reply=inbox)
            return len(set(heard)) >= count

        await eventually(answered)
        await subscription.unsubscribe()
