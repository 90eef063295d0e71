"""Writes what routers and workers must know into the bucket ``deployments``."""

import asyncio
from collections.abc import Callable

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.errors import UnavailableError
from services.scheduler.core.books import Book, Books
from services.scheduler.core.entry import entry
from services.scheduler.core.ports import Entries, Ledger
from services.scheduler.core.routers import Written
from services.scheduler.core.rows import DRAIN
from services.scheduler.core.world import World

COMPARE_EVERY_S = 3600.0


class Publisher:
    """The one writer of the bucket.

    ``all`` compares the whole of it: at the start, after each reconnect and every hour. ``one``
    writes a single entry; it reads the row itself, under the same lock, so that an older state
    never overwrites a newer one. Both may be repeated.
    """

    def __init__(
        self, ledger: Ledger, entries: Entries, world: World, steady: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._entries = entries
        self._world = world
        self._steady = steady
        self._lock = asyncio.Lock()
        self._compared_at: float | None = None

    def suspect(self) -> None:
        """The bucket may be another than before: compare the whole of it next."""
        self._compared_at = None

    @property
    def compared(self) -> bool:
        """Whether the bucket is known to say what the rows say."""
        at = self._compared_at
        return at is not None and self._steady() - at < COMPARE_EVERY_S

    async def all(self) -> Books:
        """Make the bucket say exactly what the rows say, and that it is complete."""
        async with self._lock:
            began = self._steady()
            books = await self._ledger.books()
            wanted = {b.asked.key: made for b in books.books if (made := self._entry(b))}
            await self._entries.write_all(wanted, books.epoch)
            self._compared_at = began
            return books

    async def one(self, tenant: str, name: str, known: Book | None = None) -> Book | None:
        """Write the entry of one deployment as its row is now; return what was read for it.

        ``known`` spares the reading where the bucket says the same already.
        ``UnavailableError`` when NATS does not answer; the next comparison writes it then.
        """
        async with self._lock:
            self._world.check_free()
            if known is not None and self._says(known):
                return known
            if self._compared_at is None:
                raise UnavailableError("the bucket `deployments` is being compared: it follows")
            book, _ = await self._ledger.book(tenant, name)
            if book is not None:
                self._watch(book, await self._write(book.asked.key, self._entry(book)))
            return book

    async def drop(self, key: str) -> None:
        """Delete the entry of a deployment that is forgotten."""
        async with self._lock:
            await self._write(key, None)

    async def complete(self, epoch: int) -> None:
        """Leave the epoch in the bucket."""
        async with self._lock:
            await self._entries.complete(epoch)

    async def _write(self, key: str, value: DeploymentEntry | None) -> Written:
        try:
            return await self._entries.write(key, value)
        except UnavailableError:
            self.suspect()
            raise

    def _entry(self, book: Book) -> DeploymentEntry | None:
        seen = self._world.sights(book.rows, self._steady())
        return entry(book.asked, seen, self._world.status(book.asked, seen))

    def _says(self, book: Book) -> bool:
        """Tell whether the bucket says this already; if so, its drains are watched."""
        if self._compared_at is None:
            return False
        written = self._entries.says(book.asked.key, self._entry(book))
        if written is not None:
            self._watch(book, written)
        return written is not None

    def _watch(self, book: Book, written: Written) -> None:
        """From here on the routers' reports count for those whose drain the bucket now says."""
        for row in book.rows:
            if row.wanted == DRAIN:
                self._world.routers.drain(row.key, written, self._steady())
