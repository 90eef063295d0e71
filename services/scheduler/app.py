"""The composition root: what the scheduler consists of, begun in this order, ended in the other."""

import asyncio
import base64
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import structlog

from caravan.contracts import topology
from caravan.contracts.errors import Problem, UnavailableError
from caravan.contracts.instances import Lease, Record
from caravan.contracts.reports import Report
from caravan.kit.bus import Bus
from caravan.kit.endpoints import serving
from caravan.kit.outbox import relay
from caravan.kit.run import insist
from caravan.kit.sql import Database
from caravan.kit.view import View
from caravan.kit.web import WebServer, create_app
from services.scheduler import clusters
from services.scheduler.adapters.buckets import DeploymentsBucket, InstanceRecords
from services.scheduler.adapters.store import OWNER, Store
from services.scheduler.core.cluster import Cluster
from services.scheduler.core.truth import Clock
from services.scheduler.core.world import World
from services.scheduler.handlers import endpoints
from services.scheduler.handlers.changes import Changes
from services.scheduler.handlers.hold import Holds
from services.scheduler.handlers.ports import Weights
from services.scheduler.handlers.reads import Reads
from services.scheduler.loops.guard import Guard
from services.scheduler.loops.listen import Listener
from services.scheduler.loops.publish import Publisher
from services.scheduler.loops.reconcile import Reconciler
from services.scheduler.settings import Settings

log = structlog.get_logger()

MIGRATIONS = "services.scheduler.migrations"
FOREVER_S = 1e9


class Readiness:
    """Why the scheduler cannot do its work yet, or any more."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.serving = False

    def problem(self) -> Problem | None:
        """Return what is missing; None: nothing."""
        if not self._bus.connected:
            return UnavailableError("NATS does not answer: the scheduler waits for it").problem
        if not self.serving:
            return UnavailableError("the scheduler is starting: ask again in a moment").problem
        return None


class Moves:
    """Tells everybody who waits that something was written."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self.wake_relay = asyncio.Event()
        self.wake_loop = asyncio.Event()

    def moved(self) -> None:
        """Something was written."""
        self._next.set()
        self._next = asyncio.Event()
        self.wake_relay.set()
        self.wake_loop.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until something is written, ``timeout_s`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._next.wait()


class AdoptedError(Exception):
    """The database has taken over an installation: the cluster is to be opened as that one."""


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Run the scheduler until ``stopping`` is set; a refusal that leaves it ends the process."""
    async with asyncio.TaskGroup() as group:
        work = group.create_task(_serve_again(settings), name="scheduler")
        await stopping.wait()
        work.cancel()


async def _serve_again(settings: Settings) -> None:
    while True:
        adopted = asyncio.Event()
        insisting = asyncio.create_task(insist(adopted), name="insist on the beginning")
        try:
            await _serve(settings, adopted)
        except* AdoptedError:
            log.info("scheduler.begins_again")
        finally:
            insisting.cancel()


async def _serve(settings: Settings, adopted: asyncio.Event) -> None:
    bus = Bus(
        settings.nats_url,
        name="scheduler",
        seed=settings.nats_seed,
        inbox_prefix=settings.nats_inbox_prefix,
    )
    ready = Readiness(bus)
    async with AsyncExitStack() as stack:
        server = WebServer(
            create_app("scheduler", ready=ready.problem), settings.host, settings.port
        )
        await stack.enter_async_context(server)
        log.info("scheduler.started", host=settings.host, port=server.port)
        db = await stack.enter_async_context(Database(settings.database_url.reveal()))
        await db.open(MIGRATIONS)
        await stack.enter_async_context(bus)
        moves = Moves()
        store = Store(db, moves.moved)
        installation = await store.installation(secrets.token_hex(6))
        cluster = clusters.choose(settings, installation)
        weights = clusters.weights(settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(cluster.run(), name="cluster")
            group.create_task(relay(db, bus, OWNER, moves.wake_relay), name="relay")
            parts = Parts(
                bus=bus,
                store=store,
                cluster=cluster,
                weights=weights,
                moves=moves,
                installation=installation,
            )
            group.create_task(_begin_again(parts.guard, adopted), name="adoption")
            await parts.run(ready)


async def _begin_again(guard: Guard, adopted: asyncio.Event) -> None:
    await guard.adopted.wait()
    adopted.set()
    raise AdoptedError


class Parts:
    """The scheduler's own parts around a bus, a store and a cluster; ``run`` once, for ever."""

    def __init__(  # noqa: PLR0913 - the outside of the composition
        self,
        *,
        bus: Bus,
        store: Store,
        cluster: Cluster,
        weights: Weights,
        moves: Moves,
        installation: str,
    ) -> None:
        self._bus = bus
        self._cluster = cluster
        self._moves = moves
        # The views call back only once they run, and by then there is a listener.
        self.leases: View[Lease] = View(
            bus,
            topology.LEASES,
            changed=lambda key, lease: self.listener.lease_changed(key, lease),  # noqa: PLW0108 - bound late
            heard=lambda *write: self.listener.lease_written(*write),  # noqa: PLW0108 - bound late
        )
        self.records: View[Record] = View(
            bus,
            topology.INSTANCES,
            changed=lambda key, record: self.listener.record(key, record),  # noqa: PLW0108 - bound late
        )
        self.world = World(self.records, time.monotonic())
        entries = DeploymentsBucket(bus)
        self.publisher = Publisher(store, entries, self.world, time.monotonic)
        self.listener = Listener(
            self.world,
            wake=moves.wake_loop.set,
            suspect=self.publisher.suspect,
            steady=time.monotonic,
            lease_stream=lambda: self.leases.position.created,
        )
        self.guard = guard = Guard(installation, cluster, entries, self.world)
        self.reconciler = Reconciler(
            ledger=store,
            cluster=cluster,
            publisher=self.publisher,
            remains=InstanceRecords(bus, self.records),
            guard=guard,
            world=self.world,
            ids=instance_ids(),
            clock=clock,
            connected=lambda: bus.connected and self.records.complete,
        )
        self.endpoints = endpoints(
            Changes(
                store=store,
                world=self.world,
                publisher=self.publisher,
                weights=weights,
                steady=time.monotonic,
            ),
            Reads(store=store, world=self.world, cluster=cluster, clock=clock, moved=moves.wait),
            Holds(store=store, world=self.world, guard=guard),
        )

    async def run(self, ready: Readiness) -> None:
        """Hear, reconcile and answer, until cancelled."""
        bus = self._bus
        bus.on_loss(self.listener.lost)
        bus.on_reconnect(self.listener.back)
        async with asyncio.TaskGroup() as group:
            await bus.established()
            if bus.connected:
                self.listener.back()
            group.create_task(self.leases.run(), name="leases")
            group.create_task(self.records.run(), name="records")
            group.create_task(self._hear_cluster(), name="cluster changes")
            group.create_task(self.reconciler.run(self._moves.wake_loop), name="reconcile")
            await bus.subscribe(f"{topology.REPORT}.*", Report, self.listener.report)
            self._moves.wake_relay.set()
            group.create_task(self._wake_when_complete(), name="records complete")
            await self.guard.checked.wait()
            async with serving(bus, "scheduler", self.endpoints):
                ready.serving = True
                log.info("scheduler.ready")
                await asyncio.Event().wait()

    async def _wake_when_complete(self) -> None:
        await self.records.wait_complete(FOREVER_S)
        self._moves.wake_loop.set()

    async def _hear_cluster(self) -> None:
        async for _ in self._cluster.changes():
            self._moves.wake_loop.set()


def clock() -> Clock:
    """Return now."""
    return Clock(wall=time.time(), steady=time.monotonic())


def instance_ids() -> Iterator[str]:
    """Yield names for instances: ``i-`` and 6 of a-z, 2-7."""
    while True:
        yield "i-" + base64.b32encode(secrets.token_bytes(5)).decode().lower()[:6]
