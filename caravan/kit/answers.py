"""Every change is answered once: a repeat of its ``request_id`` gets the same answer again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import delete
from sqlmodel import Session, col

from caravan.contracts.errors import OnHoldError, Problem, Refusal, RemoteRefusal, UnavailableError
from caravan.kit.endpoints import Call
from caravan.kit.sql import Database
from caravan.kit.tables import AnswerRow

A = TypeVar("A", bound=msgspec.Struct)

ANSWERS_LAST_S = 24 * 3600
_NEVER_STORED = (UnavailableError.code, OnHoldError.code)


class RequestIdReusedError(Refusal):
    code = "request_id_reused"


@dataclass(frozen=True, kw_only=True)
class Once(Generic[A]):
    """An answer that is given once; a repeat of its request is refused with ``replay``."""

    answer: A
    replay: Problem


async def answer_once(
    db: Database,
    call: Call,
    work: Callable[[Session], A | Once[A]],
    *,
    now: Callable[[], float] = time.time,
) -> A:
    """Return what ``work`` returns, stored in its transaction; a repeat gets it again.

    A refusal that ``work`` raises undoes what it did, is stored and raised again too, but for
    ``unavailable`` and ``on_hold``. The same ``request_id`` with another body or subject is
    ``request_id_reused``. Of equal requests at the same time one works, the others get its answer.
    """
    outcome = await db.run(lambda session: _once(session, call, work, now()))
    if isinstance(outcome, Problem):
        raise RemoteRefusal(outcome)
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


def _once(
    session: Session, call: Call, work: Callable[[Session], A | Once[A]], at: float
) -> A | Problem | Refusal:
    session.execute(delete(AnswerRow).where(col(AnswerRow.at) < at - ANSWERS_LAST_S))
    stored = session.get(AnswerRow, (call.tenant, call.request_id))
    if stored is not None:
        return _again(stored, call)
    savepoint = session.begin_nested()
    try:
        outcome = work(session)
    except Refusal as refusal:
        savepoint.rollback()
        if refusal.problem.code not in _NEVER_STORED:
            session.add(_row(call, at, problem=refusal.problem))
        return refusal
    savepoint.commit()
    if isinstance(outcome, Once):
        session.add(_row(call, at, problem=outcome.replay))
        return outcome.answer
    session.add(_row(call, at, answer=outcome))
    return outcome


def _again(stored: AnswerRow, call: Call) -> Any | Problem:  # noqa: ANN401 - the endpoint's answer
    if (stored.subject, stored.digest) != (call.subject, call.digest):
        message = "This request_id was used for another request: make a new one for every intent."
        return RequestIdReusedError(message, param="request_id").problem
    if stored.problem is not None:
        return msgspec.json.decode(stored.problem, type=Problem)
    return msgspec.json.decode(stored.answer or "", type=call.endpoint.answer)


def _row(
    call: Call, at: float, *, answer: msgspec.Struct | None = None, problem: Problem | None = None
) -> AnswerRow:
    return AnswerRow(
        tenant=call.tenant,
        request_id=call.request_id,
        at=at,
        subject=call.subject,
        digest=call.digest,
        answer=None if answer is None else msgspec.json.encode(answer).decode(),
        problem=None if problem is None else msgspec.json.encode(problem).decode(),
    )
