"""What a service may rely on, on both databases; then what each promises alone."""

import asyncio
import shutil
import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from caravan.contracts.errors import InvalidRequestError, UnavailableError
from caravan.kit import outbox
from caravan.kit.backend import DataTooNewError
from caravan.kit.migrations import head, revisions
from caravan.kit.sql import Database

MIGRATIONS = Path(__file__).parent / "migrations"

HOLDER = """
import asyncio, sys
from caravan.kit import log
from caravan.kit.sql import Database

log.configure("holder")

async def main():
    db = Database(sys.argv[1])
    await db.open(sys.argv[2])
    print("open", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def note(session, name="n"):
    return outbox.record(session, kind="key", tenant="t", name=name, what="created", at=1.0)


def names(session):
    return [event.name for event in outbox.history(session, tenant="t", after=0, limit=99)]


async def test_what_was_committed_is_there_after_the_next_open(database_url):
    for name in ("a", "b"):
        async with Database(database_url) as db:
            await db.open(MIGRATIONS)
            await db.run(lambda session, name=name: note(session, name))
    async with Database(database_url) as db:
        await db.open(MIGRATIONS)
        assert await db.run(names) == ["a", "b"]


async def test_work_that_raises_leaves_nothing_behind(db):
    def half(session):
        note(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await db.run(half)
    assert await db.run(names) == []


async def test_all_work_is_done_one_after_the_other_in_one_thread(db):
    async def work():
        return await db.run(lambda session: (note(session), threading.get_ident()))

    done = await asyncio.gather(*(work() for _ in range(20)))
    assert sorted(number for number, _ in done) == list(range(1, 21))
    assert len({thread for _, thread in done}) == 1 != threading.get_ident()


async def test_wrong_sql_is_our_mistake_and_no_outage(db):
    with pytest.raises((OperationalError, ProgrammingError), match="nowhere"):
        await db.run(lambda session: session.execute(text("SELECT * FROM nowhere")))


async def test_data_of_a_newer_version_is_refused_with_the_version_to_use(database_url):
    def age(session):
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
        session.execute(text("UPDATE caravan SET version = '9.1.0'"))

    async with Database(database_url) as db:
        await db.open(MIGRATIONS)
        await db.run(age)
    async with Database(database_url) as db:
        with pytest.raises(DataTooNewError, match=r"use Caravan 9\.1\.0 or newer") as refusal:
            await db.open(MIGRATIONS)
    assert version("caravan") in refusal.value.problem.message
    assert (refusal.value.problem.code, refusal.value.exit) == ("data_too_new", 3)


async def test_an_older_database_is_migrated_and_keeps_its_rows(database_url, tmp_path):
    async with Database(database_url) as db:
        await db.open(MIGRATIONS)
        await db.run(lambda session: note(session, "kept"))
    newer = tmp_path / "newer"
    shutil.copytree(MIGRATIONS, newer)
    (newer / "versions" / "0002_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision = 'kit0002'\ndown_revision = 'kit0001'\n"
        "def upgrade():\n    op.add_column('events', sa.Column('colour', sa.String()))\n"
    )
    async with Database(database_url) as db:
        await db.open(newer)
        assert await db.run(names) == ["kept"]
        await db.run(lambda session: session.execute(text("SELECT colour FROM events")))


async def test_a_migration_that_fails_changes_nothing_and_says_why(database_url, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(MIGRATIONS, broken)
    (broken / "versions" / "0002_broken.py").write_text(
        "from alembic import op\nrevision = 'kit0002'\ndown_revision = 'kit0001'\n"
        "def upgrade():\n    op.drop_table('events')\n    1 / 0\n"
    )
    async with Database(database_url) as db:
        await db.open(MIGRATIONS)
        await db.run(note)
    async with Database(database_url) as db:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await db.open(broken)
        assert await db.run(names) == ["n"]


async def test_a_second_process_waits_until_the_first_has_ended(database_url):
    first = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, database_url, str(MIGRATIONS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    try:
        assert await first.stdout.readline() == b"open\n"
        async with Database(database_url) as db:
            opening = asyncio.create_task(db.open(MIGRATIONS))
            done, _ = await asyncio.wait([opening], timeout=1)
            assert not done
            first.send_signal(signal.SIGKILL)
            await asyncio.wait_for(opening, 60)
            await db.run(note)
    finally:
        if first.returncode is None:
            first.kill()
        await first.wait()
        first._transport.close()


async def test_a_wait_for_the_lock_can_be_ended(database_url):
    async with Database(database_url) as holder, Database(database_url) as db:
        await holder.open(MIGRATIONS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(db.open(MIGRATIONS), 0.5)


@pytest.mark.parametrize("url", ["", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "file.db"])
def test_other_urls_are_refused_with_those_there_are(url):
    with pytest.raises(InvalidRequestError, match=r"use sqlite:////.*or postgresql://"):
        Database(url)


async def test_sqlite_is_told_to_keep_what_it_acknowledged(tmp_path):
    async with Database(f"sqlite:///{tmp_path}/x.db") as db:
        await db.open(MIGRATIONS)

        def pragma(session, name):
            return session.execute(text(f"PRAGMA {name}")).scalar()

        found = [
            await db.run(lambda session, name=name: pragma(session, name))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 5000]


async def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path):
    (tmp_path / "file").touch()
    async with Database(f"sqlite:///{tmp_path}/file/x.db") as db:
        with pytest.raises(UnavailableError, match="cannot be opened"):
            await db.open(MIGRATIONS)


async def test_a_file_that_is_no_database_is_an_outage_and_left_alone(tmp_path):
    file = tmp_path / "x.db"
    file.write_text("a letter, not a database\n" * 100)
    async with Database(f"sqlite:///{file}") as db:
        with pytest.raises(UnavailableError, match="not a database"):
            await db.open(MIGRATIONS)
    assert file.read_text().startswith("a letter")


async def test_a_password_is_not_told(postgres_server):
    db = Database(f"postgresql://caravan:s3cret@127.0.0.1:{postgres_server.port}/nowhere")
    async with db:
        with pytest.raises(UnavailableError, match="nowhere") as refusal:
            await db.open(MIGRATIONS)
    assert "s3cret" not in db.place + str(refusal.value)


async def test_postgresql_that_was_away_is_used_again_and_locked_again(postgres_server):
    url = postgres_server.url()
    async with Database(url) as db, Database(url) as other:
        await db.open(MIGRATIONS)
        before = await db.run(outbox.newest)
        for mode in ("fast", "immediate"):
            postgres_server.stop(mode)
            with pytest.raises(UnavailableError, match="does not answer"):
                await db.run(note)
            postgres_server.start()
            await db.run(note)
        assert await db.run(outbox.newest) == before + 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.open(MIGRATIONS), 1)


async def test_who_lost_the_lock_to_another_process_does_no_work(postgres_server):
    url = postgres_server.url()
    async with Database(url) as db, Database(url) as other:
        await db.open(MIGRATIONS)
        postgres_server.stop()
        postgres_server.start()
        await other.open(MIGRATIONS)
        with pytest.raises(UnavailableError, match="Another process has the database"):
            await db.run(note)


def test_the_newest_revision_is_read_from_the_version_files():
    assert revisions(MIGRATIONS) == {"kit0001": None}
    assert head({"a": None, "c": "b", "b": "a"}) == "c"
