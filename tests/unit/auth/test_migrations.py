"""The migrations make what the models say."""

import subprocess
import sys
from pathlib import Path

import pytest

from caravan.kit.migrations import head, revisions
from caravan.kit.sql import Database

MIGRATIONS = Path("services/auth/migrations")

COMPARE = """
import sys
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel
from caravan.kit.backends import backend
from services.auth.adapters import rows

with backend(sys.argv[1]).unlocked().connect() as connection:
    ours = lambda name, kind, _: kind != "table" or name in SQLModel.metadata.tables
    options = {"include_name": ours, "compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    for difference in compare_metadata(context, SQLModel.metadata):
        print(difference)
"""


async def test_the_migrations_make_the_tables_of_the_models(database_url):
    async with Database(database_url) as db:
        await db.open("services.auth.migrations")
    found = subprocess.run(  # noqa: ASYNC221 - nothing else runs in this test
        [sys.executable, "-c", COMPARE, database_url],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert found.stdout == ""


@pytest.mark.skipif(not MIGRATIONS.is_dir(), reason="run from the project's folder")
def test_there_is_one_newest_revision():
    assert head(revisions(MIGRATIONS))
