"""An engine's answer on its way to the client: what is passed on, changed or made good.

One object per attempt, made when the head of the answer is known. It gets the body as it stands
on the wire, tells the client's side what to write, and the engine's side what to think of it.
"""

from http import HTTPStatus

from services.router.api.answering import (
    CHUNKED,
    FULL,
    STOPPED,
    Answer,
    Answering,
    Attempt,
    Dechunked,
    chunk,
)
from services.router.api.events import Events, pass_stream
from services.router.core import engine_errors
from services.router.core.answer_head import NO_TAIL, AnswerHead
from services.router.core.attempts import Failure
from services.router.core.dialects import RESPONSES
from services.router.core.glance import LAST_CHUNK
from services.router.core.outliers import is_failure
from services.router.core.story import COMPLETE, FAILED, TRUNCATED
from services.router.core.turn import Transport

BUFFERED = 256 * 2**10
"""So much of a plain answer is kept back, so that a break in it can still be made good."""
_ENDLESS = 2**63
_SAY_FAILED = frozenset({RESPONSES})
"""Routes on which an answer with status 200 may say that it failed midway."""
SAID_FAILED = "the engine says in its answer that it failed"


def answer(attempt: Attempt, exchange: Answering, head: AnswerHead) -> Answer:
    """Return what takes an answer with this head on."""
    if head.status != HTTPStatus.OK:
        return Refused(attempt, exchange, head)
    if head.stream:
        return Events(attempt, exchange, head)
    return Plain(attempt, exchange, head)


def pass_whole(attempt: Attempt, exchange: Answering, head: AnswerHead, body: bytes) -> bool:
    """Pass a good answer on of which all is there, if nothing has to be looked at closely."""
    if head.stream:
        return pass_stream(attempt, exchange, head, body)
    if head.length is None:
        return False
    pass_plain(attempt, exchange, head, body)
    return True


def pass_plain(attempt: Attempt, exchange: Answering, head: AnswerHead, body: bytes) -> None:
    """Pass a plain answer on that is whole; ``body`` is its payload."""
    failed = exchange.route in _SAY_FAILED and exchange.dialect.failed_in(body)
    if failed:
        attempt.badly(SAID_FAILED)
    else:
        attempt.well()
    exchange.story.usage = exchange.dialect.usage_in(body)
    exchange.start(b"%bcontent-length: %d\r\n" % (head.content_type, len(body)), body)
    exchange.finish(FAILED if failed else COMPLETE, SAID_FAILED * failed)


class _Unseen:
    """What an answer says to who would pass pieces by their tail: none."""

    tail = NO_TAIL
    passed = 0
    to: Transport


class Refused(_Unseen):
    """An answer with another status than 200: an error, told on in our envelope."""

    def __init__(self, attempt: Attempt, exchange: Answering, head: AnswerHead) -> None:
        self._attempt, self._exchange, self._status = attempt, exchange, head.status
        self.to = exchange.to
        self._wait = head.wait
        self._dechunked, self._body = Dechunked(head), b""
        self.begun = False

    def came(self, data: bytes) -> None:
        self.begun = True
        if len(self._body) < BUFFERED:
            self._body += self._dechunked.take(data)

    def ended(self) -> None:
        attempt, exchange, status = self._attempt, self._exchange, self._status
        if status == HTTPStatus.UNAUTHORIZED:
            attempt.failed(Failure.UNAUTHORIZED, "the engine does not know its record's key")
            return
        why = f"the engine answered {status}"
        meant = exchange.dialect.meant(status, self._body)
        if meant in FULL:
            attempt.failed(Failure.REFUSED, why, status=meant, wait=self._wait)
        elif meant < HTTPStatus.BAD_REQUEST:
            attempt.failed(Failure.BROKEN, why)
        else:
            if is_failure(meant):
                attempt.badly(why, meant)
            said = engine_errors.read(self._body)
            exchange.refuse(engine_errors.refusal(meant, said, exchange.story.deployment))

    def broke(self, failure: Failure, why: str) -> None:
        if self._status in FULL or self._status == HTTPStatus.UNAUTHORIZED:
            self.ended()  # what matters was said
        else:
            self._attempt.failed(failure, why)

    def stop(self) -> None:
        """Nothing of it is at the client."""


class Plain(_Unseen):
    """One JSON object, or whatever else is no stream of events."""

    begun = False
    _started = False
    _size = 0
    _dechunked: Dechunked | None = None
    _left = _ENDLESS

    def __init__(self, attempt: Attempt, exchange: Answering, head: AnswerHead) -> None:
        self._attempt, self._exchange, self._head = attempt, exchange, head
        self.to = exchange.to
        self._kept: list[bytes] = []
        if head.length is not None:
            self._left = head.length
        elif head.chunked:
            self._dechunked = Dechunked(head)

    def came(self, data: bytes) -> None:
        self.begun = True
        if self._dechunked is not None:
            data = self._dechunked.take(data)
        elif len(data) > self._left:
            data = data[: self._left]  # the engine said more than it had announced
        self._left -= len(data)
        if self._started:
            self._write(data)
            return
        self._kept.append(data)
        self._size += len(data)
        if self._size > BUFFERED:
            self._start()

    def ended(self) -> None:
        if not self._started:
            body = self._kept[0] if len(self._kept) == 1 else b"".join(self._kept)
            pass_plain(self._attempt, self._exchange, self._head, body)
            return
        self._attempt.well()
        if self._chunked():
            self._exchange.pass_on(LAST_CHUNK)
        self._exchange.finish(COMPLETE)

    def broke(self, failure: Failure, why: str) -> None:
        if self._started:
            self._attempt.badly(why)
            self._exchange.cut(FAILED, why)
        else:
            self._attempt.failed(failure, why)

    def stop(self) -> None:
        if self._started:
            self._exchange.cut(TRUNCATED, STOPPED)

    def _start(self) -> None:
        """Begin to pass an answer on that is too long to be kept."""
        self._started = True
        length = self._head.length
        own = CHUNKED * self._exchange.chunks
        if length is not None:
            own = b"content-length: %d\r\n" % length
        self._exchange.start(self._head.content_type + own, b"")
        self._write(b"".join(self._kept))
        self._kept.clear()

    def _write(self, data: bytes) -> None:
        if data:
            self._exchange.pass_on(chunk(data) if self._chunked() else data)

    def _chunked(self) -> bool:
        return self._head.length is None and self._exchange.chunks
