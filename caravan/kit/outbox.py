"""An owner's history, which is its outbox too.

``events`` is append-only and never pruned; its rows are written in the transaction of the change
they tell of, and ``relay`` publishes them in order. The tables stand in ``caravan.kit.tables``,
what a request was answered in ``caravan.kit.answers``; both can be had from here.
"""

import asyncio
import contextlib
import time
from functools import partial
from typing import Any

import msgspec
import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.events import Event
from caravan.kit.answers import Once, RequestIdReusedError, answer_once
from caravan.kit.buckets import answering, created, open_stream
from caravan.kit.bus import Bus
from caravan.kit.sql import Database
from caravan.kit.tables import AnswerRow, EventRow, RelayedRow, create_tables

__all__ = [
    "AnswerRow",
    "EventRow",
    "Once",
    "RelayedRow",
    "RequestIdReusedError",
    "answer_once",
    "create_tables",
    "history",
    "newest",
    "record",
    "relay",
]

log = structlog.get_logger()

_BATCH = 200
_LOOK_AGAIN_S = 3600.0
_RETRY_S = 1.0


def record(  # noqa: PLR0913 - the columns of an event
    session: Session,
    *,
    kind: str,
    tenant: str,
    name: str,
    what: str,
    at: float,
    actor: str = "",
    detail: dict[str, Any] | None = None,
    above: int = 0,
) -> int:
    """Append an event in the transaction of ``session``; return its number.

    Numbers grow by one; the first after ``above`` where that is higher, so that a restored
    database never gives a number again that the world has already seen.
    """
    number = max(newest(session), above) + 1
    text = msgspec.json.encode(detail or {}).decode()
    row = EventRow(
        number=number,
        at=at,
        kind=kind,
        tenant=tenant,
        name=name,
        what=what,
        actor=actor,
        detail=text,
    )
    session.add(row)
    session.flush()
    return number


def newest(session: Session) -> int:
    """Return the number of the newest event, the *epoch*; 0 before the first."""
    return session.exec(select(func.max(EventRow.number))).one() or 0


def history(  # noqa: PLR0913 - a page of a history has these bounds
    session: Session, *, owner: str = "", tenant: str, name: str = "", after: int, limit: int
) -> list[Event]:
    """Return up to ``limit`` events after number ``after``, oldest first; of any name if empty."""
    wanted = select(EventRow).where(EventRow.tenant == tenant, EventRow.number > after)
    if name:
        wanted = wanted.where(EventRow.name == name)
    rows = session.exec(wanted.order_by(col(EventRow.number)).limit(limit))
    return [row.event(owner) for row in rows]


async def relay(db: Database, bus: Bus, owner: str, wake: asyncio.Event) -> None:
    """Publish for ever what stands in ``events`` and is not yet in the stream.

    Set ``wake`` after each commit; a new connection wakes by itself. Delivery is at least once:
    the mark is written after the stream has acknowledged, and ``Nats-Msg-Id`` lets the server drop
    what comes twice within two minutes. A stream that was made anew gets what it would still hold.
    """
    end = bus.on_reconnect(wake.set)
    failing = False
    try:
        while True:
            wake.clear()
            try:
                await _publish_new(db, bus, owner)
                failing = False
            except UnavailableError as exc:
                if not failing:
                    log.warning("relay.waits", reason=exc.problem.message)
                failing = True
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it loses a cancellation that meets a wake-up.
                async with asyncio.timeout(_RETRY_S if failing else _LOOK_AGAIN_S):
                    await wake.wait()
    finally:
        end()


async def _publish_new(db: Database, bus: Bus, owner: str) -> None:
    await open_stream(bus, topology.EVENTS)
    with answering("stream EVENTS"):
        stream = created(await bus.js.stream_info(topology.EVENTS.name))
    mark = await db.run(lambda session: _mark(session, stream, time.time()))
    while events := await db.run(partial(_after, number=mark, owner=owner)):
        for event in events:
            await _publish(bus, event)
        mark = events[-1].number
        await db.run(partial(_set_mark, stream=stream, number=mark))


def _mark(session: Session, stream: str, now: float) -> int:
    """Return the last number that ``stream`` has, or that is too old for it."""
    row = session.get(RelayedRow, 1)
    if row is not None and row.created == stream:
        return row.number
    too_old = col(EventRow.at) < now - topology.EVENTS.max_age_s
    return session.exec(select(func.max(EventRow.number)).where(too_old)).one() or 0


def _set_mark(session: Session, *, stream: str, number: int) -> None:
    session.merge(RelayedRow(id=1, created=stream, number=number))


def _after(session: Session, *, number: int, owner: str) -> list[Event]:
    wanted = select(EventRow).where(col(EventRow.number) > number)
    rows = session.exec(wanted.order_by(col(EventRow.number)).limit(_BATCH))
    return [row.event(owner) for row in rows]


async def _publish(bus: Bus, event: Event) -> None:
    subject = topology.event_subject(event.kind, event.tenant, event.name, event.what)
    headers = {"Nats-Msg-Id": f"{event.owner}-{event.number}"}
    with answering("stream EVENTS"):
        await bus.js.publish(
            subject, msgspec.json.encode(event), stream=topology.EVENTS.name, headers=headers
        )
