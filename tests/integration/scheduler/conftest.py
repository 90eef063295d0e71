"""A whole scheduler around a cluster in memory, on a real bus and a real database."""

import asyncio
import contextlib
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from caravan.contracts import admin, topology
from caravan.contracts.errors import Refusal, UnavailableError
from caravan.kit.bus import Bus
from caravan.kit.outbox import relay
from caravan.kit.sql import Database
from services.scheduler.adapters.store import OWNER, Store
from services.scheduler.adapters.weights import LocalWeights
from services.scheduler.app import MIGRATIONS, Moves, Parts, Readiness
from tests.integration.scheduler.machine import MemoryCluster, Router, Workers

TENANT = "u-0123456789ab"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """An empty database, migrated once: a file to copy."""
    file = tmp_path_factory.mktemp("migrated") / "empty.db"

    migrate(f"sqlite:///{file}")
    return file


def migrate(url):
    """Bring a database to the newest revision, in a loop of its own."""

    async def make():
        async with Database(url) as db:
            await db.open(MIGRATIONS)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(make())).result()


@pytest.fixture
def new_database(migrated, tmp_path):
    """Return the URL of another empty database at each call."""

    def make():
        file = tmp_path / f"{uuid.uuid4().hex[:8]}.db"
        shutil.copy(migrated, file)
        return f"sqlite:///{file}"

    return make


@pytest.fixture
def model(tmp_path):
    """A folder that passes for a model's."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return f"file://{folder}"


class Scheduler:
    """One life of a scheduler; ``async with`` until it answers, and ends it as a signal would."""

    def __init__(self, nats_url, database_url, cluster):
        self._nats_url = nats_url
        self._database_url = database_url
        self._cluster = cluster

    async def __aenter__(self):
        self._stack = contextlib.AsyncExitStack()
        db = await self._stack.enter_async_context(Database(self._database_url))
        await db.open(MIGRATIONS)
        bus = await self._stack.enter_async_context(Bus(self._nats_url, name="scheduler"))
        moves = Moves()
        store = Store(db, moves.moved)
        parts = Parts(
            bus=bus,
            store=store,
            cluster=self._cluster,
            weights=LocalWeights(),
            moves=moves,
            installation=await store.installation(uuid.uuid4().hex[:12]),
        )
        self.world = parts.world
        ready = Readiness(bus)
        self._tasks = [
            asyncio.create_task(parts.run(ready)),
            asyncio.create_task(relay(db, bus, OWNER, moves.wake_relay)),
        ]
        await until(lambda: ready.serving or self._tasks[0].done())
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        failures = [one for one in done if isinstance(one, Exception)]
        if failures:
            raise failures[0]


class Operator:
    """Asks as any NATS client would."""

    def __init__(self, bus):
        self._bus = bus

    async def ask(self, endpoint, request, tenant=TENANT):
        return await self._bus.ask(endpoint, request, tenant=tenant, timeout_s=30.0)

    async def change(self, endpoint, tenant=TENANT, **fields):
        """Send a change with a new request_id, or the one that is given."""
        fields.setdefault("request_id", uuid.uuid4().hex)
        return await self.ask(endpoint, endpoint.request(**fields), tenant)

    async def create(self, source, name="test", **more):
        return await self.change(topology.CREATE_DEPLOYMENT, name=name, source=source, **more)

    async def scale(self, name="test", **more):
        return await self.change(topology.SCALE_DEPLOYMENT, name=name, **more)

    async def get(self, name="test", tenant=TENANT):
        return await self.ask(topology.GET_DEPLOYMENT, admin.GetDeployment(name=name), tenant)

    async def list(self, **more):
        return await self.ask(topology.LIST_DEPLOYMENTS, admin.ListDeployments(**more))

    async def reach(self, state, name="test", **fields):
        """Wait until the deployment is in ``state`` with these fields; return it."""

        async def there():
            found = await self.get(name)
            same = all(getattr(found, field) == value for field, value in fields.items())
            return found if found.state == state and same else None

        return await until(there)

    async def refusal(self, asking):
        """Return code and param of the refusal that ``asking`` gets."""
        with pytest.raises(Refusal) as caught:
            await asking
        return caught.value.problem.code, caught.value.problem.param


async def until(condition, timeout_s=60.0):
    """Wait until ``condition()`` is something; return that."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            try:
                found = await found
            except UnavailableError:
                found = None
        if found:
            return found
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.05)


@pytest.fixture
def cluster():
    return MemoryCluster()


@pytest.fixture
async def workers(bus, cluster):
    workers = Workers(bus, cluster)
    yield workers
    await workers.close()


@pytest.fixture
async def router(bus):
    router = Router(bus)
    task = asyncio.create_task(router.run())
    yield router
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def operator(bus):
    return Operator(bus)


@pytest.fixture
def schedulers(nats_server, new_database, cluster):
    """Return a scheduler on the given database, or on one database that all of a test share."""
    shared = new_database()

    def make(database_url=None):
        return Scheduler(nats_server.url, database_url or shared, cluster)

    return make


@pytest.fixture
async def scheduler(schedulers, workers):  # noqa: ARG001 - they announce what it starts
    async with schedulers() as scheduler:
        yield scheduler


@pytest.fixture
def stage(operator, cluster, workers, bus, model):
    """All that a story on the bus needs, but for the scheduler and the routers."""
    return SimpleNamespace(
        operator=operator, cluster=cluster, workers=workers, bus=bus, model=model
    )
