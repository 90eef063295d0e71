"""The composition root: where the router's parts meet."""

import asyncio
import contextlib
import gc
import random
import time
import uuid
from collections.abc import AsyncIterator

import nats.errors
import structlog
from litestar import Litestar
from msgspec import Struct

from caravan.contracts import topology
from caravan.contracts.admin import RouterStatus, RouterStatusRequest
from caravan.contracts.errors import Problem, UnavailableError
from caravan.kit.bus import Bus
from caravan.kit.endpoints import Call, serving
from caravan.kit.web import WebServer, create_app
from services.router.adapters.engine import Engines
from services.router.adapters.probe import HealthProber
from services.router.adapters.tracing import tracing
from services.router.adapters.views import BucketViews
from services.router.api import health, openai
from services.router.api.edge import Edge
from services.router.api.gate import Gate
from services.router.api.lane import Lane
from services.router.api.metrics import Metrics
from services.router.api.shared import Shared
from services.router.api.telling import Telling, Tracer
from services.router.core.attempts import RetryBudget
from services.router.core.candidates import Targets
from services.router.core.http import RequestIds
from services.router.core.inflight import InFlight
from services.router.core.job import Chances, Clock, Patience
from services.router.core.loudness import Loudness
from services.router.core.outliers import Outliers
from services.router.core.turn import Turn
from services.router.loops.probe import Probes
from services.router.loops.report import Reporter
from services.router.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep idle connections, so that they close them, not we."""
ADMIN_GRACE_S = 1.0
STATUS_GRACE_S = 2.0
GC_THRESHOLDS = (50_000, 20, 20)
"""A request makes few cycles; Python's own thresholds look through everything far too often."""
log = structlog.get_logger()


class Door(Struct):
    """The port that clients connect to."""

    taking: bool = False
    """Whether new connections are taken."""


class Parts(Struct, frozen=True):
    """What a router process is made of, beside its loops."""

    views: BucketViews
    shared: Shared
    metrics: Metrics
    telling: Telling
    door: Door


def assemble(settings: Settings, bus: Bus, engines: Engines, tracer: Tracer | None) -> Parts:
    """Return the parts, connected; nothing runs yet."""
    views = BucketViews(
        bus,
        settings.views_dir,
        writes=_first(settings),
        age_limit_s=settings.views_age_limit_s,
        record_gone=lambda key: _forget(shared, key),
        changed=lambda name: shared.targets.changed(name),  # noqa: PLW0108 - made below
    )
    chances = Chances(now=time.time, monotonic=time.monotonic, draw=random.random)
    in_flight, outliers = InFlight(), Outliers()
    loudness = Loudness(settings.log_successes_per_s)
    metrics = Metrics(in_flight, views.ages, outliers, loudness)
    telling = Telling(metrics, loudness, tracer, asyncio.get_running_loop().call_later)
    shared = Shared(
        gate=Gate(views, chances),
        targets=Targets(views, in_flight, outliers.ejected),
        in_flight=in_flight,
        outliers=outliers,
        budget=RetryBudget(),
        engines=engines,
        patience=_patience(settings),
        chances=chances,
        clock=engines.clock,
        turn=engines.turn,
        telling=telling,
        new_id=RequestIds(uuid.uuid4().hex[:16]),
        body_limit=settings.body_limit_bytes,
    )
    return Parts(views, shared, metrics, telling, Door())


def _patience(settings: Settings) -> Patience:
    return Patience(
        first_byte_s=settings.first_byte_s,
        between_s=settings.patience_s,
        body_s=settings.body_patience_s,
        client_s=settings.client_patience_s,
    )


def _forget(shared: Shared, key: str) -> None:
    shared.in_flight.forget(key)
    shared.targets.standing.forget(key)
    shared.outliers.forget(key)


def create_edge(parts: Parts) -> Edge:
    """Return the ASGI app of the router: what the lane leaves to Litestar."""
    app = create_app(
        "router",
        ready=health.readiness(parts.views),
        handlers=openai.handlers(parts.shared.gate, parts.views),
        registry=parts.metrics.registry,
        exception_handlers=health.EXCEPTION_HANDLERS,
    )
    return Edge(app, parts.telling, parts.shared.new_id)


def create_admin(parts: Parts) -> Litestar:
    """Return the app of this process's admin port; ``/ready`` speaks of this process alone."""
    views_ready = health.readiness(parts.views)

    def ready() -> Problem | None:
        if not parts.door.taking:
            return Problem(code="unavailable", message="This router is starting, or leaving.")
        return views_ready()

    return create_app("router", ready=ready, registry=parts.metrics.registry)


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until ``stopping``; then end the port, the requests under way and the reports."""
    run = str(uuid.uuid4())
    bus = Bus(
        settings.nats_url,
        name=f"router {run[:8]}",
        seed=settings.nats_seed,
        inbox_prefix=settings.nats_inbox_prefix,
    )
    clock = Clock(time.monotonic())
    turn = Turn(asyncio.get_running_loop().call_soon)
    engines = Engines(connect_timeout_s=settings.connect_timeout_s, clock=clock, turn=turn)
    traced = tracing(settings.otlp_endpoint, ratio=settings.trace_ratio, run=run)
    async with bus, traced as tracer, engines:
        parts = assemble(settings, bus, engines, tracer)
        reporter = Reporter(run, bus, parts.views, parts.shared.in_flight, parts.shared.outliers)
        async with _admin(settings, parts), _running(parts, reporter):
            await _replay(settings, parts.views, reporter, stopping)
            try:
                await _open(settings, parts, reporter, bus, stopping)
            finally:
                parts.telling.tell()


def _first(settings: Settings) -> bool:
    """Tell whether this is the process that writes what several share."""
    return not settings.process


@contextlib.asynccontextmanager
async def _admin(settings: Settings, parts: Parts) -> AsyncIterator[None]:
    """Answer on the admin port while inside: before the other port opens and while it drains."""
    host, first = settings.admin_host or settings.host, settings.admin_port
    port = first + (settings.process or 0) if first else 0
    async with WebServer(create_admin(parts), host, port, grace_s=ADMIN_GRACE_S) as server:
        log.info("router.admin", url=f"http://{host}:{server.port}")
        yield


async def _replay(
    settings: Settings, views: BucketViews, reporter: Reporter, stopping: asyncio.Event
) -> None:
    """Read the views and say so once before the port opens: a drain counts who obeys it."""
    waiting = asyncio.create_task(views.wait_complete(settings.start_wait_s))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    stopped.cancel()
    await asyncio.wait({waiting, stopped})
    if not views.fresh():
        log.warning("router.blind", why="keys or deployments were never read: requests get 503")
    await reporter.send()


async def _open(
    settings: Settings, parts: Parts, reporter: Reporter, bus: Bus, stopping: asyncio.Event
) -> None:
    lane = Lane(parts.shared)
    server = WebServer(
        create_edge(parts),
        settings.host,
        settings.port,
        grace_s=settings.grace_s,
        reuse_port=settings.process is not None,
        http=lane.connection,
        ws="none",
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    async with _looking_after(lane), server:
        url = f"http://{settings.host}:{server.port}"
        log.info("router.serving", url=url)
        parts.door.taking = True
        _tune_gc()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_answer_status(bus, reporter, url, stopping))
            await stopping.wait()
            # It looks at ``stopping`` itself; cancelled at once, nats-py may wait for 10 s.
            await asyncio.wait({asking}, timeout=STATUS_GRACE_S)
            asking.cancel()
        parts.door.taking = False
        log.info("router.leaving")


@contextlib.asynccontextmanager
async def _looking_after(lane: Lane) -> AsyncIterator[None]:
    """Look after the lane's connections while inside; what is open then, ends."""
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(lane.look_after(), name="lane")
        try:
            yield
        finally:
            lane.stop()
            looking.cancel()


def _tune_gc() -> None:
    """Leave what the start has made out of every later collection, and collect rarely.

    It took 20 ms off the slowest answers of a busy process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _answer_status(bus: Bus, reporter: Reporter, url: str, stopping: asyncio.Event) -> None:
    async def status(_: Call, __: RouterStatusRequest) -> RouterStatus:
        return reporter.status(url)

    # Cancelled at the end, which nats-py may swallow: so it looks at ``stopping`` too.
    while not stopping.is_set():
        try:
            async with serving(bus, "router", {topology.ROUTER_STATUS: status}, each=True):
                await stopping.wait()
        except (UnavailableError, nats.errors.Error, TimeoutError, OSError) as exc:
            log.warning("router.status_unanswered", error=str(exc))
            await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def _running(parts: Parts, reporter: Reporter) -> AsyncIterator[None]:
    """Run the loops while inside; the last report says that this router leaves."""
    shared = parts.shared
    probes = Probes(
        shared.outliers, parts.views, HealthProber(), changed=shared.targets.changed_instance
    )
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(parts.views.run(), name="views"),
            group.create_task(reporter.repeat(), name="reports"),
            group.create_task(probes.repeat(), name="probes"),
        ]
        try:
            yield
        finally:
            await reporter.send(leaving=True)
            for task in tasks:
                task.cancel()
