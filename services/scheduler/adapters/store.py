"""The scheduler's rows in its database. Each method is one transaction."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlmodel import Session, select

from caravan.contracts import admin
from caravan.contracts.events import Event
from caravan.kit import outbox
from caravan.kit.endpoints import Call
from caravan.kit.sql import Database
from services.scheduler.adapters import rows
from services.scheduler.adapters.tables import InstanceRow
from services.scheduler.core import deployments
from services.scheduler.core.books import Book, Books, Turn, turn
from services.scheduler.core.deployments import Change
from services.scheduler.core.plan import Decision
from services.scheduler.core.rows import DRAIN, Asked

A = TypeVar("A", admin.Deployment, admin.HoldAnswer)
OWNER = "scheduler"


class Store:
    """Deployments, instances and their history.

    Whatever changes a row writes an event row with it. ``changed`` is called after each commit
    that may have changed something, in the event loop.
    """

    def __init__(
        self, db: Database, changed: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._changed = changed
        self._clock = clock

    async def installation(self, new: str) -> str:
        """Return the id of this database's installation, which is ``new`` the first time."""

        def work(session: Session) -> str:
            found = rows.fact(session, rows.INSTALLATION)
            if not found:
                rows.write_fact(session, rows.INSTALLATION, new)
            return found or new

        return await self._db.run(work)

    async def books(self) -> Books:
        """Return all rows, those of the trash included."""
        return await self._db.run(rows.read_books)

    async def book(self, tenant: str, name: str) -> tuple[Book | None, int]:
        """Return one deployment with its instances, and the epoch."""

        def work(session: Session) -> tuple[Book | None, int]:
            return rows.read_book(session, tenant, name), outbox.newest(session)

        return await self._db.run(work)

    async def page(self, tenant: str, after: str, limit: int) -> list[Book]:
        """Return up to ``limit`` of a tenant's deployments whose names follow ``after``."""
        return await self._db.run(lambda session: rows.read_page(session, tenant, after, limit))

    async def change(
        self,
        call: Call,
        name: str,
        decide: Callable[[Book | None, float], Change],
        answer: Callable[[Book, Change], admin.Deployment],
    ) -> admin.Deployment:
        """Do what ``decide`` says once for this request, and return the ``answer`` to it."""

        def work(session: Session) -> admin.Deployment:
            now = self._clock()
            change = decide(rows.read_book(session, call.tenant, name), now)
            rows.write_change(session, change, call.actor, now)
            written = rows.read_book(session, call.tenant, name)
            assert written is not None
            return answer(written, change)

        return await self._once(call, work)

    async def decide(self, asked: Asked, decisions: Sequence[Decision]) -> list[Turn]:
        """Write what the plan decided for ``asked``; return what became of which row.

        Nothing when it has been asked otherwise since: then a new plan follows.
        """

        def work(session: Session) -> list[Turn]:
            now = self._clock()
            found = rows.read_book(session, asked.tenant, asked.name)
            if found is None or found.asked != asked:
                return []
            turns = [t for d in decisions if (t := turn(d, found.rows, now)) is not None]
            for one in turns:
                rows.write_turn(session, asked, one, now)
            return turns

        turns = await self._db.run(work)
        self._changed()
        return turns

    async def purge(self, asked: Asked) -> None:
        """Forget a deployment whose time in the trash is over; its name is free again."""
        await self._db.run(lambda session: rows.purge(session, asked, self._clock()))
        self._changed()

    async def postpone(self, seconds: float) -> None:
        """Move every drain's deadline: it runs only while NATS is heard."""

        def work(session: Session) -> None:
            for row in session.exec(select(InstanceRow).where(InstanceRow.wanted == DRAIN)):
                row.deadline += seconds
                session.add(row)

        await self._db.run(work)

    async def hold(self, call: Call, reason: str) -> admin.HoldAnswer:
        """Freeze everything by hand."""

        def work(session: Session) -> admin.HoldAnswer:
            rows.write_fact(session, rows.HOLD, reason)
            self._note_hold(session, "held", call.actor)
            return _holds(session)

        return await self._once(call, work)

    async def release(self, call: Call, *, above: int, installation: str) -> admin.HoldAnswer:
        """Go on with this database: its next event follows ``above``, as ``installation``."""

        def work(session: Session) -> admin.HoldAnswer:
            rows.write_fact(session, rows.HOLD, "")
            if installation:
                rows.write_fact(session, rows.INSTALLATION, installation)
            self._note_hold(session, "released", call.actor, above)
            return _holds(session)

        return await self._once(call, work)

    async def hold_one(self, call: Call, tenant: str, name: str, *, held: bool) -> admin.HoldAnswer:
        """Freeze or release one deployment."""

        def work(session: Session) -> admin.HoldAnswer:
            now = self._clock()
            found = rows.read_book(session, tenant, name)
            asked = deployments.known(name, found.asked if found else None)
            rows.write_change(session, deployments.hold(asked, held=held, now=now), call.actor, now)
            return _holds(session)

        return await self._once(call, work)

    async def history(
        self, tenant: str, name: str, after: int, limit: int
    ) -> tuple[list[Event], int]:
        """Return up to ``limit`` events after ``after``, and the number of the newest of all."""

        def work(session: Session) -> tuple[list[Event], int]:
            found = outbox.history(
                session, owner=OWNER, tenant=tenant, name=name, after=after, limit=limit
            )
            return found, outbox.newest(session)

        return await self._db.run(work)

    async def _once(self, call: Call, work: Callable[[Session], A]) -> A:
        try:
            return await outbox.answer_once(self._db, call, work)
        finally:
            self._changed()

    def _note_hold(self, session: Session, what: str, actor: str, above: int = 0) -> None:
        outbox.record(
            session,
            kind="hold",
            tenant="",
            name="",
            what=what,
            at=self._clock(),
            actor=actor,
            above=above,
        )


def _holds(session: Session) -> admin.HoldAnswer:
    reason = rows.fact(session, rows.HOLD)
    return admin.HoldAnswer(on_hold=bool(reason), reason=reason, paths=rows.held_paths(session))
