"""The supervisor on programs that do next to nothing: real processes, killed for real."""

import asyncio
import os
import signal
import sys

import msgspec
import pytest

from caravan.cli import running, supervisor
from caravan.cli.home import Home
from caravan.cli.programs import Plan, Program
from caravan.kit.process import alive, end, identity
from caravan.testing.wait import until

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
async def home(tmp_path):
    """A home; what it noted as running is ended after the test."""
    home = Home(tmp_path / ".caravan")
    home.make()
    yield home
    for name in (supervisor.NAME, "a", "b"):
        who = running.recorded(home, name)
        if who is not None:
            await end(who, 0.0)


async def supervise(home, **commands):
    """Start a supervisor of ``commands``, and return its process."""
    plan = Plan(programs=[Program(name=name, command=to_run) for name, to_run in commands.items()])
    running.plan(home).write_bytes(msgspec.json.encode(plan))
    with home.log(supervisor.NAME).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", supervisor.__name__, str(home.root)), stdout=log, stderr=log
        )


async def lives(home, name, *, instead_of=None):
    """Return who runs as ``name``, waiting for it."""
    await until(lambda: running.lives(home, name) not in {None, instead_of})
    return running.lives(home, name)


async def test_what_dies_is_started_again_and_the_others_stay(home):
    process = await supervise(home, a=SLEEPER, b=SLEEPER)
    a, b = await lives(home, "a"), await lives(home, "b")

    os.kill(a.pid, signal.SIGKILL)

    assert await lives(home, "a", instead_of=a) != a
    assert running.lives(home, "b") == b
    await until(lambda: running.fates(home).programs["a"].running)
    process.terminate()
    await process.wait()


async def test_how_it_ended_and_how_often_is_noted(home):
    process = await supervise(home, a=[sys.executable, "-c", "raise SystemExit(3)"])

    await until(lambda: _failures(home, "a") >= 2)

    await until(lambda: running.fates(home).programs["a"].how == "ended with 3")
    process.terminate()
    await process.wait()


async def test_the_next_supervisor_takes_over_what_a_killed_one_left(home):
    first = await supervise(home, a=SLEEPER)
    a = await lives(home, "a")
    first.kill()
    await first.wait()
    assert alive(a)
    running.state(home).unlink()  # so that what is noted is the second one's

    second = await supervise(home, a=SLEEPER)
    await until(lambda: "a" in running.fates(home).programs)

    assert running.lives(home, "a") == a
    os.kill(a.pid, signal.SIGKILL)
    await lives(home, "a", instead_of=a)
    second.terminate()
    await second.wait()


async def test_a_pid_that_passed_on_to_a_stranger_is_not_taken_over(home):
    stranger = identity(os.getpid())
    running.record(home, "a", msgspec.structs.replace(stranger, started=stranger.started - 1))

    process = await supervise(home, a=SLEEPER)

    assert (await lives(home, "a")).pid != os.getpid()
    process.terminate()
    await process.wait()


async def test_asked_to_end_it_ends_alone(home):
    process = await supervise(home, a=SLEEPER)
    a = await lives(home, "a")

    process.terminate()

    assert await process.wait() == 0
    assert alive(a)


def test_waits_between_tries_double_up_to_half_a_minute():
    waits = [supervisor.delay_s(failures) for failures in (1, 2, 3, 8, 9, 1000)]

    assert waits == [0.2, 0.4, 0.8, 25.6, 30.0, 30.0]


def _failures(home, name):
    fate = running.fates(home).programs.get(name)
    return fate.failures if fate else 0
