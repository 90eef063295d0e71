"""What an instance printed, over all its allocations, read on from where a reader was.

A cursor is ``<allocation>:<bytes>``. Nomad drops the oldest part of a long log without telling, and
its offsets count from what is left: a reader that lags behind by whole files may miss lines.
"""

from collections.abc import Awaitable, Callable, Sequence

from caravan.contracts.errors import InvalidRequestError
from services.scheduler.adapters.nomad_answers import Alloc
from services.scheduler.core.cluster import Lines

TAIL_LINES = 100
PIECE_BYTES = 256 * 1024
WHOLE_BYTES = 64 * 2**20
"""More than a task's log can hold."""

Read = Callable[[str, str, int, int], Awaitable[bytes]]
"""Of (allocation, task, offset): at most so many bytes."""


async def read(allocs: Sequence[Alloc], cursor: str, fetch: Read) -> Lines:
    """Return whole lines after ``cursor``; of an allocation that is over also a last half line."""
    placed = [alloc for alloc in allocs if alloc.task_states]
    if not placed:
        return Lines(lines=[], cursor=cursor)
    if not cursor:
        return await _tail(placed[-1], fetch)
    start, offset = _position(cursor)
    later = [alloc.id for alloc in placed]
    first = later.index(start) if start in later else 0
    return await _onwards(placed[first:], offset if start in later else 0, fetch)


async def _tail(alloc: Alloc, fetch: Read) -> Lines:
    data = await _fetch(alloc, 0, WHOLE_BYTES, fetch)
    answer = _lines(alloc, 0, data, PIECE_BYTES if len(data) == WHOLE_BYTES else len(data) + 1)
    return Lines(lines=answer.lines[-TAIL_LINES:], cursor=answer.cursor)


async def _onwards(allocs: Sequence[Alloc], offset: int, fetch: Read) -> Lines:
    """Read the first of ``allocs``; when it is over and read, the next."""
    answer = Lines(lines=[], cursor="")
    for alloc in allocs:
        data = await _fetch(alloc, offset, PIECE_BYTES, fetch)
        answer = _lines(alloc, offset, data, PIECE_BYTES)
        if data or not alloc.over:
            break
        offset = 0
    return answer


def _lines(alloc: Alloc, offset: int, data: bytes, most: int) -> Lines:
    whole = data.rfind(b"\n") + 1
    if (len(data) >= most and not whole) or (alloc.over and len(data) < most):
        whole = len(data)
    lines = data[:whole].decode(errors="replace").split("\n")
    if not lines[-1]:
        lines.pop()
    return Lines(lines=lines, cursor=f"{alloc.id}:{offset + whole}")


async def _fetch(alloc: Alloc, offset: int, most: int, fetch: Read) -> bytes:
    [task, *_] = alloc.task_states or {""}
    return await fetch(alloc.id, task, offset, most)


def _position(cursor: str) -> tuple[str, int]:
    alloc, colon, offset = cursor.partition(":")
    if not colon or not offset.isdecimal() or len(offset) > 18:
        raise InvalidRequestError(
            "this cursor is none: use the one of the last answer, or an empty one", param="cursor"
        )
    return alloc, int(offset)
