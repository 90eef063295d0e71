"""What a policy may know."""

from msgspec import Struct

from caravan.contracts.instances import Record


class Ask(Struct, frozen=True):
    """What a policy may know of the request."""

    draw: float = 0.0
    """A random number in [0, 1), so that policies stay pure."""


class Candidate(Struct, frozen=True):
    """An instance that may be chosen now."""

    key: str
    """Its key in the bucket ``instances``."""
    record: Record
    in_flight: int = 0
    """Requests of this router process there."""

    @property
    def instance(self) -> str:
        """The instance's own name, e.g. ``i-4kq2xa``."""
        return self.key.rpartition(".")[2]
