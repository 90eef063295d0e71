"""Heads that are nearly the same as the one before.

A client sends nearly the same head again and again on a connection, and so does an engine: only
the length of the body differs. A head whose bytes fit the :class:`Pattern` of one that was parsed
need not be parsed: bytes that are the same mean the same.
"""

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_BLANK = b"\r\n\r\n"
_DIGITS = 15


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


def pattern(data: bytes) -> Pattern | None:
    """Return the pattern of the head that ``data`` begins with, if it names the body's length."""
    blank = data.find(_BLANK)
    found = _LENGTH.search(data, 0, blank + 2) if blank >= 0 else None
    if found is None:
        return None
    return Pattern(data[: found.start(1)], data[found.end(1) : blank + len(_BLANK)])
