"""The engine's process: it never outlives its worker, and leaves nothing behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from caravan.contracts.errors import InvalidRequestError
from caravan.kit.process import end, ended, identity
from services.worker.adapters.output import Output
from services.worker.core import endings

_PR_SET_PDEATHSIG = 1
_LAST_WORDS_S = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


class Launch(Struct, frozen=True, kw_only=True):
    """How an engine is started and ended."""

    command: Sequence[str]
    environ: Mapping[str, str]
    secret: str
    """Masked in what it prints."""
    folder: Path
    """Where it works."""


class EngineProcess:
    """A child in a process group of its own, in its worker's session: who ends that, ends both.

    The kernel kills it when the thread that made it, our main one, is gone, however that came.
    """

    def __init__(self, launch: Launch) -> None:
        self._process = _spawn(launch)
        self._who = identity(self._process.pid)
        assert self._process.stdout is not None
        source = os.dup(self._process.stdout.fileno())
        self._process.stdout.close()
        self.output = Output(source, sys.stdout.fileno(), launch.secret)

    async def exited(self) -> str:
        """Wait for its end and return how it ended; what it has left over is killed."""
        await ended(self._who)
        self.kill()  # before it is reaped: until then nobody else can have its group's number
        returncode = self._process.wait()
        await self.output.ended(_LAST_WORDS_S)
        return endings.words(returncode, self.output.last_lines())

    async def stop(self, patience_s: float) -> None:
        """Send SIGTERM; kill it when it has not ended within ``patience_s``."""
        await end(self._who, patience_s)

    def kill(self) -> None:
        """Kill it and its group at once; nothing happens when it has been reaped."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def _spawn(launch: Launch) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - the operator's command and checked flags
            launch.command,
            env=launch.environ,
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - no thread of ours holds a lock then
        )
    except OSError as exc:
        message = f"WORKER_ENGINE_COMMAND cannot be run: {launch.command[0]}: {exc.strerror}"
        raise InvalidRequestError(message, param="WORKER_ENGINE_COMMAND") from None


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child does first, so that it is killed when ``parent`` ends."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return prepare
