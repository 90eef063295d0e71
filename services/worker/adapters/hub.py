"""The child process that downloads a model: ``python -m services.worker.adapters.hub``.

It prints one JSON line for every half second of progress, and one for its end. ``HF_ENDPOINT``,
``HF_TOKEN`` and the proxies come from its environment, as the hub's library reads them.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Problem
from services.worker.core.sources import ignored, needed

_EVERY_S = 0.5


class Moved(Struct, frozen=True, tag="moved"):
    """So much of it is here."""

    done_bytes: int
    total_bytes: int


class Downloaded(Struct, frozen=True, tag="downloaded"):
    """All of it is here."""

    folder: str


class NotDownloaded(Struct, frozen=True, tag="not_downloaded"):
    """It cannot be had."""

    problem: Problem


Line = Moved | Downloaded | NotDownloaded


def main(repository: str, revision: str, cache: Path) -> None:
    """Download and say how it went; the last line tells the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker ends us
    try:
        folder = _download(repository, revision or None, cache)
    except Exception as exc:  # noqa: BLE001 - the border of the process: every error becomes its line
        traceback.print_exc()
        _say(NotDownloaded(_problem(repository, revision, exc)))
    else:
        _say(Downloaded(folder))


def _download(repository: str, revision: str | None, cache: Path) -> str:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only this process pays for it

    blobs = _blobs(repository, revision)
    skipped = ignored(list(blobs))
    wanted = {blobs[name] for name in needed(list(blobs), skipped)}
    ended = threading.Event()
    folder = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    watch = threading.Thread(target=_watch, args=(folder, dict(wanted), ended), daemon=True)
    watch.start()
    try:
        return snapshot_download(
            repository, revision=revision, cache_dir=cache, ignore_patterns=skipped
        )
    finally:
        ended.set()
        watch.join()


def _blobs(repository: str, revision: str | None) -> dict[str, tuple[str, int]]:
    """Return blob and size by file; nothing when the hub is away, for the cache may have it all."""
    from huggingface_hub import HfApi  # noqa: PLC0415 - only this process pays for it
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30)
    except HfHubHTTPError as exc:
        if exc.response.status_code < 500:
            raise
        return {}
    except Exception:  # noqa: BLE001 - what a missing network raises is the transport library's own
        return {}
    return {file.rfilename: _blob(file) for file in info.siblings or []}


def _blob(file: Any) -> tuple[str, int]:  # noqa: ANN401 - the hub's RepoSibling
    if file.lfs is not None:
        return file.lfs.sha256, file.lfs.size
    return file.blob_id or "", file.size or 0


def _watch(folder: Path, wanted: Mapping[str, int], ended: threading.Event) -> None:
    """Say how much of ``wanted`` is in ``folder``, whole or in part, until the end."""
    total = sum(wanted.values())
    while not ended.wait(_EVERY_S):
        _say(Moved(_here(folder, wanted), total))
    _say(Moved(_here(folder, wanted), total))


def _here(folder: Path, wanted: Mapping[str, int]) -> int:
    done: dict[str, int] = {}
    for path in folder.glob("*"):
        blob = path.name.partition(".")[0]
        if blob in wanted:
            try:
                done[blob] = max(done.get(blob, 0), path.stat().st_size)
            except FileNotFoundError:
                continue  # it was renamed: the next look counts it
    return sum(min(size, wanted[blob]) for blob, size in done.items())


def _problem(repository: str, revision: str, exc: Exception) -> Problem:
    from huggingface_hub import constants, errors  # noqa: PLC0415 - only this process pays for it

    where = f"hf://{repository}" + (f"@{revision}" if revision else "")
    match exc:
        case errors.GatedRepoError():
            why = "its owner has to let you in: accept its terms and set WORKER_HUB_TOKEN"
            return _not_found(f"{where} is not open: {why}")
        case errors.RevisionNotFoundError():
            return _not_found(f"{where}: there is no such revision; check what stands after the @")
        case errors.RepositoryNotFoundError():
            why = "check the name; a private one needs WORKER_HUB_TOKEN"
            return _not_found(f"{constants.ENDPOINT} has no {where}: {why}")
        case errors.HFValidationError():
            return Problem(code="source_not_supported", message=f"{where}: {exc}", param="source")
        case _:
            text = " ".join(str(exc).split())[:300] or type(exc).__name__
            message = f"{where} could not be downloaded from {constants.ENDPOINT}, retry: {text}"
            return Problem(code="unavailable", message=message, param="source")


def _not_found(message: str) -> Problem:
    return Problem(code="weights_not_found", message=message, param="source")


def _say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
