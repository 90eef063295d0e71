"""Anthropic's Messages API, as SGLang 0.5.21 answers it.

A stream is made of named events: ``message_start`` with the prompt's tokens (often 0 in SGLang),
content blocks, ``message_delta`` with ``stop_reason`` and the answer's tokens, ``message_stop``.
``ping`` may stand anywhere. ``input_tokens`` leaves out what came from the cache.

SGLang starts a message before it refuses it: ``message_start``, ``error``, and then, against the
protocol, ``message_stop``; so a stream is complete only without ``error`` before its end. Refused
plainly a request gets the envelope, but a full queue is 500 ``Internal server error``, as
everything else that fails there: see :meth:`Anthropic.meant`. SGLang's own key must come as
``Bearer``; ``/v1/messages/count_tokens`` exists, and the router does not offer it. To an embedding
model this request is deadly, as a chat is.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Refusal
from services.router.core.dialects import base
from services.router.core.dialects.base import Counts, NamedEvents
from services.router.core.errors import Headers
from services.router.core.sse import Usage, payload

API, INVALID, OVERLOADED = "api_error", "invalid_request_error", "overloaded_error"
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: OVERLOADED,
    504: "timeout_error",
    529: OVERLOADED,
}
_STATUS_OF = {kind: status for status, kind in TYPES.items() if status != 529} | {
    INVALID: 400,
    "request_timeout_error": 408,
}
_MASKED = "Internal server error"
_STOP_REASON = re.compile(rb'"stop_reason"\s*:\s*"')


class MessagesStream(NamedEvents):
    """The stream of ``/v1/messages``. Without a stop reason its end is no good one."""

    STARTS = frozenset({b"message_start", b"ping"})
    ENDS = frozenset({b"message_stop"})
    ERRORS = frozenset({b"error"})

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def note(self, name: bytes, event: bytes) -> None:
        if name == b"message_delta":
            self._stopped = self._stopped or _STOP_REASON.search(event) is not None
        if name in {b"message_start", b"message_delta"}:
            counts = _read(payload(event)).counts
            self.usage = counts.usage(self.usage) if counts else self.usage

    def ends(self, event: bytes) -> bool:
        del event
        return self._stopped

    def told(self, event: bytes) -> bytes:
        error = _read(payload(event)).error or _Error()
        status = _STATUS_OF.get(error.type, 500)
        return msgspec.json.encode({"error": {"message": error.message, "code": status}})


class Anthropic:
    """What Anthropic's SDKs speak."""

    no_key: ClassVar[str] = (
        "Send it as the header `x-api-key: <key>`, or as `Authorization: Bearer <key>`."
    )

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return ``x-api-key``, or else what follows ``Bearer``."""
        own = headers.get(b"x-api-key", b"").strip()
        return own.decode("latin-1") if own else base.bearer(headers)

    def headers(self, request_id: str) -> Headers:
        """Return ``request-id``, which is what Anthropic's SDKs read."""
        return [(b"request-id", request_id.encode("latin-1"))]

    def envelope(self, refusal: Refusal, request_id: str) -> bytes:
        """Return ``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
        error = {"type": type_of(refusal.status), "message": refusal.problem.message}
        body = {"type": "error", "error": error, "request_id": request_id}
        return msgspec.json.encode(body)

    def error_event(self, refusal: Refusal, request_id: str, seen: int = 0) -> bytes:
        """Return the event ``error``; no ``message_stop`` follows it."""
        del seen
        return b"event: error\ndata: " + self.envelope(refusal, request_id) + b"\n\n"

    def stream(self, *, show_usage: bool) -> MessagesStream:
        """Return what watches over a stream; usage stands in events that are always shown."""
        del show_usage
        return MessagesStream()

    def usage_in(self, body: bytes) -> Usage | None:
        """Return the tokens of the prompt, those from the cache too, and of the answer."""
        return base.usage_in(body)

    def failed_in(self, body: bytes) -> bool:
        """Tell no: here engines fail with a status that says so."""
        del body
        return False

    def meant(self, status: int, body: bytes) -> int:
        """Return 503 for SGLang's ``Internal server error``.

        It says so when its queue is full, which must not be held against it, and the same for a
        request that it stumbles over. Neither means that it is broken; another one may do.
        """
        error = _read(body).error
        return 503 if status == 500 and error and error.message == _MASKED else status


def type_of(status: int) -> str:
    """Return the type of error that Anthropic's SDKs expect with ``status``."""
    return TYPES.get(status) or (API if status >= 500 else INVALID)


class _Error(Struct, frozen=True):
    type: str = API
    message: str = ""


class _Message(Struct, frozen=True):
    usage: Counts | None = None


class _Event(Struct, frozen=True):
    message: _Message | str | None = None
    usage: Counts | None = None
    error: _Error | None = None

    @property
    def counts(self) -> Counts | None:
        started = self.message.usage if isinstance(self.message, _Message) else None
        return started or self.usage


_EVENT = msgspec.json.Decoder(_Event)


def _read(data: bytes) -> _Event:
    """Return what of an event, or of an error body, can be read."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Event()
