"""An open database of each kind, migrated once and copied."""

import asyncio
import shutil
import uuid
from pathlib import Path

import psycopg
import pytest

from caravan.kit.sql import Database

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(url):
    async with Database(url) as db:
        await db.open(MIGRATIONS)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("migrated") / "x.db"
    asyncio.run(migrate(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def migrated_database(postgres_root):
    name = f"caravan_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"CREATE DATABASE {name}")
    asyncio.run(migrate(postgres_root.rpartition("/")[0] + f"/{name}"))
    yield name
    # Another connection: some tests stop and start the server.
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def copied_url(database_url, request):
    """The URL of a database that is migrated and has no rows."""
    if database_url.startswith("sqlite"):
        file = Path(database_url.removeprefix("sqlite:///"))
        file.parent.mkdir()
        shutil.copy(request.getfixturevalue("migrated_file"), file)
        return database_url
    root, _, name = database_url.rpartition("/")
    template = request.getfixturevalue("migrated_database")
    with psycopg.connect(f"{root}/postgres", autocommit=True) as session:
        session.execute(f"DROP DATABASE {name}")
        session.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return database_url


@pytest.fixture
async def db(copied_url):
    async with Database(copied_url) as db:
        await db.open(MIGRATIONS)
        yield db
