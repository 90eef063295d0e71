"""What still works while a part is down, and what waits for it: the table of the architecture.

NATS stands in test_nats.py, a silent Nomad in tests/integration/scheduler/test_faults.py.
"""

import asyncio
import contextlib
import sqlite3
import time
import uuid
from contextlib import asynccontextmanager

import psycopg
import pytest
from msgspec import Struct

from caravan.cli import ports
from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal, UnavailableError
from caravan.kit.process import end
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until
from tests.faults.clients import clients
from tests.faults.kills import Kill, answers
from tests.faults.unwatched import all_whole, begun, down, killed, more

pytestmark = pytest.mark.timeout(600)
NAME = "table"


@pytest.fixture(scope="module")
def key(running):
    return running.run("keys", "create", "--json").json["secret"]


@pytest.fixture(scope="module")
def deployed(running, model):
    """A deployment with two instances, which every test leaves as it was."""
    ran = running.run("deploy", NAME, "--source", str(model), "--instances", "2", "--wait")
    assert ran.exit == 0, ran.stderr
    yield NAME
    running.run("delete", NAME, "--confirm", NAME)


@pytest.fixture
async def asking(platform, key, deployed):
    """Clients of it, once both of its instances serve."""
    await platform.reached(deployed, "running", 2)
    async with clients(platform, key, deployed) as asking:
        yield asking


async def test_without_auth_models_serve_and_are_deployed_and_keys_wait(platform, asking, model):
    async with asking.crowd() as came:
        async with down(platform, "auth"):
            await more(came)
            await platform.ok("deploy", "meanwhile", "--source", str(model), "--wait")
            asked = await platform.cli("keys", "create", "--json")
            assert (asked.exit, asked.problem["code"]) == (3, "unavailable")
            assert "caravan up" in asked.problem["message"]

        assert (await platform.ok("keys", "create"))["secret"]
        await more(came)
    all_whole(came)
    await platform.ok("delete", "meanwhile", "--confirm", "meanwhile")


async def test_without_the_scheduler_models_serve_and_changes_wait(platform, asking):
    workers = platform.workers()
    async with asking.crowd() as came:
        async with down(platform, "scheduler"):
            asked = await platform.cli("scale", NAME, "--add", "1", "--json")
            assert (asked.exit, asked.problem["code"]) == (3, "unavailable")
            status = (await platform.cli("status", "--json")).json
            assert {one["name"]: one["state"] for one in status["parts"]}["scheduler"] != "ready"
            assert workers.items() <= platform.workers().items()
            await more(came)

        assert (await platform.deployment(NAME)).instances == 2
        await more(came)
    all_whole(came)
    assert workers.items() <= platform.workers().items()


async def test_without_one_of_two_routers_the_other_serves(platform, asking, key):
    async with (
        second_router(platform) as second,
        clients(second, key, NAME) as others,
        asking.crowd() as came,
        others.crowd() as whole,
    ):
        await until(lambda: whole and asking.streams())
        kill = Kill(part="router", at=time.monotonic())
        async with down(platform, "router"):
            away = time.monotonic()
            await more(whole)
            assert not [one for one in came if one.began > away and one.status]
        kill.back = time.monotonic()
        await more(came)
        await more(whole)
    all_whole(whole)
    assert [one for one in came if one.cut]
    assert all(kill.excuses(one) and not one.done for one in came if not one.whole)


async def test_without_one_of_two_workers_only_its_streams_are_cut(platform, asking):
    workers = platform.workers()
    truth = (await platform.deployment(NAME)).truth
    instance = truth[0].instance
    async with asking.crowd(6) as came:
        await until(lambda: any(one.instance == instance for one in came))
        kill = Kill(part="worker", at=time.monotonic(), instance=instance)
        await platform.kill(workers[instance])
        await more(came, 12)
        await platform.reached(NAME, "running", 2)
        await until(lambda: {one.instance for one in came[-12:]} == {t.instance for t in truth})
    cut = [one for one in came if not one.whole]
    assert all(one.status == 200 and kill.excuses(one) for one in cut), cut
    assert all(one.error and not one.done and not one.broken for one in cut), cut


@pytest.mark.parametrize(
    ("part", "endpoint", "made"),
    [
        (
            "scheduler",
            topology.SCALE_DEPLOYMENT,
            lambda request_id: admin.ScaleDeployment(request_id=request_id, name=NAME, add=1),
        ),
        ("auth", topology.CREATE_KEY, lambda request_id: admin.CreateKey(request_id=request_id)),
    ],
    ids=["scheduler", "auth"],
)
async def test_while_a_database_refuses_models_serve_and_changes_are_refused_whole(
    platform, asking, part, endpoint, made
):
    before = await counted(platform)
    request = made(uuid.uuid4().hex)
    async with asking.crowd() as came:
        with refusing(platform.home.root / f"{part}.db"):
            with pytest.raises((RemoteRefusal, UnavailableError)) as refusal:
                await platform.ask(endpoint, request)
            assert refusal.value.problem.code == "unavailable"
            assert "database" in refusal.value.problem.message
            await more(came)
        assert await counted(platform) == before

        # The same request once more is the first one: it is done, and once only.
        await platform.ask(endpoint, request)
        await more(came)
    all_whole(came)
    after = await counted(platform)
    assert sum(after) == sum(before) + 1
    await platform.ok("scale", NAME, "--to", "2", "--wait")


async def test_while_postgresql_is_stopped_models_serve_and_changes_wait(
    own, model, postgres_server
):
    with psycopg.connect(postgres_server.url(), autocommit=True) as root:
        root.execute("CREATE DATABASE faults")
    await killed(own, "supervisor", "scheduler")
    begun(own, "scheduler", SCHEDULER_DATABASE_URL=postgres_server.url("faults"))
    source = f"file://{model}"
    create = admin.CreateDeployment(
        request_id=uuid.uuid4().hex, name=NAME, source=source, instances=2
    )
    await patiently(own, topology.CREATE_DEPLOYMENT, create)
    await own.reached(NAME, "running", 2)
    scale = admin.ScaleDeployment(request_id=uuid.uuid4().hex, name=NAME, add=1)
    async with clients(own, await own.key(), NAME) as asking, asking.crowd() as came:
        await asyncio.to_thread(postgres_server.stop, "immediate")
        try:
            with pytest.raises(RemoteRefusal) as refusal:
                await own.ask(topology.SCALE_DEPLOYMENT, scale)
            assert refusal.value.problem.code == "unavailable"
            assert "database" in refusal.value.problem.message
            await more(came)
        finally:
            await asyncio.to_thread(postgres_server.start)
        await patiently(own, topology.SCALE_DEPLOYMENT, scale)
        assert (await own.reached(NAME, "running", 3)).instances == 3
        await more(came)
    all_whole(came)


async def patiently(platform, endpoint, request):
    """Ask until it is answered, with the same ``request_id``."""

    async def answered():
        with contextlib.suppress(UnavailableError):
            try:
                return await platform.bus.ask(endpoint, request, tenant=platform.tenant)
            except RemoteRefusal as refusal:
                if refusal.problem.code != "unavailable":
                    raise
        return None

    await until(answered, PATIENCE_S)


async def counted(platform):
    """Return how many instances and keys are asked for, once both databases answer again."""

    async def told():
        with contextlib.suppress(RemoteRefusal):
            deployment = await platform.deployment(NAME)
            keys = await platform.ask(topology.LIST_KEYS, admin.ListKeys(limit=1000))
            found[:] = deployment.instances, len(keys.items)
        return found

    found = []
    await until(told, PATIENCE_S)
    return tuple(found)


@contextlib.contextmanager
def refusing(file):
    """Have a database refuse whoever else uses it, as one does on a disk that is full."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA busy_timeout = 30000")
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


class Through(Struct, frozen=True):
    """A platform, as clients of another router see it."""

    tenant: str
    router_url: str

    @property
    def base_url(self):
        return f"{self.router_url}/v1"


@asynccontextmanager
async def second_router(platform):
    """Give the platform through another router on the same NATS."""
    port = ports.quiet()
    second = Through(platform.tenant, f"http://127.0.0.1:{port}")
    views = str(platform.folder / "second")
    settings = {
        "ROUTER_PORT": str(port),
        "ROUTER_ADMIN_PORT": "0",
        "ROUTER_VIEWS_DIR": views,
    }
    who = begun(platform, "router", named="second", **settings)
    try:
        await until(lambda: answers(second), PATIENCE_S)
        yield second
    finally:
        await end(who, 10.0)
