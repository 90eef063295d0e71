"""What the loops ask of the world; the adapters give it."""

from typing import Protocol

from msgspec import Struct

from caravan.contracts.deployments import Verdict
from caravan.contracts.instances import Lease, Record
from services.worker.core.load import Load


class NoAnswerError(Exception):
    """The engine gave no token; the words say what it did instead. Ask again."""


class Model(Struct, frozen=True, kw_only=True):
    """What an engine says of the model that it serves."""

    max_model_len: int = 0
    max_running: int = 0


class Engine(Protocol):
    """One SGLang process: started once, asked, ended."""

    def start(self) -> None:
        """Start it; a ``Refusal`` says why it cannot be."""
        ...

    async def exited(self) -> str:
        """Wait for its end, end what it has left over, and return how it ended, in words."""
        ...

    async def stop(self, patience_s: float) -> None:
        """Ask it to end, and kill it when it takes longer than ``patience_s``."""
        ...

    def kill(self) -> None:
        """End it and all that it started, at once; may repeat."""
        ...

    async def answer(self) -> Model:
        """Have it make one token, or one vector, through the served name; ``NoAnswerError``."""
        ...

    async def load(self) -> Load | None:
        """Return its load; None when it does not say."""
        ...

    def last_lines(self) -> list[str]:
        """Return the end of what it printed."""
        ...


class Found(Struct, frozen=True, kw_only=True):
    """What stands in the bucket; ``record`` is None when it cannot be read."""

    record: Record | None
    revision: int


class Registry(Protocol):
    """The instance's keys on the bus. Everything raises ``UnavailableError`` without NATS."""

    async def find(self) -> Found | None:
        """Return the record that stands there."""
        ...

    async def write(self, record: Record, revision: int | None) -> bool:
        """Write over ``revision`` (None: nothing may be there); False when another was quicker."""
        ...

    async def renew(self, lease: Lease) -> None:
        """Show that the worker lives."""
        ...

    async def release(self) -> None:
        """Take the lease back."""
        ...

    async def verdict(self) -> Verdict | None:
        """Return what the scheduler says of the instance; None: nothing."""
        ...
