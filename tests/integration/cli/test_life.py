"""A platform's own life: started, hurt, taken over and ended, with real processes."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys

import msgspec
import pytest

from caravan.cli import running
from caravan.cli.home import Context
from caravan.kit.process import alive, ended
from caravan.testing.platform import PATIENCE_S, Platform
from caravan.testing.wait import until

PARTS = ("nats", "auth", "scheduler", "router")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def platform(tmp_path):
    """A platform of the test's own."""
    async with Platform(tmp_path) as platform:
        yield platform


async def everything_ends(*processes):
    """Wait until all of them have ended."""
    await asyncio.wait_for(asyncio.gather(*map(ended, processes)), PATIENCE_S)


async def test_killed_parts_come_back_where_they_were(platform):
    before, context = {name: platform.process(name) for name in PARTS}, platform.context
    secret = await platform.key(label="kept")

    for name in PARTS:
        await platform.kill(before[name])

    for name in PARTS:
        await platform.replaced(name, before[name])
    await until(lambda: platform.run("status", "--json").exit == 0, PATIENCE_S)
    assert platform.context == context
    listed = await platform.ok("keys", "list")
    assert [key["hint"] for key in listed["items"]] == [secret[-4:]]


async def test_after_a_killed_supervisor_up_takes_over_and_down_ends_the_rest(platform, model):
    await platform.ok("deploy", "chat", "--source", str(model), "--wait")
    before = {name: platform.process(name) for name in PARTS}
    workers, engines = platform.workers(), platform.engines()
    await platform.kill(platform.process("supervisor"))

    status = await platform.cli("status", "--json")
    assert (status.exit, status.json["supervised"]) == (3, False)
    await asyncio.to_thread(platform.up)
    assert {name: platform.process(name) for name in PARTS} == before
    assert platform.workers() == workers

    await platform.kill(platform.process("supervisor"))
    down = await asyncio.to_thread(platform.down)

    assert down.exit == 0, down.stderr
    left = [one for found in engines.values() for one in found]
    await everything_ends(*before.values(), *workers.values(), *left)


async def test_down_ends_what_outlived_its_worker(platform, model):
    await platform.ok("deploy", "chat", "--source", str(model), "--wait")
    (worker,), (engines,) = platform.workers().values(), platform.engines().values()
    await platform.kill(platform.process("supervisor"))
    await platform.kill(platform.process("scheduler"))
    await platform.kill(worker)

    await asyncio.to_thread(platform.down)

    await everything_ends(*engines)


async def test_what_was_deployed_runs_again_after_down_and_up(platform, model):
    await platform.ok("deploy", "chat", "--source", str(model), "--wait")
    url = platform.router_url

    await asyncio.to_thread(platform.down)
    assert not platform.workers()
    await asyncio.to_thread(platform.up)

    assert platform.router_url == url
    await platform.reached("chat", "running", 1)


async def test_down_twice_and_down_of_nothing_are_no_errors(platform, tmp_path):
    first = await platform.cli("down", "--json")
    second = await platform.cli("down", "--json")
    nothing = platform.run("down", environ={"CARAVAN_HOME": str(tmp_path / "else")})

    assert first.json["ended"] == ["supervisor", "scheduler", "auth", "router", "nats"]
    assert (second.exit, second.json["ended"]) == (0, [])
    assert (nothing.exit, "Nothing runs" in nothing.stdout) == (0, True)


async def test_in_the_foreground_ctrl_c_ends_everything_in_order(tmp_path):
    platform = Platform(tmp_path)
    words = [sys.executable, "-m", "caravan.cli", "up", "--port", str(platform.port)]
    process = await asyncio.create_subprocess_exec(
        *words,
        *("--nats-port", str(platform.nats_port)),
        env=platform.environ,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    said = b""
    while b"Ctrl-C ends it" not in said:
        line = await process.stderr.readline()
        assert line, said.decode()
        said += line
    parts = [platform.process(name) for name in ("supervisor", *PARTS)]

    process.send_signal(signal.SIGINT)
    rest = await process.stderr.read()

    assert await process.wait() == 0
    assert b"Traceback" not in rest
    await everything_ends(*parts)


async def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path):
    platform = Platform(tmp_path)
    platform.home.make()
    (platform.home.root / "scheduler.db").mkdir()  # a folder is no database

    ran = await platform.cli("up", "--detach", "--wait", "60s", "--json")

    assert ran.exit in {1, 3}, ran
    assert "scheduler" in ran.problem["message"]
    assert "Traceback" not in ran.problem["message"]
    left = [running.lives(platform.home, name) for name in ("supervisor", *PARTS)]
    assert left == [None] * 5


async def test_a_database_of_a_newer_version_stops_the_start_with_its_sentence(tmp_path):
    platform = Platform(tmp_path)
    with platform:
        pass
    database = sqlite3.connect(platform.home.root / "auth.db")
    with contextlib.closing(database), database:
        database.execute("update alembic_version set version_num = '9999'")

    ran = await platform.cli("up", "--detach", "--json")

    assert ran.exit == 3, ran
    assert "newer" in ran.problem["message"]


async def test_two_starts_at_once_make_one_platform(tmp_path):
    platform = Platform(tmp_path)
    try:
        words = ("up", "--detach", "--json", "--port", str(platform.port))
        words += ("--nats-port", str(platform.nats_port))
        first, second = await asyncio.gather(platform.cli(*words), platform.cli(*words))

        assert 0 in {first.exit, second.exit}
        for ran in (first, second):
            assert ran.exit == 0 or ran.problem["code"] == "unavailable"
        status = await platform.ok("status")
        assert len({part["pid"] for part in status["parts"]}) == len(PARTS)
    finally:
        platform.down()


async def test_nats_of_somebody_else_is_used_and_left_alone(tmp_path, nats_server):
    platform = Platform(tmp_path / "p", environ={"CARAVAN_NATS_URL": nats_server.url})
    ran = await platform.cli("up", "--detach", "--port", str(platform.port), "--json")
    assert ran.exit == 0, ran.stderr

    context = msgspec.json.decode(platform.home.context.read_bytes(), type=Context)
    assert context.nats_url == nats_server.url
    assert (await platform.cli("list")).exit == 0
    await platform.cli("down")
    os.kill(nats_server.pid, 0)
    assert not any(
        who and alive(who) for who in (running.lives(platform.home, name) for name in PARTS)
    )
