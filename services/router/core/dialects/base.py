"""What the APIs on our routes have in common, and how each may say it."""

import re
from collections.abc import Mapping
from typing import ClassVar, Protocol

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Refusal
from services.router.core.errors import EngineFailedError, Headers
from services.router.core.sse import BOUNDARY_REACH, DATA, DONE, ERROR, Split, Usage, payload

HELD_EVENT = 2**20
"""One that does decide is held whole up to here: the last event repeats the whole answer.

So much is held, too, of what comes before the model says something.
"""

_NAME = re.compile(rb"(?:^|\n)event:[ ]?([^\r\n]*)")


class Stream(Protocol):
    """Decides, event by event, what a client sees of an engine's stream."""

    begun: bool
    """Whether the model has said something, so that the client's status can be sent."""
    done: bool
    """Whether the last event has passed; nothing passes after it."""
    error: bytes | None
    """The engine's error event, as JSON that ``engine_errors.read`` reads; nothing passes after."""
    usage: Usage | None
    seen: int
    """How many events with data the client has, where the dialect counts them."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole: said to be so by the engine, and passed on."""

    def feed(self, data: bytes) -> bytes:
        """Return what of the engine's ``data`` goes to the client now."""

    def frame_end(self) -> bytes:
        """Return what ends an event of which the client has a part, so that another may follow."""


class Dialect(Protocol):
    """How the clients of one API send a key, and how they want to be told yes and no."""

    no_key: ClassVar[str]
    """What to tell a client that sent none."""

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the key as the client sent it; header names are lower case."""

    def headers(self, request_id: str) -> Headers:
        """Return what every answer has beside ``x-request-id``."""

    def envelope(self, refusal: Refusal, request_id: str) -> bytes:
        """Return the JSON body of a refusal."""

    def error_event(self, refusal: Refusal, request_id: str, seen: int = 0) -> bytes:
        """Return the event that ends a stream whose status is sent already.

        ``seen`` is :attr:`Stream.seen`. SDKs raise at it, and none takes the stream for complete.
        """

    def stream(self, *, show_usage: bool) -> Stream:
        """Return what watches over a stream; ``show_usage`` where usage is an event of its own."""

    def usage_in(self, body: bytes) -> Usage | None:
        """Return the usage that a plain answer carries; None if none can be read."""

    def failed_in(self, body: bytes) -> bool:
        """Tell whether a plain answer with status 200 says that it failed midway."""

    def meant(self, status: int, body: bytes) -> int:
        """Return the status that an engine meant by ``status``, 400 or more, and ``body``."""


def broken_off(dialect: Dialect, request_id: str, seen: int = 0) -> bytes:
    """Return what ends a stream that the engine did not end well."""
    broken = EngineFailedError("The answer broke off before its end. Send the request again.")
    return dialect.error_event(broken, request_id, seen)


def bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """Return what stands behind ``Bearer`` in ``Authorization``; None if nothing does."""
    scheme, _, secret = headers.get(b"authorization", b"").strip().partition(b" ")
    secret = secret.strip()
    return secret.decode("latin-1") if secret and scheme.lower() == b"bearer" else None


class Counts(Struct, frozen=True):
    """Tokens as the newer APIs name them; what came from a cache may be counted apart."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self, before: Usage | None = None) -> Usage | None:
        """Return these, with what is missing as it was ``before``."""
        if self.input_tokens is None and self.output_tokens is None:
            return before
        before = before or Usage()
        prompt, completion = before.prompt_tokens, before.completion_tokens
        if self.input_tokens is not None:
            cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
            prompt = self.input_tokens + cached
        if self.output_tokens is not None:
            completion = self.output_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=completion)


class _WithCounts(Struct, frozen=True):
    usage: Counts | None = None


_WITH_COUNTS = msgspec.json.Decoder(_WithCounts)


def usage_in(body: bytes) -> Usage | None:
    """Return the usage that a JSON object carries under the newer names."""
    try:
        found = _WITH_COUNTS.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found.usage() if found else None


class NamedEvents(Split):
    """A stream of named events, in pieces of any size.

    Bytes pass as they came. Events that a server sends before the model has said anything are
    held until it has: engines send them even to requests that they refuse a moment later. A
    ``[DONE]`` never passes, because these APIs have none and SDKs take it for the end.
    """

    STARTS: ClassVar[frozenset[bytes]]
    ENDS: ClassVar[frozenset[bytes]]
    ERRORS: ClassVar[frozenset[bytes]]

    def __init__(self) -> None:
        super().__init__()
        self._long_end = False
        """Whether the long event is the last one."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.seen = 0

    @property
    def complete(self) -> bool:
        return self.done

    def note(self, name: bytes, event: bytes) -> None:
        """Keep what an event says about the answer; it is on its way to the client."""

    def ends(self, event: bytes) -> bool:
        """Tell whether ``event``, the last one by its name, ends an answer that is whole."""
        del event
        return True

    def told(self, event: bytes) -> bytes:
        """Return an error event's data in the form of :attr:`Stream.error`."""
        return payload(event)

    def _event(self, event: bytes) -> bytes:
        passed, self._passed = self._passed, 0
        if passed:
            self.done = self._long_end
            return event[passed:]
        name = _name(event)
        if self._failed(name, event):
            return b""
        if name in self.ENDS:
            self.done = self.ends(event)
            if not self.done:
                return b""
        elif b"[DONE]" in event and DONE.search(event):
            return b""
        self.note(name, event)
        return self._on(name, event)

    def _on(self, name: bytes, event: bytes) -> bytes:
        """Pass ``event`` on, or hold it while nothing is said yet."""
        says = DATA.search(event) is not None
        self.seen += says
        if self.begun:
            return event
        self._held.append(event)
        self._held_bytes += len(event)
        waits = not says or name in self.STARTS
        return b"" if waits and self._held_bytes <= HELD_EVENT else self._begin()

    def _begin(self) -> bytes:
        self.begun, held = True, b"".join(self._held)
        self._held.clear()
        return held

    def _failed(self, name: bytes, event: bytes) -> bool:
        if name in self.ERRORS or (not name and ERROR.search(event)):
            self.error = self.told(event)
            return True
        return False

    def _begin_of_long_event(self) -> bytes:
        """Pass on what is there of an event that is too long to be waited for."""
        if self._passed:
            return self._more_of_long_event()
        name = _name(self._rest)
        if self._failed(name, self._rest):
            return b""
        decides = name in self.STARTS or name in self.ENDS
        if decides and len(self._rest) <= HELD_EVENT:
            return b""
        self._long_end = name in self.ENDS and self.ends(self._rest)
        self.seen += 1
        return (b"" if self.begun else self._begin()) + self._more_of_long_event()

    def _more_of_long_event(self) -> bytes:
        out = self._rest[self._passed :]
        self._rest = self._rest[-BOUNDARY_REACH:]
        self._passed = len(self._rest)
        return out


def _name(event: bytes) -> bytes:
    if event.startswith(b"event: "):
        return event[7 : event.find(b"\n", 7)].strip()
    found = _NAME.search(event)
    return found[1].strip() if found else b""
