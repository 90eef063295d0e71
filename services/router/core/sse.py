"""An engine's event stream on its way to a client, in pieces of any size."""

import re

import msgspec
from msgspec import Struct

LONG_EVENT = 64 * 2**10
"""A longer event (a picture in one line) is passed on as it comes: it is none that is hidden."""
_OVERLAP = 64
"""Bytes kept of what was passed on, so that no pattern is missed where two pieces meet."""

_BOUNDARY = re.compile(rb"\r?\n\r?\n")
BOUNDARY_REACH = 3
DATA = re.compile(rb"(?:^|\n)data:[ ]?")
DONE = re.compile(rb"(?:^|\n)data:[ ]?\[DONE\]\s*$")
ERROR = re.compile(rb'(?:^|\n)data:\s*\{\s*(?:"error"\s*:\s*[{"]|"object"\s*:\s*"error")')
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


_decode = msgspec.json.Decoder(_WithUsage).decode


def usage_in(body: bytes) -> Usage | None:
    """Return the usage that a JSON object carries; None if it carries none that can be read."""
    try:
        return _decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Split:
    """Splits a stream into events, in pieces of any size; what becomes of each is a subclass's."""

    def __init__(self) -> None:
        self._rest = b""
        self._passed = 0
        """How much of ``_rest`` the client has already; more than 0 only inside a long event."""
        self.begun = False
        """Whether what decides about the client's status is known."""
        self.done = False
        """Whether the good end has passed."""
        self.error: bytes | None = None
        """The engine's error event; nothing passes after it."""
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        """Return what of the engine's ``data`` goes to the client now."""
        if self.error is not None or self.done:
            return b""
        if not self._rest and _is_one_event(data):
            return self._event(data)
        buffer, start, out = self._rest + data, 0, []
        for boundary in _BOUNDARY.finditer(buffer, max(0, len(self._rest) - BOUNDARY_REACH)):
            out.append(self._event(buffer[start : boundary.end()]))
            start = boundary.end()
            if self.error is not None or self.done:
                self._rest = b""
                return b"".join(out)
        self._rest = buffer[start:]
        if len(self._rest) > LONG_EVENT:
            out.append(self._begin_of_long_event())
        return b"".join(out)

    def frame_end(self) -> bytes:
        """Return what ends an event of which the client has a part, so that another may follow."""
        return b"\n\n" if self._passed else b""

    def _event(self, event: bytes) -> bytes:
        """Return what of a whole event goes to the client."""
        raise NotImplementedError

    def _begin_of_long_event(self) -> bytes:
        """Return what of ``_rest``, a part of a long event, goes to the client."""
        raise NotImplementedError


class EventStream(Split):
    """Decides, event by event, what a client sees of an engine's stream.

    Bytes pass as they came, but for the usage event that a client did not ask for and for what
    follows an error. ``complete`` is true only after a finish reason and ``[DONE]``: a ``[DONE]``
    without a finish reason is held back, because to a client it would look like the end.
    """

    def __init__(self, *, show_usage: bool) -> None:
        super().__init__()
        self._show_usage = show_usage
        self._finished = False

    @property
    def complete(self) -> bool:
        return self._finished and self.done

    def go_on(self, *, begun: bool, finished: bool) -> None:
        """Go on where an event begins, in a stream of which the client has the beginning."""
        self.begun, self._finished = begun, finished

    def _event(self, event: bytes) -> bytes:
        passed, self._passed = self._passed, 0
        if passed:
            self._note_finish(event)
            return event[passed:]
        if ERROR.search(event):
            self.error = payload(event)
            return b""
        if DONE.search(event):
            self.done = self._finished
            return event if self.done else b""
        self.begun = self.begun or DATA.search(event) is not None
        self._note_finish(event)
        return b"" if self._hidden(event) else event

    def _hidden(self, event: bytes) -> bool:
        if not (_USAGE.search(event) and _NO_CHOICES.search(event)):
            return False
        self.usage = usage_in(payload(event)) or self.usage
        return not self._show_usage

    def _begin_of_long_event(self) -> bytes:
        out = self._rest[self._passed :]
        if not self._passed and ERROR.search(self._rest):
            self.error = payload(self._rest)
            return b""
        self.begun = True
        self._note_finish(self._rest)
        self._rest = self._rest[-_OVERLAP:]
        self._passed = len(self._rest)
        return out

    def _note_finish(self, event: bytes) -> None:
        self._finished = self._finished or _FINISH.search(event) is not None


def _is_one_event(data: bytes) -> bool:
    """Tell whether ``data`` is one whole event, as it nearly always is: no search is needed."""
    return 0 < data.find(b"\n\n") == len(data) - 2 and b"\r" not in data


def payload(event: bytes) -> bytes:
    """Return the data of an event."""
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].strip() for line in lines)
