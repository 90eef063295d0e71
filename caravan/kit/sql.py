"""A service's own database: SQLite beside it, or PostgreSQL by URL.

One thread does all the work and one process at a time has the database: an exclusive lock is taken
before anything is read, and again with every new connection. What ``run`` returned is on the disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from caravan.contracts.errors import UnavailableError
from caravan.kit.backend import LockedError
from caravan.kit.backends import backend
from caravan.kit.migrations import bring_up

T = TypeVar("T")

log = structlog.get_logger()

_LOCK_POLL_S = 0.25


class Database:
    """Transactions in one dedicated thread.

    ``open`` once, then ``run`` as often as wanted from one event loop; ``close`` may be repeated.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._backend = backend(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    @property
    def place(self) -> str:
        """Where the data is, without a password."""
        return self._backend.place

    async def open(self, migrations: str | Path) -> None:
        """Wait for the exclusive lock, then bring the tables to the newest revision.

        ``migrations``: the folder (or the package) with alembic's ``env.py`` and ``versions``.
        ``DataTooNewError`` when a newer Caravan has used the database; ``UnavailableError`` when it
        does not answer.
        """
        await self._lock()
        await self._call(lambda: self._migrate(migrations))

    async def run(self, work: Callable[[Session], T]) -> T:
        """Return what ``work`` returns, committed; rolled back when it raises.

        ``UnavailableError`` when the database does not answer; a commit that was under way may
        then have happened. A cancelled caller does not stop the work.
        """
        return await self._call(lambda: self._transact(work))

    async def close(self) -> None:
        """Give connection and lock back, after the work that is under way."""
        await asyncio.to_thread(self._thread.shutdown)
        self._backend.engine.dispose()
        self._backend.unlock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _lock(self) -> None:
        told = False
        while True:
            try:
                await self._call(lambda: self._translated(self._backend.lock))
            except LockedError as exc:
                if not told:
                    log.warning("database.locked", place=self.place, waits=str(exc))
                told = True
                await asyncio.sleep(_LOCK_POLL_S)
            else:
                return

    def _transact(self, work: Callable[[Session], T]) -> T:
        def transaction() -> T:
            with Session(self._backend.engine, expire_on_commit=False) as session, session.begin():
                return work(session)

        return self._translated(transaction)

    def _migrate(self, migrations: str | Path) -> None:
        self._translated(lambda: bring_up(self._backend.engine, self._url, migrations, self.place))

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except DBAPIError as exc:
            if not self._backend.outage(exc):
                raise
            message = f"The database {self.place} does not answer ({_first_line(exc)}): try again."
            raise UnavailableError(message) from exc


def _first_line(exc: DBAPIError) -> str:
    return str(exc.orig).strip().partition("\n")[0]
