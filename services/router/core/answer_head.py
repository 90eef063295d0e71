"""What the head of an engine's answer says, worked out once per head."""

from collections.abc import Mapping

NO_TAIL = b"\0\0\0\0"
"""No piece of a stream ends so where its last line could begin: nothing is passed on by it."""
_JSON = b"application/json"


class AnswerHead:
    """The head of an engine's answer, from its status and its ``headers`` by lower-case name."""

    __slots__ = ("chunked", "content_type", "framed", "length", "status", "stream", "tail", "wait")

    def __init__(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        self.status = status
        given = headers.get(b"content-length")
        self.length = None if given is None else int(given)
        """Of the body, in bytes; None where the head does not name it."""
        coding = headers.get(b"transfer-encoding")
        self.chunked = coding is not None and b"chunked" in coding.lower()
        self.framed = given is not None or coding is not None
        """Whether the body says where it ends; else its connection's end is that."""
        kind = headers.get(b"content-type", _JSON)
        self.stream = kind.startswith(b"text/event-stream")
        """Whether it is a stream of events."""
        self.content_type = b"content-type: %b\r\n" % (kind if kind.isascii() else _JSON)
        """The header line for the client."""
        self.wait = headers.get(b"retry-after", b"")
        self.tail = NO_TAIL
        """How an ordinary event ended in the last stream that began so."""
