"""What one turn of the event loop brings: first all of it is read, then worked on, then written.

A request that is worked on between a socket that is read and one that is written finds the
processor's caches full of the kernel's things. Worked on side by side, only the first of many does.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

AT_ONCE = 32
"""So many pieces are worked on in one go at most: the first one's answer waits for the last."""
LARGE = 64 * 2**10
"""A piece of so many bytes is worked on at once: a sender that is too fast must be slowed down."""
ALONE = 16
"""After a turn that brought one piece only, so many writes are made at once before one waits."""


class Taker(Protocol):
    """A connection that something was received on."""

    def take(self, data: bytes) -> None:
        """Work on it."""


class Transport(Protocol):
    """What is written to."""

    def is_closing(self) -> bool: ...
    def write(self, data: bytes) -> object: ...


class Turn:
    """The turn that is under way: what waits in it to be worked on, and to be written.

    What is received on one connection keeps its order, and so does what is written to one
    transport. ``soon`` is the loop's ``call_soon``; without it nothing waits.
    """

    def __init__(self, soon: Callable[[Callable[[], None]], object] = lambda run: run()) -> None:
        self._soon = soon
        self.due = False
        """Whether ``run`` will be called, or is at work; if not, nothing waits."""
        self.out: deque[tuple[Transport, bytes]] = deque()
        """What waits to be written. While ``due``, more may be appended."""
        self._came: deque[tuple[Taker, bytes]] = deque()
        self._alone = 0
        """So many writes wait for nobody, as nobody else came of late."""

    def begin(self) -> None:
        """Let what comes and what is written from now on wait for the end of this turn."""
        self.due = True
        self._soon(self.run)

    def came(self, taker: Taker, data: bytes) -> None:
        """Let ``taker`` take ``data`` in its turn; to be called only while ``due``."""
        self._came.append((taker, data))
        if len(data) >= LARGE or len(self._came) >= AT_ONCE:
            self.run()

    def write(self, to: Transport, data: bytes) -> None:
        """Write ``data`` at the end of the turn, unless ``to`` is closed by then."""
        if self._alone and not self.due:
            self._alone -= 1
            if not to.is_closing():
                to.write(data)
            return
        self.out.append((to, data))
        if not self.due:
            self.begin()

    def run(self) -> None:
        """Work on all that waits, and write, now: before it is known that a connection ends."""
        came, self.due = self._came, True
        self._alone = 0 if came else ALONE
        try:
            while came:
                taker, data = came.popleft()
                taker.take(data)
            self.flush()
        finally:
            self.due = False
            if came or self.out:  # a defect has ended this run: the others go on
                self.begin()

    def flush(self) -> None:
        """Write what waits, now: before something is closed."""
        out = self.out
        while out:
            to, data = out.popleft()
            if not to.is_closing():
                to.write(data)
