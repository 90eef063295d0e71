"""SQLite: a file beside the service, locked by flock on a file beside it."""

import fcntl
import os
from pathlib import Path
from sqlite3 import Connection as Raw

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from caravan.contracts.errors import UnavailableError
from caravan.kit.backend import LockedError

_OUTAGES = ("BUSY", "LOCKED", "IOERR", "FULL", "CANTOPEN", "READONLY", "CORRUPT", "NOTADB", "PERM")

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # what is acknowledged lasts, also when the machine loses its power
    "foreign_keys = ON",
    "busy_timeout = 5000",
)


class Sqlite:
    """The backend for one file; its folder is made when it is missing."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self._lock: int | None = None
        self.engine = _engine(path)

    def lock(self) -> None:
        """Take the lock; the system gives it back when this process ends, however it ends."""
        if self._lock is not None:
            return
        handle = self._open_lock_file()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            message = f"Another process has the database {self.place}: stop it, or wait."
            raise LockedError(message) from None
        self._lock = handle

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def unlocked(self) -> Engine:
        return self.engine  # the lock is on a file beside it

    def outage(self, exc: DBAPIError) -> bool:
        name = getattr(exc.orig, "sqlite_errorname", "")
        return name.removeprefix("SQLITE_").startswith(_OUTAGES)

    def _open_lock_file(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            message = f"The database {self.place} cannot be opened ({exc.strerror})."
            raise UnavailableError(message) from exc


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},  # closed from another thread at the end
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Raw, _: object) -> None:
        raw.isolation_level = None  # transactions are ours, so that DDL is part of them
        for pragma in _PRAGMAS:
            raw.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
