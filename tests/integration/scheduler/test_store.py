"""Rows, events and answers on both databases."""

import uuid

import psycopg
import pytest
from msgspec.structs import replace

from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal
from caravan.kit.endpoints import Call
from caravan.kit.sql import Database
from services.scheduler.adapters.store import Store
from services.scheduler.app import MIGRATIONS
from services.scheduler.core import deployments
from services.scheduler.core.errors import DeploymentNotFoundError, NameTakenError
from services.scheduler.core.plan import Drain, End, Name, Remove
from services.scheduler.core.rows import DRAIN, GONE, RUN
from tests.integration.scheduler.conftest import TENANT, migrate


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_root):
    """The name of an empty PostgreSQL database, migrated once: a template."""
    name = f"caravan_{uuid.uuid4().hex[:12]}"
    url = postgres_root.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"CREATE DATABASE {name}")
    migrate(url)
    yield name
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def new_postgres(migrated_postgres, postgres_root):
    name = f"caravan_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"CREATE DATABASE {name} TEMPLATE {migrated_postgres}")
    yield postgres_root.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request, clock):
    """A store on an empty database of each kind."""
    if request.param == "sqlite":
        url = request.getfixturevalue("new_database")()
    else:
        url = request.getfixturevalue("new_postgres")
    async with Database(url) as db:
        await db.open(MIGRATIONS)
        store = Store(db, lambda: None, clock)
        yield store


def call(endpoint=topology.CREATE_DEPLOYMENT, request_id=None, digest="d"):
    return Call(
        endpoint=endpoint,
        subject=endpoint.of(TENANT),
        tenant=TENANT,
        actor="ann",
        request_id=request_id or uuid.uuid4().hex,
        digest=digest,
    )


def told(book, change):
    """Return an answer that shows the row and its count."""
    asked = book.asked
    return admin.Deployment(
        tenant=asked.tenant,
        name=asked.name,
        path="",
        task=asked.task,
        source=asked.source,
        state="",
        reason="",
        instances=asked.instances,
        ready=0,
        generation=asked.generation,
        created_at=asked.created_at,
        updated_at=asked.updated_at,
        notes=change.notes,
    )


def creating(name="test", **more):
    request = admin.CreateDeployment(request_id="x", name=name, source="file:///m", **more)

    def decide(book, now):
        return deployments.create(request, TENANT, book.asked if book else None, now)

    return decide


async def create(store, name="test", **more):
    await store.change(call(), name, creating(name, **more), told)
    book, _ = await store.book(TENANT, name)
    return book


async def test_what_is_written_is_read_again(store):
    asked = (
        await create(store, instances=3, engine_args=["--a", "b"], resources={"gpus": 1.0})
    ).asked
    assert (asked.instances, asked.engine_args, asked.resources) == (3, ["--a", "b"], {"gpus": 1.0})
    assert (asked.created_at, asked.event) == (100.0, 1)
    books = await store.books()
    assert [b.asked for b in books.books] == [asked]
    assert (books.epoch, books.hold) == (1, "")


async def test_a_refused_change_leaves_nothing_behind(store):
    await create(store)
    with pytest.raises(NameTakenError):
        await store.change(call(), "test", creating(), told)
    _, epoch = await store.book(TENANT, "test")
    assert epoch == 1


async def test_a_repeat_is_answered_as_before_and_another_body_refused(store):
    first = call(request_id="r", digest="a")
    answer = await store.change(first, "test", creating(instances=2), told)
    assert await store.change(first, "test", creating(instances=9), told) == answer
    with pytest.raises(RemoteRefusal, match="request_id"):
        await store.change(call(request_id="r", digest="b"), "other", creating("other"), told)


async def test_an_instance_s_row_goes_from_run_to_drain_to_gone_to_nothing(store, clock):
    book = await create(store)
    spec = book.asked.spec("i-aaaaaa")
    for decision, wanted in [
        (Name(spec), RUN),
        (Drain("i-aaaaaa", 220.0), DRAIN),
        (End("i-aaaaaa"), GONE),
    ]:
        clock.now += 1
        turns = await store.decide(book.asked, [decision])
        assert len(turns) == 1
        book, _ = await store.book(TENANT, "test")
        assert [(r.spec, r.wanted) for r in book.rows] == [(spec, wanted)]
    assert book.rows[0].deadline == 220.0
    assert book.rows[0].named_at == 101.0
    await store.decide(book.asked, [Remove("i-aaaaaa")])
    book, epoch = await store.book(TENANT, "test")
    assert (book.rows, epoch, book.asked.event) == ([], 5, 5)
    events, _ = await store.history(TENANT, "test", 0, 10)
    assert [e.what for e in events] == ["created", "named", "drained", "stopped", "ended"]
    assert events[0].actor == "ann"


async def test_a_decision_on_what_was_asked_before_is_dropped(store):
    before = (await create(store)).asked
    after = replace(before, updated_at=101.0)
    assert await store.decide(after, [Name(before.spec("i-aaaaaa"))]) == []
    assert (await store.book(TENANT, "test"))[0].rows == []


async def test_deadlines_move_while_nats_is_away(store):
    asked = (await create(store)).asked
    await store.decide(asked, [Name(asked.spec(i)) for i in ("i-aaaaaa", "i-bbbbbb")])
    asked = (await store.book(TENANT, "test"))[0].asked
    await store.decide(asked, [Drain("i-aaaaaa", 220.0)])
    await store.postpone(7.5)
    rows = (await store.book(TENANT, "test"))[0].rows
    assert {r.instance: r.deadline for r in rows} == {"i-aaaaaa": 227.5, "i-bbbbbb": 0.0}


async def test_pages_follow_each_other_by_name(store):
    for name in ("b", "a", "c"):
        await create(store, name)
    assert [b.asked.name for b in await store.page(TENANT, "", 2)] == ["a", "b"]
    assert [b.asked.name for b in await store.page(TENANT, "b", 2)] == ["c"]
    assert await store.page("u-000000000000", "", 2) == []


async def test_a_purge_takes_only_what_is_still_in_the_trash(store):
    asked = (await create(store)).asked
    await store.purge(replace(asked, deleted_at=5.0))
    assert (await store.book(TENANT, "test"))[0] is not None
    await store.purge(asked)
    assert (await store.book(TENANT, "test"))[0] is None
    events, _ = await store.history(TENANT, "test", 0, 10)
    assert [e.what for e in events] == ["created", "purged"]


async def test_a_hold_outlives_the_process_and_a_release_goes_beyond_the_known_epoch(store):
    hold = topology.HOLD_SCHEDULER
    held = await store.hold(call(hold), "because")
    assert (held.on_hold, (await store.books()).hold) == (True, "because")
    first = await store.installation("one")
    released = await store.release(call(hold), above=50, installation="two")
    assert not released.on_hold
    books = await store.books()
    assert (books.hold, books.epoch) == ("", 51)
    assert (first, await store.installation("three")) == ("one", "two")


async def test_one_deployment_is_held_by_itself(store):
    hold = topology.HOLD_SCHEDULER
    await create(store)
    held = await store.hold_one(call(hold), TENANT, "test", held=True)
    assert (held.on_hold, held.paths) == (False, [f"{TENANT}/test"])
    assert (await store.book(TENANT, "test"))[0].asked.held
    with pytest.raises(DeploymentNotFoundError):
        await store.hold_one(call(hold), TENANT, "none", held=True)
