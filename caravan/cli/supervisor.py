"""Keeps the programs of a plan running: ``python -m caravan.cli.supervisor HOME``.

Started by ``caravan up`` with the home's lock already held, which ends with this process, however
it ends. What it starts outlives it: a SIGTERM ends the supervisor alone, and the next one adopts,
by pid and start time, what still runs. ``caravan down`` ends the rest.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from caravan.cli import running
from caravan.cli.home import Home, write_whole
from caravan.cli.programs import Fate, Fates, Plan, Program
from caravan.kit.process import Identity, alive, ended, identity

NAME = "supervisor"
FIRST_S = 0.2
LONGEST_S = 30.0
STEADY_S = 60.0
"""A life that lasted this long ends the row of failures."""
LOG_BYTES = 16 * 2**20
"""A longer log is put aside as ``….log.1`` when its program starts."""

# The shell waits for a line before it becomes the program (same pid, same start time). Should the
# supervisor die before it has noted them, the pipe closes and nothing runs that nobody knows.
_GATE = 'read -r go && exec "$@" </dev/null'


class Supervisor:
    """Runs until it is cancelled; each program is kept by a task of its own."""

    def __init__(self, home: Home, plan: Plan) -> None:
        self._home, self._plan = home, plan
        self._fates: dict[str, Fate] = {}

    async def run(self) -> None:
        """Keep all programs, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for program in self._plan.programs:
                tasks.create_task(self._keep(program))

    async def _keep(self, program: Program) -> None:
        failures = 0
        while True:
            who = running.recorded(self._home, program.name)
            if who is None or not alive(who):
                who = start(self._home, program)
            began = time.monotonic()
            self._note(program.name, Fate(running=True, since=time.time(), failures=failures))
            await ended(who)
            how = _how(who.pid)
            failures = 1 if time.monotonic() - began >= STEADY_S else failures + 1
            wait_s = delay_s(failures)
            now = time.time()
            self._note(
                program.name,
                Fate(
                    running=False, since=now, failures=failures, how=how, next_try_at=now + wait_s
                ),
            )
            await asyncio.sleep(wait_s)

    def _note(self, name: str, fate: Fate) -> None:
        said = fate.how or "runs"
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {name} {said}\n")
        sys.stderr.flush()
        self._fates[name] = fate
        write_whole(running.state(self._home), msgspec.json.encode(Fates(programs=self._fates)))


def delay_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row (1 or more)."""
    return min(FIRST_S * 2.0 ** min(failures - 1, 16), LONGEST_S)


def start(home: Home, program: Program, environ: Mapping[str, str] = os.environ) -> Identity:
    """Start ``program`` in its own session and return who it is, which is recorded first."""
    with _log(home.log(program.name)).open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the plan is our own
            ["/bin/sh", "-c", _GATE, program.name, *program.command],
            cwd=home.root,
            env={**environ, **program.environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    who = identity(process.pid)
    running.record(home, program.name, who)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # killed already: that is seen in a moment
        process.stdin.write(b"go\n")
        process.stdin.close()
    process.returncode = 0  # reaped here, by its pid: Popen need not warn
    return who


def _log(path: Path) -> Path:
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path


def _how(pid: int) -> str:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "ended; how is not known, an earlier supervisor had started it"
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


async def _main(home: Home) -> None:
    plan = msgspec.json.decode(running.plan(home).read_bytes(), type=Plan)
    running.record(home, NAME, identity(os.getpid()))
    task = asyncio.create_task(Supervisor(home, plan).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(_main(Home(Path(sys.argv[1]))))
