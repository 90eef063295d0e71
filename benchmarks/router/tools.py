"""What a run needs beside Python: load clients, the fake engine, and the peers' environments."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.install import cache

HERE = Path(__file__).parent
PYTHON = "3.11"
_PACKAGE = {"cc": "gcc", "nginx": "nginx-light", "wrk": "wrk"}


class MissingError(Exception):
    """Something is not installed; the sentence says how to get it."""


def program(name: str) -> str:
    """Return the path of a program of this machine."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingError(
            f"{name} is missing: apt-get install --no-install-recommends {_PACKAGE[name]}"
        )
    return found


def compiled(name: str, folder: Path) -> str:
    """Return the program of ``<name>.c`` of this folder, built into ``folder``."""
    target = folder / name
    _run([program("cc"), "-O2", "-o", str(target), str(HERE / f"{name}.c")])
    return str(target)


def environment(name: str) -> Path:
    """Return the ``bin`` of the environment of ``<name>.txt``; made in the cache when missing."""
    wanted = HERE / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]
    target = cache() / "bench" / f"{name}-{digest}"
    if not (target / "complete").exists():
        sys.stderr.write(f"installing {name} into {target}\n")
        uv = _uv()
        _run([*uv, "venv", "--quiet", "--clear", "--python", PYTHON, str(target)])
        install = [*uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode"]
        _run([*install, "--python", str(target / "bin" / "python"), "-r", str(wanted)])
        (target / "complete").touch()
    return target / "bin"


def _uv() -> list[str]:
    found = shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed programs
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise MissingError(f"{' '.join(command[:3])} failed with {done.returncode}:\n{said}")
