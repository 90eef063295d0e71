"""Make an engine's environment: ``python engines/install.py cpu [TARGET]``.

Without TARGET it goes into the cache (``$CARAVAN_CACHE``, else ``~/.cache/caravan``), under a name
that changes with its contents. Standard library and ``uv`` only. The same call may be made at every
start: nothing is done when the environment is the one that the lock asks for, and one that was left
half done is made anew.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = "3.11"
NEEDED_BYTES = {"cpu": 6 * 2**30, "cuda": 14 * 2**30}
"""Free disk that an installation wants, by kind of engine."""

Say = Callable[[str], None]


class InstallError(Exception):
    """The environment cannot be made; the sentence says what to do."""


def say(line: str) -> None:
    """Write one line of progress to standard error."""
    sys.stderr.write(f"{line}\n")


def cache() -> Path:
    """Return the folder that all homes of Caravan share: ``$CARAVAN_CACHE``, else in the user's."""
    named = os.environ.get("CARAVAN_CACHE")
    return Path(named).expanduser().resolve() if named else Path.home() / ".cache" / "caravan"


def place(kind: str) -> Path:
    """Return where the environment of ``kind`` is, or would be, in the cache."""
    return cache() / "engines" / f"{kind}-{digest(kind)[:12]}"


def found(kind: str, target: Path | None = None) -> Path | None:
    """Return the ``sglang`` program of an environment that is there and whole, else None."""
    target = target or place(kind)
    return target / "bin" / "sglang" if _is_made(target, digest(kind)) else None


def ensure(kind: str, target: Path | None = None, say: Say = say) -> Path:
    """Return the ``sglang`` program of the environment ``target``, made first when it must be.

    ``kind`` is ``cpu`` or ``cuda``; ``target`` is :func:`place` when it is not given; ``say`` gets
    progress, line by line. Two callers at once make it once. Raises :class:`InstallError`.
    """
    wanted = digest(kind)
    target = (target or place(kind)).resolve()
    if not _is_made(target, wanted):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, say):
            if not _is_made(target, wanted):
                _make(kind, target, wanted, say)
    return target / "bin" / "sglang"


def digest(kind: str) -> str:
    """Return what changes when the environment of ``kind`` has to be made anew."""
    if kind not in NEEDED_BYTES:
        raise InstallError(f"There is no engine {kind!r}: choose cpu or cuda.")
    content = hashlib.sha256(kind.encode())
    for path in _sources(kind):
        content.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _sources(kind: str) -> list[Path]:
    plugin = HERE / kind / "plugin"
    parts = [plugin / "pyproject.toml", *sorted(plugin.glob("caravan_*/*.py"))]
    return [HERE / kind / "requirements.txt", *(part for part in parts if part.is_file())]


def _marker(target: Path) -> Path:
    return target / "caravan-engine"


def _is_made(target: Path, wanted: str) -> bool:
    marker = _marker(target)
    return marker.is_file() and marker.read_text().strip() == wanted


@contextmanager
def _alone(target: Path, say: Say) -> Iterator[None]:
    """Hold a lock beside ``target``; the kernel gives it back however we end."""
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another installation into {target}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(kind: str, target: Path, wanted: str, say: Say) -> None:
    _check_machine(kind, target)
    uv, started = _uv(), time.monotonic()
    say(f"Making the {kind} engine in {target}: SGLang and torch, some minutes the first time.")
    _run(uv, ["venv", "--clear", "--python", PYTHON, str(target)], say)
    python = str(target / "bin" / "python")
    install = ["pip", "install", "--compile-bytecode", "--no-deps", "--python", python]
    # Without bytecode every start would compile: an engine's start is imports, in three processes.
    _run(uv, [*install, "--require-hashes", "-r", str(HERE / kind / "requirements.txt")], say)
    if (HERE / kind / "plugin").is_dir():
        _install_plugin(uv, install, HERE / kind / "plugin", say)
    _marker(target).write_text(f"{wanted}\n")
    say(f"The {kind} engine is ready after {time.monotonic() - started:.0f} s.")


def _install_plugin(uv: Sequence[str], install: Sequence[str], plugin: Path, say: Say) -> None:
    # A build writes beside its sources, which may be read-only where a wheel put them.
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(plugin, Path(folder) / "plugin")
        # Built with the locked setuptools of the environment itself: nothing unlocked is fetched.
        _run(uv, [*install, "--no-build-isolation", str(copy)], say)


def _check_machine(kind: str, target: Path) -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise InstallError(
            f"SGLang's packages are for Linux on x86-64; this is {system} {machine}."
        )
    if target.exists() and any(target.iterdir()) and not (target / "pyvenv.cfg").is_file():
        raise InstallError(f"{target} holds other things: name a new or empty folder.")
    _check_room(kind, target)


def _check_room(kind: str, target: Path) -> None:
    free, needed = shutil.disk_usage(target.parent).free, NEEDED_BYTES[kind]
    if free < needed:
        raise InstallError(
            f"The {kind} engine needs {needed / 2**30:.0f} GB of disk, {target.parent} has"
            f" {free / 2**30:.1f} GB: free some or name another folder."
        )


def _uv() -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise InstallError("uv is missing: install it with 'python -m pip install uv'.")


def _run(uv: Sequence[str], words: Sequence[str], say: Say) -> None:
    """Run one step of ``uv`` and pass on its lines; raises with the last of them when it fails."""
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603 - a fixed program and our own arguments
        [*uv, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if not line.startswith(" + "):  # the list of what was installed
                say(f"  {lines[-1]}")
    if process.returncode:
        tail = "\n".join(lines[-12:])
        step = " ".join(itertools.takewhile(lambda word: not word.startswith("-"), words))
        raise InstallError(f"uv {step} failed with {process.returncode}:\n{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the program's path goes to standard output."""
    parser = argparse.ArgumentParser(prog="engines/install.py", description=__doc__)
    parser.add_argument("kind", choices=sorted(NEEDED_BYTES))
    parser.add_argument("target", type=Path, nargs="?", help="default: a place in the cache")
    asked = parser.parse_args(arguments)
    try:
        sglang = ensure(asked.kind, asked.target)
    except InstallError as error:
        say(str(error))
        return 3
    sys.stdout.write(f"{sglang}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
