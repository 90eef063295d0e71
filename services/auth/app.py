"""The composition root: what auth consists of, begun in this order and ended in the other."""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack

import structlog
from sqlmodel import Session

from caravan.contracts.errors import Problem, UnavailableError
from caravan.kit.bus import Bus
from caravan.kit.endpoints import serving
from caravan.kit.outbox import relay
from caravan.kit.sql import Database
from caravan.kit.web import WebServer, create_app
from services.auth.adapters.store import SqlRows
from services.auth.handlers import Messages, start_tenants
from services.auth.loops.publish_keys import KeyPublisher
from services.auth.settings import Settings

log = structlog.get_logger()

MIGRATIONS = "services.auth.migrations"


class Readiness:
    """Why auth cannot do its work yet, or any more."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.serving = False

    def problem(self) -> Problem | None:
        """Return what is missing; None: nothing."""
        if not self._bus.connected:
            return UnavailableError("NATS does not answer: auth waits for it.").problem
        if not self.serving:
            return UnavailableError("auth is starting: ask again in a moment.").problem
        return None


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Run auth until ``stopping`` is set; a refusal that leaves it ends the process."""
    async with asyncio.TaskGroup() as group:
        work = group.create_task(_serve(settings), name="auth")
        await stopping.wait()
        work.cancel()


async def _serve(settings: Settings) -> None:
    bus = Bus(
        settings.nats_url,
        name="auth",
        seed=settings.nats_seed,
        inbox_prefix=settings.nats_inbox_prefix,
    )
    ready = Readiness(bus)
    app = create_app("auth", ready=ready.problem)
    async with AsyncExitStack() as stack:
        server = WebServer(app, settings.host, settings.port)
        await stack.enter_async_context(server)
        log.info("auth.started", host=settings.host, port=server.port)
        db = await stack.enter_async_context(Database(settings.database_url.reveal()))
        await db.open(MIGRATIONS)
        await stack.enter_async_context(bus)
        await _work(db, bus, ready)


async def _work(db: Database, bus: Bus, ready: Readiness) -> None:
    wake_relay = asyncio.Event()
    publisher = KeyPublisher(db, bus, SqlRows)
    messages = Messages(db, SqlRows, publisher, wake_relay)
    async with asyncio.TaskGroup() as group:
        await bus.established()
        group.create_task(publisher.run(), name="publish keys")
        group.create_task(relay(db, bus, "auth", wake_relay), name="relay")
        await publisher.compared.wait()
        await db.run(_begin)
        wake_relay.set()
        await publisher.announce(patience_s=0)
        async with serving(bus, "auth", messages.table()):
            ready.serving = True
            log.info("auth.ready")
            await asyncio.Event().wait()


def _begin(session: Session) -> None:
    start_tenants(SqlRows(session), secrets.token_hex(6), time.time())
