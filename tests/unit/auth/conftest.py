"""Auth's rows in a database of this test."""

import pytest

from caravan.kit.sql import Database
from services.auth.adapters.store import SqlRows


@pytest.fixture
async def transact(tmp_path):
    """Runs ``work(rows)`` in a transaction and returns what it returns."""
    async with Database(f"sqlite:///{tmp_path}/auth.db") as db:
        await db.open("services.auth.migrations")

        async def transact(work):
            return await db.run(lambda session: work(SqlRows(session)))

        yield transact
