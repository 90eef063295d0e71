"""PostgreSQL by URL, through psycopg 3: one connection, which holds the lock as long as it lives.

The lock belongs to the session, so a pooler between that shares sessions (pgbouncer in transaction
mode) cannot be used.
"""

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from caravan.kit.backend import LockedError

_LOCK = 0x6361726176616E
"""The bytes of ``caravan``; advisory locks are told apart by number, within one database."""

_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 30_000
_SILENCE_MS = 10_000
"""A peer that acknowledges nothing for so long is gone, at our end and at the server's: the server
then ends the session, and with it the lock that our next connection wants."""


class Postgres:
    """The backend for one PostgreSQL database."""

    def __init__(self, url: URL) -> None:
        self.place = url.render_as_string(hide_password=True)
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,  # one round trip, and a restarted server is not noticed by callers
        )

    def lock(self) -> None:
        """Take the lock: every connection does."""
        self.engine.connect().close()

    def unlock(self) -> None:
        """Nothing: the lock went with the connection."""

    def unlocked(self) -> Engine:
        return create_engine("postgresql+psycopg://", creator=self._plain, poolclass=NullPool)

    def outage(self, exc: DBAPIError) -> bool:
        broken = isinstance(exc.orig, (psycopg.OperationalError, psycopg.InterfaceError))
        return broken or exc.connection_invalidated

    def _connect(self) -> psycopg.Connection:
        connection = self._plain()
        try:
            _take_lock(connection, self.place)
        except BaseException:
            connection.close()
            raise
        return connection

    def _plain(self) -> psycopg.Connection:
        return psycopg.connect(
            self._url,
            connect_timeout=_CONNECT_TIMEOUT_S,
            tcp_user_timeout=_SILENCE_MS,
            options=_session_options(),
            application_name="caravan",
        )


def _session_options() -> str:
    settings = {
        "statement_timeout": _STATEMENT_TIMEOUT_MS,
        "tcp_user_timeout": _SILENCE_MS,
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _take_lock(connection: psycopg.Connection, place: str) -> None:
    found = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    connection.commit()
    if found != (True,):
        raise LockedError(f"Another process has the database {place}: stop it, or wait.")
