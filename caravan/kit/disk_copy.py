"""A view's copy on disk: replaced as a whole, readable by its user only."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from caravan.kit.table import Table
from caravan.kit.wire import decode

V = TypeVar("V")
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


class DiskCopy(Generic[V]):
    """The copy of ``table`` at ``path``. Of two that are written at once, the newer one stays."""

    def __init__(self, path: Path, bucket: str, table: Table[V]) -> None:
        self.path = path
        self.bucket = bucket
        self._table = table
        self._lock = threading.Lock()
        self._taken = self._written = 0

    def load(self, read: Callable[[bytes], V]) -> Copy | None:
        """Fill the table from the disk; return the copy, or None when there is none to be read.

        Entries that this version cannot read are left out.
        """
        copy = load(self.path, self.bucket)
        if copy is None:
            return None
        self._table.start_from(copy.created, copy.sequence, copy.stamp, copy.epoch)
        for key, (revision, stamp, data) in copy.entries.items():
            try:
                self._table.entries[key] = read(data)
            except msgspec.DecodeError as exc:
                log.warning("view.copy_entry_unreadable", key=key, error=str(exc))
                continue
            self._table.marks[key] = (revision, stamp)
        return copy

    def take(self, *, complete: bool, heard_at: float) -> Callable[[], None]:
        """Take a copy now; return what writes it, from any thread."""
        table = self._table
        copy = Copy(
            bucket=self.bucket,
            created=table.created,
            sequence=table.sequence,
            stamp=table.stamp,
            epoch=table.epoch,
            complete=complete,
            heard_at=heard_at,
            entries={
                key: (*table.marks.get(key, (0, 0)), msgspec.Raw(msgspec.json.encode(value)))
                for key, value in table.entries.items()
            },
        )
        self._taken += 1
        number = self._taken
        return lambda: self._write(copy, number)

    def _write(self, copy: Copy, number: int) -> None:
        with self._lock:
            if number < self._written:
                return
            self._written = number
            try:
                save(self.path, copy)
            except OSError as exc:
                log.error("view.not_saved", path=str(self.path), error=str(exc))  # noqa: TRY400


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
