"""An engine's event stream on its way to a client, in pieces of any size."""

import re

import msgspec
from msgspec import Struct

LONG_EVENT = 64 * 2**10
"""A longer event (a picture in one line) is passed on as it comes: it is none that is hidden."""
_OVERLAP = 64
"""Bytes kept of what was passed on, so that no pattern is missed where two pieces meet."""

_BOUNDARY = re.compile(rb"\r?\n\r?\n")
_BOUNDARY_REACH = 3
_DATA = re.compile(rb"(?:^|\n)data:[ ]?")
_DONE = re.compile(rb"(?:^|\n)data:[ ]?\[DONE\]\s*$")
_ERROR = re.compile(rb'(?:^|\n)data:\s*\{\s*(?:"error"\s*:\s*[{"]|"object"\s*:\s*"error")')
# Inside a JSON string every quote is escaped, so text that talks about these words never matches.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


class Usage(Struct, frozen=True):
    """Tokens of one answer, as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _WithUsage(Struct, frozen=True):
    usage: Usage | None = None


def usage_in(body: bytes) -> Usage | None:
    """Return the usage that a JSON object carries; None if it carries none that can be read."""
    try:
        return msgspec.json.decode(body, type=_WithUsage).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class EventStream:
    """Decides, event by event, what a client sees of an engine's stream.

    Bytes pass as they came, but for the usage event that a client did not ask for and for what
    follows an error. ``complete`` is true only after a finish reason and ``[DONE]``: a ``[DONE]``
    without a finish reason is held back, because to a client it would look like the end.
    """

    def __init__(self, *, show_usage: bool) -> None:
        self._show_usage = show_usage
        self._rest = b""
        self._passed = 0
        """How much of ``_rest`` the client has already; more than 0 only inside a long event."""
        self._finished = False
        self.begun = False
        """Whether the first event with data is known, so that the client's status can be sent."""
        self.done = False
        self.error: bytes | None = None
        """The engine's error event; nothing passes after it."""
        self.usage: Usage | None = None

    @property
    def complete(self) -> bool:
        return self._finished and self.done

    def go_on(self, *, begun: bool, finished: bool) -> None:
        """Go on where an event begins, in a stream of which the client has the beginning."""
        self.begun, self._finished = begun, finished

    def feed(self, data: bytes) -> bytes:
        """Return what of the engine's ``data`` goes to the client now."""
        if self.error is not None or self.done:
            return b""
        buffer, start, out = self._rest + data, 0, []
        for boundary in _BOUNDARY.finditer(buffer, max(0, len(self._rest) - _BOUNDARY_REACH)):
            out.append(self._event(buffer[start : boundary.end()]))
            start = boundary.end()
            if self.error is not None or self.done:
                return b"".join(out)
        self._rest = buffer[start:]
        if len(self._rest) > LONG_EVENT:
            out.append(self._begin_of_long_event())
        return b"".join(out)

    def frame_end(self) -> bytes:
        """Return what ends an event of which the client has a part, so that another may follow."""
        return b"\n\n" if self._passed else b""

    def _event(self, event: bytes) -> bytes:
        passed, self._passed = self._passed, 0
        if passed:
            self._note_finish(event)
            return event[passed:]
        if _ERROR.search(event):
            self.error = _payload(event)
            return b""
        if _DONE.search(event):
            self.done = self._finished
            return event if self.done else b""
        self.begun = self.begun or _DATA.search(event) is not None
        self._note_finish(event)
        return b"" if self._hidden(event) else event

    def _hidden(self, event: bytes) -> bool:
        if not (_USAGE.search(event) and _NO_CHOICES.search(event)):
            return False
        self.usage = usage_in(_payload(event)) or self.usage
        return not self._show_usage

    def _begin_of_long_event(self) -> bytes:
        out = self._rest[self._passed :]
        if not self._passed and _ERROR.search(self._rest):
            self.error = _payload(self._rest)
            return b""
        self.begun = True
        self._note_finish(self._rest)
        self._rest = self._rest[-_OVERLAP:]
        self._passed = len(self._rest)
        return out

    def _note_finish(self, event: bytes) -> None:
        self._finished = self._finished or _FINISH.search(event) is not None


def _payload(event: bytes) -> bytes:
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].strip() for line in lines)
