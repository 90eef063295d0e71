"""An engine's chunked event stream, looked at as it stands on the wire.

Taking a stream apart into chunks and events costs more than everything else that a router does.
Almost every piece that an engine sends is whole chunks with whole events of which none has to be
changed, so a :class:`Glance` tells those by a few searches in C and lets them pass as they are.
For everything else it says so, and :class:`services.router.core.sse.EventStream` decides, event by
event, from the start of that piece on: it begins where an event and a chunk begin.
"""

import re

from services.router.core import frames
from services.router.core.answer_head import NO_TAIL
from services.router.core.frames import CHUNK_HEAD
from services.router.core.sse import LONG_EVENT, Usage, usage_in

LARGE = 4096
"""So much comes at once only from an engine that is faster than the way to it."""
TAIL = 1024
"""A large piece is searched wholly for errors and a finish reason, else in its last ``TAIL`` bytes:
what ends a stream stands at its end.
"""
LAST_CHUNK = b"0\r\n\r\n"

_END = b"\n\n\r\n"
_DONE = b"data: [DONE]\n\n\r\n"
_GOOD_ENDS = (_DONE, _DONE + LAST_CHUNK)
_ANY_ERROR = b'"error"'
_ERROR = b'{"error"'
_SPECIAL = re.compile(
    rb'"(?:error"|choices"\s*:\s*\[\s*\]|finish_reason"\s*:\s*")|\[DONE\]|:[ ]?\{\s+"error'
)
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_ENDING = re.compile(
    rb'"finish_reason":[ ]?".*\}\n\n\r\n'
    rb'((?:([0-9a-f]+)\r\ndata: (\{.*"choices":[ ]?\[\].*\})\n\n\r\n)?)'
    rb"e\r\ndata: \[DONE\]\n\n\r\n(?:0\r\n\r\n)?\Z"
)
"""The good end of a stream: a finish reason, the usage event (if there is one), the mark."""
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class Glance:
    """Looks at the pieces of one stream of chat or completion events.

    It may be given the ``tail`` that a stream of the same engine had, so that the first event, too,
    is known by it.
    ``look`` returns what goes to the client, b"" while that is not known yet, or None: then the
    stream has to be taken apart from ``rest`` on, and the glance is used no more.
    """

    rest = b""
    """The part of a piece that waits for what follows it."""
    begun = False
    """Whether an event with data has passed."""
    finished = False
    """Whether a finish reason has passed."""
    done = False
    """Whether the good end has passed; the last chunk is part of what ``look`` returned."""
    usage: Usage | None = None
    _framed = True
    """Whether each chunk up to here was followed from its head to its end."""

    def __init__(self, *, show_usage: bool, tail: bytes = NO_TAIL) -> None:
        self._show_usage, self._tail = show_usage, tail

    @property
    def tail(self) -> bytes:
        """How an ordinary event of this stream ends, from its finish reason on.

        A piece that is one chunk of one line and ends so need not be looked at again, nor need a
        parser of chunks see it.
        """
        return self._tail if self._framed and not self.rest else NO_TAIL

    def look(self, data: bytes) -> bytes | None:
        """Look at the next piece."""
        if self.rest:
            data, self.rest = self.rest + data, b""
        if data.endswith(self._tail) and self._like_those_before(data):
            self.begun = True
            return data
        if not data:
            return data
        if data.find(b"\r", 0, CHUNK_HEAD) >= 0:
            return self._look(data)
        self.rest = data  # a chunk with an extension, or a very long one
        return None

    def _like_those_before(self, data: bytes) -> bool:
        """Tell whether all events of a piece end as an ordinary one, each in a chunk of its own."""
        at, tail, size = 0, self._tail, len(data)
        while at < size:
            end = data.find(b"\n", at + CHUNK_HEAD) + 4
            if size > LARGE and end < size:
                return False
            if not (data.startswith(tail, end - len(tail)) and frames.is_one(data, at, end)):
                return False
            at = end
        return True

    def _look(self, data: bytes) -> bytes | None:
        if data.endswith(_GOOD_ENDS):
            ending = good_ending(data, show_usage=self._show_usage)
            if ending is not None:
                self.begun = self.finished = self.done = True
                self.usage = ending[1]
                return ending[0]
        whole = self._whole_events(data)
        if whole is None or not _in_step(whole, len(whole)):
            self.rest = data
            return None
        if not whole:
            return whole
        passed = self._pass_small(whole) if len(whole) <= LARGE else self._pass_large(whole)
        if passed is None:
            self.rest = data
        elif whole is not data and not self.done:
            self.rest = data[len(whole) :]
        return passed

    def _whole_events(self, data: bytes) -> bytes | None:
        """Return ``data`` up to where a chunk and an event end together; None if nowhere."""
        if data.endswith(_END):
            return data
        if data.endswith(_DONE + LAST_CHUNK):
            return data[: -len(LAST_CHUNK)]
        cut = data.rfind(_END) + len(_END)
        # A small piece that ends elsewhere is how this engine sends; a large one was just cut.
        if cut < len(_END) or len(data) <= LARGE or len(data) - cut > LONG_EVENT:
            return None
        return data[:cut]

    def _pass_small(self, data: bytes) -> bytes | None:
        if not frames.are_whole(data):
            return None
        if _has_special(data, len(data)):
            return self._pass_special(data, 0)
        self._learn(data)
        return data if self.begun else None

    def _learn(self, data: bytes) -> None:
        self.begun = self.begun or b"data:" in data
        at = data.rfind(b'"finish_reason"')
        if at >= 0 and data.find(b"\n\n", at) == len(data) - 4:
            self._tail = data[at:]

    def _pass_large(self, data: bytes) -> bytes | None:
        self._framed = False
        if data.rfind(_ERROR) >= 0:
            return None
        if not self.finished:
            spaced = data.find(b'"finish_reason": ', 0, TAIL) >= 0
            wanted = b'"finish_reason": "' if spaced else b'"finish_reason":"'
            self.finished = data.rfind(wanted) >= 0
        return self._pass_special(data, len(data) - TAIL)

    def _pass_special(self, data: bytes, start: int) -> bytes | None:
        """Pass a piece with the end of a stream in it, if it is a good one."""
        if data.rfind(_ANY_ERROR, start) >= 0 or data.find(b"data:", 0, LARGE) < 0:
            return None
        finished = self.finished or _FINISH.search(data, start) is not None
        mark = data.find(b"[DONE]", start)
        if mark >= 0 and not (finished and data.endswith(_DONE) and mark == len(data) - 10):
            return None
        passed = self._without_usage(data, start)
        if passed is None:
            return None
        self.begun, self.finished, self.done = True, finished, mark >= 0
        return passed + LAST_CHUNK if self.done else passed

    def _without_usage(self, data: bytes, start: int) -> bytes | None:
        """Return ``data`` without the usage event, if the client is not to see it."""
        found = _NO_CHOICES.search(data, start)
        if found is None:
            return data
        event = _event_around(data, found.start())
        if event is None or _NO_CHOICES.search(data, found.end()) is not None:
            return None
        head, begin, end = event
        if _USAGE.search(data, begin, end) is None:
            return data
        self.usage = usage_in(data[begin + len(b"data:") : end]) or self.usage
        return data if self._show_usage else data[:head] + data[end + 2 :]


def good_ending(data: bytes, *, show_usage: bool) -> tuple[bytes, Usage | None] | None:
    """Return what goes to the client of a piece with a good end of a stream, and its usage.

    The piece begins where an event and a chunk begin. None where it does not end as nearly every
    stream does, or where something before that end has to be looked at by itself.
    """
    at = data.rfind(b'"finish_reason":', -TAIL)
    ending = _ENDING.match(data, at) if at >= 0 else None
    if ending is None:
        return None
    begin, end = ending.span(1)
    if not _plain_before(data, at, begin):
        return None
    usage, size = None, ending[2]
    if size:
        if int(size, 16) != end - begin - len(size) - 4:
            return None
        usage = usage_in(ending[3])
        if usage is not None and not show_usage:
            data = data[:begin] + data[end:]
    return (data if data.endswith(LAST_CHUNK) else data + LAST_CHUNK), usage


def is_large_and_ends_well(data: bytes) -> bool:
    """Tell whether ``data`` ends as a whole stream does, and is too large to be looked through.

    Who sends nothing else at once need not have a parser find that end: see :func:`good_ending`.
    """
    return len(data) > LARGE and data.endswith(_DONE + LAST_CHUNK)


def _in_step(data: bytes, end: int) -> bool:
    """Tell whether every chunk before ``end`` ends with an event, and every event with a chunk.

    Where a chunk's frame cuts an event, no search finds what it says. An engine does it always or
    never, so of a large piece the beginning and the tail are looked at.
    """
    if end <= LARGE:
        return _in_step_between(data, 0, end)
    begin = data.find(_END, TAIL, end) + len(_END)
    tail = data.find(_END, end - TAIL, end) + len(_END)
    return _in_step_between(data, 0, begin) and _in_step_between(data, tail, end)


def _in_step_between(data: bytes, start: int, end: int) -> bool:
    return data.count(b"\r", start, end) == 2 * data.count(_END, start, end)


def _plain_before(data: bytes, finish: int, end: int) -> bool:
    """Tell whether nothing before the ``finish`` reason has to be looked at by itself.

    ``end`` is where its event ends. Of that it is known to be in step; a large piece counts as
    such when its first chunk is, too.
    """
    if end > LARGE:
        return _begins_in_step(data) and data.rfind(_ERROR, 0, finish) < 0
    return _in_step_between(data, 0, end) and not _has_special(data, finish)


def _has_special(data: bytes, end: int) -> bool:
    """Tell whether an event before ``end`` has to be looked at by itself."""
    ordinary = (
        data.find(b'"error', 0, end) < 0
        and data.find(b"[DONE]", 0, end) < 0
        and data.count(b'"finish_reason"', 0, end) == data.count(b'"finish_reason":null', 0, end)
        and data.count(b'"choices"', 0, end) == data.count(b'"choices":[{', 0, end)
    )
    return not ordinary and _SPECIAL.search(data, 0, end) is not None


def _begins_in_step(data: bytes) -> bool:
    begin = data.find(b"\r\n", 0, CHUNK_HEAD)
    return begin > 0 and data.startswith(_END, data.find(b"\r", begin + 2) - 2)


def _event_around(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return where the chunk around ``at`` begins, and where its payload, one event, does and ends.

    None when the chunk is not exactly one event with one line of data.
    """
    begin = data.rfind(b"\r\ndata:", 0, at) + 2
    if begin < 2:
        return None
    head = data.rfind(b"\n", 0, begin - 2) + 1
    try:
        end = begin + int(data[head : begin - 2], 16)
    except ValueError:
        return None
    good = data.find(b"\n", begin) == end - 2 and data[end - 2 : end + 2] == _END
    return (head, begin, end) if good else None
