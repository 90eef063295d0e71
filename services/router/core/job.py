"""One admitted request, and what it may ask of time and chance."""

from collections.abc import Callable

from msgspec import Struct

from services.router.core.asked import Asked
from services.router.core.story import Story


class Job(Struct, frozen=True, kw_only=True):
    """One admitted request."""

    asked: Asked
    body: bytes
    route: str
    deployment: str
    """Its key in the bucket ``deployments``."""
    key_id: str
    story: Story


class Patience(Struct, frozen=True, kw_only=True):
    """How long an engine may be silent, in seconds."""

    first_byte_s: float
    """Before the first byte of an answer: it may be queued, and a plain answer comes whole."""
    between_s: float
    """Between bytes after it."""


class Chances(Struct, frozen=True, kw_only=True):
    """Time and chance, which the core takes as arguments."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    monotonic: Callable[[], float]
    draw: Callable[[], float]
    """A random number in [0, 1)."""
