"""Models on this machine: a folder that is there, or one that a child process downloads."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from caravan.contracts.errors import Problem, Refusal, UnavailableError
from caravan.contracts.instances import Progress
from services.worker.adapters.hub import Downloaded, Line, Moved, NotDownloaded
from services.worker.adapters.process import die_with
from services.worker.core import sources
from services.worker.core.errors import (
    HubUnavailableError,
    SourceNotSupportedError,
    WeightsNotFoundError,
)
from services.worker.core.models import Config, Module, check_fit, pooling_folder

T = TypeVar("T")

_REFUSALS: Mapping[str, type[Refusal]] = {
    "weights_not_found": WeightsNotFoundError,
    "source_not_supported": SourceNotSupportedError,
    "unavailable": HubUnavailableError,
}


class Sources:
    """Finds the folder of a source.

    A download runs in a child process with ``environ``: the hub's library is four times as large
    as a worker, and its memory goes with it. What is downloaded is kept under ``cache``.
    """

    def __init__(self, cache: Path, environ: Mapping[str, str]) -> None:
        self._cache = cache
        self._environ = environ

    async def fetch(self, source: str, progress: Callable[[Progress], None]) -> Path:
        """Return the folder of the model; a ``Refusal`` says why there is none."""
        match sources.parse(source):
            case sources.FileSource(folder):
                found = Path(folder)
            case sources.HubSource() as hub:
                found = await self._download(source, hub, progress)
        await asyncio.to_thread(_check_folder, source, found)
        return found

    async def _download(
        self, source: str, hub: sources.HubSource, progress: Callable[[Progress], None]
    ) -> Path:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.worker.adapters.hub"),
            *(hub.repository, hub.revision, str(self._cache / "hub")),
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with(os.getpid()),
        )
        try:
            return await _follow(child, source, progress)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _follow(
    child: asyncio.subprocess.Process, source: str, progress: Callable[[Progress], None]
) -> Path:
    assert child.stdout is not None
    async for line in child.stdout:
        match msgspec.json.decode(line, type=Line):
            case Moved(done, total):
                progress(Progress(done_bytes=done, total_bytes=total))
            case Downloaded(folder):
                return Path(folder)
            case NotDownloaded(problem):
                raise _refusal(problem)
    code = await child.wait()
    message = f"the download of {source[:200]} ended with {code}: its last lines are in the log"
    raise UnavailableError(message)


def _refusal(problem: Problem) -> Refusal:
    kind = _REFUSALS.get(problem.code, UnavailableError)
    return kind(problem.message, param=problem.param)


def _check_folder(source: str, folder: Path) -> None:
    """Refuse a folder that an engine could not load."""
    if not folder.is_dir():
        raise sources.missing(source, "there is no such folder on this machine")
    files = {path.name for path in folder.iterdir() if path.exists()}
    sources.check_weights(source, files)
    if name := sources.index_of(files):
        index = _read(source, folder / name, dict[str, object])
        weight_map = msgspec.convert(index.get("weight_map", {}), dict[str, str])
        sources.check_index(source, files, weight_map)


def check_model(task: str, source: str, folder: Path) -> Config:
    """Return the model's configuration; refuse a model that the engine would serve wrongly."""
    config = _read(source, folder / "config.json", Config)
    modules = _read_if_there(source, folder / "modules.json", list[Module]) or []
    pooling = folder / pooling_folder(modules) / "config.json"
    check_fit(task, config, modules, _read_if_there(source, pooling, dict[str, object]))
    return config


def _read_if_there(source: str, path: Path, kind: type[T]) -> T | None:
    return _read(source, path, kind) if path.is_file() else None


def _read(source: str, path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as exc:
        raise sources.missing(source, f"its {path.name} cannot be read: {exc}") from None
