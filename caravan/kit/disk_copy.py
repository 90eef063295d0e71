"""A view's copy on disk: replaced as a whole, readable by its user only."""

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec
import structlog

from caravan.kit.wire import decode

log = structlog.get_logger()


class Copy(msgspec.Struct, frozen=True, kw_only=True, tag="view-copy.v1"):
    """What a view knew, so that another process can start from it."""

    bucket: str
    created: str
    sequence: int
    stamp: int
    epoch: int
    complete: bool
    """Whether the view was ever complete."""
    heard_at: float
    """When NATS last said that nothing was missing, seconds since the epoch."""
    entries: dict[str, tuple[int, int, msgspec.Raw]]
    """Revision, server's time and value by key."""


def save(path: Path, copy: Copy) -> None:
    """Replace the file at ``path``; a reader sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(copy))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def load(path: Path, bucket: str) -> Copy | None:
    """Return the copy of ``bucket``, or None when there is none that can be read."""
    try:
        copy = decode(path.read_bytes(), Copy)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        log.warning("view.copy_unreadable", path=str(path), error=str(exc))
        return None
    if copy.bucket != bucket:
        log.warning("view.copy_unreadable", path=str(path), error=f"it is of {copy.bucket}")
        return None
    return copy
