"""What an engine's answer meets on its way: a client's side, an attempt, the frames of its body."""

from typing import Protocol

import httptools

from caravan.contracts.errors import Refusal
from services.router.core.answer_head import AnswerHead
from services.router.core.attempts import Failure
from services.router.core.dialects import Dialect
from services.router.core.ports import Receiver
from services.router.core.story import Story
from services.router.core.turn import Transport

FULL = frozenset({429, 502, 503, 504})
"""An engine that is full, starting or going: another one may do."""
STOPPED = "the router was stopped"
CHUNKED = b"transfer-encoding: chunked\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Answering(Protocol):
    """What an answer needs of the client's side."""

    story: Story
    dialect: Dialect
    route: str
    show_usage: bool
    chunks: bool
    """Whether the client understands chunks; HTTP/1.0 does not."""
    sent: int
    """Bytes of the answer's body."""
    to: Transport
    """The client's transport; what is written there is to be counted in ``sent``."""

    def start(self, own: bytes, body: bytes) -> None:
        """Write the head of a good answer, with ``own`` header lines, and what follows it."""

    def pass_on(self, data: bytes) -> None:
        """Write more of the body, as it shall stand on the wire."""

    def finish(self, outcome: str, reason: str = "") -> None:
        """End the answer; all of it is written."""

    def cut(self, outcome: str, reason: str) -> None:
        """Break the client's connection, so that a part of an answer does not look whole."""

    def refuse(self, refusal: Refusal) -> None:
        """Answer with ``refusal``; nothing is written yet."""


class Attempt(Protocol):
    """What an answer says of the engine that gave it."""

    def well(self) -> None:
        """It has answered well, and is needed no more."""

    def badly(self, why: str, status: int = 0) -> None:
        """It broke off, or failed with ``status``."""

    def failed(self, failure: Failure, why: str, *, status: int = 0, wait: bytes = b"") -> None:
        """It has not answered, and the client has nothing: another one may be asked."""


class Answer(Receiver, Protocol):
    """What becomes of one answer."""

    begun: bool
    """Whether something of the body has come."""

    def stop(self) -> None:
        """End what the client has of it as not complete: the router itself stops."""


class Dechunked:
    """Takes chunks apart; everything else is left as it is."""

    __slots__ = ("_parser", "_pieces", "ended")

    def __init__(self, head: AnswerHead) -> None:
        self._pieces: list[bytes] = []
        self._parser: httptools.HttpResponseParser | None = None
        self.ended = False
        if head.chunked:
            self._parser = httptools.HttpResponseParser(self)
            self._parser.feed_data(_HEAD)

    def on_body(self, data: bytes) -> None:
        if not self.ended:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.ended = True

    def take(self, data: bytes) -> bytes:
        """Return the payload in ``data``; what follows the end is no part of it."""
        if self._parser is None:
            return data
        if not self.ended:
            self._feed(self._parser, data)
        payload = b"".join(self._pieces)
        self._pieces.clear()
        return payload

    def _feed(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.ended:
                raise


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
