"""What a request may ask of time and chance."""

from collections.abc import Callable

from msgspec import Struct


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
    """A clock that costs nothing to read: somebody sets it about once a second."""

    now: float
    """Monotonic seconds."""


class Chances(Struct, frozen=True, kw_only=True):
    """Time and chance, which the core takes as arguments."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    monotonic: Callable[[], float]
    draw: Callable[[], float]
    """A random number in [0, 1)."""
