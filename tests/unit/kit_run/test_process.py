import asyncio
import os
import signal
import sys

import pytest
from msgspec.structs import replace

from caravan.kit import process

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
async def child():
    """A process that sleeps."""
    one = await asyncio.create_subprocess_exec("sleep", "600")
    yield one
    if one.returncode is None:
        one.kill()
    await one.wait()


async def test_a_process_is_known_by_pid_and_start_time(child):
    who = process.identity(child.pid)
    assert process.alive(who)
    assert process.identity(child.pid) == who
    assert process.identity(os.getpid()) != who


async def test_a_reused_pid_is_another_process(child):
    who = process.identity(child.pid)
    before = replace(who, started=who.started - 1)
    assert not process.alive(before)
    await asyncio.wait_for(process.ended(before), 30)
    assert await process.end(before, 0)
    assert process.alive(who)


def test_a_zombie_is_dead():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended and is not yet reaped
    try:
        who = process.identity(pid)
        assert not process.alive(who)
    finally:
        os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        process.identity(pid)


async def test_the_end_of_a_process_is_waited_for(child):
    waiting = asyncio.create_task(process.ended(process.identity(child.pid)))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    child.send_signal(signal.SIGKILL)
    await asyncio.wait_for(waiting, 30)


async def test_a_process_that_obeys_ends_without_being_killed(child):
    assert await process.end(process.identity(child.pid), 30)
    assert await child.wait() == -signal.SIGTERM


async def test_one_that_does_not_obey_is_killed():
    stubborn = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUBBORN, stdout=asyncio.subprocess.PIPE
    )
    assert await stubborn.stdout.readline() == b"up\n"
    assert not await process.end(process.identity(stubborn.pid), 0.05)
    assert await stubborn.wait() == -signal.SIGKILL
    stubborn._transport.close()
