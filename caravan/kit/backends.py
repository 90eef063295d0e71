"""Which kind of database a URL names."""

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from caravan.contracts.errors import InvalidRequestError
from caravan.kit.backend import Backend


def backend(url: str) -> Backend:
    # Imported when chosen: psycopg costs memory that SQLite does not need.
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _not_understood() from None
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        from caravan.kit.sqlite import Sqlite  # noqa: PLC0415

        return Sqlite(Path(parsed.database))
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        from caravan.kit.postgres import Postgres  # noqa: PLC0415

        return Postgres(parsed)
    raise _not_understood()


def _not_understood() -> InvalidRequestError:
    return InvalidRequestError(
        "The database URL is not understood: use sqlite:////absolute/path/to/file.db "
        "or postgresql://user:password@host/database",
        param="database_url",
    )
