"""Auth dies, waits, is started wrongly: nothing that was acknowledged is lost, none made twice."""

import asyncio
import contextlib
import re
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import aiohttp
import pytest

from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal, UnavailableError
from caravan.testing import nats
from tests.integration.auth.conftest import PATIENCE_S, Auth, new_id

MEMORY_LIMIT_KIB = 110 * 1000**2 // 1024


async def started(auth, **more):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "services.auth"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=auth.environ(**more),
    )


async def ended(process):
    """The exit status and the last line that it wrote."""
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, err.decode().splitlines()[-1]


@pytest.fixture
def away(tmp_path, free_port):
    """Auth that is told of a NATS which does not run."""
    return Auth(None, f"nats://127.0.0.1:{free_port}", f"sqlite:///{tmp_path}/auth.db", tmp_path)


@pytest.mark.timeout(400)
async def test_no_acknowledged_key_is_lost_and_none_made_twice_when_auth_is_killed(auth_on_each):
    auth, shown, problems = auth_on_each, [], []
    stop = asyncio.Event()

    async def client(number):
        """Create keys, each asked for again until there is an answer."""
        while not stop.is_set():
            ask = admin.CreateKey(request_id=new_id(), label=str(number))
            try:
                shown.append(await auth.patiently(topology.CREATE_KEY, ask))
            except RemoteRefusal as refusal:
                problems.append(refusal.problem)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(client(number))
        for _ in range(3):
            before = len(shown)
            async with asyncio.timeout(PATIENCE_S):
                while len(shown) < before + 5:  # noqa: ASYNC110 - clients at work
                    await asyncio.sleep(0.01)
            await auth.kill()
            await auth.start()
        stop.set()

    assert {problem.code for problem in problems} <= {"key_already_shown"}
    made = [created.key.id for created in shown] + [problem.param for problem in problems]
    assert sorted(made) == sorted(key.id for key in await auth.keys())
    for created in shown:
        entry = await auth.entry_becomes(created.secret, lambda entry: entry is not None)
        assert entry.id == created.key.id


async def test_without_nats_auth_waits_says_so_and_ends_when_asked(away):
    number = nats.free_port()
    process = await started(away, AUTH_PORT=str(number))
    async with aiohttp.ClientSession() as session:
        body = await eventually(session, f"http://127.0.0.1:{number}/ready", 503)
        assert body["code"] == "unavailable"
        assert "NATS" in body["message"]
        await eventually(session, f"http://127.0.0.1:{number}/health", 200)
    process.send_signal(signal.SIGTERM)
    status, _ = await ended(process)
    assert status == 0


async def eventually(session, url, status):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.get(url) as response:
                    assert response.status == status
                    return await response.json()
            await asyncio.sleep(0.1)


async def test_a_taken_port_is_one_line_and_exit_3(away):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, line = await ended(await started(away, AUTH_PORT=str(port)))
    assert status == 3
    assert re.match(rf"caravan auth: Port {port} on 127.0.0.1 is taken: stop", line)


async def test_data_of_a_newer_version_is_one_line_and_exit_3(auth):
    await auth.stop()
    file = Path(auth.database_url.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
        database.execute("UPDATE caravan SET version = '9.1.0'")
        database.commit()
    status, line = await ended(await started(auth))
    assert (status, "use Caravan 9.1.0 or newer" in line) == (3, True)


async def test_a_second_auth_waits_for_the_first(auth):
    made = await auth.create()
    second = await started(auth)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"database.locked" not in await second.stderr.readline():
                pass
        await auth.kill()
        revoke = admin.RevokeKey(request_id=new_id(), id=made.key.id)
        assert (await auth.patiently(topology.REVOKE_KEY, revoke)).state == "revoked"
    finally:
        second.kill()
        await second.communicate()


async def test_auth_ends_in_order_and_keeps_within_its_memory(auth):
    for _ in range(20):
        await auth.create()
    assert resident_kib(auth.process.pid) <= MEMORY_LIMIT_KIB
    assert await auth.stop() == 0
    with pytest.raises(UnavailableError, match="caravan up"):
        await auth.ask(topology.LIST_TENANTS, admin.ListTenants())


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])
