"""The log of one instance: bounded in size, read on from where a reader was.

Workers write to ``log`` themselves, so they need nobody to live. When it is full its content moves
to ``log.<position>`` and it begins anew; a position counts all bytes ever printed, so that a cursor
outlives that. What is printed while the content moves (milliseconds) may be lost.
"""

import os
import shutil
import threading
from pathlib import Path

from msgspec import Struct

from caravan.contracts.errors import InvalidRequestError
from services.scheduler.core.cluster import Lines

TAIL_LINES = 100
PIECE_BYTES = 256 * 1024
"""The most that one answer carries."""


class _Part(Struct, frozen=True):
    path: Path
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Log:
    """``log`` and the one older part before it in ``folder``."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()  # readers and the bounding run in threads

    def rotate(self) -> None:
        """Move the content aside when it is over the limit; the older part before it is dropped."""
        with self._lock:
            self._rotate()

    def read(self, cursor: str, *, ended: bool) -> Lines:
        """Return whole lines after ``cursor``; of one that has ``ended`` also a last half line."""
        with self._lock:
            return self._read(cursor, ended=ended)

    def _rotate(self) -> None:
        current = self._current()
        if current.size < self._limit:
            return
        older = self._older()
        moving = self._folder / "moving.log"
        shutil.copyfile(current.path, moving)
        moving.replace(self._folder / f"log.{current.start}")
        os.truncate(current.path, 0)
        if older is not None:
            older.path.unlink()

    def _read(self, cursor: str, *, ended: bool) -> Lines:
        if not cursor:
            return self._tail(ended=ended)
        start = self._known(_position(cursor))
        return self._lines(start, self._bytes(start, PIECE_BYTES), ended=ended)

    def _tail(self, *, ended: bool) -> Lines:
        end = self._current().end
        start = self._known(max(0, end - PIECE_BYTES))
        answer = self._lines(start, self._bytes(start, PIECE_BYTES), ended=ended)
        return Lines(lines=answer.lines[-TAIL_LINES:], cursor=answer.cursor)

    def _lines(self, start: int, data: bytes, *, ended: bool) -> Lines:
        whole = data.rfind(b"\n") + 1
        if len(data) == PIECE_BYTES and not whole:
            whole = len(data)  # one endless line: in pieces rather than never
        if ended and len(data) < PIECE_BYTES:
            whole = len(data)
        lines = data[:whole].decode(errors="replace").split("\n")
        if not lines[-1]:
            lines.pop()
        return Lines(lines=lines, cursor=str(start + whole))

    def _known(self, position: int) -> int:
        """Return ``position``, or where the log begins when it is not, or no longer, in it."""
        current, older = self._current(), self._older()
        oldest = older.start if older else current.start
        return position if oldest <= position <= current.end else oldest

    def _bytes(self, start: int, most: int) -> bytes:
        data = b""
        for part in (self._older(), self._current()):
            if part is not None and part.start <= start + len(data) < part.end:
                with part.path.open("rb") as file:
                    file.seek(start + len(data) - part.start)
                    data += file.read(most - len(data))
        return data

    def _current(self) -> _Part:
        older, path = self._older(), self._folder / "log"
        size = path.stat().st_size if path.exists() else 0
        return _Part(path, older.end if older else 0, size)

    def _older(self) -> _Part | None:
        parts = [
            _Part(path, int(path.suffix[1:]), path.stat().st_size)
            for path in self._folder.glob("log.*")
            if path.suffix[1:].isdigit()
        ]
        return max(parts, key=lambda part: part.start, default=None)


def _position(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidRequestError(
            "this cursor is none: use the one of the last answer, or an empty one", param="cursor"
        )
    return int(cursor)
