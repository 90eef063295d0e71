"""What a database may be to ``caravan.kit.sql``, and what each kind of it can say."""

from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from caravan.contracts.errors import Refusal, UnavailableError


class DataTooNewError(Refusal):
    code = "data_too_new"


class LockedError(UnavailableError):
    """Another process has the database."""


class Backend(Protocol):
    """What SQLite and PostgreSQL do differently."""

    engine: Engine
    place: str
    """Where the data is, without a password; for logs and sentences."""

    def lock(self) -> None:
        """Take the exclusive lock; ``LockedError`` while another process has it."""
        ...

    def unlock(self) -> None: ...

    def unlocked(self) -> Engine:
        """Return an engine for the migration, which works while the service has the lock."""
        ...

    def outage(self, exc: DBAPIError) -> bool:
        """Tell whether ``exc`` means that the database is away, not that our SQL is wrong."""
        ...
