"""Heads that are nearly the same as one before.

A client sends nearly the same head again and again, and so does an engine: only the length of the
body differs. A head whose bytes fit the :class:`Pattern` of one that was parsed need not be parsed:
bytes that are the same mean the same.
"""

import re
from typing import Generic, TypeVar

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})\r\n", re.IGNORECASE)
_BLANK = b"\r\n\r\n"
_DIGITS = 15
KNOWN = 256
"""So many heads are kept in mind."""
LONGEST = 4096
"""No longer ones are."""
T = TypeVar("T")


class Pattern:
    """A head as bytes, but for the digits of the body's length."""

    __slots__ = ("_after", "_after_size", "_before", "_begin", "_reach")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._begin, self._after_size = len(before), len(after)
        self._reach = len(before) + _DIGITS + len(after)

    def fit(self, data: bytes) -> tuple[int, int]:
        """Return the body's length and where it begins, if ``data`` begins with such a head.

        (0, 0) if it does not.
        """
        if not data.startswith(self._before):
            return 0, 0
        begin = self._begin
        end = data.find(self._after, begin, self._reach)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit():
            return 0, 0
        return int(digits), end + self._after_size


class Known(Generic[T]):
    """Heads of all connections that came lately, and what each says.

    A new connection begins as its client's last one did. And where many connections share one
    head, its bytes stay near to the processor, which a copy per connection would not.
    """

    def __init__(self) -> None:
        self._by_bytes: dict[tuple[bytes, bytes], tuple[Pattern, T]] = {}

    def find(self, data: bytes) -> tuple[Pattern, T] | None:
        """Return what is known of the head that ``data`` begins with.

        It is looked up by its hash: how far it is like another client's head takes no time.
        """
        parts = _parts(data)
        return None if parts is None else self._by_bytes.get(parts)

    def add(self, data: bytes, said: T) -> tuple[Pattern, T] | None:
        """Remember that the head which ``data`` begins with says ``said``; the oldest one goes.

        None where it is no ordinary one: without the body's length, or longer than most.
        """
        parts = _parts(data)
        if parts is None:
            return None
        known = self._by_bytes.get(parts)
        if known is None:
            if len(self._by_bytes) >= KNOWN:
                del self._by_bytes[next(iter(self._by_bytes))]
            known = self._by_bytes[parts] = Pattern(*parts), said
        return known


def pattern(data: bytes) -> Pattern | None:
    """Return the pattern of the head that ``data`` begins with, if it names the body's length."""
    parts = _parts(data)
    return None if parts is None else Pattern(*parts)


def _parts(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the head that ``data`` begins with, before and after the digits."""
    blank = data.find(_BLANK, 0, LONGEST)
    found = _LENGTH.search(data, 0, blank + 2) if blank >= 0 else None
    if found is None:
        return None
    return data[: found.start(1)], data[found.end(1) : blank + len(_BLANK)]
