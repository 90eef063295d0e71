"""An engine's stream of events on its way to a client."""

from http import HTTPStatus

import httptools

from services.router.api.answering import (
    CHUNKED,
    FULL,
    STOPPED,
    Answering,
    Attempt,
    Dechunked,
    chunk,
)
from services.router.core import engine_errors, http
from services.router.core.answer_head import NO_TAIL, AnswerHead
from services.router.core.attempts import Failure
from services.router.core.dialects import CHAT, COMPLETIONS, Stream, broken_off
from services.router.core.glance import LAST_CHUNK, Glance, good_ending
from services.router.core.outliers import is_failure
from services.router.core.sse import EventStream
from services.router.core.story import COMPLETE, TRUNCATED

HELD = 2**20
"""So much may come before the model's first event; more is passed on."""
EARLY = "the engine ended its stream early"
_GLANCED = frozenset({CHAT, COMPLETIONS})
_HEAD = http.EVENT_STREAM_LINES + CHUNKED


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

    def __init__(self, attempt: Attempt, exchange: Answering, head: AnswerHead) -> None:
        self._attempt, self._exchange, self._head = attempt, exchange, head
        self.tail = NO_TAIL
        self.to = exchange.to
        if may_glance(exchange, head):
            self._glance = Glance(show_usage=exchange.show_usage, tail=head.tail)
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
        self.tail = self._head.tail = glance.tail
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
        self._dechunked = Dechunked(self._head)
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
        elif not stream.begun and len(self._held) <= HELD:
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
            own = _HEAD if self._exchange.chunks else http.EVENT_STREAM_LINES
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


def may_glance(exchange: Answering, head: AnswerHead) -> bool:
    """Tell whether a stream may pass as it stands on the wire."""
    return head.chunked and exchange.chunks and exchange.route in _GLANCED


def pass_stream(attempt: Attempt, exchange: Answering, head: AnswerHead, body: bytes) -> bool:
    """Pass a stream on of which all is there, if nothing has to be looked at closely."""
    if not may_glance(exchange, head):
        return False
    ending = good_ending(body, show_usage=exchange.show_usage)
    if ending is None:
        return False
    passed, exchange.story.usage = ending
    attempt.well()
    exchange.start(_HEAD, passed)
    exchange.finish(COMPLETE)
    return True
