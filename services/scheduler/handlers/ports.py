"""What the messages need of the rest of the scheduler."""

from collections.abc import Callable
from typing import Protocol

from caravan.contracts import admin
from caravan.contracts.events import Event
from caravan.kit.endpoints import Call
from services.scheduler.core.books import Book
from services.scheduler.core.deployments import Change

Decide = Callable[[Book | None, float], Change]


class Store(Protocol):
    """The rows, as the messages use them."""

    async def change(
        self,
        call: Call,
        name: str,
        decide: Decide,
        answer: Callable[[Book, Change], admin.Deployment],
    ) -> admin.Deployment: ...
    async def book(self, tenant: str, name: str) -> tuple[Book | None, int]: ...
    async def page(self, tenant: str, after: str, limit: int) -> list[Book]: ...
    async def hold(self, call: Call, reason: str) -> admin.HoldAnswer: ...
    async def release(self, call: Call, *, above: int, installation: str) -> admin.HoldAnswer: ...
    async def hold_one(
        self, call: Call, tenant: str, name: str, *, held: bool
    ) -> admin.HoldAnswer: ...
    async def history(
        self, tenant: str, name: str, after: int, limit: int
    ) -> tuple[list[Event], int]: ...


class Weights(Protocol):
    async def check(self, source: str) -> None: ...


class Publishes(Protocol):
    async def one(self, tenant: str, name: str) -> object: ...


class Guards(Protocol):
    """What the outside knows of this database, and its adoption by a person."""

    def known(self) -> tuple[int, str]:
        """Return the highest epoch and the installation that NATS and the cluster know.

        ``UnavailableError`` while they have not been asked.
        """
        ...

    def adopt(self, installation: str) -> None: ...
