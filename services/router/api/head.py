"""What the head of a request on a hot route says, worked out once per head."""

from collections.abc import Mapping
from hashlib import sha256

from services.router.core import http
from services.router.core.dialects import DIALECTS

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


def digest(secret: str) -> str:
    """Return the SHA-256 of a key as it was sent, in hex; that of a real key is its bucket key."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()
