"""Make it so: observe, decide, write down, publish, tell the cluster; again."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog

from caravan.contracts.errors import Refusal, UnavailableError
from services.scheduler.core.books import Book, Books
from services.scheduler.core.cluster import Cluster
from services.scheduler.core.errors import ClusterUnavailableError
from services.scheduler.core.plan import Command, Remove, Start, StartAgain, Stop, commands, plan
from services.scheduler.core.ports import Ledger, Remains
from services.scheduler.core.rows import DRAIN, Asked
from services.scheduler.core.sight import Sight
from services.scheduler.core.truth import Clock
from services.scheduler.core.world import World
from services.scheduler.loops.guard import Guard
from services.scheduler.loops.publish import Publisher

log = structlog.get_logger()

FALLBACK_S = 15.0
"""A lost event costs no more than this."""
DRAIN_LOOK_S = 1.0
GAP_S = 0.02
"""Events that come together are answered by one round."""
PATIENCE_S = 30.0
"""So long the cluster may take for one deployment's commands."""


class Reconciler:
    """Rounds that bring what runs nearer to what was asked.

    Each deployment is worked on apart from all others: one that is refused backs off alone. Rows
    come first, then the bucket, then the cluster, so that every step may be repeated by whoever
    comes after a crash.
    """

    def __init__(  # noqa: PLR0913 - the parts that a round brings together
        self,
        *,
        ledger: Ledger,
        cluster: Cluster,
        publisher: Publisher,
        remains: Remains,
        guard: Guard,
        world: World,
        ids: Iterator[str],
        clock: Callable[[], Clock],
        connected: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._cluster = cluster
        self._publisher = publisher
        self._remains = remains
        self._guard = guard
        self._world = world
        self._ids = ids
        self._clock = clock
        self._connected = connected
        self._asked_at: dict[str, float] = {}
        self._again = False

    async def run(self, wake: asyncio.Event) -> None:
        """Go round for ever: on every event, when something falls due, and as a fallback.

        Until cancelled; what is called may swallow that (``asyncio.wait_for`` before Python 3.12
        does when it comes together with an answer), so the task itself is asked before it waits.
        """
        task = asyncio.current_task()
        while True:
            wake.clear()
            wait_s = await self.round()
            if task is not None and task.cancelling():
                return
            await asyncio.sleep(GAP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await wake.wait()

    async def round(self) -> float:
        """Bring everything one step nearer; return after how many seconds the next step is due."""
        self._again = False
        try:
            await self._observe()
            books = await self._ready()
        except UnavailableError as exc:
            log.warning("reconcile.waits", reason=str(exc))
            return FALLBACK_S / 3
        if books is None:
            return FALLBACK_S
        await asyncio.gather(*(self._apart(book) for book in books.books))
        await self._leave(books.epoch)
        return 0.0 if self._again else self._due_s(books)

    async def _observe(self) -> None:
        """Ask the cluster what runs; while it is silent, what it said last stays."""
        try:
            self._world.cluster_said(await self._cluster.observed())
        except ClusterUnavailableError as exc:
            if self._world.cluster_silent != str(exc):
                log.warning("cluster.silent", reason=str(exc))
            self._world.cluster_silent = str(exc)

    async def _ready(self) -> Books | None:
        """Return the rows when this round may act on them; None when it may not."""
        if not self._connected():
            return None
        await self._postpone()
        books = await self._ledger.books()
        if not self._world.free or not self._publisher.compared or not self._guard.cluster_trusted:
            await self._guard.check(books.epoch, books.hold)
        elif books.hold:
            self._world.hold = books.hold
        if self._world.hold:
            return None
        self._remains.prune({r.key for b in books.books for r in b.rows}.__contains__)
        return books if self._publisher.compared else await self._publisher.all()

    async def _leave(self, epoch: int) -> None:
        """Leave the epoch outside also where nothing is to be started: a change was asked."""
        if not self._may_command():
            return
        try:
            await self._guard.leave(epoch, self._publisher)
        except Refusal as exc:
            log.warning("epoch.not_left", reason=str(exc))

    async def _postpone(self) -> None:
        """Deadlines run only while NATS is heard."""
        if away_s := self._world.away_s:
            await self._ledger.postpone(away_s)
            self._world.away_s -= away_s

    async def _apart(self, book: Book) -> None:
        """Work on one deployment; whatever goes wrong there stays there."""
        asked = book.asked
        self._forgive(asked)
        try:
            await self._one(book)
        except ClusterUnavailableError as exc:
            self._world.cluster_silent = str(exc)
        except UnavailableError as exc:
            log.warning("deployment.waits", deployment=asked.key, reason=str(exc))
        except Refusal as exc:
            self._stuck(asked, str(exc))
        except TimeoutError:
            self._stuck(asked, "the cluster takes too long to answer")
        except Exception:
            # A mistake of ours with one deployment: told in full, and the others go on.
            log.exception("deployment.failed", deployment=asked.key)
            self._stuck(asked, "the scheduler made a mistake: its log has the details")

    async def _one(self, book: Book) -> None:
        asked = book.asked
        if self._over(book):
            await self._forget(asked)
            return
        decided = await self._decide(book)
        self._again = self._again or decided
        known = None if decided else book
        now_book = await self._publisher.one(asked.tenant, asked.name, known)
        if now_book is None or asked.held or not self._may_command():
            return
        await self._command(now_book)

    async def _decide(self, book: Book) -> bool:
        """Write down what is to begin, to drain and to end; return whether anything is."""
        asked = book.asked
        if asked.held or not self._may_command():
            return False
        clock = self._clock()
        seen = self._world.sights(book.rows, clock.steady)
        self._healthy(seen)
        decisions = plan(asked, seen, self._ids, clock.wall)
        for decision in decisions:
            if isinstance(decision, Remove):
                await self._clear(seen, decision.instance)
        turns = await self._ledger.decide(asked, decisions) if decisions else []
        for turn in turns:
            log.info(
                "instance.decided", deployment=asked.key, instance=turn.instance, what=turn.what
            )
        return bool(turns)

    async def _clear(self, seen: Sequence[Sight], instance: str) -> None:
        """Remove what an instance leaves that has ended, before its row goes."""
        row = next(s.row for s in seen if s.row.instance == instance)
        await self._remains.delete(row.key)
        await self._cluster.forget(row.ref)
        self._world.forget(row)

    async def _command(self, book: Book) -> None:
        """Tell the cluster what the rows say: what stops first, it may make room."""
        asked = book.asked
        steady = self._clock().steady
        wanted = commands(self._world.sights(book.rows, steady))
        wanted.sort(key=lambda command: not isinstance(command, Stop))
        if not wanted or not self._world.tries.due(asked.key, steady):
            return
        _, epoch = await self._ledger.book(asked.tenant, asked.name)
        await self._guard.leave(epoch, self._publisher)
        async with asyncio.timeout(PATIENCE_S):
            for command in wanted:
                await self._tell(command, book)
        self._world.tries.worked(asked.key)

    async def _tell(self, command: Command, book: Book) -> None:
        match command:
            case Start(spec):
                await self._cluster.start(spec)
            case Stop(ref):
                await self._cluster.stop(ref)
            case StartAgain(spec):
                row = next(r for r in book.rows if r.instance == spec.instance)
                steady = self._clock().steady
                if not self._world.tries.due(row.key, steady):
                    return
                self._world.tries.failed(row.key, "it ended without being asked to", steady)
                await self._remains.delete(row.key)
                await self._cluster.forget(row.ref)
                await self._cluster.start(spec)
        log.info("cluster.told", deployment=book.asked.key, command=type(command).__name__)

    def _may_command(self) -> bool:
        """Whether the cluster is there and known to belong to this database."""
        return self._guard.cluster_trusted and not self._world.cluster_silent

    def _healthy(self, seen: Sequence[Sight]) -> None:
        for sight in seen:
            if sight.healthy:
                self._world.tries.worked(sight.row.key)

    def _forgive(self, asked: Asked) -> None:
        """A new wish is tried at once, whatever failed before."""
        if self._asked_at.get(asked.key, asked.updated_at) != asked.updated_at:
            self._world.tries.worked(asked.key)
        self._asked_at[asked.key] = asked.updated_at

    def _stuck(self, asked: Asked, reason: str) -> None:
        tries = self._world.tries.failed(asked.key, reason, self._clock().steady)
        log.warning(
            "deployment.stuck", deployment=asked.key, reason=reason, failures=tries.failures
        )

    def _over(self, book: Book) -> bool:
        until = book.asked.restorable_until
        return bool(until) and not book.rows and self._clock().wall >= until

    async def _forget(self, asked: Asked) -> None:
        await self._publisher.drop(asked.key)
        await self._ledger.purge(asked)
        self._asked_at.pop(asked.key, None)
        log.info("deployment.purged", deployment=asked.key)

    def _due_s(self, books: Books) -> float:
        """Return how long nothing will happen by itself, at most ``FALLBACK_S``."""
        clock = self._clock()
        due = [
            self._world.tries.next_due(clock.steady) - clock.steady,
            self._world.leases.next_change(clock.steady) - clock.steady,
        ]
        for book in books.books:
            if book.asked.deleted_at and not book.rows:
                due.append(book.asked.restorable_until - clock.wall)
            due += [DRAIN_LOOK_S for row in book.rows if row.wanted == DRAIN]
        return min(max(min(due), 0.05), FALLBACK_S)
