"""How a worker is started and how nothing of it is left: sessions, exit statuses, /proc."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from caravan.kit.process import Identity, alive, end, identity

BASE = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "PYTHONPATH",
})  # fmt: skip
"""What a worker takes over of the scheduler's own environment: nothing that holds a secret."""

# The shell waits for a line before it becomes the worker (same pid, same start time). Should the
# scheduler die before it has noted them, the pipe closes and no worker ever runs unnoted.
_GATE = 'read -r go && cd "$0" && exec "$@" </dev/null'


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environ`` that workers may have."""
    return {key: value for key, value in environ.items() if key in BASE}


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    noted: Callable[[Identity], None],
) -> Identity:
    """Start ``command`` in its own session, in ``folder``, printing to ``folder/log``.

    ``noted`` is called with who it is before it begins; when that raises, it never begins.
    """
    gate, key = os.pipe()
    try:
        who = identity(_spawn(command, environment, folder, gate))
        noted(who)
        os.write(key, b"go\n")
    finally:
        os.close(gate)
        os.close(key)
    return who


def _spawn(command: Sequence[str], environment: Mapping[str, str], folder: Path, gate: int) -> int:
    printed = (os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    return os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _GATE, str(folder), *command],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, gate, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / "log"), *printed),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM],
    )


def exit_status(pid: int) -> int | None:
    """Return how our child ended (negative: the signal), or None when it was not our child."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if done else None


def in_words(status: int | None) -> str:
    """Return how it ended as part of a sentence."""
    match status:
        case None:
            return "ended; how is not known, for another scheduler had started it"
        case 75:
            return "ended at once, for another process holds the lock in its folder"
        case 127:
            return "could not be started: its command was not found (see its log)"
        case _ if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        case _:
            return f"ended with exit status {status}"


async def end_session(leader: Identity, folder: Path) -> None:
    """Kill what the ended ``leader`` left in its session, and return when that has ended.

    When the leader is not our own zombie its number may have passed on to strangers: then only
    what still stands in ``folder`` counts as left over.
    """
    certain = _is_zombie(leader)
    for who in _members(leader.pid):
        if who != leader and (certain or _stands_in(who.pid, folder)):
            await end(who, 0.0)


def _is_zombie(who: Identity) -> bool:
    try:
        return identity(who.pid) == who and not alive(who)
    except ProcessLookupError:
        return False


def _members(session: int) -> list[Identity]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _session(int(entry.name)) == session:
            try:
                found.append(identity(int(entry.name)))
            except ProcessLookupError:
                continue  # it ended while we looked
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _stands_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
