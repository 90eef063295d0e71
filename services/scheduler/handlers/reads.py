"""Messages that ask: deployments, what happened to them, what their engines print."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from caravan.contracts import admin, names
from caravan.contracts.errors import InvalidRequestError
from caravan.kit.endpoints import Call
from services.scheduler.core import deployments
from services.scheduler.core.books import Book
from services.scheduler.core.cluster import ENDED, Cluster, Ref
from services.scheduler.core.describe import describe, truth
from services.scheduler.core.errors import InstanceNotFoundError
from services.scheduler.core.plan import unclaimed
from services.scheduler.core.truth import Clock
from services.scheduler.core.world import World
from services.scheduler.handlers.ports import Store

PAGE_LIMIT = 1000
LOOK_AT_LOGS_S = 0.5
END = "end"
BEYOND = 2**31 - 1
"""No event has a higher number."""


class Reads:
    """Get, list, events, logs."""

    def __init__(
        self,
        *,
        store: Store,
        world: World,
        cluster: Cluster,
        clock: Callable[[], Clock],
        moved: Callable[[float], Awaitable[None]],
    ) -> None:
        """``moved`` waits until something was written, so many seconds at most."""
        self._store = store
        self._world = world
        self._cluster = cluster
        self._clock = clock
        self._moved = moved

    async def get(self, call: Call, message: admin.GetDeployment) -> admin.Deployment:
        """Tell all that is known of one deployment."""
        book, _ = await self._store.book(call.tenant, message.name)
        asked = deployments.known(message.name, book.asked if book else None)
        rows = book.rows if book else []
        clock = self._clock()
        seen = self._world.sights(rows, clock.steady)
        told = describe(asked, self._world.status(asked, seen))
        heard = self._world.cluster_known and not self._world.cluster_silent
        return replace(told, truth=truth(seen, clock, heard=heard), notes=self._notes())

    async def page(self, call: Call, message: admin.ListDeployments) -> admin.DeploymentPage:
        """Tell of a tenant's deployments, by name, and of what nobody asked for."""
        limit = _limit(message.limit)
        books = await self._store.page(call.tenant, message.cursor, limit + 1)
        return admin.DeploymentPage(
            items=[self._told(book) for book in books[:limit]],
            cursor=books[limit - 1].asked.name if len(books) > limit else "",
            hold=self._world.hold,
            unclaimed=await self._unclaimed(call.tenant),
        )

    async def events(self, call: Call, message: admin.ListEvents) -> admin.EventPage:
        """Tell what happened after ``cursor``; wait for something when there is nothing."""
        limit, wait_s = _limit(message.limit), _wait_s(message.wait_s)
        after = await self._after(call.tenant, message.cursor)
        until = self._clock().steady + wait_s
        while True:
            found, _ = await self._store.history(call.tenant, message.name, after, limit)
            left = until - self._clock().steady
            if found or left <= 0:
                cursor = found[-1].number if found else after
                return admin.EventPage(items=found, cursor=str(cursor))
            await self._moved(left)

    async def logs(self, call: Call, message: admin.ReadLogs) -> admin.LogPage:
        """Return what an instance printed after ``cursor``; wait when there is nothing."""
        until = self._clock().steady + _wait_s(message.wait_s)
        book, _ = await self._store.book(call.tenant, message.name)
        asked = deployments.known(message.name, book.asked if book else None)
        instance = _instance(message, book)
        ref = Ref(asked.tenant, asked.name, instance)
        cursor = message.cursor
        while True:
            found = await self._cluster.logs(ref, cursor)
            cursor = found.cursor
            if found.lines or self._clock().steady >= until:
                return admin.LogPage(items=found.lines, cursor=cursor, instance=instance)
            await asyncio.sleep(LOOK_AT_LOGS_S)

    def _told(self, book: Book) -> admin.Deployment:
        seen = self._world.sights(book.rows, self._clock().steady)
        return describe(book.asked, self._world.status(book.asked, seen))

    def _notes(self) -> list[str]:
        notes = [self._world.hold, self._world.cluster_silent]
        return [note for note in notes if note]

    async def _unclaimed(self, tenant: str) -> list[str]:
        observed = self._world.observed.values()
        running = [o.ref for o in observed if o.ref.tenant == tenant and o.state != ENDED]
        if not running:
            return []
        books = await self._store.page(tenant, "", PAGE_LIMIT)
        rows = [row for book in books for row in book.rows]
        return [f"{ref.name}/{ref.instance}" for ref in unclaimed(rows, running)]

    async def _after(self, tenant: str, cursor: str) -> int:
        if cursor == END:
            _, newest = await self._store.history(tenant, "", BEYOND, 1)
            return newest
        if cursor and not cursor.isdecimal():
            raise InvalidRequestError("use a cursor as it was answered, or `end`", param="cursor")
        return int(cursor or 0)


def _instance(message: admin.ReadLogs, book: Book | None) -> str:
    """Return the instance whose log is meant: the one that was named, else the newest."""
    if message.instance:
        if names.INSTANCE.fullmatch(message.instance) is None:
            raise InstanceNotFoundError(
                f"{message.instance[:40]!r} is no instance: `caravan show` lists them",
                param="instance",
            )
        return message.instance
    if book is None or not book.rows:
        raise InstanceNotFoundError(
            f"{message.name} has no instance now, so there is no log: start it first",
            param="instance",
        )
    return book.rows[-1].instance


def _limit(limit: int) -> int:
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidRequestError(f"use a limit of 1 to {PAGE_LIMIT}", param="limit")
    return limit


def _wait_s(wait_s: float) -> float:
    if not 0 <= wait_s <= admin.WAIT_LIMIT_S:
        raise InvalidRequestError(f"use 0 to {admin.WAIT_LIMIT_S:g} for wait_s", param="wait_s")
    return wait_s
