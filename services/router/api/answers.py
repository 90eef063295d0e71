"""An engine's answer on its way to the client: what is passed on, changed or made good.

One object per attempt, made when the head of the answer is known. It gets the body as it stands
on the wire, tells the client's side what to write, and the engine's side what to think of it.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

import httptools

from caravan.contracts.errors import Refusal
from services.router.core import engine_errors, http
from services.router.core.attempts import Failure
from services.router.core.dialects import CHAT, COMPLETIONS, Dialect, Stream, broken_off
from services.router.core.glance import LAST_CHUNK, Glance
from services.router.core.outliers import is_failure
from services.router.core.ports import NO_TAIL, Receiver
from services.router.core.sse import EventStream
from services.router.core.story import COMPLETE, FAILED, TRUNCATED, Story

FULL = frozenset({429, 502, 503, 504})
"""An engine that is full, starting or going: another one may do."""
BUFFERED = 256 * 2**10
"""So much of a plain answer is kept back, so that a break in it can still be made good."""
EARLY = "the engine ended its stream early"
STOPPED = "the router was stopped"
_GLANCED = frozenset({CHAT, COMPLETIONS})
_JSON = b"application/json"
_ENDLESS = 2**63
_CHUNKED = b"transfer-encoding: chunked\r\n"
_STREAM_HEAD = http.EVENT_STREAM_LINES + _CHUNKED
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


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
    write: Callable[[bytes], object]
    """Writes to the client; what is written is to be counted in ``sent``."""

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


def answer(
    attempt: Attempt, exchange: Answering, status: int, headers: Mapping[bytes, bytes]
) -> Answer:
    """Return what takes an answer with this head on."""
    if status != HTTPStatus.OK:
        return Refused(attempt, exchange, status, headers)
    if _is_stream(headers):
        return Events(attempt, exchange, headers)
    return Plain(attempt, exchange, headers)


class Dechunked:
    """Takes chunks apart; everything else is left as it is."""

    __slots__ = ("_parser", "_pieces", "ended")

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self._pieces: list[bytes] = []
        self._parser: httptools.HttpResponseParser | None = None
        self.ended = False
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            self._parser = httptools.HttpResponseParser(self)
            self._parser.feed_data(_CHUNKED_HEAD)

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


class _Unseen:
    """What an answer says to who would pass pieces by their tail: none."""

    tail = NO_TAIL
    passed = 0
    write: Callable[[bytes], object]


class Refused(_Unseen):
    """An answer with another status than 200: an error, told on in our envelope."""

    def __init__(
        self, attempt: Attempt, exchange: Answering, status: int, headers: Mapping[bytes, bytes]
    ) -> None:
        self._attempt, self._exchange, self._status = attempt, exchange, status
        self.write = exchange.write
        self._wait = headers.get(b"retry-after", b"")
        self._dechunked, self._body = Dechunked(headers), b""
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

    def __init__(
        self, attempt: Attempt, exchange: Answering, headers: Mapping[bytes, bytes]
    ) -> None:
        self._attempt, self._exchange, self._headers = attempt, exchange, headers
        self.write = exchange.write
        self._kept: list[bytes] = []
        length = headers.get(b"content-length")
        if length is not None:
            self._left = int(length)
        elif b"transfer-encoding" in headers:
            self._dechunked = Dechunked(headers)

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
            pass_plain(self._attempt, self._exchange, self._headers, body)
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
        length = self._headers.get(b"content-length")
        own = b"content-length: %b\r\n" % length if length else _CHUNKED * self._exchange.chunks
        self._exchange.start(_type(self._headers) + own, b"")
        self._write(b"".join(self._kept))
        self._kept.clear()

    def _write(self, data: bytes) -> None:
        if data:
            self._exchange.pass_on(chunk(data) if self._chunked() else data)

    def _chunked(self) -> bool:
        return b"content-length" not in self._headers and self._exchange.chunks


def pass_whole(
    attempt: Attempt, exchange: Answering, headers: Mapping[bytes, bytes], body: bytes
) -> bool:
    """Pass a good answer on of which all is there, if nothing has to be looked at closely."""
    if b"content-length" in headers and not _is_stream(headers):
        pass_plain(attempt, exchange, headers, body)
        return True
    if not _may_glance(exchange, headers):
        return False
    glance = Glance(show_usage=exchange.show_usage)
    out = glance.look(body)
    if not out or not glance.done:
        return False
    attempt.well()
    exchange.story.usage = glance.usage
    exchange.start(_STREAM_HEAD, out)
    exchange.finish(COMPLETE)
    return True


def pass_plain(
    attempt: Attempt, exchange: Answering, headers: Mapping[bytes, bytes], body: bytes
) -> None:
    """Pass a plain answer on that is whole; ``body`` is its payload."""
    attempt.well()
    exchange.story.usage = exchange.dialect.usage_in(body)
    exchange.start(b"%bcontent-length: %d\r\n" % (_type(headers), len(body)), body)
    exchange.finish(COMPLETE)


def _is_stream(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").startswith(b"text/event-stream")


def _may_glance(exchange: Answering, headers: Mapping[bytes, bytes]) -> bool:
    chunked = headers.get(b"transfer-encoding") == b"chunked"
    return chunked and exchange.chunks and exchange.route in _GLANCED and _is_stream(headers)


def _type(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(b"content-type", _JSON)
    return b"content-type: %b\r\n" % (given if given.isascii() else _JSON)


class Events:
    """A stream of events.

    ::

        glance ──a piece that is not ordinary──▶ taken apart
          │ the good end                            │ the good end, or an error
          ▼                                         ▼
        over (COMPLETE)                           over (COMPLETE or TRUNCATED)

    It never goes back: what a client has ends with an event and a chunk in either way.
    """

    begun = False
    """Whether the client has something of it."""
    passed = 0
    _over = False
    _glance: Glance | None = None
    _held = b""
    """What came before the model's first event, e.g. comments: the status waits for that."""
    _stream: Stream
    _dechunked: Dechunked

    def __init__(
        self, attempt: Attempt, exchange: Answering, headers: Mapping[bytes, bytes]
    ) -> None:
        self._attempt, self._exchange, self._headers = attempt, exchange, headers
        self.tail = NO_TAIL
        self.write = exchange.write
        if _may_glance(exchange, headers):
            self._glance = Glance(show_usage=exchange.show_usage)
        else:
            self._take_apart()

    def came(self, data: bytes) -> None:
        if not self._over:
            self._look(data)

    def _look(self, data: bytes) -> None:
        glance = self._glance
        if glance is None:
            self._came_apart(data)
            return
        out = glance.look(data)
        self.tail = glance.tail
        if out is None:
            self._take_apart(glance)
            self._came_apart(glance.rest)
        elif out:
            self._pass(out)
            if glance.done:
                self._exchange.story.usage = glance.usage
                self._end_well()

    def ended(self) -> None:
        self._take_rest()
        if self._over:
            return
        if self.begun:
            self._break_off(EARLY)
        else:
            self._over, self.tail = True, NO_TAIL
            self._attempt.failed(Failure.BROKEN, "the engine's stream ended before it began")

    def broke(self, failure: Failure, why: str) -> None:
        self._take_rest()
        if self._over:
            return
        if self.begun:
            self._break_off(why)
        else:
            self._over, self.tail = True, NO_TAIL
            self._attempt.failed(failure, why)

    def stop(self) -> None:
        if self.begun and not self._over:
            self._tell_broken_off(STOPPED)

    def _take_rest(self) -> None:
        """Take what waits for more, of which there will be none."""
        glance = self._glance
        if glance is not None and glance.rest and not self._over:
            self._take_apart(glance)
            self._came_apart(glance.rest)

    def _take_apart(self, glance: Glance | None = None) -> None:
        exchange = self._exchange
        self._stream = exchange.dialect.stream(show_usage=exchange.show_usage)
        self._dechunked = Dechunked(self._headers)
        if glance is not None:
            assert isinstance(self._stream, EventStream)
            self._glance, self.tail = None, NO_TAIL
            self._stream.go_on(begun=glance.begun, finished=glance.finished)
            self._stream.usage = glance.usage

    def _came_apart(self, data: bytes) -> None:
        stream = self._stream
        try:
            out = stream.feed(self._dechunked.take(data))
        except httptools.HttpParserError as exc:
            self.broke(Failure.BROKEN, f"the engine's answer is no HTTP ({type(exc).__name__})")
            return
        if stream.error is not None and not stream.begun:
            self._refused(engine_errors.read(stream.error))
        elif not stream.begun:
            self._held += out
        else:
            out, self._held = self._held + out, b""
            if out:
                self._pass(self._framed(out))
            self._look_for_the_end(stream)

    def _look_for_the_end(self, stream: Stream) -> None:
        self._exchange.story.usage = stream.usage
        if stream.complete:
            self._last_chunk()
            self._end_well()
        elif stream.error is not None:
            self._break_off("the engine sent an error")  # its own words may quote a prompt
        elif stream.done:
            self._break_off(EARLY)

    def _pass(self, data: bytes) -> None:
        if self.begun:
            self._exchange.pass_on(data)
        else:
            self.begun = True
            own = _STREAM_HEAD if self._exchange.chunks else http.EVENT_STREAM_LINES
            self._exchange.start(own, data)

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._exchange.chunks else data

    def _last_chunk(self) -> None:
        if self._exchange.chunks:
            self._exchange.pass_on(LAST_CHUNK)

    def _refused(self, said: engine_errors.Said) -> None:
        """SGLang refuses streams with status 200 and an error event."""
        self._over, self.tail = True, NO_TAIL
        status = said.status or HTTPStatus.INTERNAL_SERVER_ERROR
        why = f"the engine refused the stream with {status}"
        if status in FULL:
            self._attempt.failed(Failure.REFUSED, why, status=status)
            return
        if is_failure(status):
            self._attempt.badly(why, status)
        refusal = engine_errors.refusal(status, said, self._exchange.story.deployment)
        self._exchange.refuse(refusal)

    def _end_well(self) -> None:
        self._over, self.tail = True, NO_TAIL
        self._attempt.well()
        self._exchange.finish(COMPLETE)

    def _break_off(self, why: str) -> None:
        self._attempt.badly(why)
        self._tell_broken_off(why)

    def _tell_broken_off(self, why: str) -> None:
        """End a stream that is not complete so that no client can take it for one that is."""
        exchange, seen, rest = self._exchange, 0, b""
        if self._glance is None:
            seen, rest = self._stream.seen, self._stream.frame_end()
        last = rest + broken_off(exchange.dialect, exchange.story.request_id, seen)
        self._over, self.tail = True, NO_TAIL
        self._pass(self._framed(last))
        self._last_chunk()
        exchange.finish(TRUNCATED, why)


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
