"""Real processes: what a service prints, and what it exits with."""

import signal
import subprocess
import sys
import textwrap

import pytest

FRAME = """
import asyncio, sys
from msgspec import Struct
from caravan.contracts.errors import OnHoldError, UnavailableError
from caravan.kit import run

class Settings(Struct, frozen=True, kw_only=True):
    port: int = 1
    log_form: str = "json"

async def serve(settings, stopping):
{body}

run.main("part", Settings, serve)
"""


def program(body):
    return FRAME.format(body=textwrap.indent(textwrap.dedent(body).strip(), "    "))


def start(body, **environ):
    return subprocess.Popen(
        [sys.executable, "-c", program(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environ},
    )


def finished(body, **environ):
    with start(body, **environ) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def test_a_service_that_returns_exits_with_0_and_says_nothing():
    assert finished("print(settings.port)", PART_PORT="7") == (0, "7\n", "")


def test_a_refusal_is_one_line_and_its_exit_status():
    status, _, err = finished('raise UnavailableError("NATS does not answer: start it.")')
    assert (status, err) == (3, "caravan part: NATS does not answer: start it.\n")


def test_a_refusal_inside_groups_is_told_as_if_it_stood_alone():
    body = """
    async def refuse():
        raise OnHoldError("On hold: release it.")
    async with asyncio.TaskGroup() as outer:
        outer.create_task(asyncio.sleep(60))
        async with asyncio.TaskGroup() as inner:
            inner.create_task(refuse())
    """
    status, _, err = finished(body)
    assert (status, err) == (4, "caravan part: On hold: release it.\n")


def test_a_wrong_setting_is_told_before_anything_starts():
    status, out, err = finished('print("started")', PART_PORT="x")
    assert (status, out) == (2, "")
    assert err == "caravan part: PART_PORT=x does not fit: it wants a whole number\n"


def test_what_nobody_raised_on_purpose_keeps_its_traceback_and_exits_with_1():
    status, _, err = finished('raise KeyError("lost")')
    assert status == 1
    assert "service.crashed" in err
    assert "KeyError" in err


def test_a_refusal_beside_a_crash_hides_no_crash():
    body = """
    raise ExceptionGroup("both", [OnHoldError("hold"), ZeroDivisionError("oops")])
    """
    status, _, err = finished(body)
    assert status == 1
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_service_in_order(number):
    body = """
    print("up", flush=True)
    await stopping.wait()
    await asyncio.sleep(0)
    print("in order", flush=True)
    """
    with start(body) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "in order\n", "")


def test_a_task_that_lost_its_cancellation_is_cancelled_again():
    """As `asyncio.wait_for` of Python 3.11 loses one; without it the end would never come."""
    body = """
    run.INSIST_S = 0.1
    lost = []

    async def deaf():
        while len(lost) < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost.append(1)
        await asyncio.sleep(3600)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(deaf())
        print("up", flush=True)
        await stopping.wait()
        task.cancel()
    """
    with start(body) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert err.count("task.cancelled_again") == 2
