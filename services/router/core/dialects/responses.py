"""OpenAI's Responses API, as SGLang 0.5.21 answers it.

A stream is made of named events numbered from 0. ``response.created`` and ``response.in_progress``
come at once, also for requests that fail a moment later; the last one is ``response.completed``,
``response.incomplete`` (a limit was reached) or ``response.failed``, and no ``[DONE]`` follows.
Each of the three repeats the whole answer and carries the usage, which plain answers have too.

What SGLang refuses when it checks the request is status 400 or 404 with the envelope, in a stream
too. What it notices later is worse to read. The full queue: plain 400 with the message ``503: The
request queue is full.``, streamed ``response.failed`` with ``server_error``. A prompt that is too
long, streamed: ``response.failed`` with ``server_error`` as well, but without any usage, as
everything that was not begun. A plain answer that failed midway is 200 with ``"status": "failed"``.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Refusal
from services.router.core import errors
from services.router.core.dialects import base
from services.router.core.dialects.base import Counts, NamedEvents
from services.router.core.sse import Usage, payload

_STATUS = re.compile(r"([45]\d\d): ")
_FULL = "queue is full"


class ResponsesStream(NamedEvents):
    """The stream of ``/v1/responses``; ``seen`` is the number of the next event."""

    STARTS = frozenset({b"response.created", b"response.in_progress", b"response.queued"})
    ENDS = frozenset({b"response.completed", b"response.incomplete"})
    ERRORS = frozenset({b"response.failed", b"error"})

    def note(self, name: bytes, event: bytes) -> None:
        if name in self.ENDS:
            response = _read(payload(event)).response
            counts = response.usage if response else None
            self.usage = counts.usage() if counts else None

    def told(self, event: bytes) -> bytes:
        return _told(payload(event))


class Responses:
    """What OpenAI's SDKs speak on ``/v1/responses``."""

    no_key: ClassVar[str] = "Send it as the header `Authorization: Bearer <key>`."

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return what follows ``Bearer``."""
        return base.bearer(headers)

    def headers(self, request_id: str) -> errors.Headers:
        """Return nothing: ``x-request-id`` is what OpenAI's SDKs read."""
        del request_id
        return []

    def envelope(self, refusal: Refusal, request_id: str) -> bytes:
        """Return ``{"error": {"message", "type", "param", "code"}}``."""
        del request_id
        return errors.envelope(refusal)

    def error_event(self, refusal: Refusal, request_id: str, seen: int = 0) -> bytes:
        """Return the event ``error``.

        Its fields stand at the top, as documented, and under ``error``, at which SDKs raise.
        """
        del request_id
        inner = msgspec.json.decode(errors.envelope(refusal))["error"]
        data = {
            "type": "error",
            "code": inner["code"],
            "message": inner["message"],
            "param": inner["param"],
            "sequence_number": seen,
            "error": inner,
        }
        return b"event: error\ndata: " + msgspec.json.encode(data) + b"\n\n"

    def stream(self, *, show_usage: bool) -> ResponsesStream:
        """Return what watches over a stream; its usage is part of the last event and shown."""
        del show_usage
        return ResponsesStream()

    def usage_in(self, body: bytes) -> Usage | None:
        """Return ``input_tokens`` and ``output_tokens``."""
        return base.usage_in(body)

    def failed_in(self, body: bytes) -> bool:
        """Tell whether its ``status`` is ``failed``."""
        try:
            return _ANSWER.decode(body).status == "failed"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False

    def meant(self, status: int, body: bytes) -> int:
        """Return the status in front of the message, where SGLang leaves the true one."""
        return _status_in(_read(body).message_or_none() or "") or status


class _Error(Struct, frozen=True):
    message: str | None = None
    code: str | int | None = None
    param: str | None = None


class _Answer(Struct, frozen=True):
    status: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class _Response(Struct, frozen=True):
    error: _Error | None = None
    usage: Counts | None = None


class _Event(Struct, frozen=True):
    response: _Response | None = None
    error: _Error | None = None
    message: str | None = None
    param: str | None = None

    def message_or_none(self) -> str | None:
        inner = self.response.error if self.response else self.error
        return (inner.message if inner else None) or self.message


_EVENT = msgspec.json.Decoder(_Event)


def _read(data: bytes) -> _Event:
    """Return what of an event, or of an error body, can be read."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Event()


def _told(data: bytes) -> bytes:
    event = _read(data)
    message = event.message_or_none() or ""
    status = _status_in(message) or _status_of(event)
    inner = {"message": _STATUS.sub("", message, count=1), "code": status, "param": event.param}
    return msgspec.json.encode({"error": inner})


def _status_of(event: _Event) -> int:
    response = event.response
    if response is not None:
        never_begun = response.error is not None and response.usage is None
        return 400 if never_begun else 500
    code = event.error.code if event.error else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 500


def _status_in(message: str) -> int | None:
    if found := _STATUS.match(message):
        return int(found[1])
    return 503 if _FULL in message else None
