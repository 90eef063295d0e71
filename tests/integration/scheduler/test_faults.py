"""A scheduler may die anywhere and be refused by anybody: what was asked is reached."""

import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.contracts.errors import OnHoldError
from caravan.kit.sql import Database
from services.scheduler.app import MIGRATIONS
from services.scheduler.core.cluster import Observed, Ref
from services.scheduler.core.rows import DRAIN, RUN, TRASH_S
from tests.integration.scheduler.lives import TENANT, Lives

SLOW = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@asynccontextmanager
async def opened(url):
    async with Database(url) as db:
        await db.open(MIGRATIONS)
        yield db


@pytest.fixture
async def lives(new_database):
    async with opened(new_database()) as db:
        yield Lives(db)


def everywhere(lives, count, generation=1):
    """Tell whether just ``count`` instances run, and the bucket names them alone."""
    running = lives.cluster.running()
    entry = lives.bucket.entries.get(f"{TENANT}.test")
    named = sorted(entry.verdicts) if entry else []
    settled = {lives.bucket.verdict(ref) for ref in lives.cluster.instances} <= {"serve"}
    new = all(lives.generation(ref) == generation for ref in lives.cluster.instances)
    return len(running) == count and named == running and settled and new


fault = st.sampled_from(["none", "none", "before", "after", "killed before", "killed after"])
story = st.lists(
    st.one_of(
        st.builds(lambda n: ("scale", {"instances": n}), st.integers(1, 4)),
        st.builds(lambda n: ("update", {"engine_args": [f"--{n}"]}), st.integers(0, 2)),
        st.just(("stop", {})),
        st.just(("start", {})),
    ),
    max_size=4,
)


@SLOW
@given(story, st.lists(fault, max_size=40), st.lists(st.integers(0, 12), min_size=5, max_size=5))
async def test_what_was_asked_is_reached_wherever_it_dies(migrated, story, faults, pauses):
    """No instance is started twice, none without a verdict, none stopped that was not drained."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.db"
        shutil.copy(migrated, file)
        async with opened(f"sqlite:///{file}") as db:
            lives = Lives(db, faults)
            asked = await lives.create(instances=2)
            for (verb, fields), pause in zip(story, pauses, strict=False):
                await lives.pass_s(pause)
                asked = await lives.ask(verb, **fields)
            await lives.pass_s(
                900, until=lambda: everywhere(lives, asked.instances, asked.generation)
            )
            await lives.pass_s(3)

            assert everywhere(lives, asked.instances, asked.generation)
            assert await lives.rows() == dict.fromkeys(lives.cluster.running(), RUN)
            assert len(set(lives.cluster.started)) == len(lives.cluster.started)


@SLOW
@given(st.lists(fault, max_size=30))
async def test_growing_starts_just_as_many_as_were_asked(migrated, faults):
    """A scheduler that comes after another goes on with its names; it makes up no new ones."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.db"
        shutil.copy(migrated, file)
        async with opened(f"sqlite:///{file}") as db:
            lives = Lives(db, faults)
            await lives.create(instances=2)
            await lives.pass_s(5)
            await lives.ask("scale", add=2)
            await lives.pass_s(600, until=lambda: everywhere(lives, 4))
            assert len(lives.cluster.started) == 4


async def test_victims_and_deadlines_outlive_the_scheduler(lives):
    await lives.create(instances=3)
    await lives.pass_s(5)
    await lives.ask("scale", add=-1)
    await lives.pass_s(1)
    before = await lives.rows()
    [victim] = [name for name, wanted in before.items() if wanted == DRAIN]
    lives.begin()
    await lives.pass_s(3)
    assert await lives.rows() == before
    await lives.pass_s(30, until=lambda: everywhere(lives, 2))
    assert lives.cluster.stopped == [victim]


async def test_one_refusing_deployment_does_not_stop_another(lives):
    lives.cluster.refuse["test"] = "the driver `docker` is missing on every node"
    await lives.create()
    await lives.create("other")
    await lives.pass_s(3)
    assert len(lives.cluster.running()) == 1
    assert (await lives.told("other")).state == "running"
    assert (await lives.told()).state == "pending"
    await lives.pass_s(20)
    told = await lives.told()
    assert (told.state, told.reason) == ("failed", lives.cluster.refuse["test"])
    del lives.cluster.refuse["test"]
    await lives.pass_s(60, until=lambda: len(lives.cluster.running()) == 2)
    await lives.pass_s(2)
    assert (await lives.told()).state == "running"


async def test_a_new_wish_is_tried_at_once_after_refusals(lives):
    lives.cluster.refuse["test"] = "no"
    await lives.create()
    await lives.pass_s(60)
    lives.cluster.refuse.clear()
    await lives.ask("update", engine_args=["--x"])
    await lives.pass_s(2)
    assert len(lives.cluster.running()) >= 1


async def test_a_silent_cluster_costs_no_tries_and_nothing_is_decided(lives):
    await lives.create()
    await lives.pass_s(3)
    lives.cluster.down = "Nomad does not answer"
    await lives.ask("scale", add=1)
    await lives.pass_s(60)
    assert len(await lives.rows()) == 1
    assert (await lives.told()).state == "degraded"
    assert lives.world.cluster_silent == "Nomad does not answer"
    lives.cluster.down = ""
    await lives.pass_s(5)
    assert (await lives.told()).state == "running"


async def test_what_ended_by_itself_comes_back_under_its_name_and_not_too_often(lives):
    await lives.create()
    await lives.pass_s(3)
    [name] = lives.cluster.running()
    for _ in range(3):
        lives.cluster.set(name, "ended")
        await lives.pass_s(1)
    assert lives.cluster.started == [name, name]
    await lives.pass_s(5)
    assert lives.cluster.running() == [name]


async def test_what_no_row_names_is_left_running(lives):
    await lives.create()
    await lives.pass_s(5)
    ref = Ref(TENANT, "test", "i-orphan")
    lives.cluster.instances[ref] = Observed(ref=ref, state="running")
    lives.cluster.specs[ref] = next(iter(lives.cluster.specs.values()))
    await lives.ask("stop")
    await lives.pass_s(40)
    assert lives.cluster.running() == ["i-orphan"]


@pytest.mark.parametrize(
    "what_is_left", ["the cluster and the bucket", "the cluster", "the bucket"]
)
async def test_on_an_empty_database_it_holds_and_stops_nothing(lives, new_database, what_is_left):
    await lives.create(instances=2)
    await lives.pass_s(5)
    before, entries = lives.cluster.running(), dict(lives.bucket.entries)
    if what_is_left == "the cluster":
        lives.bucket.seen = 0
    if what_is_left == "the bucket":
        lives.cluster.memory = None
    lives.installation = "another"
    async with opened(new_database()) as db:
        lives.use(db)
        await lives.pass_s(30)
        assert lives.cluster.running() == before
        assert lives.bucket.entries == entries
        assert "caravan hold --release" in lives.world.hold
        with pytest.raises(OnHoldError):
            lives.world.check_free()


async def test_on_a_restored_older_database_it_holds_until_a_person_releases_it(
    lives, new_database, tmp_path
):
    url = new_database()
    file = Path(url.removeprefix("sqlite:///"))
    async with opened(url) as db:
        lives.use(db)
        await lives.create(instances=1)
        await lives.pass_s(5)
    shutil.copy(file, tmp_path / "backup.db")
    async with opened(url) as db:
        lives.use(db)
        await lives.ask("scale", add=2)
        await lives.pass_s(5)
    running = lives.cluster.running()
    assert len(running) == 3
    shutil.copy(tmp_path / "backup.db", file)
    async with opened(url) as db:
        lives.use(db)
        await lives.pass_s(30)
        assert lives.cluster.running() == running
        assert "older copy" in lives.world.hold

        above, installation = lives.guard.known()
        await lives.store.release(lives.hold_call(), above=above, installation=installation)
        await lives.pass_s(30)
        assert lives.world.hold == ""
        assert lives.cluster.running() == running  # two of them unclaimed now, and left alone
        lives.begin()
        await lives.pass_s(2)
        assert lives.world.hold == ""


async def test_the_trash_forgets_after_24_h_and_the_name_is_free(lives):
    await lives.create()
    await lives.pass_s(3)
    await lives.ask("delete", confirm="test")
    await lives.pass_s(40)
    assert lives.bucket.entries == {}
    assert (await lives.told()).state == "deleted"
    lives.now += TRASH_S - 60
    await lives.pass_s(1)
    assert (await lives.store.book(TENANT, "test"))[0] is not None
    lives.now += 60
    await lives.pass_s(1)
    assert (await lives.store.book(TENANT, "test"))[0] is None
    await lives.create()


async def test_a_drain_s_deadline_runs_only_while_nats_is_heard(lives):
    await lives.create()
    await lives.pass_s(3)
    [name] = lives.cluster.running()
    lives.world.leases.renewed = lambda *_: None  # its engine never says that it is idle
    await lives.ask("stop")
    await lives.pass_s(10)
    lives.connected = False
    await lives.pass_s(100)
    assert lives.cluster.running() == [name]
    lives.connected = True
    lives.world.away_s += 100.0
    await lives.pass_s(9)
    assert lives.cluster.running() == [name]
    await lives.pass_s(5)
    assert lives.cluster.running() == []


async def test_a_held_deployment_is_neither_started_nor_stopped(lives):
    await lives.create(instances=2)
    await lives.pass_s(3)
    await lives.ask("scale", add=1)
    await lives.store.hold_one(lives.hold_call(), TENANT, "test", held=True)
    await lives.pass_s(30)
    assert len(lives.cluster.running()) == 2
    await lives.store.hold_one(lives.hold_call(), TENANT, "test", held=False)
    await lives.pass_s(3)
    assert len(lives.cluster.running()) == 3
