"""The folder of one instance: what it was started with, what became of it, what it printed."""

import os
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from msgspec import Struct

from caravan.contracts.instances import Spec
from services.scheduler.adapters.process_life import Life

log = structlog.get_logger()
V = TypeVar("V", bound=Struct)


class Exit(Struct, frozen=True, kw_only=True):
    """What a worker leaves behind in ``exit.json`` when it ends."""

    reason: str = ""
    at: float = 0.0
    code: str = ""
    """Empty when nothing was wrong: it was asked to end."""


class Folder:
    """``spec.json`` is written once; without it the folder is half made, and nobody's.

    ``process.json`` changes with each life. ``exit.json`` and ``lock`` are the worker's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def spec(self) -> Spec | None:
        return _read(self.path / "spec.json", Spec)

    def life(self) -> Life | None:
        return _read(self.path / "process.json", Life)

    def exit(self) -> Exit | None:
        return _read(self.path / "exit.json", Exit)

    def make(self, spec: Spec) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / "spec.json", msgspec.json.encode(spec))

    def save(self, life: Life) -> None:
        replace_file(self.path / "process.json", msgspec.json.encode(life))

    def clear_exit(self) -> None:
        """Remove what an earlier life left, so that it is not taken for the next one's."""
        (self.path / "exit.json").unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it; ``spec.json`` first, so that one removed by half is nobody's."""
        (self.path / "spec.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace ``path`` so that a reader finds the old or the new bytes.

    What tells of processes need not be ``durable``: a machine that loses power loses them too.
    """
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)


def _read(path: Path, kind: type[V]) -> V | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as exc:
        log.warning("instance.unreadable", path=str(path), error=str(exc))
        return None
