"""What the head of a request on a hot route says, worked out once per head.

A client sends nearly the same head again and again on a connection: only the length of the body
differs. So a connection keeps the last one as a :class:`Pattern`, and a request whose bytes fit it
is known without parsing: bytes that are the same mean the same.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

from services.router.core import http
from services.router.core.dialects import DIALECTS

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_BLANK = b"\r\n\r\n"
_DIGITS = 15
_SPECIAL = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"traceparent",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)


class Head:
    """What a head says; ``headers`` are by lower-case name."""

    __slots__ = (
        "chunks",
        "dialect",
        "digest",
        "ending",
        "headers",
        "keep_alive",
        "length",
        "origin",
        "request_id",
        "route",
        "secret",
        "special",
    )

    def __init__(
        self, route: str, headers: Mapping[bytes, bytes], *, keep_alive: bool, chunks: bool
    ) -> None:
        self.route, self.headers = route, headers
        self.dialect = DIALECTS[route]
        self.keep_alive = keep_alive
        self.chunks = chunks
        """Whether the client understands chunks; HTTP/1.0 does not."""
        self.secret = self.dialect.key(headers)
        self.digest = digest(self.secret) if self.secret else ""
        self.request_id = http.given_id(headers.get(b"x-request-id"))
        self.origin = b"origin" in headers
        self.ending = http.ending(origin=self.origin, close=not keep_alive)
        """Lines of every answer to it."""
        length = headers.get(b"content-length")
        self.length = None if length is None else int(length)
        """Of the body, in bytes; None when it comes in chunks."""
        self.special = not _SPECIAL.isdisjoint(headers)
        """Whether it has headers that few clients send."""


class Pattern:
    """A head as bytes, but for the digits of the body's length."""

    __slots__ = ("_after", "_before", "head")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self.head, self._before, self._after = head, before, after

    def fit(self, data: bytes) -> tuple[int, int]:
        """Return the body's length and where it begins, if ``data`` begins with such a head.

        (0, 0) if it does not.
        """
        before, after = self._before, self._after
        if not data.startswith(before):
            return 0, 0
        begin = len(before)
        end = data.find(b"\r", begin, begin + _DIGITS)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return 0, 0
        return int(digits), end + len(after)


def pattern(head: Head, data: bytes) -> Pattern | None:
    """Return the pattern of ``head``, which ``data`` begins with; None if it is too special."""
    if head.length is None or not head.chunks or head.special:
        return None
    blank = data.find(_BLANK)
    found = _LENGTH.search(data, 0, blank + 2) if blank >= 0 else None
    if found is None:
        return None
    return Pattern(head, data[: found.start(1)], data[found.end(1) : blank + len(_BLANK)])


def digest(secret: str) -> str:
    """Return the SHA-256 of a key as it was sent, in hex; that of a real key is its bucket key."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()
