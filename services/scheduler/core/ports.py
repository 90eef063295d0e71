"""What the scheduler's loops and handlers need of the world; adapters fulfil it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from caravan.contracts.deployments import DeploymentEntry
from services.scheduler.core.books import Book, Books, Turn
from services.scheduler.core.plan import Decision
from services.scheduler.core.routers import Written
from services.scheduler.core.rows import Asked


class Ledger(Protocol):
    """The rows, as the loops use them. ``UnavailableError`` when the database does not answer."""

    async def books(self) -> Books: ...
    async def book(self, tenant: str, name: str) -> tuple[Book | None, int]: ...
    async def decide(self, asked: Asked, decisions: Sequence[Decision]) -> list[Turn]: ...
    async def purge(self, asked: Asked) -> None: ...
    async def postpone(self, seconds: float) -> None: ...


class Entries(Protocol):
    """The bucket ``deployments``. ``UnavailableError`` when NATS does not answer."""

    async def epoch(self) -> int:
        """Return the epoch that the bucket has seen; 0 when none."""
        ...

    async def write_all(self, entries: Mapping[str, DeploymentEntry], epoch: int) -> None:
        """Make the bucket hold exactly ``entries``, and say so."""
        ...

    def says(self, key: str, entry: DeploymentEntry | None) -> Written | None:
        """Return where the entry stands when the bucket has just this one, else None."""
        ...

    async def write(self, key: str, entry: DeploymentEntry | None) -> Written:
        """Write one entry where it differs; return where the newest one stands."""
        ...

    async def complete(self, epoch: int) -> None:
        """Leave the epoch in the bucket."""
        ...


class Remains(Protocol):
    """What an instance that has ended leaves in the bucket ``instances``."""

    async def delete(self, key: str) -> None: ...
    def prune(self, keep: Callable[[str], bool]) -> None: ...
