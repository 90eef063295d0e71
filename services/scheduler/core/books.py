"""All rows as they stood at one moment, and what a decision makes of one of them."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from services.scheduler.core.plan import Decision, Drain, End, Name, Remove
from services.scheduler.core.rows import DRAIN, GONE, Asked, Named


class Book(Struct, frozen=True):
    """One deployment and its instances."""

    asked: Asked
    rows: list[Named] = []


class Books(Struct, frozen=True, kw_only=True):
    """Everything there is, of one moment."""

    books: list[Book] = []
    epoch: int = 0
    """The number of the newest event row."""
    hold: str = ""
    """Why a person froze everything; empty: nobody did."""


class Turn(Struct, frozen=True, kw_only=True):
    """What becomes of one row, and how the history calls it."""

    what: str
    instance: str
    row: Named | None = None
    """As it is to be written; None: it goes."""


def turn(decision: Decision, rows: Sequence[Named], now: float) -> Turn | None:
    """Return what ``decision`` makes of the rows as they are now.

    None when it no longer holds, because a message came between: a row only goes forward.
    """
    if isinstance(decision, Name):
        named = Named(spec=decision.spec, named_at=now)
        return Turn(what="named", instance=named.instance, row=named)
    row = next((r for r in rows if r.instance == decision.instance), None)
    match decision, row:
        case Drain(instance, deadline), Named(wanted="run") if row is not None:
            drained = replace(row, wanted=DRAIN, deadline=deadline)
            return Turn(what="drained", instance=instance, row=drained)
        case End(instance), Named(wanted="drain") if row is not None:
            return Turn(what="stopped", instance=instance, row=replace(row, wanted=GONE))
        case Remove(instance), Named(wanted="gone"):
            return Turn(what="ended", instance=instance)
    return None
