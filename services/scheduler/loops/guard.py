"""Sees to it that a database which is behind decides nothing, and leaves the epoch for the next."""

import asyncio
from typing import Protocol

import structlog

from caravan.contracts.errors import Refusal, UnavailableError
from services.scheduler.core.cluster import Cluster, Mark
from services.scheduler.core.hold import judge
from services.scheduler.core.ports import Entries
from services.scheduler.core.world import World

log = structlog.get_logger()


class Publishes(Protocol):
    async def complete(self, epoch: int) -> None: ...


class Guard:
    """``check`` first, and after every reconnect; ``leave`` before the cluster is told anything."""

    def __init__(self, installation: str, cluster: Cluster, entries: Entries, world: World) -> None:
        self.installation = installation
        self.checked = asyncio.Event()
        """Set once the database has been judged."""
        self.adopted = asyncio.Event()
        """Set when the database has taken over another installation than it began with."""
        self.mark: Mark | None = None
        """As it was found in the cluster."""
        self.published = 0
        """The epoch that was found in the bucket."""
        self._cluster = cluster
        self._entries = entries
        self._world = world
        self._cluster_asked = False
        self._left = 0
        self._lock = asyncio.Lock()

    @property
    def cluster_trusted(self) -> bool:
        """Whether the cluster has been asked for its mark, and all was well."""
        return self._cluster_asked and self._world.free

    async def check(self, epoch: int, by_hand: str) -> None:
        """Look at both marks and put the world on hold, or let it go.

        ``UnavailableError`` when the bucket does not answer. A cluster that does not answer is
        asked again later; until then nothing is started or stopped there.
        """
        self.published = await self._entries.epoch()
        await self._ask_cluster()
        why = by_hand or judge(self.installation, epoch, self.mark, self.published)
        if why and why != self._world.hold:
            log.error("scheduler.on_hold", reason=why)
        if self._world.hold and not why:
            log.info("scheduler.goes_on", epoch=epoch)
        self._world.hold = why
        self._world.judged = True
        self.checked.set()

    def known(self) -> tuple[int, str]:
        """Return the highest epoch and the installation that NATS and the cluster know."""
        if not self._cluster_asked:
            raise UnavailableError(
                "NATS and the cluster have not both been asked yet: try again when they answer"
            )
        mark = self.mark
        return max(self.published, mark.epoch if mark else 0), mark.installation if mark else ""

    def adopt(self, installation: str) -> None:
        """The database has taken over ``installation``; it counts from now on."""
        if installation and installation != self.installation:
            self.installation = installation
            self.adopted.set()

    async def leave(self, epoch: int, publisher: Publishes) -> None:
        """Write ``epoch`` down where it outlives this database, unless it stands there already."""
        async with self._lock:
            if epoch <= self._left:
                return
            mark = Mark(installation=self.installation, epoch=epoch)
            await self._cluster.remember(mark)
            await publisher.complete(epoch)
            self.mark = mark
            self._left = epoch

    async def _ask_cluster(self) -> None:
        if self._cluster_asked and not self._world.hold:
            return
        try:
            self.mark = await self._cluster.mark()
        except Refusal as exc:
            self._cluster_asked = False
            log.warning("cluster.silent", reason=str(exc))
        else:
            self._cluster_asked = True
