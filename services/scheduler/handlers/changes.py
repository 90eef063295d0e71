"""Messages that change a deployment: one short function each, the core does the work."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from caravan.contracts import admin
from caravan.contracts.errors import OnHoldError, UnavailableError
from caravan.kit.endpoints import Call
from services.scheduler.core import deployments
from services.scheduler.core.books import Book
from services.scheduler.core.deployments import Change
from services.scheduler.core.describe import describe
from services.scheduler.core.rows import Asked
from services.scheduler.core.world import World
from services.scheduler.handlers.ports import Decide, Publishes, Store, Weights

PUBLISH_PATIENCE_S = 2.0


class Changes:
    """Create, update, scale, stop, start, delete, restore.

    A change is refused while the scheduler is on hold, or the deployment is; it is written before
    it is answered, and answered once per ``request_id``.
    """

    def __init__(
        self,
        *,
        store: Store,
        world: World,
        publisher: Publishes,
        weights: Weights,
        steady: Callable[[], float],
    ) -> None:
        self._store = store
        self._world = world
        self._publisher = publisher
        self._weights = weights
        self._steady = steady

    async def create(self, call: Call, message: admin.CreateDeployment) -> admin.Deployment:
        """Ask for a model to be served. Answers at once; instances follow."""

        def decide(book: Book | None, now: float) -> Change:
            return deployments.create(message, call.tenant, _asked(book), now)

        # A refusal by the rules comes before one by the disk, and a repeat before both.
        book, _ = await self._store.book(call.tenant, message.name)
        if book is None:
            decide(None, 0.0)
            await self._weights.check(message.source)
        return await self._published(call, message.name, decide)

    async def update(self, call: Call, message: admin.UpdateDeployment) -> admin.Deployment:
        """Change what is given; new engines follow one by one where they are needed."""
        if isinstance(message.source, str):
            book, _ = await self._store.book(call.tenant, message.name)
            if book is not None and book.asked.source != message.source:
                deployments.update(message, book.asked, 0.0)
                await self._weights.check(message.source)

        def decide(book: Book | None, now: float) -> Change:
            return deployments.update(message, _free(book), now)

        return await self._changed(call, message.name, decide)

    async def scale(self, call: Call, message: admin.ScaleDeployment) -> admin.Deployment:
        """Change the count."""

        def decide(book: Book | None, now: float) -> Change:
            rows = book.rows if book else []
            return deployments.scale(message, _free(book), rows, now)

        return await self._changed(call, message.name, decide)

    async def stop(self, call: Call, message: admin.StopDeployment) -> admin.Deployment:
        """Drain and end all instances; what is asked for otherwise is kept."""

        def decide(book: Book | None, now: float) -> Change:
            return deployments.stop(message, _free(book), now)

        return await self._changed(call, message.name, decide)

    async def start(self, call: Call, message: admin.StartDeployment) -> admin.Deployment:
        """Go back to the last count."""

        def decide(book: Book | None, now: float) -> Change:
            return deployments.start(message, _free(book), now)

        return await self._published(call, message.name, decide)

    async def delete(self, call: Call, message: admin.DeleteDeployment) -> admin.Deployment:
        """Put it into the trash; its instances are drained."""

        def decide(book: Book | None, now: float) -> Change:
            return deployments.delete(message, _free(book), now)

        return await self._changed(call, message.name, decide)

    async def restore(self, call: Call, message: admin.RestoreDeployment) -> admin.Deployment:
        """Take it out of the trash, stopped."""

        def decide(book: Book | None, now: float) -> Change:
            return deployments.restore(message, _free(book), now)

        return await self._published(call, message.name, decide)

    async def _published(self, call: Call, name: str, decide: Decide) -> admin.Deployment:
        """Change, and answer after the bucket has it; ``accepted`` when NATS failed after it."""
        done = await self._changed(call, name, decide)
        try:
            async with asyncio.timeout(PUBLISH_PATIENCE_S):
                await self._publisher.one(call.tenant, name)
        except (UnavailableError, OnHoldError, TimeoutError):
            return replace(done, accepted=True)
        return done

    async def _changed(self, call: Call, name: str, decide: Decide) -> admin.Deployment:
        """Change a deployment, once for this request."""
        self._world.check_free()

        def answer(book: Book, change: Change) -> admin.Deployment:
            return replace(self._told(book), notes=change.notes)

        return await self._store.change(call, name, decide, answer)

    def _told(self, book: Book) -> admin.Deployment:
        seen = self._world.sights(book.rows, self._steady())
        return describe(book.asked, self._world.status(book.asked, seen))


def _asked(book: Book | None) -> Asked | None:
    return book.asked if book else None


def _free(book: Book | None) -> Asked | None:
    return deployments.free(book.asked) if book else None
