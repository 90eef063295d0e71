"""What a request may ask of time and chance."""

from collections.abc import Callable

from msgspec import Struct

LATE = 2.0
"""Who comes to set a clock on later than planned by more than this factor was not awake."""


class Patience(Struct, frozen=True, kw_only=True):
    """How long the other side may be silent, in seconds."""

    first_byte_s: float
    """An engine before its answer begins: it may be queued, and a plain answer comes whole."""
    between_s: float
    """An engine after it."""
    body_s: float
    """A client within its request."""
    client_s: float
    """A client that reads nothing of its answer."""


class Clock(Struct):
    """A clock that costs nothing to read: somebody sets it on about once a second.

    It stands still while the process does: what others sent to one that was stopped, or whose
    machine was paused, is not read yet, and that time is nobody's silence.
    """

    now: float
    """Seconds in which the process was awake, from some beginning."""
    set_at: float | None = None
    """When it was set on last, in monotonic seconds."""

    def set_on(self, at: float, planned_s: float) -> None:
        """Set it on at ``at``, monotonic seconds; ``planned_s`` were meant to pass meanwhile."""
        elapsed_s = planned_s if self.set_at is None else at - self.set_at
        self.now += min(elapsed_s, LATE * planned_s)
        self.set_at = at


class Chances(Struct, frozen=True, kw_only=True):
    """Time and chance, which the core takes as arguments."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    monotonic: Callable[[], float]
    draw: Callable[[], float]
    """A random number in [0, 1)."""
