"""What a policy may know."""

from msgspec import Struct

from caravan.contracts.instances import Record


class Ask(Struct, frozen=True):
    """What a policy may know of the request."""

    draw: float = 0.0
    """A random number in [0, 1), so that policies stay pure."""


class Candidate(Struct, eq=False):
    """An instance that may be chosen now. One object per instance for as long as it is known.

    So a count that is kept here is the same for every request, and a policy reads it without a
    look-up.
    """

    key: str
    """Its key in the bucket ``instances``."""
    record: Record
    in_flight: int = 0
    """Requests of this router process there."""
    last_answer_at: float = 0.0
    """When it last answered well, seconds since the epoch; 0 never."""
    last_error_at: float = 0.0
    last_error: str = ""
    gone: bool = False
    """Whether its record is gone; requests may still be under way there."""
    instance: str = ""
    """The instance's own name, e.g. ``i-4kq2xa``; the end of ``key``."""
    heads: dict[str, bytes] = {}
    """By route, how a request to it begins; empty again when its record changes."""

    def __post_init__(self) -> None:
        self.instance = self.key.rpartition(".")[2]
