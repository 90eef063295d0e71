"""Whether auth may change anything.

It may not when a person has put it on hold, nor when its database is behind what has been published
from it: then it is empty or restored from an older copy, and what it does not know is no reason to
revoke it. The database remembers either, so that a restart or an emptied NATS ends no hold.
"""

from caravan.contracts.errors import OnHoldError
from services.auth.core.rows import Held, Rows

BY_HAND = "it was put on hold by hand"


def reason(rows: Rows) -> str:
    """Return why auth is on hold, in a sentence that says what to do; empty: it is not."""
    held = rows.held()
    if held is None:
        return ""
    return f"auth is on hold: {held.reason}; `caravan hold --release` ends the hold"


def require_none(rows: Rows) -> None:
    """Refuse while auth is on hold."""
    why = reason(rows)
    if why:
        raise OnHoldError(why)


def by_hand(rows: Rows, now: float, actor: str) -> None:
    """Put auth on hold; nothing when it is already."""
    if rows.held() is None:
        rows.set_held(Held(reason=BY_HAND))
        rows.record(kind="hold", tenant="", name="auth", what="held", at=now, actor=actor)


def notice(rows: Rows, behind: str, epoch: int) -> None:
    """Put auth on hold when its database is ``behind`` the ``epoch`` that was published.

    No event tells of it: its number would hide by how much the database is behind.
    """
    held = rows.held()
    if behind and (held is None or held.epoch < epoch):
        rows.set_held(Held(reason=behind, epoch=epoch))


def release(rows: Rows, now: float, actor: str) -> None:
    """End the hold; events go on above every number that was ever published."""
    held = rows.held()
    if held is None:
        return
    rows.set_held(None)
    rows.record(
        kind="hold",
        tenant="",
        name="auth",
        what="released",
        at=now,
        actor=actor,
        detail={"reason": held.reason},
        above=held.epoch,
    )
