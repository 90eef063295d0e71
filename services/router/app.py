"""The composition root: where the router's parts meet."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator

import nats.errors
import structlog
from msgspec import Struct

from caravan.contracts import topology
from caravan.contracts.admin import RouterStatus, RouterStatusRequest
from caravan.contracts.errors import UnavailableError
from caravan.kit.bus import Bus
from caravan.kit.endpoints import Call, serving
from caravan.kit.web import WebServer, create_app
from services.router.adapters.engine import EngineClient
from services.router.adapters.views import BucketViews
from services.router.api import health, openai
from services.router.api.edge import Edge
from services.router.api.exchange import Exchange
from services.router.api.gate import Gate
from services.router.api.metrics import Metrics
from services.router.api.server import ClientConnection
from services.router.core.job import Chances, Patience
from services.router.loops.report import Reporter
from services.router.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep idle connections, so that they close them, not we."""
log = structlog.get_logger()


class Parts(Struct, frozen=True):
    """What a router process is made of, beside its loops."""

    views: BucketViews
    gate: Gate
    exchange: Exchange
    metrics: Metrics


def assemble(settings: Settings, bus: Bus, engine: EngineClient) -> Parts:
    """Return the parts, connected; nothing runs yet."""
    views = BucketViews(
        bus,
        settings.views_dir,
        age_limit_s=settings.views_age_limit_s,
        record_gone=lambda key: _forget(exchange, key),
    )
    patience = Patience(first_byte_s=settings.first_byte_s, between_s=settings.patience_s)
    chances = Chances(now=time.time, monotonic=time.monotonic, draw=random.SystemRandom().random)
    exchange = Exchange(views, engine, patience, chances)
    return Parts(views, Gate(views, chances), exchange, Metrics(exchange.in_flight, views.ages))


def _forget(exchange: Exchange, key: str) -> None:
    exchange.in_flight.forget(key)
    exchange.standing.forget(key)


def create_edge(settings: Settings, parts: Parts) -> Edge:
    """Return the ASGI app of the router."""
    limits = openai.Limits(
        body_bytes=settings.body_limit_bytes,
        body_patience_s=settings.body_patience_s,
        client_patience_s=settings.client_patience_s,
    )
    inference = openai.Inference(parts.gate, parts.exchange, limits)
    app = create_app(
        "router",
        ready=health.readiness(parts.views),
        handlers=openai.handlers(inference, parts.gate, parts.views),
        registry=parts.metrics.registry,
        exception_handlers=health.EXCEPTION_HANDLERS,
    )
    return Edge(app, openai.ROUTES, parts.metrics.observe, patience_s=settings.client_patience_s)


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until ``stopping``; then end the port, the requests under way and the reports."""
    run = str(uuid.uuid4())
    bus = Bus(
        settings.nats_url,
        name=f"router {run[:8]}",
        seed=settings.nats_seed,
        inbox_prefix=settings.nats_inbox_prefix,
    )
    async with bus, EngineClient(connect_timeout_s=settings.connect_timeout_s) as engine:
        parts = assemble(settings, bus, engine)
        reporter = Reporter(run, bus, parts.views, parts.exchange.in_flight)
        async with _running(parts.views, reporter):
            await _replay(settings, parts.views, reporter, stopping)
            await _open(settings, create_edge(settings, parts), reporter, bus, stopping)


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
    settings: Settings, edge: Edge, reporter: Reporter, bus: Bus, stopping: asyncio.Event
) -> None:
    server = WebServer(
        edge,
        settings.host,
        settings.port,
        grace_s=settings.grace_s,
        http=ClientConnection,
        ws="none",
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    async with server:
        url = f"http://{settings.host}:{server.port}"
        log.info("router.serving", url=url)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_answer_status(bus, reporter, url, stopping))
            await stopping.wait()
            asking.cancel()
        log.info("router.leaving")


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
async def _running(views: BucketViews, reporter: Reporter) -> AsyncIterator[None]:
    """Run the views and the reports while inside; the last report says that this router leaves."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(views.run(), name="views"),
            group.create_task(reporter.repeat(), name="reports"),
        ]
        try:
            yield
        finally:
            await reporter.send(leaving=True)
            for task in tasks:
                task.cancel()
