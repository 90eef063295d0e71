"""A real PostgreSQL for tests: given by URL, or started from what the machine has installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg
import pytest

from caravan.testing.nats import free_port

VARIABLE = "CARAVAN_TEST_POSTGRES"
ACCOUNT = "postgres"


class PostgresServer:
    """A server in a folder of its own, on a port that it keeps; killed and started at will."""

    def __init__(self, programs):
        self.programs = programs
        self.user = ACCOUNT if os.geteuid() == 0 else None  # it refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="caravan-pg-"))
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.port = free_port()
        self._run("initdb", "-D", self.data, "-U", "caravan", "-A", "trust", "--no-sync")

    @property
    def data(self):
        return self.folder / "data"

    def url(self, database="postgres"):
        return f"postgresql://caravan@127.0.0.1:{self.port}/{database}"

    def start(self):
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode="fast"):
        """``immediate`` is what a power failure would leave behind."""
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", mode, "stop")

    def close(self):
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program, *words):
        command = [str(self.programs / program), *map(str, words)]
        subprocess.run(
            command, user=self.user, check=True, stdout=subprocess.DEVNULL, cwd=self.folder
        )


def installed():
    """The newest ``bin`` folder that we can start a server from; None: there is none."""
    if os.geteuid() == 0 and ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        return None
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server that the test may stop and start; skipped where none is installed."""
    programs = installed()
    if programs is None:
        pytest.skip("no PostgreSQL: install it (apt-get install postgresql)")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_root(request):
    """The URL of a PostgreSQL in which databases may be made."""
    given = os.environ.get(VARIABLE)
    return given or request.getfixturevalue("postgres_server").url()


@pytest.fixture
def postgres_url(postgres_root):
    """The URL of an empty PostgreSQL database of this test."""
    name = f"caravan_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"CREATE DATABASE {name}")
    yield postgres_root.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_root, autocommit=True) as root:
        root.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/test.db"
    return request.getfixturevalue("postgres_url")
